//! Reads assigned partitions by the batch: drains the consumer's one queue, whatever partitions its messages are of.
//!
//! A broker that is away is no error here: the reader has nothing to say until it is back, also not that a partition is
//! at its end. An error is what waiting does not cure: a lost range, a damaged record, a topic that is gone or another.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::config::RECORD_BYTES;
use super::native::Consumer;
use super::sorter::{Complaint, Sorter};
use super::{ANSWER_WITHIN, END, FIRST, another_topic, check_topic};
use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Offset, PartitionId, TopicId};
use crate::source::{Assignment, BatchLimit, END_IS_TOLD_EVERY, Polled, RawBatch, Reader};
use crate::spec::KafkaSpec;
use crate::{Error, Result};

/// Messages taken from librdkafka's queue in one call; bytes are counted between calls.
const CHUNK: usize = 1024;

/// What brokers say of ends is not believed when it took longer, for the records of that time are not in it.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// An answer that has not come by then, not even that it cannot be had, is not waited for any longer: without ends no
/// partition would ever be idle again.
const ANSWER_LOST: Duration = ENDS_WITHIN.saturating_mul(2);

pub(super) struct KafkaReader {
    spec: KafkaSpec,
    consumer: Consumer,
    /// The one that is read; records of another are not given out.
    topic_id: Option<TopicId>,
    sorter: Sorter,
    /// When brokers were last asked for the ends of partitions, and whether they have answered.
    asked: Option<Instant>,
    answered: bool,
    /// What a record weighed in the last batch, on average.
    record_bytes: usize,
}

impl KafkaReader {
    pub(super) fn new(
        spec: &KafkaSpec,
        consumer: Consumer,
        topic_id: Option<TopicId>,
        with_keys: bool,
    ) -> KafkaReader {
        let (spec, sorter) = (spec.clone(), Sorter::new(with_keys));
        KafkaReader { spec, consumer, topic_id, sorter, asked: None, answered: true, record_bytes: 0 }
    }

    /// Begins with the record that was read last, where there is one, to see whether the topic is still the same.
    pub(super) fn assign(&mut self, assignment: &[Assignment]) -> Result<()> {
        let topic = &self.spec.topic;
        if let Some(Assignment { partition, next_offset, .. }) =
            assignment.iter().find(|assigned| assigned.next_offset.0 < 0)
        {
            let values = format!("topic={topic:?}, partition={partition}, offset={next_offset}");
            return Err(Error::Internal(format!("a reader starts at a real offset. {values}")));
        }
        if assignment.is_empty() {
            return Ok(());
        }
        let begin =
            |assigned: &Assignment| assigned.last_record.map_or(assigned.next_offset, |last| last.offset);
        let begins = assignment.iter().map(|assigned| (assigned.partition, begin(assigned).0));
        self.consumer.assign(begins).map_err(|reason| self.refused(&reason))?;
        self.sorter.add_lanes(assignment);
        Ok(())
    }

    /// An end that is to be told. What looks like one may be the first record of an open transaction.
    fn told_end(&mut self) -> Option<Polled> {
        while let Some((partition, next_offset)) = self.sorter.next_end() {
            if self.consumer.known_range(partition).is_none_or(|(_, end)| end <= next_offset) {
                return Some(Polled::AtEnd { partition, next_offset });
            }
        }
        None
    }

    fn refused(&self, reason: &str) -> Error {
        let topic = &self.spec.topic;
        Error::Internal(format!("librdkafka refuses an assignment. topic={topic:?}, reason={reason:?}"))
    }

    /// Has the brokers say again where partitions end that seem to be read to their end: a broker that does not answer
    /// may hold records.
    #[allow(clippy::disallowed_methods)] // The clock decides when to ask, and not what is heard.
    fn ask_for_ends(&mut self) {
        let since = self.asked.map_or(Duration::MAX, |asked| asked.elapsed());
        if !self.answered {
            match self.consumer.answered_ends() {
                Some(ends) if since <= ENDS_WITHIN => self.sorter.confirm(&ends),
                Some(_) => {}
                None if since < ANSWER_LOST => return,
                None => self.consumer.forget_answers(),
            }
            self.answered = true;
        }
        if since >= END_IS_TOLD_EVERY && self.sorter.at_end().next().is_some() {
            self.consumer.ask_ends(self.sorter.at_end(), ENDS_WITHIN);
            self.asked = Some(Instant::now());
            self.answered = false;
        }
    }

