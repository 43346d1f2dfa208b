//! Makes batches of messages, which come mixed: sorts them by partition, and tells a partition's end.

use std::collections::VecDeque;

use rdkafka::error::RDKafkaErrorCode;

use super::native::Message;
use crate::ids::{Offset, PartitionId};
use crate::source::{Polled, RawBatch, Records};

pub(super) struct Sorter {
    with_keys: bool,
    lanes: Vec<Lane>,
    /// The lane of the last message, for the next one is mostly of the same.
    current: usize,
    /// Since the batches were last closed.
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// What has been read and not yet given out; of bounded size, for it is only filled when it is empty.
    pub(super) ready: VecDeque<Polled>,
    pub(super) complaints: Vec<Complaint>,
}

/// One partition being read.
struct Lane {
    partition: PartitionId,
    /// No record before this one may be given out.
    next: i64,
    at_end: bool,
    open: Option<RawBatch>,
}

/// Bad news of a partition.
pub(super) struct Complaint {
    pub(super) code: RDKafkaErrorCode,
    pub(super) text: String,
    pub(super) partition: PartitionId,
    pub(super) offset: i64,
}

impl Sorter {
    pub(super) fn new(with_keys: bool) -> Sorter {
        let (ready, complaints) = (VecDeque::new(), Vec::new());
        Sorter { with_keys, lanes: Vec::new(), current: 0, rows: 0, bytes: 0, ready, complaints }
    }

    pub(super) fn add_lanes(&mut self, assignment: &[(PartitionId, Offset)]) {
        let lane = |&(partition, Offset(next)): &(_, _)| Lane { partition, next, at_end: false, open: None };
        self.lanes.extend(assignment.iter().map(lane));
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
                self.ready.push_back(Polled::AtEnd { partition, next_offset });
            }
        }
    }

    pub(super) fn take(&mut self, message: &Message<'_>) {
        match message.error() {
            None => self.add(message),
            Some(RDKafkaErrorCode::PartitionEOF) => self.end(message.partition(), message.offset()),
            Some(code) => {
                let (text, partition, offset) = (message.error_text(), message.partition(), message.offset());
                self.complaints.push(Complaint { code, text, partition, offset });
            }
        }
    }

    fn add(&mut self, message: &Message<'_>) {
        let with_keys = self.with_keys;
        let lane = self.lane(message.partition());
        let offset = message.offset();
        assert!(
            offset >= lane.next,
            "offsets ascend. partition={}, offset={offset}, expected at least {}",
            lane.partition,
            lane.next
        );
        lane.next = offset + 1;
        lane.at_end = false;
        let batch = lane.open.get_or_insert_with(|| RawBatch {
            partition: lane.partition,
            records: Records::default(),
            offsets: Vec::new(),
            timestamps: Vec::new(),
            keys: Vec::new(),
            next_offset: Offset(offset),
        });
        let value = message.value();
        batch.records.push(value);
        batch.offsets.push(offset);
        batch.timestamps.push(message.timestamp());
        batch.next_offset = Offset(offset + 1);
        let key = if with_keys { message.key() } else { None };
        if with_keys {
            batch.keys.push(key.map(<[u8]>::to_vec));
        }
        self.rows += 1;
        self.bytes += value.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len);
    }

    fn end(&mut self, partition: PartitionId, offset: i64) {
        let lane = self.lane(partition);
        lane.at_end = true;
        lane.next = lane.next.max(offset);
        let next_offset = Offset(lane.next);
        let batch = lane.open.take();
        self.ready.extend(batch.map(Polled::Batch));
        self.ready.push_back(Polled::AtEnd { partition, next_offset });
    }

    pub(super) fn close_all(&mut self) {
        for lane in &mut self.lanes {
            self.ready.extend(lane.open.take().map(Polled::Batch));
        }
        self.rows = 0;
        self.bytes = 0;
    }

    fn lane(&mut self, partition: PartitionId) -> &mut Lane {
        if self.lanes[self.current].partition != partition {
            let found = self.lanes.iter().position(|lane| lane.partition == partition);
            self.current = found.expect("librdkafka gives messages of assigned partitions only");
        }
        &mut self.lanes[self.current]
    }
}
