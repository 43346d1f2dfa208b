//! What ingest holds in memory, by what it is for, against one budget (docs/decisions/one-budget.md).
//!
//! A ledger and no allocator: who keeps something says what its batches and buffers weigh. Who is to read less, and which
//! view is to fail, is decided by those who look at it, `job::worker` and `job::shared`. Queries have bounds of their own.

mod lane;
mod pool;
mod shares;
mod spill;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::status::MemoryStatus;

pub use lane::Lane;
pub use pool::Pool;
pub use shares::Shares;
pub use spill::Spill;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Records that sources have fetched ahead, as they say.
    Queues,
    /// Records and rows on their way to the views' plans.
    Waiting,
    /// What views have open.
    Open,
    /// Plans that merge and close, and what they made until it is shown.
    Closing,
    /// Files on their way to the store.
    Encoding,
    /// Closed rows that are not in Parquet.
    Tails,
    /// Tables that views look up.
    Tables,
}

impl Purpose {
    pub const ALL: [Purpose; 7] = [
        Purpose::Queues,
        Purpose::Waiting,
        Purpose::Open,
        Purpose::Closing,
        Purpose::Encoding,
        Purpose::Tails,
        Purpose::Tables,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Purpose::Queues => "queues",
            Purpose::Waiting => "waiting",
            Purpose::Open => "open",
            Purpose::Closing => "closing",
            Purpose::Encoding => "encoding",
            Purpose::Tails => "tails",
            Purpose::Tables => "tables",
        }
    }
}

#[derive(Debug)]
pub struct Memory {
    budget: usize,
    spill: Spill,
    held: [Held; Purpose::ALL.len()],
}

#[derive(Debug, Default)]
struct Held {
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl Memory {
    pub fn new(budget: usize) -> Arc<Memory> {
        Memory::with(budget, Spill::default())
    }

    /// And a place for what it has no room for.
    pub fn with(budget: usize, spill: Spill) -> Arc<Memory> {
        Arc::new(Memory { budget, spill, held: Default::default() })
    }

    pub fn budget(&self) -> usize {
        self.budget
    }

    pub fn shares(&self) -> Shares {
        Shares::of(self.budget)
    }

    pub fn held(&self, purpose: Purpose) -> usize {
        self.held[purpose as usize].bytes.load(Ordering::Relaxed)
    }

    /// What is fetched ahead counts up to its share: of a topic that is compressed well a client may hold far more than it
    /// was allowed, and that passes by being read alone.
    pub fn used(&self) -> usize {
        let of = |purpose| match purpose {
            Purpose::Queues => self.held(purpose).min(self.shares().queues),
            _ => self.held(purpose),
        };
        Purpose::ALL.into_iter().map(of).sum()
    }

    /// Without what closes and is encoded, which passes by itself.
    fn staying(&self) -> usize {
        self.used().saturating_sub(self.held(Purpose::Closing) + self.held(Purpose::Encoding))
    }

    /// So much is used that what is read has to wait for what closes.
    pub fn is_scarce(&self) -> bool {
        self.used() > self.budget / 5 * 4
    }

    /// Nothing may be read until what passes has passed.
    pub fn is_exhausted(&self) -> bool {
        self.used() > self.budget
    }

    /// What stays leaves no room for closing: waiting does not help.
    pub fn is_used_up(&self) -> bool {
        self.staying() > self.budget - self.shares().closing
    }

    pub fn spill(&self) -> &Spill {
        &self.spill
    }

    /// How much less views had better have open in memory, with so much more that they are about to have.
    pub fn open_too_much(&self, more: usize) -> usize {
        match self.spill.room() {
            0 => 0,
            _ => (self.held(Purpose::Open) + more).saturating_sub(self.spill.stays(self.shares().open)),
        }
    }

    /// Whether the plans of one view would go beyond the budget that hold so much, were they alone in closing.
    pub fn lacks_for_plans(&self, bytes: usize) -> bool {
        self.staying().saturating_add(bytes) > self.budget
    }

    /// Whether so much more would go beyond the budget.
    pub fn lacks(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) > self.budget
    }

