//! Writes records to a topic by transactions, each with the place that its writer has come to. Who reads committed records
//! sees those of a transaction all or not at all, and who opens the writer anew is told the place of the last one.
//!
//! The place is an offset that is committed to a group of the writer's own, for partition 0 of the topic. It is a number of
//! the writer's, and none of the topic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientContext, Offset as Place, TopicPartitionList};
use uuid::Uuid;

use super::config::{check_paths, check_sending, connection_config, transactions_config};
use super::{failure, native};
use crate::ids::{Micros, TopicId};
use crate::secrets::Secrets;
use crate::source::FilesRoots;
use crate::spec::KafkaSpec;
use crate::{Error, Result};

/// How long a broker may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To answer, and at first.
    pub answers: Duration,
    pub first: Duration,
    /// With a record, until it is acknowledged; many wait behind each other.
    pub record: Duration,
    /// With a transaction from its beginning to its end.
    pub transaction: Duration,
}

const UNDONE_WITHIN: Duration = Duration::from_secs(5);

/// A sink sends as much at once as closes.
const OF_SINKS: Patience = Patience {
    answers: Duration::from_secs(30),
    first: Duration::from_secs(10),
    record: Duration::from_secs(60),
    transaction: Duration::from_secs(300),
};

/// How long a record waits for room in the queue of those on their way.
const ROOM_LOOKED_FOR_EVERY: Duration = Duration::from_millis(2);

/// One writer of a topic. All of its calls wait for a broker, so they are made on threads that may.
pub struct Transactions {
    topic: String,
    producer: ThreadedProducer<Sent>,
    consumer: BaseConsumer<Sent>,
    instance: Uuid,
    patience: Patience,
    fate: Arc<Fate>,
}

/// How far a topic has come, and which instance wrote that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub place: i64,
    pub by: Option<Uuid>,
}

/// A record on its way out.
pub struct Sending<'a> {
    /// By its key, without it.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// That of its sending, without it.
    pub timestamp: Option<Micros>,
    pub headers: &'a BTreeMap<&'static str, String>,
}

