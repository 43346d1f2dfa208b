//! Topics as whoever reads committed records sees them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use thalweg_tests::servers::Kafka;

const WITHIN: Duration = Duration::from_secs(60);

pub struct Record {
    pub partition: i32,
    pub key: Option<String>,
    pub json: Value,
    pub headers: BTreeMap<String, String>,
}

pub async fn create(kafka: &Kafka, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap).create()?;
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
    }
    Ok(())
}

/// Deletes it and creates it again, as fast as the broker does that.
pub async fn exchange(kafka: &Kafka, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap).create()?;
    for result in admin.delete_topics(&[topic], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not deleted: {code}"))?;
    }
    let begun = Instant::now();
    while let Err(error) = create(kafka, topic, partitions).await {
        ensure!(begun.elapsed() < WITHIN, "{error}");
    }
    Ok(())
}

/// All that is committed, from the first to the end of each partition.
pub async fn committed(kafka: &Kafka, topic: &str) -> Result<Vec<Record>> {
    let (bootstrap, topic) = (kafka.bootstrap.clone(), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&bootstrap, &topic)).await?
}

fn read(bootstrap: &str, topic: &str) -> Result<Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "the-test")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
    let partitions = metadata.topics().first().context("there is no such topic")?.partitions().len();
    let mut assigned = TopicPartitionList::new();
    for partition in 0..partitions {
        assigned.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;
    let (mut records, mut ended, begun) = (vec![], 0, Instant::now());
    while ended < partitions {
        ensure!(begun.elapsed() < WITHIN, "{topic} has no end within {WITHIN:?}");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                records.push(Record {
                    partition: message.partition(),
                    key: message.key().map(text),
                    // One without a value says that what was open is to be forgotten.
                    json: message.payload().map_or(Ok(Value::Null), serde_json::from_slice)?,
                    headers: headers
                        .map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())))
                        .collect(),
                });
            }
        }
    }
    Ok(records)
}
