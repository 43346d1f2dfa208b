//! Clicks written to a topic as producers really write: at a rate, a few milliseconds apart, over all partitions. In a
//! process of its own, so that neither its CPU time nor its pauses are taken for Thalweg's.
//!
//! Each click is due at an instant that follows from its number alone. How late it was sent counts as latency, and
//! nobody has to be asked when a click was made. Kafka's clients give the records of one linger to one partition and
//! those of the next to another, unless records have keys; then each goes where its key belongs.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext};
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::ids::{Micros, PartitionId};
use thalweg_engine::source::clicks::Clicks;

use super::Arguments;
use super::latency::percentiles;

const TICK: Duration = Duration::from_millis(1);
const FLUSH_WITHIN: Duration = Duration::from_secs(10);

/// Which click is due when, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Micros,
    rate: f64,
    partitions: i64,
    /// Consecutive clicks that go to one partition.
    block: i64,
}

impl Schedule {
    pub fn new(arguments: &Arguments, rate: f64, start: Micros) -> Schedule {
        let linger = f64::from(arguments.producer_linger) / 1000.0;
        let block = if arguments.keyed { 1 } else { ((rate * linger) as i64).max(1) };
        Schedule { start, rate, partitions: i64::from(arguments.partitions), block }
    }

    /// Place of the n-th click.
    fn place(&self, number: i64) -> (PartitionId, i64) {
        let (block, within) = (number / self.block, number % self.block);
        let partition = PartitionId((block % self.partitions) as i32);
        (partition, block / self.partitions * self.block + within)
    }

    fn due_at(&self, number: i64) -> Micros {
        self.start + (number as f64 / self.rate * 1e6) as Micros
    }

    pub fn due(&self, partition: PartitionId, offset: i64) -> Micros {
        let block = offset / self.block * self.partitions + i64::from(partition.0);
        self.due_at(block * self.block + offset % self.block)
    }
}

/// A producer at work, until it is dropped.
pub struct Process {
    child: Child,
    said: BufReader<ChildStdout>,
    pub schedule: Schedule,
}

impl Process {
    pub fn start(arguments: &Arguments, topic: &str, rate: f64) -> Result<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--produce", "--brokers", &arguments.brokers, "--topic", topic]);
        command.args(["--latency", &rate.to_string(), "--partitions", &arguments.partitions.to_string()]);
        command.args(["--producer-linger", &arguments.producer_linger.to_string()]);
        command.args(["--seed", &arguments.seed.to_string()]);
        command.args(arguments.keyed.then_some("--keyed"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().context("the producer's output is a pipe")?;
        let (mut said, mut line) = (BufReader::new(said), String::new());
        said.read_line(&mut line)?;
        let start = line.trim().parse().map_err(|_| anyhow!("the producer did not start"))?;
        Ok(Process { child, said, schedule: Schedule::new(arguments, rate, start) })
    }

    /// Has it leave; its last word is how late the broker had its clicks.
    pub fn stop(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut word = String::new();
        self.said.read_to_string(&mut word)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(anyhow!("the producer failed: {status}"));
        }
        Ok(word.trim().to_owned())
    }
}

impl Drop for Process {
    /// It leaves when its input ends.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// How late each click was acknowledged, in microseconds.
struct Deliveries {
    clock: SystemClock,
    start: Micros,
    late: Mutex<Vec<u64>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// When the click was due, after the start.
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, due: usize) {
        if delivered.is_ok() {
            let late = self.clock.wall() - self.start - due as Micros;
            self.late.lock().expect("nothing panics with the lock held").push(late.max(0) as u64);
        }
    }
}

/// What the process does: says when it begins, and writes until its input ends.
pub fn run(arguments: &Arguments, rate: f64) -> Result<()> {
    let (left, ended) = std::sync::mpsc::sync_channel::<()>(0);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        drop(left);
    });
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &arguments.brokers)
        .set("linger.ms", arguments.producer_linger.to_string())
        .set("compression.codec", "lz4");
    // Connected before the first click is due.
    let connected: BaseProducer = config.create()?;
    connected.client().fetch_metadata(Some(&arguments.topic), FLUSH_WITHIN)?;
    let clock = SystemClock::new();
    let start = clock.wall();
    let deliveries = Deliveries { clock: SystemClock::new(), start, late: Mutex::default() };
    let producer: ThreadedProducer<Deliveries> = config.create_with_context(deliveries)?;
    let clicks = Clicks::new(arguments.seed, arguments.partitions, Some(rate), Some(start));
    println!("{start}");
    std::io::stdout().flush()?;
    let schedule = Schedule::new(arguments, rate, start);
    let mut number = 0;
    while matches!(ended.recv_timeout(TICK), Err(std::sync::mpsc::RecvTimeoutError::Timeout)) {
        let now = clock.wall();
        while schedule.due_at(number) <= now {
            let (partition, offset) = schedule.place(number);
            let due = (schedule.due_at(number) - start) as usize;
            send(&producer, &arguments.topic, &clicks, (partition, offset), due)?;
            number += 1;
        }
    }
    producer.flush(FLUSH_WITHIN)?;
    let mut late = producer.context().late.lock().expect("nothing panics with the lock held");
    println!("{}", percentiles(&mut late));
    Ok(())
}

fn send(
    producer: &ThreadedProducer<Deliveries>,
    topic: &str,
    clicks: &Clicks,
    (partition, offset): (PartitionId, i64),
    due: usize,
) -> Result<()> {
    let mut value = vec![];
    clicks.write(partition, offset, &mut value);
    let key = clicks.key(partition, offset);
    let mut record = BaseRecord::with_opaque_to(topic, due).partition(partition.0).key(&key).payload(&value);
    while let Err((error, refused)) = producer.send(record) {
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        record = refused;
        std::thread::sleep(TICK);
    }
    Ok(())
}
