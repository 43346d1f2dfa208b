//! Reads assigned partitions by the batch: drains the consumer's one queue, sorts the messages by partition, and gives
//! out one partition's batch at a time.
//!
//! A broker that is away is no error here: the reader has nothing to say until it is back. An error is what waiting
//! does not cure: a lost range, a damaged record, a topic that is gone.

use std::collections::VecDeque;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::native::{Consumer, Message};
use super::{ANSWER_WITHIN, END, FIRST};
use crate::ids::{Offset, PartitionId};
use crate::source::{BatchLimit, Polled, RawBatch, Reader, Records};
use crate::spec::KafkaSpec;
use crate::{Error, Result};

/// Messages taken from librdkafka's queue in one call; bytes are counted between calls.
const CHUNK: usize = 1024;

pub(super) struct KafkaReader {
    spec: KafkaSpec,
    consumer: Consumer,
    sorter: Sorter,
}

/// Makes batches of messages, which come mixed.
struct Sorter {
    with_keys: bool,
    lanes: Vec<Lane>,
    /// The lane of the last message, for the next one is mostly of the same.
    current: usize,
    /// Since the batches were last closed.
    rows: usize,
    bytes: usize,
    /// What has been read and not yet given out; of bounded size, for it is only filled when it is empty.
    ready: VecDeque<Polled>,
    complaint: Option<Complaint>,
}

/// One partition being read.
struct Lane {
    partition: PartitionId,
    /// No record before this one may come.
    next: i64,
    open: Option<RawBatch>,
}

/// Bad news of a partition.
struct Complaint {
    code: RDKafkaErrorCode,
    text: String,
    partition: PartitionId,
    offset: i64,
}

impl KafkaReader {
    pub(super) fn new(spec: &KafkaSpec, consumer: Consumer, with_keys: bool) -> KafkaReader {
        let ready = VecDeque::new();
        let sorter =
            Sorter { with_keys, lanes: Vec::new(), current: 0, rows: 0, bytes: 0, ready, complaint: None };
        KafkaReader { spec: spec.clone(), consumer, sorter }
    }

    pub(super) fn assign(&mut self, assignment: &[(PartitionId, Offset)]) -> Result<()> {
        let topic = &self.spec.topic;
        if let Some((partition, offset)) = assignment.iter().find(|(_, offset)| offset.0 < 0) {
            let values = format!("topic={topic:?}, partition={partition}, offset={offset}");
            return Err(Error::Internal(format!("a reader starts at a real offset. {values}")));
        }
        if assignment.is_empty() {
            return Ok(());
        }
        self.consumer.assign(assignment).map_err(|reason| {
            Error::Internal(format!("librdkafka refuses an assignment. topic={topic:?}, reason={reason:?}"))
        })?;
        let lane = |&(partition, Offset(next)): &(_, _)| Lane { partition, next, open: None };
        self.sorter.lanes.extend(assignment.iter().map(lane));
        Ok(())
    }

    /// Reads what is there, or else the first that comes within the timeout.
    fn read(&mut self, limit: BatchLimit, timeout: Duration) -> Result<()> {
        let KafkaReader { consumer, sorter, .. } = self;
        let mut count =
            consumer.consume(CHUNK.min(limit.rows), Duration::ZERO, |message| sorter.take(&message));
        if count == 0 {
            // Asked for more than one, librdkafka would wait for the others until the time is out.
            count = consumer.consume(1, timeout, |message| sorter.take(&message));
        }
        while count > 0
            && sorter.rows < limit.rows
            && sorter.bytes < limit.bytes
            && sorter.complaint.is_none()
        {
            let room = CHUNK.min(limit.rows - sorter.rows);
            count = consumer.consume(room, Duration::ZERO, |message| sorter.take(&message));
        }
        sorter.close_all();
        match sorter.complaint.take() {
            Some(complaint) => self.judge(complaint),
            None => {
                if !self.sorter.ready.is_empty() {
                    self.consumer.connection().recovered();
                }
                Ok(())
            }
        }
    }

