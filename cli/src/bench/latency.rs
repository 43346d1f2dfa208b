//! How long a click takes from the moment it is due at its producer until a statement sees it, and until it is durable;
//! and how long such a statement takes. A producer of its own writes to a topic, and a watcher looks what has come and asks
//! the live table as a dashboard does. Then the engine is left alone for a while, to see what it costs without a reader.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::ids::{Micros, Offset, PartitionId};
use thalweg_engine::job::Engine;
use thalweg_engine::view::Room;

use tokio::runtime::Handle;

use super::producer::{Process, Schedule};
use super::topic::Topic;
use super::usage::Usage;
use super::{Arguments, start};

const WARM_UP: Duration = Duration::from_secs(3);
/// A broker that has just made hundreds of partitions is busy with them for a while.
const WARM_UP_MAX: Duration = Duration::from_secs(60);
const WATCHED: Duration = Duration::from_secs(10);
const ALONE: Duration = Duration::from_secs(6);

const LOOK_EVERY: Duration = Duration::from_millis(1);
/// As a quick dashboard would do.
const READ_EVERY: Duration = Duration::from_millis(100);

/// Who is no further behind has kept up.
const BEHIND_MAX: Duration = Duration::from_millis(500);

pub async fn measure(data: &str, arguments: &Arguments, rate: f64, queries: &Handle) -> Result<()> {
    let name = format!("{}-latency-{}", arguments.topic, std::process::id());
    let topic = Topic { brokers: &arguments.brokers, name: &name };
    topic.create_if_absent(arguments.partitions).await?;
    let outcome = measure_on(data, arguments, &topic, rate, queries).await;
    let deleted = topic.delete().await;
    outcome.and(deleted)
}

async fn measure_on(
    data: &str,
    arguments: &Arguments,
    topic: &Topic<'_>,
    rate: f64,
    queries: &Handle,
) -> Result<()> {
    let engine = start(data, arguments, &topic.options("earliest"), queries).await?;
    engine.begin();
    let producer = Process::start(arguments, topic.name, rate)?;
    tokio::time::sleep(WARM_UP).await;
    let mut watcher = Watcher::new(&engine, producer.schedule);
    let warming = Instant::now();
    while watcher.behind() > BEHIND_MAX && warming.elapsed() < WARM_UP_MAX {
        tokio::time::sleep(WARM_UP).await;
        // The ledger is not kept for ever.
        watcher.look_at_commits();
    }
    watcher.seen = positions(&engine);
    watcher.durable.clear();
    let reading = queries.spawn(read(engine.clone()));
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        watcher.look();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut reads = reading.await??;
    let usage = Usage::now();
    tokio::time::sleep(ALONE).await;
    let alone = usage.until_now();
    let behind = watcher.behind();
    let delivered = producer.stop()?;
    engine.stop().await?;
    let Watcher { mut visible, mut durable, .. } = watcher;
    println!("{rate} events/s, {} partitions, {} views", arguments.partitions, arguments.views);
    println!("  due to acknowledged by the broker: {delivered}");
    println!("  due to visible for a statement:    {}", percentiles(&mut visible));
    println!("  due to durable:                    {}", percentiles(&mut durable));
    println!("  a read of live.by_type, 10 a second: {}", percentiles(&mut reads));
    let share = alone.cpu.as_secs_f64() / alone.wall.as_secs_f64() * 100.0;
    let verdict = if behind < BEHIND_MAX { "kept up" } else { "did NOT keep up" };
    println!(
        "  without a reader: {share:.1} % of a core; {verdict}, {} ms behind at the end",
        behind.as_millis()
    );
    Ok(())
}

/// How long reads take, in microseconds.
async fn read(engine: Engine) -> Result<Vec<u64>> {
    let (begun, mut reads) = (Instant::now(), vec![]);
    while begun.elapsed() < WATCHED {
        let read = Instant::now();
        engine.snapshot().views["by_type"].open.finish(None, &Room::unbounded()).await?;
        reads.push(read.elapsed().as_micros() as u64);
        tokio::time::sleep(READ_EVERY.saturating_sub(read.elapsed())).await;
    }
    Ok(reads)
}

struct Watcher<'a> {
    engine: &'a Engine,
    schedule: Schedule,
    clock: SystemClock,
    seen: BTreeMap<PartitionId, Offset>,
    /// The end of what the newest epoch looked at has made durable.
    kept: BTreeMap<PartitionId, i64>,
    epoch: u64,
    looked_at_commits: Micros,
    /// In microseconds.
    visible: Vec<u64>,
    durable: Vec<u64>,
}

impl Watcher<'_> {
    fn new(engine: &Engine, schedule: Schedule) -> Watcher<'_> {
        let (seen, clock) = (positions(engine), SystemClock::new());
        Watcher {
            engine,
            schedule,
            clock,
            seen,
            kept: BTreeMap::new(),
            epoch: 0,
            looked_at_commits: 0,
            visible: vec![],
            durable: vec![],
        }
    }

    fn look(&mut self) {
        let (taken, now) = (positions(self.engine), self.clock.wall());
        for (partition, offset) in taken {
            let first = self.seen.insert(partition, offset).unwrap_or(offset);
            let age = |offset| (now - self.schedule.due(partition, offset)).max(0) as u64;
            self.visible.extend((first.0..offset.0).map(age));
        }
        if now - self.looked_at_commits > 100_000 {
            self.looked_at_commits = now;
            self.look_at_commits();
        }
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
                self.durable.extend(records.map(|o| (at - self.schedule.due(partition, o)).max(0) as u64));
            }
        }
        self.epoch = committed.keys().next_back().copied().unwrap_or(self.epoch).max(self.epoch);
    }

    /// How old the oldest click is that was not taken in.
    fn behind(&self) -> Duration {
        let now = self.clock.wall();
        let next = |(partition, offset): (PartitionId, Offset)| now - self.schedule.due(partition, offset.0);
        let oldest = positions(self.engine).into_iter().map(next).max().unwrap_or_default();
        Duration::from_micros(oldest.max(0) as u64)
    }
}

fn positions(engine: &Engine) -> BTreeMap<PartitionId, Offset> {
    engine.positions("clicks").into_iter().collect()
}

pub fn percentiles(micros: &mut [u64]) -> String {
    micros.sort_unstable();
    let at =
        |share: f64| micros.get(((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1)));
    let millis = |share: f64| at(share).map_or(f64::NAN, |micros| *micros as f64 / 1000.0);
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", millis(0.5), millis(0.99), millis(1.0))
}
