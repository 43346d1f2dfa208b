//! A reader: what its process does from its start to its end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::FromRawFd;
use std::sync::Arc;

use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use thalweg_engine::checkpoint::DataRoot;
use thalweg_engine::clock::SystemClock;
use thalweg_engine::mirror::Mirror;
use thalweg_sql::session::{Database, Settings};
use tokio::net::{UnixListener, UnixStream};

use crate::answer::{Common, answer};
use crate::frame::Frame;
use crate::makers::Makers;
use crate::message::Hello;
use crate::mirror::{Listener, Planned, Snapshots};
use crate::process::LISTENER;
use crate::rooms::{Rooms, Threads};
use crate::watch;

/// Of a piece; what is whole in the engine is whole here.
const BODY_BYTES_MAX: u64 = 1 << 40;

/// What a reader is told by its command line.
pub struct Reader {
    /// Where the data lies.
    pub data: String,
    /// Threads that statements are planned and run on.
    pub queries: Threads,
    pub settings: Settings,
    /// What all statements may have together, with what they read of open windows.
    pub memory_bytes: usize,
    /// The process that it belongs to.
    pub parent: u32,
}

/// Serves until the engine's process is gone.
pub async fn serve(reader: Reader) -> io::Result<()> {
    watch::begin()?;
    first_to_be_killed();
    // SAFETY: whoever started this process has put the listener there, and nobody else takes it.
    let listener = unsafe { std::os::unix::net::UnixListener::from_raw_fd(LISTENER) };
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let root = DataRoot::open(&reader.data, &BTreeMap::new()).map_err(io::Error::other)?;
    let planned = Arc::new(Planned::default());
    let snapshots = Arc::new(Snapshots::default());
    let memory: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(reader.memory_bytes));
    let (engine, settings, of_all) = (Arc::clone(&planned), reader.settings, Arc::clone(&memory));
    let rooms = Rooms::new(reader.queries, move |threads| {
        let engine = Arc::clone(&engine) as _;
        let clock = Arc::new(SystemClock::new());
        Database::within(Arc::clone(&of_all), engine, clock, threads, settings.clone())
            .map_err(io::Error::other)
    })?;
    let makers = Arc::new(Makers::new(Arc::clone(&planned)));
    let listening = Listener {
        planned,
        snapshots: Arc::clone(&snapshots),
        mirror: Mirror::new(Arc::clone(root.readers())),
        database: rooms.enter()?.database.clone(),
        last: BTreeMap::new(),
        held: BTreeMap::new(),
        memory,
    };
    // The first who connects is who tells.
    let control = accepted(&listener, reader.parent).await?;
    // Statements that keep their threads don't keep it.
    let mut telling = tokio::spawn(listen(listening, control));
    let common = Common { rooms, snapshots, makers };
    loop {
        let stream = tokio::select! {
            biased;
            told = &mut telling => return told.map_err(io::Error::other)?,
            stream = accepted(&listener, reader.parent) => stream?,
        };
        tokio::spawn(answer(stream, common.clone()));
    }
}

/// Whoever can name the socket is on this machine, and may be anybody.
async fn accepted(listener: &UnixListener, parent: u32) -> io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        if stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok()) == Some(parent) {
            return Ok(stream);
        }
    }
}

/// Until nothing more is told.
async fn listen(mut listener: Listener, stream: UnixStream) -> io::Result<()> {
    let mut stream = tokio::io::BufReader::with_capacity(1 << 20, stream);
    match Frame::read(&mut stream, BODY_BYTES_MAX).await?.map(|frame| frame.message()).transpose()? {
        Some(Hello::Control) => {}
        _ => return Err(io::Error::other("nobody tells anything")),
    }
    while let Some(frame) = Frame::read(&mut stream, BODY_BYTES_MAX).await? {
        listener.take(&frame).await?;
    }
    Ok(())
}

/// Where memory is short, a reader is what can be done without. Whoever may not say so goes on as it is.
fn first_to_be_killed() {
    _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}
