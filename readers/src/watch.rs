//! Whose work a thread is at, and whether what was given up ends. Within a reader.
//!
//! A statement's number is noted in its thread for the length of each poll, of its own tasks and of those that DataFusion
//! spawns for it. So the handler of SIGABRT knows who asked for what there was no memory for, and the watchdog who computes on
//! although nobody waits. Both say so in the last words of the process, and end it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use futures::FutureExt;
use futures::future::BoxFuture;

/// So long a statement that was given up may still be within a poll.
const ENDS_WITHIN: Duration = Duration::from_millis(500);
const LOOKS_EACH: Duration = Duration::from_millis(100);

thread_local! {
    /// Read by a signal's handler, so it is a number and no more. 0 is nobody.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static MARKS: RefCell<Option<Arc<Marks>>> = const { RefCell::new(None) };
}

/// How many there are in [`STATEMENTS`], for a handler that may not lock.
static THERE: AtomicUsize = AtomicUsize::new(0);

static STATEMENTS: Mutex<BTreeMap<u64, Arc<Marks>>> = Mutex::new(BTreeMap::new());

fn statements() -> MutexGuard<'static, BTreeMap<u64, Arc<Marks>>> {
    STATEMENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of one statement.
pub struct Marks {
    number: u64,
    /// Threads that are within a poll of it.
    polls: AtomicUsize,
    left: Mutex<Option<Instant>>,
    was_busy: AtomicBool,
}

/// A statement runs until this is dropped, and should end soon after.
pub struct Statement(Arc<Marks>);

impl Statement {
    pub fn begin(number: u64) -> Statement {
        let marks = Arc::new(Marks {
            number,
            polls: AtomicUsize::new(0),
            left: Mutex::default(),
            was_busy: AtomicBool::new(false),
        });
        THERE.fetch_add(1, Ordering::AcqRel);
        statements().insert(number, Arc::clone(&marks));
        Statement(marks)
    }

    pub fn mark<F: Future>(&self, work: F) -> Marked<F> {
        Marked { marks: Arc::clone(&self.0), work: Box::pin(work) }
    }
}

impl Statement {
    pub fn marks(&self) -> Arc<Marks> {
        Arc::clone(&self.0)
    }
}

