//! A topic that holds the clicks of a file, line by line: the same JSON for the broker and for the baseline.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub struct Topic<'a> {
    pub brokers: &'a str,
    pub name: &'a str,
}

impl Topic<'_> {
    /// Creates and fills the topic if it holds nothing, and says how many records it holds.
    pub async fn fill_if_empty(&self, file: &Path, partitions: i32) -> Result<u64> {
        self.create_if_absent(partitions).await?;
        let producer: BaseProducer = self.config().create()?;
        let held = self.records(&producer)?;
        if held > 0 {
            eprintln!("reading topic {:?} as it is", self.name);
            return Ok(held);
        }
        eprintln!("filling topic {:?} from {}", self.name, file.display());
        self.fill(&producer, file, partitions)?;
        self.records(&producer)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers)
            .set("compression.codec", "lz4")
            .set("linger.ms", "50")
            .set("batch.size", "1000000")
            // The peak of this process's memory is to tell of Thalweg, not of its producer.
            .set("queue.buffering.max.kbytes", "32768");
        config
    }

    pub async fn create_if_absent(&self, partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        // Clicks carry event times of their own day, which a broker's default retention would find too old.
        let topic =
            NewTopic::new(self.name, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        let created = admin.create_topics([&topic], &options).await;
        let created = created.with_context(|| format!("cannot ask the broker at {}", self.brokers))?;
        match created.into_iter().next() {
            None | Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
            Some(Err((name, code))) => return Err(anyhow!("topic {name:?} cannot be created: {code}")),
        }
        self.wait_until_served(&admin).await
    }

    /// A broker that has taken the order needs a moment for it.
    async fn wait_until_served(&self, admin: &AdminClient<DefaultClientContext>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let metadata = admin.inner().fetch_metadata(Some(self.name), ANSWER_WITHIN)?;
            let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
            let leads = |partition: &MetadataPartition| {
                // One that was told of as the leader may not know of it yet.
                partition.leader() >= 0
                    && admin.inner().fetch_watermarks(self.name, partition.id(), ANSWER_WITHIN).is_ok()
            };
            if !partitions.is_empty() && partitions.iter().all(leads) {
                return Ok(());
            }
            if begun.elapsed() > ANSWER_WITHIN {
                return Err(anyhow!("topic {:?} has no leaders within {ANSWER_WITHIN:?}", self.name));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn delete(&self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        admin.delete_topics(&[self.name], &options).await?;
        Ok(())
    }

    /// A stream's options for reading it, for the `WITH (…)`.
    pub fn options(&self, start: &str) -> String {
        format!(
            "connector = 'kafka', brokers = '{}', topic = '{}', start = '{start}'",
            self.brokers, self.name
        )
    }

    fn records(&self, producer: &BaseProducer) -> Result<u64> {
        let client = producer.client();
        let metadata = client.fetch_metadata(Some(self.name), ANSWER_WITHIN)?;
        let topic = metadata.topics().first().context("the broker says nothing of the topic")?;
        topic
            .partitions()
            .iter()
            .map(|partition| {
                let (first, end) = client.fetch_watermarks(self.name, partition.id(), ANSWER_WITHIN)?;
                Ok((end - first) as u64)
            })
            .sum()
    }

    fn fill(&self, producer: &BaseProducer, file: &Path, partitions: i32) -> Result<()> {
        let lines = BufReader::with_capacity(1 << 20, File::open(file)?).lines();
        for (partition, line) in (0..partitions).cycle().zip(lines) {
            let line = line?;
            let mut record = BaseRecord::<(), str>::to(self.name).partition(partition).payload(&line);
            while let Err((error, refused)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = refused;
                producer.poll(Duration::from_millis(5));
            }
        }
        Ok(producer.flush(ANSWER_WITHIN)?)
    }
}
