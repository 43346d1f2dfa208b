//! Clicks written to a topic as producers really write: at a rate, a few milliseconds apart, over all partitions. In a
//! process of its own, so that neither its CPU time nor its pauses are taken for Thalweg's.
//!
//! Each click is due at an instant that follows from its number alone. How late it was sent counts as latency, and
//! nobody has to be asked when a click was made.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::ids::{Micros, PartitionId};
use thalweg_engine::source::clicks::Clicks;

use super::Arguments;

/// As small as producers have it that want their events to be seen.
const LINGER_MILLIS: &str = "2";
const TICK: Duration = Duration::from_millis(1);
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// A producer at work, until it is dropped.
pub struct Process {
    child: Child,
    /// When its first click was due.
    pub start: Micros,
}

impl Process {
    pub fn start(arguments: &Arguments, topic: &str, rate: f64) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--produce", "--brokers", &arguments.brokers, "--topic", topic]);
        command.args(["--latency", &rate.to_string(), "--partitions", &arguments.partitions.to_string()]);
        command.args(["--seed", &arguments.seed.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let said = child.stdout.take().context("the producer's output is a pipe")?;
        BufReader::new(said).read_line(&mut line)?;
        let start = line.trim().parse().map_err(|_| anyhow!("the producer did not start"))?;
        Ok(Process { child, start })
    }
}

impl Drop for Process {
    /// It leaves when its input ends.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// What the process does: says when it begins, and writes until its input ends.
pub fn run(arguments: &Arguments, rate: f64) -> Result<()> {
    let (left, ended) = std::sync::mpsc::sync_channel::<()>(0);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        drop(left);
    });
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        .set("linger.ms", LINGER_MILLIS)
        .set("compression.codec", "lz4")
        .create()?;
    // Connected, so that the first clicks are not late.
    producer.client().fetch_metadata(Some(&arguments.topic), FLUSH_WITHIN)?;
    let clock = SystemClock::new();
    let start = clock.wall();
    let clicks = Clicks::new(arguments.seed, arguments.partitions, Some(rate), Some(start));
    println!("{start}");
    std::io::stdout().flush()?;
    let mut offsets = vec![0; arguments.partitions as usize];
    while matches!(ended.recv_timeout(TICK), Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
        let now = clock.wall();
        for (partition, next) in (0..).map(PartitionId).zip(&mut offsets) {
            while clicks.arrival(partition, *next) <= now {
                send(&producer, &arguments.topic, &clicks, partition, *next)?;
                *next += 1;
            }
        }
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(FLUSH_WITHIN)?)
}

fn send(
    producer: &BaseProducer,
    topic: &str,
    clicks: &Clicks,
    partition: PartitionId,
    offset: i64,
) -> Result<()> {
    let mut value = vec![];
    clicks.write(partition, offset, &mut value);
    let key = clicks.key(partition, offset);
    let mut record = BaseRecord::to(topic).partition(partition.0).key(&key).payload(&value);
    while let Err((error, refused)) = producer.send(record) {
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        record = refused;
        producer.poll(TICK);
    }
    Ok(())
}