impl Marks {
    /// Asked within a poll of it, which is one: whether a thread is at another.
    pub fn is_at_work(&self) -> bool {
        self.polls.load(Ordering::Acquire) > 1
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// Work that is known to be a statement's.
pub struct Marked<F> {
    marks: Arc<Marks>,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Marked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<F::Output> {
        let _within = Within::enter(&self.marks);
        self.work.as_mut().poll(ctx)
    }
}

struct Within {
    before: Option<Arc<Marks>>,
}

impl Within {
    fn enter(marks: &Arc<Marks>) -> Within {
        marks.polls.fetch_add(1, Ordering::AcqRel);
        NUMBER.set(marks.number);
        Within { before: MARKS.replace(Some(Arc::clone(marks))) }
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        let before = self.before.take();
        NUMBER.set(before.as_ref().map_or(0, |marks| marks.number));
        if let Some(marks) = MARKS.replace(before) {
            marks.polls.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What is spawned is of whoever spawns it.
struct Inherited;

impl JoinSetTracer for Inherited {
    fn trace_future(
        &self,
        work: BoxFuture<'static, Box<dyn Any + Send>>,
    ) -> BoxFuture<'static, Box<dyn Any + Send>> {
        match MARKS.with_borrow(Clone::clone) {
            Some(marks) => Marked { marks, work: Box::pin(work) }.boxed(),
            None => work,
        }
    }

    fn trace_block(
        &self,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        match MARKS.with_borrow(Clone::clone) {
            Some(marks) => Box::new(move || {
                let _within = Within::enter(&marks);
                work()
            }),
            None => work,
        }
    }
}

/// Before there is any statement.
pub fn begin() -> std::io::Result<()> {
    set_join_set_tracer(&Inherited).map_err(std::io::Error::other)?;
    // SAFETY: the handler reads a number of its own thread and writes bytes of its own stack; both are allowed in a handler.
    unsafe {
        libc::signal(libc::SIGABRT, aborted as *const () as libc::sighandler_t);
    }
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
    Ok(())
}

extern "C" fn aborted(_: libc::c_int) {
    // SAFETY: as above. After the return `abort` ends the process by the same signal.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
    }
    last_words(b'A', NUMBER.get());
}

fn watch() {
    loop {
        std::thread::sleep(LOOKS_EACH);
        let now = Instant::now();
        statements().retain(|_, marks| {
            let left = *marks.left.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left) = left else { return true };
            let is_busy = marks.polls.load(Ordering::Acquire) > 0;
            if is_busy && marks.was_busy.swap(true, Ordering::Relaxed) && now - left > ENDS_WITHIN {
                last_words(b'S', marks.number);
                // SAFETY: nothing of this process is to be kept.
                unsafe { libc::_exit(1) }
            }
            if !is_busy {
                THERE.fetch_sub(1, Ordering::AcqRel);
            }
            is_busy
        });
    }
}

/// A letter, a number, and whether there were other statements, on stdout, which nobody else writes to.
fn last_words(how: u8, number: u64) {
    let mut words = [0; 10];
    words[0] = how;
    words[1..9].copy_from_slice(&number.to_le_bytes());
    words[9] = u8::from(THERE.load(Ordering::Acquire) > 1);
    // SAFETY: the bytes are there. If nobody listens, nobody is told.
    unsafe {
        libc::write(libc::STDOUT_FILENO, words.as_ptr().cast(), words.len());
    }
}

/// What a process has said at its end, and of which statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastWords {
    /// It aborted, mostly for want of memory. Who was refused some need not be who has it all, unless nobody else was there.
    Aborted { by: u64, was_alone: bool },
    /// A statement that was given up did not end.
    Stuck(u64),
    /// It was killed, or by whom is not known.
    None,
}

/// What a process's end says of a statement that ran there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Guilty,
    Suspect,
    Innocent,
}

impl LastWords {
    pub fn of(words: &[u8]) -> LastWords {
        let Some((how, number)) = words.split_first() else { return LastWords::None };
        let (number, others) = number.split_at_checked(8).unwrap_or_default();
        let number = number.try_into().map_or(0, u64::from_le_bytes);
        match (how, number) {
            (_, 0) => LastWords::None,
            (b'A', by) => LastWords::Aborted { by, was_alone: others == [0] },
            (b'S', number) => LastWords::Stuck(number),
            _ => LastWords::None,
        }
    }

    pub fn verdict(self, number: u64) -> Verdict {
        match self {
            LastWords::Stuck(by) | LastWords::Aborted { by, was_alone: true } if by == number => {
                Verdict::Guilty
            }
            LastWords::Aborted { by, was_alone: false } if by == number => Verdict::Suspect,
            LastWords::Stuck(_) | LastWords::Aborted { .. } => Verdict::Innocent,
            LastWords::None => Verdict::Suspect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_memory_beside_others_is_not_known_to_be_at_fault() {
        let words = |how: u8, number: u64, others: u8| {
            let said = [&[how][..], &number.to_le_bytes(), &[others]].concat();
            [7, 8].map(|of| LastWords::of(&said).verdict(of))
        };
        assert_eq!(words(b'A', 7, 0), [Verdict::Guilty, Verdict::Innocent]);
        assert_eq!(words(b'A', 7, 1), [Verdict::Suspect, Verdict::Innocent]);
        assert_eq!(words(b'S', 7, 1), [Verdict::Guilty, Verdict::Innocent]);
        assert_eq!(words(b'A', 0, 1), [Verdict::Suspect; 2], "a thread that is nobody's");
        assert_eq!(LastWords::of(&[]).verdict(7), Verdict::Suspect);
    }
}
