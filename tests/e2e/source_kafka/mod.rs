//! The Kafka source against a real broker. Here: topics of one's own, records in them, and readers over them.

mod absent;
mod anew;
mod away;
mod over;
mod reading;
mod secure;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg_engine::ids::{Offset, PartitionId};
use thalweg_engine::secrets::Secrets;
use thalweg_engine::source::{
    self, Assignment, BatchLimit, Discovery, FilesRoots, Logs, Polled, RawBatch, Reader, Reading,
};
use thalweg_engine::spec::{KafkaSpec, SourceSpec};
use thalweg_tests::servers::Kafka;

const WITHIN: Duration = Duration::from_secs(30);
const LIMIT: BatchLimit = BatchLimit { rows: 1000, bytes: 1 << 20 };

/// A topic of one test's own.
struct Topic {
    kafka: Arc<Kafka>,
    name: &'static str,
}

impl Topic {
    fn create(name: &'static str, partitions: i32) -> Result<Topic> {
        Topic::create_on(Kafka::shared()?, name, partitions)
    }

    fn create_on(kafka: Arc<Kafka>, name: &'static str, partitions: i32) -> Result<Topic> {
        let topic = Topic { kafka, name };
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for result in block_on(topic.admin()?.create_topics([&new], &AdminOptions::new()))? {
            result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
        }
        // A new topic is known to the controller before it is known to clients.
        let mut discovery = topic.discovery()?;
        until("the topic is there", || {
            Ok(discovery.partitions().is_ok_and(|found| found.len() == partitions as usize))
        })?;
        Ok(topic)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka.bootstrap).set("linger.ms", "20");
        // A batch that is sent again keeps its place.
        config.set("enable.idempotence", "true");
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    fn producer(&self, codec: &str) -> Result<BaseProducer> {
        Ok(self.config().set("compression.codec", codec).create()?)
    }

    fn spec(&self) -> KafkaSpec {
        KafkaSpec {
            brokers: self.kafka.bootstrap.clone(),
            topic: self.name.into(),
            properties: BTreeMap::new(),
        }
    }

    fn discovery(&self) -> Result<Box<dyn Discovery>> {
        let spec = SourceSpec::Kafka(self.spec());
        Ok(source::open(&spec, &Secrets::default(), &FilesRoots::default(), &Logs::default())?)
    }

    fn reader(&self, from: &[(i32, i64)]) -> Result<Box<dyn Reader>> {
        let assigned = |&(partition, offset): &_| Assignment::from((PartitionId(partition), Offset(offset)));
        let from: Vec<_> = from.iter().map(assigned).collect();
        Ok(self.discovery()?.open(&from, Reading::little(true))?)
    }

    /// Gone, for clients too.
    fn delete(&self) -> Result<()> {
        for result in block_on(self.admin()?.delete_topics(&[self.name], &AdminOptions::new()))? {
            result.map_err(|(name, code)| anyhow::anyhow!("{name} was not deleted: {code}"))?;
        }
        let mut discovery = self.discovery()?;
        until("the topic is gone", || Ok(discovery.partitions().is_err()))
    }

    /// Deletes it and creates it again, as fast as the broker does that.
    fn exchange(&self, partitions: i32) -> Result<()> {
        let (admin, options) = (self.admin()?, AdminOptions::new());
        for result in block_on(admin.delete_topics(&[self.name], &options))? {
            result.map_err(|(name, code)| anyhow::anyhow!("{name} was not deleted: {code}"))?;
        }
        let new = NewTopic::new(self.name, partitions, TopicReplication::Fixed(1));
        until("the topic is there again", || {
            Ok(block_on(admin.create_topics([&new], &options))?.iter().all(Result::is_ok))
        })
    }

