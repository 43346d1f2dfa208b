//! Kafka: finds a topic's partitions, resolves where to start, and opens readers over them.
//!
//! Partitions are assigned at explicit offsets, never subscribed to; the offsets to resume at live in the manifests,
//! and what is published to the group is for people to look at. Under `read_committed` the end of a partition is its
//! last stable offset: where the first open transaction begins.

mod config;
mod connection;
mod courier;
mod native;
mod producer;
mod reader;
mod sorter;
mod timestamps;
mod transactions;
mod waves;

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::{Assignment, Discovery, PartitionRange, Reader, Reading};
use crate::ids::{Micros, Offset, PartitionId, TopicId};
use crate::spec::{KafkaSpec, Start};
use crate::{Error, ErrorKind, Result};
pub(super) use config::check_paths;
pub(crate) use courier::{Courier, Parcel};
use native::Consumer;
pub use producer::Outgoing;
pub(crate) use producer::{Producer, Sent, Underway};
use reader::KafkaReader;
pub use transactions::{Sending, Transactions, Written};

/// How long a broker may take to answer before it counts as unreachable.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The same time, cut so that what no waiting cures is told soon.
const ANSWER_WITHIN_CUT: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(7)];
/// The settings of a topic are good to know and not waited for.
const SETTINGS_WITHIN: Duration = Duration::from_secs(3);
/// How long leaders may take to be elected, and how often they are asked for meanwhile.
const ELECTED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The times that ask a broker for a partition's first offset and for its end.
const FIRST: i64 = -2;
const END: i64 = -1;

const NO_TOPIC: &str = "the topic does not exist";

/// Whether a topic is missing, which may come.
pub(crate) fn is_of_no_topic(error: &Error) -> bool {
    matches!(error, Error::Invalid(text) if text.starts_with(NO_TOPIC))
}

pub(super) struct Kafka {
    spec: KafkaSpec,
    consumer: Consumer,
    /// Another one is an error.
    topic_id: Option<TopicId>,
}

impl Kafka {
    pub(super) fn new(spec: &KafkaSpec) -> Result<Kafka> {
        Ok(Kafka { spec: spec.clone(), consumer: consumer(spec, 0, 0)?, topic_id: None })
    }

    fn offset_at(&self, partition: PartitionId, time: i64) -> Result<i64> {
        Ok(self.offsets_at(&[partition], time)?[0].1)
    }

    /// Waits for the leaders of a topic that has just been created, or whose brokers have just been started.
    fn offsets_at(&self, ids: &[PartitionId], time: i64) -> Result<Vec<(PartitionId, i64)>> {
        let mut elections = ELECTED_WITHIN.as_millis() / LOOK_AGAIN.as_millis();
        loop {
            let asked = ids.iter().map(|&id| (id, time));
            match self.consumer.offsets_at(asked, ANSWER_WITHIN) {
                Ok(mut offsets) => {
                    offsets.sort_unstable();
                    return Ok(offsets);
                }
                Err(
                    RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::FencedLeaderEpoch
                    | RDKafkaErrorCode::UnknownLeaderEpoch,
                ) if elections > 0 => {
                    elections -= 1;
                    std::thread::sleep(LOOK_AGAIN);
                    self.metadata()?;
                }
                Err(code) => return Err(self.failure(code, "offsets")),
            }
        }
    }

    fn metadata(&self) -> Result<Metadata> {
        let mut failure = Error::Unavailable("no broker was asked".into());
        for within in ANSWER_WITHIN_CUT {
            failure = match self.consumer.client().fetch_metadata(Some(&self.spec.topic), within) {
                Ok(metadata) => {
                    self.consumer.connection().recovered();
                    return Ok(metadata);
                }
                Err(KafkaError::MetadataFetch(code)) => self.failure(code, "metadata"),
                Err(error) => Error::Unavailable(format!("no broker answers. {error}")),
            };
            if failure.kind() != ErrorKind::Unavailable {
                break;
            }
        }
        Err(failure)
    }

    /// The error for a request that was not answered as hoped.
    fn failure(&self, code: RDKafkaErrorCode, request: &str) -> Error {
        self.consumer.serve();
        let (brokers, topic) = (&self.spec.brokers, &self.spec.topic);
        let (code, reason) = match self.consumer.connection().reason() {
            Some((code, reason)) => (code, reason),
            None => (code, code.to_string()),
        };
        failure(code, format!("request={request}, brokers={brokers:?}, topic={topic:?}, reason={reason:?}"))
    }
}

/// What a code of librdkafka's asks of the caller.
fn failure(code: RDKafkaErrorCode, values: String) -> Error {
    match code {
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            Error::Invalid(format!("{NO_TOPIC}. {values}"))
        }
        RDKafkaErrorCode::InvalidTopic => Error::Invalid(format!("no topic can have this name. {values}")),
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
            Error::Invalid(format!("the broker does not let this user read the topic. {values}"))
        }
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            Error::Invalid(format!(
                "the broker refuses these credentials. {values}; see 'properties.sasl.mechanism', \
             'properties.sasl.username' and 'properties.sasl.password'"
            ))
        }
        // Another failure of a handshake may be one of the network.
        RDKafkaErrorCode::SSL if values.contains("certificate") => Error::Invalid(format!(
            "no TLS connection can be made, for a certificate is not trusted. {values}; see \
             'properties.ssl.ca.location', and where the broker asks for one 'properties.ssl.certificate.location'"
        )),
        RDKafkaErrorCode::Resolve => Error::Unavailable(format!("the broker's name is not known. {values}")),
        _ => Error::Unavailable(format!("no broker answers. {values}")),
    }
}