    /// Of what is counted elsewhere as a whole.
    pub fn set(&self, purpose: Purpose, bytes: usize) {
        let held = &self.held[purpose as usize];
        held.bytes.store(bytes, Ordering::Relaxed);
        held.most.fetch_max(bytes, Ordering::Relaxed);
    }

    pub fn add(&self, purpose: Purpose, bytes: usize) {
        let held = &self.held[purpose as usize];
        let before = held.bytes.fetch_add(bytes, Ordering::Relaxed);
        held.most.fetch_max(before + bytes, Ordering::Relaxed);
    }

    fn sub(&self, purpose: Purpose, bytes: usize) {
        self.held[purpose as usize].bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counted until it is dropped.
    pub fn hold(self: &Arc<Memory>, purpose: Purpose, bytes: usize) -> Hold {
        self.add(purpose, bytes);
        Hold { memory: Arc::clone(self), purpose, bytes }
    }

    pub fn status(&self) -> Vec<MemoryStatus> {
        let status = |purpose: Purpose| MemoryStatus {
            purpose: purpose.name(),
            bytes: self.held(purpose) as u64,
            bytes_most: self.held[purpose as usize].most.load(Ordering::Relaxed) as u64,
            budget: self.budget as u64,
        };
        let spilled = MemoryStatus {
            purpose: "spilled",
            bytes: self.spill.bytes() as u64,
            bytes_most: self.spill.bytes_most() as u64,
            budget: self.spill.room() as u64,
        };
        Purpose::ALL.into_iter().map(status).chain([spilled]).collect()
    }

    /// In words, for whoever has to know why it did not suffice.
    pub fn told(&self) -> String {
        let told = |purpose: Purpose| format!("{}={}", purpose.name(), mebibytes(self.held(purpose)));
        let all: Vec<String> = Purpose::ALL.into_iter().map(told).collect();
        let spill = match self.spill.why_not() {
            Some(why) => format!("; nothing can be put on disk: {why} (--spill, --spill-max)"),
            None => String::new(),
        };
        format!("memory={} of which {}{spill}", mebibytes(self.budget), all.join(", "))
    }
}

pub fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// Bytes that are counted as long as it lives.
#[derive(Debug)]
pub struct Hold {
    memory: Arc<Memory>,
    purpose: Purpose,
    bytes: usize,
}

impl Hold {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.memory.add(self.purpose, bytes - self.bytes);
        } else {
            self.memory.sub(self.purpose, self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    pub fn add(&mut self, bytes: usize) {
        self.set(self.bytes + bytes);
    }

    pub fn sub(&mut self, bytes: usize) {
        self.set(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.sub(self.purpose, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_let_go() {
        let memory = Memory::new(100);
        let mut waiting = memory.hold(Purpose::Waiting, 30);
        memory.set(Purpose::Open, 40);
        assert_eq!((memory.used(), memory.is_scarce()), (70, false));
        assert!(memory.lacks(31) && !memory.lacks(30));
        waiting.set(20);
        let (queues, encoding) = (memory.hold(Purpose::Queues, 1_000), memory.hold(Purpose::Encoding, 1_000));
        let share = memory.shares().queues;
        assert!(memory.is_exhausted() && !memory.is_used_up(), "what is encoded will have been");
        assert!(memory.lacks_for_plans(41 - share) && !memory.lacks_for_plans(40 - share));
        drop(encoding);
        assert_eq!(memory.used(), 60 + share, "what is fetched ahead holds nobody up");
        drop(queues);
        waiting.set(50);
        assert_eq!((memory.used(), memory.is_scarce(), memory.is_used_up()), (90, true, true));
        waiting.set(30);
        let closing = memory.hold(Purpose::Closing, 31);
        assert_eq!(
            (memory.is_exhausted(), memory.is_used_up()),
            (true, false),
            "what closes will have closed"
        );
        drop(closing);
        waiting.add(31);
        drop(waiting);
        assert_eq!(memory.used(), 40);
        let waiting = &memory.status()[Purpose::Waiting as usize];
        assert_eq!(
            (waiting.purpose, waiting.bytes, waiting.bytes_most, waiting.budget),
            ("waiting", 0, 61, 100)
        );
    }
}