/// What became of the records of the transaction that runs.
#[derive(Default)]
struct Fate {
    failed: AtomicUsize,
    reason: Mutex<Option<(String, bool)>>,
    /// What the client said last of its brokers.
    said: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Fate {
    fn said(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone)]
struct Sent(Arc<Fate>);

/// What it says is told where it matters: in the reason why rows were not taken.
impl ClientContext for Sent {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        tracing::debug!(?level, message, "a writer of transactions");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" follows the reason, and would hide it.
        if code != RDKafkaErrorCode::AllBrokersDown || said.is_none() {
            *said = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Sent {}

impl ProducerContext for Sent {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = delivered {
            // Those behind it fail since it did.
            let mut reason = self.0.reason.lock().unwrap_or_else(PoisonError::into_inner);
            reason.get_or_insert_with(|| match is_of_the_record(error) {
                true => (format!("{error}; row={}", beginning(record.payload())), true),
                false => (error.to_string(), false),
            });
            self.0.failed.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Transactions {
    /// Refuses what no broker need be asked for.
    pub fn check(spec: &KafkaSpec, secrets: &Secrets, roots: &FilesRoots, id: &str) -> Result<()> {
        check_paths(spec, secrets, roots)?;
        let spec = resolved(spec, secrets)?;
        check_sending(&spec)?;
        transactions_config(&spec, id, &OF_SINKS)?
            .create_native_config()
            .map(drop)
            .map_err(|error| refused(&error))
    }

    /// Asks for the topic: an error if nobody answers, or there is none.
    pub fn find(spec: &KafkaSpec, secrets: &Secrets) -> Result<()> {
        let spec = resolved(spec, secrets)?;
        let heard = Sent(Arc::default());
        let consumer: BaseConsumer<Sent> =
            connection_config(&spec).create_with_context(heard.clone()).map_err(|error| refused(&error))?;
        let told = consumer.fetch_metadata(Some(&spec.topic), OF_SINKS.first).map_err(|error| {
            let unanswered = RDKafkaErrorCode::OperationTimedOut;
            let (code, reason) = heard.0.said().unwrap_or_else(|| (unanswered, error.to_string()));
            failure(code, format!("brokers={:?}, topic={:?}, reason={reason:?}", spec.brokers, spec.topic))
        })?;
        match told.topics().first() {
            Some(topic) if topic.error().is_none() && !topic.partitions().is_empty() => Ok(()),
            _ => Err(no_such_topic(&spec.topic)),
        }
    }

    /// Takes over from whoever wrote under this name: what they have not committed is undone, and they can commit no more.
    /// Gives the place that the last transaction came to.
    pub fn open(
        spec: &KafkaSpec,
        secrets: &Secrets,
        id: &str,
        instance: Uuid,
    ) -> Result<(Transactions, Option<Written>)> {
        Transactions::open_resolved(&resolved(spec, secrets)?, id, instance, OF_SINKS)
    }

    /// The same with properties that have values in place of references.
    pub(super) fn open_resolved(
        spec: &KafkaSpec,
        id: &str,
        instance: Uuid,
        patience: Patience,
    ) -> Result<(Transactions, Option<Written>)> {
        let config = transactions_config(spec, id, &patience)?;
        let fate = Arc::new(Fate::default());
        let producer: ThreadedProducer<Sent> =
            config.create_with_context(Sent(Arc::clone(&fate))).map_err(|error| refused(&error))?;
        let quiet = Sent(Arc::clone(&fate));
        let mut reading = connection_config(spec);
        reading.set("group.id", id).set("isolation.level", "read_committed");
        let consumer: BaseConsumer<Sent> =
            reading.create_with_context(quiet).map_err(|error| refused(&error))?;
        let topic = spec.topic.clone();
        let transactions = Transactions { topic, producer, consumer, instance, patience, fate };
        transactions
            .producer
            .init_transactions(patience.first)
            .map_err(|error| transactions.failed(&error))?;
        let place = transactions.place()?;
        Ok((transactions, place))
    }

    fn place(&self) -> Result<Option<Written>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, 0);
        let told = self
            .consumer
            .committed_offsets(asked, self.patience.answers)
            .map_err(|error| self.failed(&error))?;
        Ok(told.elements().first().and_then(|told| match told.offset() {
            Place::Offset(place) => Some(Written { place, by: Uuid::try_parse(told.metadata()).ok() }),
            _ => None,
        }))
    }

    /// What the topic is known by, whatever its name; `None` of brokers before 2.8.
    pub fn topic_id(&self, within: Duration) -> Result<Option<TopicId>> {
        native::topic_id(self.producer.client(), &self.topic, within).map_err(|code| match code {
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                no_such_topic(&self.topic)
            }
            code => self.failed(&KafkaError::AdminOp(code)),
        })
    }

    pub fn begin(&self) -> Result<()> {
        self.fate.failed.store(0, Ordering::Release);
        self.producer.begin_transaction().map_err(|error| self.failed(&error))
    }

    pub fn partitions(&self) -> Result<i32> {
        let told = self.producer.client().fetch_metadata(Some(&self.topic), self.patience.answers);
        let told = told.map_err(|error| self.failed(&error))?;
        Ok(told.topics().first().map_or(0, |topic| topic.partitions().len()) as i32)
    }

    /// Waits for room, as long as records leave.
    pub fn send(&self, record: &Sending<'_>) -> Result<()> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
        }
        let mut outgoing = BaseRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        outgoing.payload = record.value;
        outgoing.partition = record.partition;
        outgoing.key = record.key;
        outgoing.timestamp = record.timestamp.map(|micros| micros / 1000);
        loop {
            match self.producer.send(outgoing) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.look()?;
                    outgoing = back;
                    std::thread::sleep(ROOM_LOOKED_FOR_EVERY);
                }
                Err((error, _)) => return Err(self.failed(&error)),
            }
        }
    }

    /// All that was sent since it began, and the place that this comes to, are there or are not.
    pub fn commit(&self, place: i64) -> Result<()> {
        let group: ConsumerGroupMetadata = self
            .consumer
            .group_metadata()
            .ok_or_else(|| Error::Internal("a group has no metadata".into()))?;
        let mut places = TopicPartitionList::new();
        places
            .add_partition_offset(&self.topic, 0, Place::Offset(place))
            .map_err(|error| self.failed(&error))?;
        if let Some(mut place) = places.find_partition(&self.topic, 0) {
            place.set_metadata(self.instance.simple().to_string());
        }
        self.producer.flush(self.patience.answers * 4).map_err(|error| self.failed(&error))?;
        self.look()?;
        let failed = |error: KafkaError| self.failed(&error);
        self.producer.send_offsets_to_transaction(&places, &group, self.patience.answers).map_err(failed)?;
        self.producer.commit_transaction(self.patience.answers).map_err(failed)?;
        *self.fate.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Whether all of it has arrived so far.
    fn look(&self) -> Result<()> {
        match self.fate.failed.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(self.not_taken().unwrap_or_else(|| self.unavailable("a record was not taken"))),
        }
    }

    /// Why a record did not arrive, if one did not.
    fn not_taken(&self) -> Option<Error> {
        let reason = self.fate.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.map(|(reason, is_of_the_record)| match is_of_the_record {
            false => self.unavailable(&reason),
            true => Error::BadData(format!(
                "a row can't be a record of the topic. topic={:?}, reason={reason:?}; a larger one needs \
                 'properties.message.max.bytes' and the topic's max.message.bytes, a compacted topic needs a key",
                self.topic
            )),
        })
    }

    fn failed(&self, error: &KafkaError) -> Error {
        // What comes behind that says less.
        if let Some(error) = self.not_taken() {
            return error;
        }
        if is_of_the_record(error) {
            *self.fate.reason.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((error.to_string(), true));
            return self.not_taken().unwrap_or_else(|| self.unavailable(&error.to_string()));
        }
        let waited = match error {
            KafkaError::Transaction(error) => error.code() == RDKafkaErrorCode::OperationTimedOut,
            error => error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut),
        };
        self.unavailable(&match (error, self.fate.said()) {
            (_, Some((_, said))) if waited => format!("no answer in time: {said}"),
            _ if waited => "no answer in time".to_owned(),
            (KafkaError::Transaction(error), _) => error.to_string(),
            (error, _) => error.to_string(),
        })
    }

    /// What somebody is told who has waited for a while.
    pub fn waits(&self) -> Error {
        let said = self.fate.said().map(|(_, said)| format!(": {said}")).unwrap_or_default();
        self.unavailable(&format!("no answer yet{said}"))
    }

    fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable(format!("Kafka did not take the rows. topic={:?}, reason={reason:?}", self.topic))
    }
}

