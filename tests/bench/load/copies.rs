//! The records of one topic in another, by a plain idempotent producer: what sending costs without a place and transactions.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Copy {
    #[arg(long)]
    brokers: String,
    /// The topic that has them
    #[arg(long)]
    from: String,
    /// The topic that gets them; it is there already
    #[arg(long)]
    to: String,
}

pub fn run(copy: &Copy) -> Result<()> {
    let records = read(copy)?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &copy.brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("compression.codec", "lz4")
        .create()?;
    producer.client().fetch_metadata(Some(&copy.to), PATIENCE)?;
    let begun = Instant::now();
    for record in &records {
        let mut sent = BaseRecord::to(&copy.to).payload(record.payload().unwrap_or_default());
        sent.key = record.key();
        sent.headers = record.headers().cloned();
        while let Err((error, refused)) = producer.send(sent) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            sent = refused;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE)?;
    let took = begun.elapsed().as_secs_f64();
    println!("{} records in {took:.2} s: {:.0} records/s", records.len(), records.len() as f64 / took);
    Ok(())
}

/// All that is committed.
fn read(copy: &Copy) -> Result<Vec<OwnedMessage>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &copy.brokers)
        .set("group.id", "thalweg-load")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&copy.from), PATIENCE)?;
    let partitions: usize = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
    ensure!(partitions > 0, "there is no topic {}", copy.from);
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(&copy.from, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let (mut records, mut ended) = (vec![], 0);
    while ended < partitions {
        match consumer.poll(PATIENCE) {
            Some(Ok(record)) => records.push(record.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error.into()),
            None => anyhow::bail!("the topic {} does not answer", copy.from),
        }
    }
    Ok(records)
}
