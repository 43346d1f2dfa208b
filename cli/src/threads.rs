//! The threads of the process that no part starts for itself: some for the engine and the wire, and others for queries,
//! so that a long query never keeps an epoch from turning.

use std::sync::Arc;

use anyhow::{Context, Result};
use thalweg_readers::Crew;
use tokio::runtime::{Builder, Runtime};

/// Deep statements and plans are walked by recursion. What is not touched takes no memory.
const STACK_BYTES: usize = 64 << 20;
/// In a reader stacks count against what it may have, touched or not; a statement that needs more ends it.
const READER_STACK_BYTES: usize = 8 << 20;

/// How much queries give way where there is not enough CPU for all: reading on goes before answering.
const QUERIES_NICE: i32 = 5;

const READER_BLOCKING_MAX: usize = 16;

pub fn engine(threads: usize) -> Result<Runtime> {
    build(Builder::new_multi_thread().worker_threads(threads).thread_name("engine"), STACK_BYTES)
}

/// Of a reader: what keeps it in touch. Stacks are part of what it may have, so there are few threads that wait for a disk.
pub fn reader() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    build(
        builder.worker_threads(2).max_blocking_threads(READER_BLOCKING_MAX).thread_name("reader"),
        READER_STACK_BYTES,
    )
}

/// Of a process that gives way as a whole, and may do so even more.
pub fn queries_of_reader(threads: usize, crew: Arc<Crew>) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).max_blocking_threads(READER_BLOCKING_MAX).thread_name("query");
    let joining = Arc::clone(&crew);
    builder.on_thread_start(move || joining.join()).on_thread_stop(move || crew.leave());
    build(&mut builder, READER_STACK_BYTES)
}

pub fn queries(threads: usize) -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    // To Linux a thread is a process with a number, and 0 is the one that asks. Whoever may not, goes on as it is.
    // SAFETY: setpriority takes numbers alone.
    let give_way = || _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, QUERIES_NICE) };
    build(builder.worker_threads(threads).thread_name("query").on_thread_start(give_way), STACK_BYTES)
}

fn build(builder: &mut Builder, stack_bytes: usize) -> Result<Runtime> {
    builder.thread_stack_size(stack_bytes).enable_all().build().context("cannot start threads")
}