    /// Whether a complaint stops the stream.
    fn judge(&self, complaint: Complaint) -> Result<()> {
        let Complaint { code, text, partition, offset } = complaint;
        let topic = &self.spec.topic;
        let values = format!("topic={topic:?}, partition={partition}, offset={offset}, reason={text:?}");
        match code {
            RDKafkaErrorCode::AutoOffsetReset => Err(self.lost(partition, offset)),
            RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::UnsupportedCompressionType => {
                Err(Error::BadData(format!("a record cannot be read. {values}")))
            }
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopicId
            | RDKafkaErrorCode::UnknownPartition => {
                Err(Error::Unavailable(format!("the topic or partition has gone. {values}")))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => Err(super::failure(code, values)),
            RDKafkaErrorCode::Fatal => Err(Error::Unavailable(format!(
                "the Kafka client cannot go on and must be opened anew. {values}"
            ))),
            code => {
                self.consumer.connection().trouble(code, values);
                Ok(())
            }
        }
    }

    /// The error for records that were to be read and are not there.
    fn lost(&self, partition: PartitionId, wanted: i64) -> Error {
        let topic = &self.spec.topic;
        let ask = |time| {
            self.consumer.offsets_at([(partition, time)].into_iter(), ANSWER_WITHIN).map(|all| all[0].1)
        };
        let (first, end) = match ask(FIRST).and_then(|first| Ok((first, ask(END)?))) {
            Ok(range) => range,
            Err(code) => {
                let values = format!("topic={topic:?}, partition={partition}, wanted offset={wanted}");
                return Error::BadData(format!(
                    "records are lost, and what is left is not known ({code}). {values}"
                ));
            }
        };
        let values = format!(
            "topic={topic:?}, partition={partition}, wanted offset={wanted}, first available={first}, end={end}"
        );
        let cause = if wanted < first {
            format!(
                "offsets {wanted} to {} were deleted before they were read, by retention or by hand",
                first - 1
            )
        } else {
            "the partition ends before it: the topic was created anew, or a broker lost its tail".to_owned()
        };
        Error::BadData(format!(
            "records are lost. {values}; {cause}. Thalweg does not skip them: bring the topic back, or DROP the stream \
             and CREATE it again to begin anew"
        ))
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, limit: BatchLimit, timeout: Duration) -> Result<Polled> {
        if self.sorter.ready.is_empty() {
            self.consumer.serve();
            // Batches that were read before a complaint are given up with it; the stream stops.
            self.read(limit, timeout)?;
        }
        while let Some(ready) = self.sorter.ready.pop_front() {
            match ready {
                // What looks like the end may be the first record of an open transaction.
                Polled::AtEnd { partition, next_offset }
                    if self.consumer.known_range(partition).is_some_and(|(_, end)| end > next_offset) => {}
                ready => return Ok(ready),
            }
        }
        Ok(Polled::Nothing)
    }

    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<()> {
        self.assign(&[(partition, offset)])
    }

    fn ends(&self) -> Vec<(PartitionId, Offset)> {
        let end = |lane: &Lane| {
            let (_, end) = self.consumer.known_range(lane.partition)?;
            Some((lane.partition, end))
        };
        self.sorter.lanes.iter().filter_map(end).collect()
    }
}

impl Sorter {
    fn take(&mut self, message: &Message<'_>) {
        match message.error() {
            None => self.add(message),
            Some(RDKafkaErrorCode::PartitionEOF) => self.end(message.partition(), message.offset()),
            Some(code) => {
                let (text, partition, offset) = (message.error_text(), message.partition(), message.offset());
                self.complaint.get_or_insert(Complaint { code, text, partition, offset });
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
        lane.next = lane.next.max(offset);
        let next_offset = Offset(lane.next);
        let batch = lane.open.take();
        self.ready.extend(batch.map(Polled::Batch));
        self.ready.push_back(Polled::AtEnd { partition, next_offset });
    }

    fn close_all(&mut self) {
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