    /// Reads what is there, or else the first that comes within the timeout.
    fn read(&mut self, batch: &mut RawBatch, limit: BatchLimit, timeout: Duration) -> Result<()> {
        let KafkaReader { consumer, sorter, .. } = self;
        let mut asked = CHUNK.min(limit.rows);
        let mut count = consumer.consume(asked, Duration::ZERO, |message| sorter.take(&message, batch));
        if count == 0 {
            // Asked for more than one, librdkafka would wait for the others until the time is out.
            asked = 1;
            count = consumer.consume(asked, timeout, |message| sorter.take(&message, batch));
        }
        // Fewer than were asked for are all that there were.
        while count == asked && !limit.reached_by(batch) && sorter.complaints.is_empty() {
            asked = CHUNK.min(limit.rows - batch.len());
            count = consumer.consume(asked, Duration::ZERO, |message| sorter.take(&message, batch));
        }
        // Said before the first record of another topic was asked for, so it is known by now.
        consumer.serve();
        check_topic(&self.spec, &mut self.topic_id, consumer.connection().topic())?;
        if (count > 0 || !batch.is_empty()) && sorter.complaints.is_empty() {
            consumer.connection().recovered();
        }
        std::mem::take(&mut sorter.complaints).into_iter().try_for_each(|complaint| self.judge(complaint))
    }

    /// Whether a complaint stops the stream.
    fn judge(&mut self, complaint: Complaint) -> Result<()> {
        let topic = &self.spec.topic;
        let (code, text, partition, offset) = match complaint {
            Complaint::Said { code, text, partition, offset } => (code, text, partition, offset),
            Complaint::Changed { partition, last, found } => return Err(self.changed(partition, last, found)),
        };
        let values = format!("topic={topic:?}, partition={partition}, offset={offset}, reason={text:?}");
        match code {
            RDKafkaErrorCode::AutoOffsetReset => match self.sorter.forget_last_record(partition) {
                // It has gone, as by retention, which is no loss if what comes after it is there.
                Some(next) => {
                    self.consumer.assign_again(partition, next).map_err(|reason| self.refused(&reason))
                }
                None => Err(self.lost(partition, offset)),
            },
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

    /// The error for a topic that is not the one that was read.
    fn changed(&self, partition: PartitionId, last: RecordFingerprint, found: RecordFingerprint) -> Error {
        let values = format!(
            "partition={partition}, last read offset={} of timestamp={} ms, found offset={} of timestamp={} ms",
            last.offset,
            last.timestamp / 1000,
            found.offset,
            found.timestamp / 1000
        );
        another_topic(&self.spec, &values)
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
            "records are lost. {values}; {cause}. Thalweg does not skip them: bring the topic back, or go on with \
             what is there: ALTER STREAM … RESTART AT 'earliest'"
        ))
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, batch: &mut RawBatch, limit: BatchLimit, timeout: Duration) -> Result<Polled> {
        if let Some(end) = self.told_end() {
            return Ok(end);
        }
        self.consumer.serve();
        self.ask_for_ends();
        // Records that were read before a complaint are given up with it; the stream stops.
        self.read(batch, limit, timeout)?;
        self.record_bytes = batch.bytes().checked_div(batch.len()).unwrap_or(self.record_bytes);
        match batch.is_empty() {
            true => Ok(self.told_end().unwrap_or(Polled::Nothing)),
            false => Ok(Polled::Records { more: limit.reached_by(batch) }),
        }
    }

    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<()> {
        self.assign(&[(partition, offset).into()])
    }

    fn ends(&self) -> Vec<(PartitionId, Offset)> {
        // Asked at each barrier, also while nothing may be read: what librdkafka says meanwhile does not pile up.
        self.consumer.serve();
        let end = |partition| Some((partition, self.consumer.known_range(partition)?.1));
        self.sorter.partitions().filter_map(end).collect()
    }

    fn queued_bytes(&self) -> usize {
        self.consumer.queued() * (self.record_bytes + RECORD_BYTES)
    }
}
