//! Where records come from: Kafka, the generator, files, a log of our own. A reader gives what is there of all its partitions at once, in
//! the order of each, from explicit offsets; it decides nothing about event time and commits nothing.

use std::ops::Range;
use std::time::Duration;

use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Micros, Offset, PartitionId, TopicId};
use crate::secrets::Secrets;
use crate::spec::{FilesSpec, KafkaSpec, SourceSpec};
use crate::{Error, Result};

pub mod clicks;
mod files;
mod generator;
mod kafka;
mod log;
mod records;
mod zipf;

pub use files::FilesRoots;
pub(crate) use files::{WholeFiles, folder};
pub(crate) use kafka::{Courier, Parcel, Producer, Sent, Underway, is_of_no_topic};
pub use kafka::{Outgoing, Sending, Transactions, Written};
pub(crate) use log::Log;
pub use log::{Logs, Spools};
pub use records::{Records, Span};

/// The timestamp of a record that has none, such as a line of a file. It is later than any event time, so the future
/// guard refuses nothing on its account; as a column it is NULL.
pub const NO_TIMESTAMP: Micros = Micros::MAX;

/// Checks the options of a source and makes ready to find its partitions. Local files are read below `roots` alone, and
/// properties may name files of the folder of secrets, too.
pub fn open(
    spec: &SourceSpec,
    secrets: &Secrets,
    roots: &FilesRoots,
    logs: &Logs,
) -> Result<Box<dyn Discovery>> {
    Ok(match spec {
        SourceSpec::Generator(spec) => Box::new(generator::Generator::new(spec)?),
        SourceSpec::Kafka(spec) => {
            kafka::check_paths(spec, secrets, roots)?;
            let properties = secrets.resolve(&spec.properties)?;
            Box::new(kafka::Kafka::new(&KafkaSpec { properties, ..spec.clone() })?)
        }
        SourceSpec::Files(spec) => {
            let properties = secrets.resolve(&spec.properties)?;
            Box::new(files::Files::find(&FilesSpec { properties, ..spec.clone() }, roots)?)
        }
        SourceSpec::Log(spec) => Box::new(log::LogSource::new(logs.open(spec)?)),
        SourceSpec::Unplanned(reason) => {
            return Err(Error::Invalid(format!(
                "its statement can't be planned any more: {reason}; go back to the version that made it, or DROP its views and \
                 the stream"
            )));
        }
    })
}

/// What a buffer of records keeps for the next ones, at most.
const BYTES_KEPT: usize = 16 << 20;

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
    pub stretches: Vec<Stretch>,
    key_bytes: usize,
}

/// Consecutive records of one partition within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub partition: PartitionId,
    /// Index of the first record behind it.
    pub end: usize,
}

impl RawBatch {
    pub fn push(&mut self, partition: PartitionId, offset: i64, timestamp: Micros, value: Option<&[u8]>) {
        self.records.push(value);
        self.offsets.push(offset);
        self.timestamps.push(timestamp);
        self.belong_to(partition);
    }

    /// The key of the record that was pushed last.
    pub fn push_key(&mut self, key: Option<&[u8]>) {
        self.key_bytes += key.map_or(0, <[u8]>::len);
        self.keys.push(key.map(<[u8]>::to_vec));
    }

    /// Says whose the records are that were added last.
    pub fn belong_to(&mut self, partition: PartitionId) {
        let end = self.offsets.len();
        match self.stretches.last_mut() {
            Some(stretch) if stretch.partition == partition => stretch.end = end,
            _ => self.stretches.push(Stretch { partition, end }),
        }
    }

