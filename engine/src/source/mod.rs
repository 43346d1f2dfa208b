//! Where records come from: Kafka, the generator, files. A reader gives raw records of one partition at a time, in
//! order, from explicit offsets; it decides nothing about event time and commits nothing.

use std::time::Duration;

use crate::Result;
use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Micros, Offset, PartitionId};
use crate::secrets::Secrets;
use crate::spec::{FilesSpec, KafkaSpec, SourceSpec};

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
pub fn open(spec: &SourceSpec, secrets: &Secrets) -> Result<Box<dyn Discovery>> {
    Ok(match spec {
        SourceSpec::Generator(spec) => Box::new(generator::Generator::new(spec)?),
        SourceSpec::Kafka(spec) => {
            let properties = secrets.resolve(&spec.properties)?;
            Box::new(kafka::Kafka::new(&KafkaSpec { properties, ..spec.clone() })?)
        }
        SourceSpec::Files(spec) => {
            let properties = secrets.resolve(&spec.properties)?;
            Box::new(files::Files::find(&FilesSpec { properties, ..spec.clone() })?)
        }
    })
}

/// How often a reader says again that a partition is at its end, as long as its source vouches for it.
pub const END_IS_TOLD_EVERY: Duration = Duration::from_secs(1);

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

impl RawBatch {
    /// The record's own timestamp, if it has one.
    pub fn timestamp(&self, index: usize) -> Option<Micros> {
        Some(self.timestamps[index]).filter(|timestamp| *timestamp != NO_TIMESTAMP)
    }

    /// Cuts off the records from `index` on, which is not the first.
    pub fn split_off(&mut self, index: usize) -> RawBatch {
        let next_offset = std::mem::replace(&mut self.next_offset, Offset(self.offsets[index - 1] + 1));
        RawBatch {
            partition: self.partition,
            records: self.records.split_off(index),
            offsets: self.offsets.split_off(index),
            timestamps: self.timestamps.split_off(index),
            keys: self.keys.split_off(index.min(self.keys.len())),
            next_offset,
        }
    }

    /// What tells the last record from any other.
    pub fn last_record(&self) -> Option<RecordFingerprint> {
        let last = self.offsets.len().checked_sub(1)?;
        Some(fingerprint(self.offsets[last], self.timestamps[last], self.records.value(last)))
    }
}

fn fingerprint(offset: i64, timestamp: Micros, value: Option<&[u8]>) -> RecordFingerprint {
    let hash = xxhash_rust::xxh3::xxh3_64(value.unwrap_or_default());
    RecordFingerprint { offset: Offset(offset), timestamp, hash }
}

/// A partition to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    pub partition: PartitionId,
    pub next_offset: Offset,
    /// What was read last, where something was. A source whose records may be exchanged behind its back looks whether
    /// it is there still.
    pub last_record: Option<RecordFingerprint>,
}

impl From<(PartitionId, Offset)> for Assignment {
    fn from((partition, next_offset): (PartitionId, Offset)) -> Assignment {
        Assignment { partition, next_offset, last_record: None }
    }
}

/// What a reader has to say.
#[derive(Debug)]
pub enum Polled {
    Batch(RawBatch),
    /// The partition has been read to its present end; `next_offset` moves over a gap at the end. Said again every
    /// [`END_IS_TOLD_EVERY`] while it stays so, but not while the source cannot be reached: then nobody knows.
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
    fn open(&mut self, assignment: &[Assignment], with_keys: bool) -> Result<Box<dyn Reader>>;
    /// Writes the offsets to the source for people's monitoring; never read back. May do nothing.
    fn publish(&mut self, offsets: &[(PartitionId, Offset)]);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRange {
    pub partition: PartitionId,
    pub first: Offset,
    pub end: Offset,
}
