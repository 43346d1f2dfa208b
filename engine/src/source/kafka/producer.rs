//! Writes records to a topic: idempotent, and acknowledged by all replicas before anybody is told that they are there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use tokio::sync::oneshot;

use super::config::producer_config;
use super::native;
use super::waves::{Call, Wave, Waves};
use crate::clock::Clock;
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
    producer: Arc<ThreadedProducer<Deliveries>>,
    clock: Arc<dyn Clock>,
    /// Sends one wave after the other.
    sender: Option<JoinHandle<()>>,
}

/// As soon as a wave is there it leaves; less than this the client can't wait for the rest of it. A tenth of a millisecond costs
/// up to a fifth more CPU time, and is no sooner.
const LINGER_MS: &str = "0.5";

/// What became of records that were sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All are durable.
    All,
    /// These have never left this process; the others, if there are any, are durable.
    Kept { records: Vec<Outgoing>, reason: String },
    /// Some may be there, and others not.
    Unsure(String),
}

/// The records of one call, as long as some of them are on their way.
pub(super) struct Delivery {
    left: AtomicUsize,
    failed: Mutex<Failed>,
    /// Taken by whoever brings the last one.
    done: Mutex<Option<oneshot::Sender<()>>>,
}

#[derive(Default)]
struct Failed {
    reason: Option<String>,
    /// One has left, and nobody knows whether it arrived.
    unsure: bool,
    /// By their places in the call: what comes back comes in another order.
    kept: BTreeMap<usize, Outgoing>,
}

#[derive(Default)]
struct Deliveries {
    /// Something has arrived.
    answered: AtomicBool,
    waves: Waves,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a producer has lost touch with its broker");
    }
}

impl ProducerContext for Deliveries {
    /// With the record's place in its call.
    type DeliveryOpaque = Box<(Arc<Delivery>, usize)>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, of: Box<(Arc<Delivery>, usize)>) {
        let (delivery, place) = *of;
        if delivered.is_ok() {
            self.answered.store(true, Ordering::Relaxed);
        }
        if let Err((error, message)) = delivered {
            let kept = native::never_left(message).then(|| Outgoing {
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().unwrap_or_default().to_vec(),
            });
            delivery.failed(error.to_string(), place, kept);
        }
        delivery.arrived(1);
        self.waves.arrived(1);
    }
}

impl Delivery {
    pub fn of(records: usize) -> (Arc<Delivery>, oneshot::Receiver<()>) {
        let (done, all_arrived) = oneshot::channel();
        let (left, done) = (AtomicUsize::new(records), Mutex::new(Some(done)));
        let delivery = Delivery { left, failed: Mutex::default(), done };
        if records == 0 {
            delivery.arrived(0);
        }
        (Arc::new(delivery), all_arrived)
    }

    /// These have not left, and come back.
    pub fn give_back(&self, reason: &str, records: impl ExactSizeIterator<Item = (usize, Outgoing)>) {
        let count = records.len();
        for (place, record) in records {
            self.failed(reason.to_owned(), place, Some(record));
        }
        self.arrived(count);
    }

    fn failed(&self, reason: String, place: usize, kept: Option<Outgoing>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.reason.get_or_insert(reason);
        match kept {
            Some(record) => {
                failed.kept.insert(place, record);
            }
            None => failed.unsure = true,
        }
    }

    fn arrived(&self, records: usize) {
        if self.left.fetch_sub(records, Ordering::AcqRel) == records {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Whoever waited may have gone.
            let _ = done.map(|done| done.send(()));
        }
    }
}

/// Records on their way.
pub(crate) struct Underway {
    delivery: Arc<Delivery>,
    all_arrived: oneshot::Receiver<()>,
}

