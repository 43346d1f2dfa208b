//! Makes batches of messages, which come mixed: sorts them by partition, and tells a partition's end. After a restart it
//! also looks whether the record that was read last is still the one that is there, before it gives any (INV-12).

use std::collections::VecDeque;

use rdkafka::error::RDKafkaErrorCode;

use super::native::Message;
use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Offset, PartitionId};
use crate::source::{Assignment, Polled, RawBatch, Records, fingerprint};

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
    /// Read before a restart. Until it has been passed, the records before `next` are compared with it.
    last_record: Option<RecordFingerprint>,
    at_end: bool,
    open: Option<RawBatch>,
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
        let (ready, complaints) = (VecDeque::new(), Vec::new());
        Sorter { with_keys, lanes: Vec::new(), current: 0, rows: 0, bytes: 0, ready, complaints }
    }

    pub(super) fn add_lanes(&mut self, assignment: &[Assignment]) {
        let lane = |assigned: &Assignment| Lane {
            partition: assigned.partition,
            next: assigned.next_offset.0,
            last_record: assigned.last_record,
            at_end: false,
            open: None,
        };
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

    /// Where to read on when the last record cannot be compared; `None` if it need not be.
    pub(super) fn forget_last_record(&mut self, partition: PartitionId) -> Option<i64> {
        let lane = self.lane(partition);
        lane.last_record.take().map(|_| lane.next)
    }

    pub(super) fn take(&mut self, message: &Message<'_>) {
        match message.error() {
            None => self.add(message),
            Some(RDKafkaErrorCode::PartitionEOF) => self.end(message.partition(), message.offset()),
            Some(code) => {
                let (text, partition, offset) = (message.error_text(), message.partition(), message.offset());
                self.complaints.push(Complaint::Said { code, text, partition, offset });
            }
        }
    }

    fn add(&mut self, message: &Message<'_>) {
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
        if lane.last_record.is_some() && offset < lane.next {
            // The partition ends at the last record or before: read on behind it, and hear that that is out of range.
            let (code, text) = (RDKafkaErrorCode::AutoOffsetReset, String::new());
            self.complaints.push(Complaint::Said { code, text, partition, offset });
            return;
        }
        lane.last_record = None;
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