/// As much as tells which one it is.
fn beginning(record: Option<&[u8]>) -> String {
    const SHOWN: usize = 200;
    let record = record.unwrap_or_default();
    let text = String::from_utf8_lossy(&record[..record.len().min(SHOWN)]);
    match record.len() {
        ..=SHOWN => text.into_owned(),
        bytes => format!("{text}… ({bytes} bytes)"),
    }
}

/// Another attempt with the same record would fail, too.
fn is_of_the_record(error: &KafkaError) -> bool {
    let of_records = [
        RDKafkaErrorCode::MessageSizeTooLarge,
        RDKafkaErrorCode::InvalidMessageSize,
        RDKafkaErrorCode::InvalidRecord,
    ];
    error.rdkafka_error_code().is_some_and(|code| of_records.contains(&code))
}

impl Drop for Transactions {
    /// What is not committed is undone, so that nobody who reads committed records waits for it; if not now, then by whoever
    /// opens it next.
    fn drop(&mut self) {
        let producer = self.producer.clone();
        let undo = move || {
            producer.purge(PurgeConfig::default().queue().inflight());
            if let Err(error) = producer.abort_transaction(UNDONE_WITHIN) {
                tracing::debug!(%error, "a transaction was not undone");
            }
        };
        // Whoever drops it may be a thread that must not wait.
        if let Err(error) = std::thread::Builder::new().name("transaction-undo".into()).spawn(undo) {
            tracing::warn!(%error, "a transaction is not undone");
        }
    }
}

fn no_such_topic(topic: &str) -> Error {
    Error::Invalid(format!("there is no such topic, or it may not be seen. topic={topic:?}"))
}

fn resolved(spec: &KafkaSpec, secrets: &Secrets) -> Result<KafkaSpec> {
    Ok(KafkaSpec { properties: secrets.resolve(&spec.properties)?, ..spec.clone() })
}

/// The value stays out of the text, for it may be a secret.
fn refused(error: &KafkaError) -> Error {
    Error::Invalid(match error {
        KafkaError::ClientConfig(_, reason, key, _) => {
            format!("a Kafka property is refused. key={key:?}; {}", reason.to_lowercase())
        }
        error => format!("the Kafka properties are refused by a writer. {error}"),
    })
}
