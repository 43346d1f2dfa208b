//! How long a click takes from the moment it is due at its producer until a statement can read it, and until it is
//! durable. A producer of its own writes to a topic; a watcher looks at the live table again and again, and then the
//! engine is left alone for a while, to see what it costs without a reader.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::ids::{Micros, Offset, PartitionId};
use thalweg_engine::job::Engine;
use thalweg_engine::source::clicks::Clicks;

use super::producer::Process;
use super::topic::Topic;
use super::usage::Usage;
use super::{Arguments, start};

const WARM_UP: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(10);
const ALONE: Duration = Duration::from_secs(6);

/// Between two reads, as a quick dashboard would do.
const PAUSE: Duration = Duration::from_millis(2);

/// Who is no further behind has kept up.
const BEHIND_MAX: Duration = Duration::from_millis(500);

pub async fn measure(data: &str, arguments: &Arguments, rate: f64) -> Result<()> {
    let name = format!("{}-latency-{}", arguments.topic, std::process::id());
    let topic = Topic { brokers: &arguments.brokers, name: &name };
    topic.create_if_absent(arguments.partitions).await?;
    let outcome = measure_on(data, arguments, &topic, rate).await;
    topic.delete().await?;
    outcome
}

async fn measure_on(data: &str, arguments: &Arguments, topic: &Topic<'_>, rate: f64) -> Result<()> {
    let engine = start(data, arguments, &topic.options("earliest")).await?;
    engine.begin();
    let producer = Process::start(arguments, topic.name, rate)?;
    let clicks = Clicks::new(arguments.seed, arguments.partitions, Some(rate), Some(producer.start));
    tokio::time::sleep(WARM_UP).await;
    let mut watcher = Watcher::new(&engine, clicks);
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        watcher.look().await?;
        tokio::time::sleep(PAUSE).await;
    }
    let usage = Usage::now();
    tokio::time::sleep(ALONE).await;
    let alone = usage.until_now();
    let behind = watcher.behind();
    drop(producer);
    engine.stop().await?;
    let Watcher { mut visible, mut reads, mut durable, .. } = watcher;
    println!(
        "{rate} events/s, {} partitions, {} views, {} reads of live.by_type",
        arguments.partitions,
        arguments.views,
        reads.len()
    );
    println!("  arrival to visible: {}", percentiles(&mut visible));
    println!("  of which the read:  {}", percentiles(&mut reads));
    println!("  arrival to durable: {}", percentiles(&mut durable));
    let share = alone.cpu.as_secs_f64() / alone.wall.as_secs_f64() * 100.0;
    let verdict = if behind < BEHIND_MAX { "kept up" } else { "did NOT keep up" };
    println!(
        "  without a reader: {share:.1} % of a core; {verdict}, {} ms behind at the end",
        behind.as_millis()
    );
    Ok(())
}

struct Watcher<'a> {
    engine: &'a Engine,
    clicks: Clicks,
    clock: SystemClock,
    seen: BTreeMap<PartitionId, Offset>,
    /// The end of what the newest epoch looked at has made durable.
    kept: BTreeMap<PartitionId, i64>,
    epoch: u64,
    /// In microseconds.
    visible: Vec<u64>,
    reads: Vec<u64>,
    durable: Vec<u64>,
}

impl Watcher<'_> {
    fn new(engine: &Engine, clicks: Clicks) -> Watcher<'_> {
        let (seen, kept) = (offsets(engine), BTreeMap::new());
        let (visible, reads, durable) = (vec![], vec![], vec![]);
        let clock = SystemClock::new();
        Watcher { engine, clicks, clock, seen, kept, epoch: 0, visible, reads, durable }
    }

    async fn look(&mut self) -> Result<()> {
        // What had been taken in before the snapshot is in it; when the read is done, all of that has been seen.
        let taken = offsets(self.engine);
        let read = Instant::now();
        self.engine.snapshot().views["by_type"].live().await?;
        self.reads.push(read.elapsed().as_micros() as u64);
        let now = self.clock.wall();
        for (partition, offset) in taken {
            let first = self.seen.insert(partition, offset).unwrap_or(offset);
            let age = |offset| (now - self.clicks.arrival(partition, offset)).max(0) as u64;
            self.visible.extend((first.0..offset.0).map(age));
        }
        self.look_at_commits();
        Ok(())
    }

    /// The ledger says how many records of each partition an epoch has made durable, and they are read from the first.
    fn look_at_commits(&mut self) {
        let status = self.engine.status();
        let committed: BTreeMap<u64, Micros> = status
            .checkpoints
            .iter()
            .map(|checkpoint| (checkpoint.epoch.0, checkpoint.committed_at))
            .collect();
        let first = self.epoch == 0;
        for row in status.ledger.iter().filter(|row| row.epoch.0 > self.epoch) {
            let (Some(partition), Some(at)) = (row.partition, committed.get(&row.epoch.0)) else { continue };
            let end = self.kept.entry(partition).or_default();
            let records = *end..*end + row.records as i64;
            *end = records.end;
            if !first {
                self.durable.extend(records.map(|o| (at - self.clicks.arrival(partition, o)).max(0) as u64));
            }
        }
        self.epoch = committed.keys().next_back().copied().unwrap_or(self.epoch).max(self.epoch);
    }

    /// How old the oldest click is that was not taken in.
    fn behind(&self) -> Duration {
        let now = self.clock.wall();
        let next =
            |(partition, offset): (PartitionId, Offset)| now - self.clicks.arrival(partition, offset.0);
        let oldest = offsets(self.engine).into_iter().map(next).max().unwrap_or_default();
        Duration::from_micros(oldest.max(0) as u64)
    }
}

fn offsets(engine: &Engine) -> BTreeMap<PartitionId, Offset> {
    engine.status().partitions.into_iter().map(|partition| (partition.partition, partition.offset)).collect()
}

fn percentiles(micros: &mut [u64]) -> String {
    micros.sort_unstable();
    let at =
        |share: f64| micros.get(((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1)));
    let millis = |share: f64| at(share).map_or(f64::NAN, |micros| *micros as f64 / 1000.0);
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", millis(0.5), millis(0.99), millis(1.0))
}