impl Underway {
    /// Returns when it is known what became of all of them.
    pub async fn end(self) -> Result<Sent> {
        self.all_arrived.await.map_err(|_| Error::Internal("a delivery was never told of".into()))?;
        let Failed { reason, unsure, kept } =
            std::mem::take(&mut *self.delivery.failed.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(match reason {
            None => Sent::All,
            Some(reason) if unsure => Sent::Unsure(format!("they were sent, and no answer came: {reason}")),
            Some(reason) => Sent::Kept { records: kept.into_values().collect(), reason },
        })
    }
}

impl Producer {
    pub fn new(spec: &KafkaSpec, clock: Arc<dyn Clock>) -> Result<Producer> {
        let mut config: ClientConfig = producer_config(spec)?;
        config.set("linger.ms", LINGER_MS);
        let producer = config.create_with_context(Deliveries::default()).map_err(|error| {
            Error::Invalid(format!("the Kafka properties are refused by a producer. {error}"))
        })?;
        let producer: Arc<ThreadedProducer<Deliveries>> = Arc::new(producer);
        let (sending, topic, time) = (Arc::clone(&producer), spec.topic.clone(), Arc::clone(&clock));
        let sender = std::thread::Builder::new().name("producer".to_owned()).spawn(move || {
            while let Some(Wave { calls, late }) = sending.context().waves.next(|| time.elapsed()) {
                late.into_iter().for_each(|call| call.give_back("the broker does not answer in time"));
                calls.into_iter().for_each(|call| send(&sending, &topic, call));
                sending.context().waves.sent();
            }
        });
        let sender =
            sender.map_err(|error| Error::Unavailable(format!("a producer has no thread: {error}")))?;
        Ok(Producer { producer, clock, sender: Some(sender) })
    }

    /// Sets them on their way, in their order.
    pub fn send(&self, records: Vec<Outgoing>, timestamp: Micros) -> Underway {
        let (delivery, all_arrived) = Delivery::of(records.len());
        let call = Call { records, timestamp, delivery: Arc::clone(&delivery), since: self.clock.elapsed() };
        if let Err((call, reason)) = self.waves().join(call) {
            call.give_back(reason);
        }
        Underway { delivery, all_arrived }
    }

    /// Whether the broker has ever taken something from it.
    pub fn has_been_answered(&self) -> bool {
        self.producer.context().answered.load(Ordering::Relaxed)
    }

    /// What has not left yet comes back as kept; what has is still waited for. Nothing may be sent any more: the broker would
    /// miss what came back, and refuse what comes behind it.
    pub fn give_back(&self) {
        self.end_waves();
        self.producer.purge(PurgeConfig::default().queue().non_blocking());
    }

    fn end_waves(&self) {
        self.waves().end().into_iter().for_each(|call| call.give_back("the broker does not answer"));
    }

    fn waves(&self) -> &Waves {
        &self.producer.context().waves
    }
}

fn send(producer: &ThreadedProducer<Deliveries>, topic: &str, call: Call) {
    let Call { records, timestamp, delivery, since: _ } = call;
    let mut records = records.into_iter().enumerate();
    while let Some((place, record)) = records.next() {
        let Outgoing { key, value } = &record;
        let sending = BaseRecord::with_opaque_to(topic, Box::new((Arc::clone(&delivery), place)))
            .payload(value.as_slice())
            .timestamp(timestamp / 1000);
        let sending = match key {
            Some(key) => sending.key(key.as_slice()),
            None => sending,
        };
        if let Err((error, _)) = producer.send(sending) {
            let reason = match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => "more waits for the broker than may".to_owned(),
                _ => error.to_string(),
            };
            // Those behind it are not tried: they would come before it.
            let behind: Vec<_> = std::iter::once((place, record)).chain(records).collect();
            let count = behind.len();
            delivery.give_back(&reason, behind.into_iter());
            producer.context().waves.arrived(count);
            return;
        }
    }
}

impl Drop for Producer {
    /// What nobody waits for any more is not waited for either.
    fn drop(&mut self) {
        self.end_waves();
        // It waits for nothing any more, and what it has just sent is among what is purged.
        let _ = self.sender.take().map(JoinHandle::join);
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_back_is_in_the_order_of_its_call() {
        let (delivery, all_arrived) = Delivery::of(3);
        // The newest first, as a purge gives them back.
        for place in [2, 0, 1] {
            let record = Outgoing { key: None, value: vec![place as u8] };
            delivery.failed("purged".into(), place, Some(record));
            delivery.arrived(1);
        }
        let Ok(Sent::Kept { records, .. }) = (Underway { delivery, all_arrived }).end().await else {
            panic!("all were kept")
        };
        let values: Vec<u8> = records.iter().map(|record| record.value[0]).collect();
        assert_eq!(values, [0, 1, 2]);
    }
}