fn consumer(spec: &KafkaSpec, partitions: usize, queue_bytes: usize) -> Result<Consumer> {
    let (config, native) = config::client_config(spec, partitions, queue_bytes)?;
    Consumer::new(&config, native, &spec.topic).map_err(|error| {
        // Some properties are judged only here, together: a certificate that is not there, SASL without a user.
        Error::Invalid(format!("the Kafka properties do not fit together. {error}"))
    })
}

impl Discovery for Kafka {
    fn partitions(&mut self) -> Result<Vec<PartitionRange>> {
        self.consumer.serve();
        let metadata = self.metadata()?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.spec.topic);
        let ids: Vec<PartitionId> = match topic.map(|topic| (topic.error(), topic.partitions())) {
            Some((None, partitions)) if !partitions.is_empty() => {
                partitions.iter().map(|partition| PartitionId(partition.id())).collect()
            }
            Some((Some(error), _)) => return Err(self.failure(error.into(), "metadata")),
            _ => return Err(self.failure(RDKafkaErrorCode::UnknownTopic, "metadata")),
        };
        // Offsets are asked last, so that they are never of a topic before the one that is known from now on.
        let id = native::topic_id(self.consumer.client(), &self.spec.topic, ANSWER_WITHIN);
        let id = id.map_err(|code| self.failure(code, "topic id"))?;
        check_topic(&self.spec, &mut self.topic_id, id)?;
        // And of them the end, so that it is never before the first.
        let (firsts, ends) = (self.offsets_at(&ids, FIRST)?, self.offsets_at(&ids, END)?);
        let range = |((partition, first), (_, end)): (_, (_, i64))| PartitionRange {
            partition,
            first: Offset(first),
            end: Offset(end.max(first)),
        };
        Ok(firsts.into_iter().zip(ends).map(range).collect())
    }

    fn resolve(&mut self, partition: PartitionId, start: Start) -> Result<Offset> {
        let offset = match start {
            Start::Earliest => self.offset_at(partition, FIRST)?,
            Start::Latest => self.offset_at(partition, END)?,
            Start::Timestamp(time) => match self.offset_at(partition, first_milli(time))? {
                // Nothing is so young: what comes next will be.
                ..0 => self.offset_at(partition, END)?,
                offset => offset,
            },
        };
        Ok(Offset(offset))
    }

    fn open(&mut self, assignment: &[Assignment], reading: Reading) -> Result<Box<dyn Reader>> {
        let consumer = consumer(&self.spec, assignment.len(), reading.queue_bytes)?;
        let mut reader = KafkaReader::new(&self.spec, consumer, self.topic_id.clone(), reading.with_keys);
        reader.assign(assignment)?;
        Ok(Box::new(reader))
    }

    fn expect(&mut self, topic: Option<TopicId>) {
        self.topic_id = topic;
    }

    fn topic_id(&self) -> Option<TopicId> {
        self.topic_id.clone()
    }

    fn warnings(&mut self) -> Vec<String> {
        let topic = &self.spec.topic;
        match self.consumer.topic_settings(SETTINGS_WITHIN) {
            Ok(settings) => timestamps::warning(topic, &settings).into_iter().collect(),
            Err(reason) => {
                // Mostly nobody has been let look at them.
                tracing::info!(topic, reason, "the settings of a topic are not known");
                vec![]
            }
        }
    }

    fn publish(&mut self, offsets: &[(PartitionId, Offset)]) {
        self.consumer.serve();
        if let Err(code) = self.consumer.commit(offsets) {
            tracing::debug!(topic = self.spec.topic, ?code, "the group's offsets were not published");
        }
    }
}

/// Takes a topic that is found for the one that is known, where none was.
fn check_topic(spec: &KafkaSpec, known: &mut Option<TopicId>, found: Option<TopicId>) -> Result<()> {
    match (&*known, found) {
        (Some(known), Some(found)) if *known != found => {
            let values = format!("topic id before={known}, topic id now={found}");
            Err(another_topic(spec, &values))
        }
        (None, Some(found)) => {
            *known = Some(found);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn another_topic(spec: &KafkaSpec, values: &str) -> Error {
    let KafkaSpec { topic, brokers, .. } = spec;
    Error::BadData(format!(
        "the topic is not the one that was read before. brokers={brokers:?}, topic={topic:?}, {values}; it was deleted and \
         created again, or brokers leads to another cluster, so an offset of old means nothing in it. Bring the topic back, \
         or go on with what is in this one: ALTER STREAM … RESTART AT 'earliest'"
    ))
}

/// The first whole millisecond that is not before `time`; Kafka knows no finer ones, and none before 1970.
fn first_milli(time: Micros) -> i64 {
    let millis = time.div_euclid(1000) + i64::from(time.rem_euclid(1000) > 0);
    millis.max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_up_to_milliseconds() {
        for (micros, millis) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (-1, 0), (i64::MIN, 0)] {
            assert_eq!(first_milli(micros), millis, "{micros}");
        }
    }

    #[test]
    fn an_unreachable_broker_is_unavailable_and_named() {
        // Port 9 of loopback: nothing listens there, and the refusal comes at once.
        let properties = [("socket.connection.setup.timeout.ms".to_owned(), "1000".to_owned())].into();
        let spec = KafkaSpec { brokers: "127.0.0.1:9".into(), topic: "clicks".into(), properties };
        let kafka = Kafka::new(&spec).unwrap();
        let code =
            kafka.consumer.client().fetch_metadata(Some("clicks"), Duration::from_millis(300)).unwrap_err();
        let error = kafka.failure(code.rdkafka_error_code().unwrap(), "metadata");
        assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:9") && text.contains("efused"), "{text}");
    }
}