    /// Writes one event of each of these moments of an hour, such as `00:01.5`.
    fn tell(&self, partition: i32, moments: &[&str]) -> Result<()> {
        let producer = self.producer("none")?;
        for moment in moments {
            let event = format!("{{\"id\":\"{moment}\",\"at\":\"2025-06-01T00:{moment}00Z\"}}");
            let record = BaseRecord::<[u8], [u8]>::to(self.name).partition(partition);
            producer.send(record.payload(event.as_bytes())).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(WITHIN)?)
    }

    /// A stream of those events and a view over it, for the real binary.
    fn script(&self, brokers: &str, options: &str) -> String {
        format!(
            "CREATE STREAM events (id STRING, at TIMESTAMP(3), WATERMARK FOR at AS at)
             WITH (connector = 'kafka', brokers = '{brokers}', topic = '{}', idle = '4s'{options});
             CREATE MATERIALIZED VIEW per_second AS
             SELECT window_start, window_end, count(*) AS n FROM TUMBLE(events, at, INTERVAL '1 second')
             GROUP BY window_start, window_end;",
            self.name
        )
    }

    /// Writes `value-N` with timestamp 1000 + N ms for each number N.
    fn produce(&self, producer: &BaseProducer, partition: i32, numbers: std::ops::Range<i64>) -> Result<()> {
        for number in numbers {
            let value = value(number);
            let record =
                BaseRecord::<[u8], [u8]>::to(self.name).partition(partition).payload(value.as_bytes());
            let key = number.to_string();
            let record = record.key(key.as_bytes()).timestamp(1000 + number);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(WITHIN)?)
    }
}

const EVENTS: &str = "SELECT coalesce(sum(n), 0) FROM public.per_second";
const CLOSED_EVENTS: &str = "SELECT coalesce(sum(n), 0) FROM history.per_second";

/// Long enough that every codec really compresses.
fn value(number: i64) -> String {
    format!("value-{number}-{}", "thalweg".repeat(20))
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O starts").block_on(future)
}

/// Tries again until it is so.
fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !so()? {
        anyhow::ensure!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
    }
    Ok(())
}

/// All batches until each of so many partitions has been read to its end, and where those ends are.
fn read_to_end(reader: &mut dyn Reader, partitions: usize) -> Result<(Vec<RawBatch>, BTreeMap<i32, i64>)> {
    let (mut batches, mut ends) = (Vec::new(), BTreeMap::new());
    until("the end of each partition", || {
        let mut batch = RawBatch::default();
        match reader.poll(&mut batch, LIMIT, Duration::from_millis(100))? {
            Polled::Records { .. } => {
                assert!(batch.len() <= LIMIT.rows);
                ends.retain(|id, _| batch.stretches.iter().all(|stretch| stretch.partition.0 != *id));
                batches.push(batch);
            }
            Polled::AtEnd { partition, next_offset } => drop(ends.insert(partition.0, next_offset.0)),
            Polled::Ended(partition) => panic!("a topic never ends, but partition {partition} did"),
            Polled::Nothing => {}
        }
        Ok(ends.len() == partitions)
    })?;
    Ok((batches, ends))
}

/// What stops the reader, however long that takes.
fn failure(reader: &mut dyn Reader) -> Result<thalweg_engine::Error> {
    let mut failed = None;
    until("the reader stops", || {
        failed = reader.poll(&mut RawBatch::default(), LIMIT, Duration::from_millis(100)).err();
        Ok(failed.is_some())
    })?;
    failed.context("it stopped")
}

/// Offsets and values of one partition's batches, end to end.
fn rows(batches: &[RawBatch], partition: i32) -> Vec<(i64, Option<String>)> {
    let mut rows = Vec::new();
    for batch in batches {
        for (_, range) in batch.ranges().filter(|(id, _)| id.0 == partition) {
            for index in range {
                let value =
                    batch.records.value(index).map(|value| String::from_utf8(value.to_vec()).unwrap());
                rows.push((batch.offsets[index], value));
            }
        }
    }
    assert!(rows.is_sorted_by_key(|(offset, _)| *offset), "offsets ascend");
    rows
}