    pub fn bytes(&self) -> usize {
        self.records.bytes.len() + self.key_bytes
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Makes room for other records in the same buffers, of which an unusually large one is given back.
    pub fn clear(&mut self) {
        self.records.bytes.clear();
        self.records.bytes.shrink_to(BYTES_KEPT);
        self.records.spans.clear();
        self.offsets.clear();
        self.timestamps.clear();
        self.keys.clear();
        self.key_bytes = 0;
        self.stretches.clear();
    }

    /// Each stretch with the indices of its records.
    pub fn ranges(&self) -> impl Iterator<Item = (PartitionId, Range<usize>)> {
        let mut end = 0;
        self.stretches.iter().map(move |stretch| {
            let first = std::mem::replace(&mut end, stretch.end);
            (stretch.partition, first..end)
        })
    }

    pub fn partition(&self, index: usize) -> PartitionId {
        let place = self.stretches.partition_point(|stretch| stretch.end <= index);
        self.stretches[place].partition
    }

    /// The record's own timestamp, if it has one.
    pub fn timestamp(&self, index: usize) -> Option<Micros> {
        Some(self.timestamps[index]).filter(|timestamp| *timestamp != NO_TIMESTAMP)
    }

    /// Cuts off the records from `index` on.
    pub fn split_off(&mut self, index: usize) -> RawBatch {
        let place = self.stretches.partition_point(|stretch| stretch.end <= index);
        let mut stretches = self.stretches.split_off(place);
        if let Some(cut) = stretches.first()
            && index > self.stretches.last().map_or(0, |stretch| stretch.end)
        {
            self.stretches.push(Stretch { partition: cut.partition, end: index });
        }
        stretches.iter_mut().for_each(|stretch| stretch.end -= index);
        let keys = self.keys.split_off(index.min(self.keys.len()));
        let key_bytes = keys.iter().flatten().map(Vec::len).sum();
        self.key_bytes -= key_bytes;
        RawBatch {
            records: self.records.split_off(index),
            offsets: self.offsets.split_off(index),
            timestamps: self.timestamps.split_off(index),
            keys,
            stretches,
            key_bytes,
        }
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
    /// They are in the batch; whether others are there already, or will be as soon as they are asked for.
    Records { more: bool },
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

impl BatchLimit {
    pub fn reached_by(self, batch: &RawBatch) -> bool {
        batch.len() >= self.rows || batch.bytes() >= self.bytes
    }
}

/// How a reader is to read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub with_keys: bool,
    /// What it may fetch ahead, about.
    pub queue_bytes: usize,
}

impl Reading {
    /// For a look at a few records.
    pub fn little(with_keys: bool) -> Reading {
        Reading { with_keys, queue_bytes: 1 << 20 }
    }
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
    /// What the records weigh, about, that it has fetched ahead; must not block.
    fn queued_bytes(&self) -> usize;
}

/// Finds the partitions of a source and opens readers over them; used by the coordinator, may block.
pub trait Discovery: Send {
    /// Every partition with its first available offset and its end.
    fn partitions(&mut self) -> Result<Vec<PartitionRange>>;
    /// Resolves `Start` for one partition to an offset.
    fn resolve(&mut self, partition: PartitionId, start: crate::spec::Start) -> Result<Offset>;
    fn open(&mut self, assignment: &[Assignment], reading: Reading) -> Result<Box<dyn Reader>>;
    /// What is known of a source that may be exchanged for another of its name: finding another one, and reading it, is an
    /// error from now on. Without it the first that is found is the one.
    fn expect(&mut self, _topic: Option<TopicId>) {}
    /// The one that has been found, or was expected.
    fn topic_id(&self) -> Option<TopicId> {
        None
    }
    /// What whoever makes a stream over the source should know of it. Blocks for a moment.
    fn warnings(&mut self) -> Vec<String> {
        vec![]
    }
    /// Writes the offsets to the source for people's monitoring; never read back. May do nothing.
    fn publish(&mut self, offsets: &[(PartitionId, Offset)]);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRange {
    pub partition: PartitionId,
    pub first: Offset,
    pub end: Offset,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(partitions: &[i32]) -> RawBatch {
        let mut batch = RawBatch::default();
        for (index, partition) in partitions.iter().enumerate() {
            batch.push(PartitionId(*partition), index as i64, 0, Some(b"value"));
            batch.push_key(Some(b"key"));
        }
        batch
    }

    #[test]
    fn a_batch_may_be_cut_anywhere() {
        let partitions = [0, 0, 1, 0, 0, 2, 2, 2];
        for index in 0..=partitions.len() {
            let mut first = batch(&partitions);
            let rest = first.split_off(index);
            let whose = |batch: &RawBatch| (0..batch.len()).map(|i| batch.partition(i).0).collect::<Vec<_>>();
            assert_eq!(
                (whose(&first), whose(&rest)),
                (partitions[..index].into(), partitions[index..].into())
            );
            for (batch, records) in [(&first, index), (&rest, partitions.len() - index)] {
                assert_eq!(batch.ranges().map(|(_, range)| range.len()).sum::<usize>(), records);
                assert_eq!((batch.keys.len(), batch.bytes()), (records, 8 * records));
            }
        }
    }
}
