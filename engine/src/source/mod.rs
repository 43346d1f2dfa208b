//! Where records come from: Kafka, the generator, files. A reader gives what is there of all its partitions at once, in
//! the order of each, from explicit offsets; it decides nothing about event time and commits nothing.

use std::ops::Range;
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

/// Records as they came from any number of partitions, those of each in their order.
#[derive(Debug, Clone, Default)]
pub struct RawBatch {
    pub records: Records,
    /// One per record; within a partition ascending, where gaps are legal (compaction, transaction markers).
    pub offsets: Vec<i64>,
    /// The records' own timestamps in microseconds, or [`NO_TIMESTAMP`]; one per record.
    pub timestamps: Vec<Micros>,
    /// One per record if the reader was asked for keys, else empty.
    pub keys: Vec<Option<Vec<u8>>>,
    /// Which records are whose, in the order of the records. A partition may come up again.
    pub runs: Vec<Run>,
}

/// Consecutive records of one partition within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub partition: PartitionId,
    pub records: usize,
}

impl RawBatch {
    pub fn push(&mut self, partition: PartitionId, offset: i64, timestamp: Micros, value: Option<&[u8]>) {
        self.records.push(value);
        self.offsets.push(offset);
        self.timestamps.push(timestamp);
        self.belong_to(partition, 1);
    }

    /// Says whose the last records are.
    pub fn belong_to(&mut self, partition: PartitionId, records: usize) {
        match self.runs.last_mut() {
            Some(run) if run.partition == partition => run.records += records,
            _ => self.runs.push(Run { partition, records }),
        }
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Makes room for other records in the same buffers.
    pub fn clear(&mut self) {
        self.records.bytes.clear();
        self.records.spans.clear();
        self.offsets.clear();
        self.timestamps.clear();
        self.keys.clear();
        self.runs.clear();
    }

    /// Each run with the indices of its records.
    pub fn ranges(&self) -> impl Iterator<Item = (PartitionId, Range<usize>)> {
        let mut end = 0;
        self.runs.iter().map(move |run| {
            let first = end;
            end += run.records;
            (run.partition, first..end)
        })
    }

    /// Whose a record is. For the few that something is told of: it looks through the runs.
    pub fn partition(&self, index: usize) -> PartitionId {
        let run = self.ranges().find(|(_, range)| range.contains(&index));
        run.expect("each record belongs to a run").0
    }

    /// The record's own timestamp, if it has one.
    pub fn timestamp(&self, index: usize) -> Option<Micros> {
        Some(self.timestamps[index]).filter(|timestamp| *timestamp != NO_TIMESTAMP)
    }

    /// Cuts off the records from `index` on.
    pub fn split_off(&mut self, index: usize) -> RawBatch {
        let mut rest = RawBatch {
            records: self.records.split_off(index),
            offsets: self.offsets.split_off(index),
            timestamps: self.timestamps.split_off(index),
            keys: self.keys.split_off(index.min(self.keys.len())),
            runs: vec![],
        };
        let mut before = index;
        for run in std::mem::take(&mut self.runs) {
            let here = run.records.min(before);
            before -= here;
            for (batch, records) in [(&mut *self, here), (&mut rest, run.records - here)] {
                if records > 0 {
                    batch.belong_to(run.partition, records);
                }
            }
        }
        rest
    }

    /// What tells a record from any other.
    pub fn fingerprint(&self, index: usize) -> RecordFingerprint {
        fingerprint(self.offsets[index], self.timestamps[index], self.records.value(index))
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
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// They are in the batch.
    Records,
    /// The partition has been read to its present end; `next_offset` moves over a gap at the end. Said again every
    /// [`END_IS_TOLD_EVERY`] while it stays so, but not while the source cannot be reached: then nobody knows.
    AtEnd { partition: PartitionId, next_offset: Offset },
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
    /// Adds the records that are there to `batch`, which is empty, up to the limit; waits for the first one where there
    /// is none.
    fn poll(&mut self, batch: &mut RawBatch, limit: BatchLimit, timeout: Duration) -> Result<Polled>;
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
