//! Sends on what waited while the broker was away: each batch is a transaction, and with it goes the place in the spool that
//! it comes to. So whoever died between a commit and the word of it is told by the broker how far they came.
//!
//! The place is an offset that is committed to a group of the courier's own, for partition 0 of the topic. It is a number
//! of the spool's, and none of the topic.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{Offset as Place, TopicPartitionList};

use super::config::{courier_config, ledger_config};
use crate::ids::Micros;
use crate::spec::KafkaSpec;
use crate::{Error, Result};

/// Longer than an election takes; who does not answer by then is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Courier {
    topic: String,
    producer: ThreadedProducer<Quiet>,
    group: ConsumerGroupMetadata,
}

/// That Kafka is away is told once, by who has the courier.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a courier has lost touch with its broker");
    }
}

impl ConsumerContext for Quiet {}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    /// A commit fails when one was not taken.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A record as it was put into the spool.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub timestamp: Micros,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

impl Courier {
    /// Takes over from whoever went by this name: what they have not committed is undone, and they can commit no more. Gives
    /// the place that the last committed batch came to.
    pub fn open(spec: &KafkaSpec, id: &str) -> Result<(Courier, Option<i64>)> {
        let refused = |error: KafkaError| {
            Error::Invalid(format!("the Kafka properties are refused by a producer. {error}"))
        };
        let producer: ThreadedProducer<Quiet> =
            courier_config(spec, id)?.create_with_context(Quiet).map_err(refused)?;
        let ledger: BaseConsumer<Quiet> =
            ledger_config(spec, id)?.create_with_context(Quiet).map_err(refused)?;
        let group = ledger.group_metadata();
        let group = group.ok_or_else(|| Error::Internal("a consumer has no group".into()))?;
        let courier = Courier { topic: spec.topic.clone(), producer, group };
        courier.producer.init_transactions(ANSWER_WITHIN).map_err(|error| courier.failed(&error))?;
        let asked = courier.place(Place::Invalid)?;
        let told = ledger.committed_offsets(asked, ANSWER_WITHIN).map_err(|error| courier.failed(&error))?;
        let place = told.elements().first().and_then(|told| match told.offset() {
            Place::Offset(place) => Some(place),
            _ => None,
        });
        Ok((courier, place))
    }

    /// All of them are in the topic, and the place is known, or nothing of it. After an error nobody knows which, until
    /// it is opened anew.
    pub fn carry(&self, parcels: &[Parcel], place: i64) -> Result<()> {
        let failed = |error: KafkaError| self.failed(&error);
        self.producer.begin_transaction().map_err(failed)?;
        for Parcel { timestamp, key, value } in parcels {
            let record = BaseRecord::to(&self.topic).payload(value.as_slice()).timestamp(timestamp / 1000);
            let record = match key {
                Some(key) => record.key(key.as_slice()),
                None => record,
            };
            self.producer.send(record).map_err(|(error, _)| self.failed(&error))?;
        }
        // It fails as a whole when one of them was not taken, and a commit would.
        let places = self.place(Place::Offset(place))?;
        self.producer.send_offsets_to_transaction(&places, &self.group, ANSWER_WITHIN).map_err(failed)?;
        self.producer.commit_transaction(ANSWER_WITHIN).map_err(failed)
    }

    fn place(&self, place: Place) -> Result<TopicPartitionList> {
        let mut places = TopicPartitionList::new();
        places.add_partition_offset(&self.topic, 0, place).map_err(|error| self.failed(&error))?;
        Ok(places)
    }

    fn failed(&self, error: &KafkaError) -> Error {
        Error::Unavailable(format!(
            "Kafka did not take what waits in the spool. topic={:?}, reason={:?}",
            self.topic,
            error.to_string()
        ))
    }
}

impl Drop for Courier {
    /// What is not committed is undone by whoever opens it next.
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}
