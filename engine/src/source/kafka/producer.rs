//! Writes records to a topic: idempotent, and acknowledged by all replicas before anybody is told that they are there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::config::producer_config;
use crate::ids::Micros;
use crate::spec::KafkaSpec;
use crate::{Error, Result};

/// A record on its way in.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

pub(crate) struct Producer {
    topic: String,
    producer: ThreadedProducer<Deliveries>,
}

/// The records of one call, as long as some of them are on their way.
struct Delivery {
    left: AtomicUsize,
    failure: Mutex<Option<String>>,
    /// Taken by whoever brings the last one.
    done: Mutex<Option<oneshot::Sender<()>>>,
}

struct Deliveries;

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a producer has lost touch with its broker");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Delivery>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, delivery: Arc<Delivery>) {
        let failure = delivered.as_ref().err().map(|(error, _)| error.to_string());
        delivery.arrived(1, failure);
    }
}

impl Delivery {
    fn arrived(&self, records: usize, failure: Option<String>) {
        if let Some(failure) = failure {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
        if self.left.fetch_sub(records, Ordering::AcqRel) == records {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever waited may have gone.
            let _ = done.map(|done| done.send(()));
        }
    }
}

impl Producer {
    pub fn new(spec: &KafkaSpec) -> Result<Producer> {
        let config: ClientConfig = producer_config(spec)?;
        let producer = config.create_with_context(Deliveries).map_err(|error| {
            Error::Invalid(format!("the Kafka properties are refused by a producer. {error}"))
        })?;
        Ok(Producer { topic: spec.topic.clone(), producer })
    }

    /// Returns when all of them are durable. After an error some may be, and others not.
    pub async fn send(&self, records: &[Outgoing], timestamp: Micros) -> Result<()> {
        let Some(count) = Some(records.len()).filter(|&count| count > 0) else { return Ok(()) };
        let (done, all_arrived) = oneshot::channel();
        let delivery = Arc::new(Delivery {
            left: AtomicUsize::new(count),
            failure: Mutex::new(None),
            done: Mutex::new(Some(done)),
        });
        for (sent, Outgoing { key, value }) in records.iter().enumerate() {
            let record = BaseRecord::with_opaque_to(&self.topic, Arc::clone(&delivery))
                .payload(value.as_slice())
                .timestamp(timestamp / 1000);
            let record = match key {
                Some(key) => record.key(key.as_slice()),
                None => record,
            };
            if let Err((error, _)) = self.producer.send(record) {
                let reason = match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::QueueFull) => "more waits for the broker than may".to_owned(),
                    _ => error.to_string(),
                };
                // Those behind it are not tried: they would come before it.
                delivery.arrived(count - sent, Some(reason));
                break;
            }
        }
        all_arrived.await.map_err(|_| Error::Internal("a delivery was never told of".into()))?;
        match delivery.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(reason) => {
                let topic = &self.topic;
                Err(Error::Unavailable(format!(
                    "Kafka did not take the records. topic={topic:?}, reason={reason:?}"
                )))
            }
        }
    }
}

impl Drop for Producer {
    /// What nobody waits for any more is not waited for either.
    fn drop(&mut self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
