//! Where records come from: Kafka, the generator, files. A reader gives raw records of one partition at a time, in
//! order, from explicit offsets; it decides nothing about event time and commits nothing.

use std::time::Duration;

use crate::Result;
use crate::ids::{Micros, Offset, PartitionId};
use crate::spec::SourceSpec;

pub mod clicks;
mod files;
mod generator;
mod kafka;
mod records;
mod zipf;

pub use records::{Records, Span};

/// The timestamp of a record that has none, such as a line of a file. It is later than any event time, so the future
/// guard refuses nothing on its account; as a column it is NULL.
pub const NO_TIMESTAMP: Micros = Micros::MAX;

/// Checks the options of a source and makes ready to find its partitions.
pub fn open(spec: &SourceSpec) -> Result<Box<dyn Discovery>> {
    Ok(match spec {
        SourceSpec::Generator(spec) => Box::new(generator::Generator::new(spec)?),
        SourceSpec::Kafka(spec) => Box::new(kafka::Kafka::new(spec)?),
        SourceSpec::Files(spec) => Box::new(files::Files::find(spec)?),
    })
}

/// Consecutive records of one partition, as they came.
#[derive(Debug, Clone)]
pub struct RawBatch {
    pub partition: PartitionId,
    pub records: Records,
    /// One per record, ascending; gaps are legal (compaction, transaction markers).
    pub offsets: Vec<i64>,
    /// The records' own timestamps in microseconds, or [`NO_TIMESTAMP`]; one per record.
    pub timestamps: Vec<Micros>,
    /// One per record if the reader was asked for keys, else empty.
    pub keys: Vec<Option<Vec<u8>>>,
    /// Where to go on after this batch. Past the last record's offset, also over a gap at the partition's end.
    pub next_offset: Offset,
}

/// What a reader has to say.
#[derive(Debug)]
pub enum Polled {
    Batch(RawBatch),
    /// The partition has been read to its present end; `next_offset` moves over a gap at the end.
    AtEnd {
        partition: PartitionId,
        next_offset: Offset,
    },
    /// The partition will never give another record (a bounded source).
    Ended(PartitionId),
    /// Nothing came within the timeout.
    Nothing,
}

/// How much one micro-batch may hold.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimit {
    pub rows: usize,
    pub bytes: usize,
}

/// Reads some partitions of one source; owned by one worker thread, which it may block for at most `timeout`.
pub trait Reader: Send {
    fn poll(&mut self, limit: BatchLimit, timeout: Duration) -> Result<Polled>;
    /// Takes on one more partition (found while running).
    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<()>;
    /// The newest known end of each partition, for lag; may be a little old, must not block.
    fn ends(&self) -> Vec<(PartitionId, Offset)>;
}

/// Finds the partitions of a source and opens readers over them; used by the coordinator, may block.
pub trait Discovery: Send {
    /// Every partition with its first available offset and its end.
    fn partitions(&mut self) -> Result<Vec<PartitionRange>>;
    /// Resolves `Start` for one partition to an offset.
    fn resolve(&mut self, partition: PartitionId, start: crate::spec::Start) -> Result<Offset>;
    fn open(&mut self, assignment: &[(PartitionId, Offset)], with_keys: bool) -> Result<Box<dyn Reader>>;
    /// Writes the offsets to the source for people's monitoring; never read back. May do nothing.
    fn publish(&mut self, offsets: &[(PartitionId, Offset)]);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRange {
    pub partition: PartitionId,
    pub first: Offset,
    pub end: Offset,
}
