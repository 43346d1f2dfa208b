//! What messages, which come mixed, mean to their partitions: records in a batch, ends, complaints. After a restart it also
//! looks whether the record that was read last is still the one that is there, before it gives any (INV-12).
//!
//! An end is news about idleness and closes no batch: a topic that is written to steadily has one behind each handful of
//! records.

use std::collections::VecDeque;

use rdkafka::error::RDKafkaErrorCode;

use super::native::Message;
use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Offset, PartitionId};
use crate::source::{Assignment, RawBatch, fingerprint};

pub(super) struct Sorter {
    with_keys: bool,
    lanes: Vec<Lane>,
    /// The place of each partition's lane.
    places: Vec<usize>,
    /// The lane of the last message, for the next one is mostly of the same.
    current: usize,
    /// Partitions found at their end, and not told yet; each once.
    ends: VecDeque<PartitionId>,
    pub(super) complaints: Vec<Complaint>,
}

/// One partition being read.
struct Lane {
    partition: PartitionId,
    /// No record before this one may be given out.
    next: i64,
    /// Read before a restart. Until it has been passed, the records before `next` are compared with it.
    last_record: Option<RecordFingerprint>,
    at_end: bool,
    /// Among those whose end is to be told.
    telling: bool,
}

/// Bad news of a partition.
pub(super) enum Complaint {
    Said {
        code: RDKafkaErrorCode,
        text: String,
        partition: PartitionId,
        offset: i64,
    },
    /// Where the last record was, or right behind it, there is another.
    Changed {
        partition: PartitionId,
        last: RecordFingerprint,
        found: RecordFingerprint,
    },
}

impl Sorter {
    pub(super) fn new(with_keys: bool) -> Sorter {
        let (lanes, places, ends) = (Vec::new(), Vec::new(), VecDeque::new());
        Sorter { with_keys, lanes, places, current: 0, ends, complaints: Vec::new() }
    }

    pub(super) fn add_lanes(&mut self, assignment: &[Assignment]) {
        for assigned in assignment {
            let partition = assigned.partition;
            let number = usize::try_from(partition.0).expect("partitions are numbered from 0");
            if self.places.len() <= number {
                self.places.resize(number + 1, usize::MAX);
            }
            self.places[number] = self.lanes.len();
            let (next, last_record) = (assigned.next_offset.0, assigned.last_record);
            self.lanes.push(Lane { partition, next, last_record, at_end: false, telling: false });
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.lanes.iter().map(|lane| lane.partition)
    }

    /// The partitions that have been read to the end that librdkafka told last.
    pub(super) fn at_end(&self) -> impl Iterator<Item = PartitionId> {
        self.lanes.iter().filter(|lane| lane.at_end).map(|lane| lane.partition)
    }

    /// Tells the end again of each partition that is still read to it.
    pub(super) fn confirm(&mut self, ends: &[(PartitionId, Offset)]) {
        for &(partition, next_offset) in ends {
            let lane = self.lane(partition);
            if lane.at_end && lane.next == next_offset.0 {
                self.tell_end(partition);
            }
        }
    }

    fn tell_end(&mut self, partition: PartitionId) {
        if !std::mem::replace(&mut self.lane(partition).telling, true) {
            self.ends.push_back(partition);
        }
    }

    /// A partition that is at its end, and what comes next in it.
    pub(super) fn next_end(&mut self) -> Option<(PartitionId, Offset)> {
        while let Some(partition) = self.ends.pop_front() {
            let lane = self.lane(partition);
            lane.telling = false;
            // Records may have come since.
            if lane.at_end {
                return Some((partition, Offset(lane.next)));
            }
        }
        None
    }

    /// Where to read on when the last record cannot be compared; `None` if it need not be.
    pub(super) fn forget_last_record(&mut self, partition: PartitionId) -> Option<i64> {
        let lane = self.lane(partition);
        lane.last_record.take().map(|_| lane.next)
    }

    pub(super) fn take(&mut self, message: &Message<'_>, batch: &mut RawBatch) {
        match message.error() {
            None => self.add(message, batch),
            Some(RDKafkaErrorCode::PartitionEOF) => self.end(message.partition(), message.offset()),
            Some(code) => {
                let (text, partition, offset) = (message.error_text(), message.partition(), message.offset());
                self.complaints.push(Complaint::Said { code, text, partition, offset });
            }
        }
    }

    fn add(&mut self, message: &Message<'_>, batch: &mut RawBatch) {
        let with_keys = self.with_keys;
        let lane = self.lane(message.partition());
        let offset = message.offset();
        if let Some(last) = lane.last_record {
            if offset < lane.next {
                let found = fingerprint(offset, message.timestamp(), message.value());
                if found != last {
                    let partition = lane.partition;
                    self.complaints.push(Complaint::Changed { partition, last, found });
                }
                return;
            }
            lane.last_record = None;
        }
        assert!(
            offset >= lane.next,
            "offsets ascend. partition={}, offset={offset}, expected at least {}",
            lane.partition,
            lane.next
        );
        lane.next = offset + 1;
        lane.at_end = false;
        batch.push(lane.partition, offset, message.timestamp(), message.value());
        if with_keys {
            batch.push_key(message.key());
        }
    }

    fn end(&mut self, partition: PartitionId, offset: i64) {
        let lane = self.lane(partition);
        if lane.last_record.is_some() && offset < lane.next {
            // The partition ends at the last record or before: read on behind it, and hear that that is out of range.
            let (code, text) = (RDKafkaErrorCode::AutoOffsetReset, String::new());
            self.complaints.push(Complaint::Said { code, text, partition, offset });
            return;
        }
        lane.last_record = None;
        lane.at_end = true;
        lane.next = lane.next.max(offset);
        self.tell_end(partition);
    }

    fn lane(&mut self, partition: PartitionId) -> &mut Lane {
        if self.lanes[self.current].partition != partition {
            let place = self.places.get(partition.0 as usize).copied().filter(|place| *place < usize::MAX);
            self.current = place.expect("librdkafka gives messages of assigned partitions only");
        }
        &mut self.lanes[self.current]
    }
}
