//! A broker that is away: nobody becomes idle meanwhile, no commit waits, and what comes afterwards is read on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use thalweg_engine::ids::{Offset, PartitionId};
use thalweg_engine::source::{END_IS_TOLD_EVERY, Polled, RawBatch};
use thalweg_tests::servers::Kafka;
use tokio::runtime::Runtime;

use super::{CLOSED_EVENTS, EVENTS, LIMIT, Topic, WITHIN, read_to_end, rows, until};
use crate::place::Place;

#[test]
fn a_broker_that_comes_back_is_read_on() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    let topic = Topic::create_on(Arc::clone(&kafka), "restarted", 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..10)?;
    let mut reader = topic.reader(&[(0, 0)])?;
    assert_eq!(rows(&read_to_end(&mut *reader, 1)?.0, 0).len(), 10);

    kafka.stop()?;
    for _ in 0..30 {
        let polled = reader.poll(&mut RawBatch::default(), LIMIT, END_IS_TOLD_EVERY / 20)?;
        assert_eq!(polled, Polled::Nothing);
    }
    kafka.start_again()?;
    until("the end is told again", || {
        let polled = reader.poll(&mut RawBatch::default(), LIMIT, END_IS_TOLD_EVERY / 20)?;
        Ok(polled == Polled::AtEnd { partition: PartitionId(0), next_offset: Offset(10) })
    })?;
    topic.produce(&topic.producer("none")?, 0, 10..15)?;
    let (mut batches, mut ends) = read_to_end(&mut *reader, 1)?;
    while ends != [(0, 15)].into() {
        let (more, later) = read_to_end(&mut *reader, 1)?;
        batches.extend(more);
        ends = later;
    }
    let offsets: Vec<_> = rows(&batches, 0).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [10, 11, 12, 13, 14]);
    Ok(())
}

/// Longer than the declared silence, than an end is believed, and than the time between two looks for partitions.
const AWAY: Duration = Duration::from_secs(11);

#[test]
fn nobody_is_idle_and_no_commit_waits_while_the_broker_is_away() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    let topic = Topic::create_on(Arc::clone(&kafka), "away", 2)?;
    let place = Place::folder(&topic.script(&kafka.bootstrap, ""), &[])?;
    let runtime = Runtime::new()?;
    let instance = runtime.block_on(place.launch.start(&[]))?;
    let until = |sql: &str, wanted: i64| {
        runtime.block_on(instance.until(sql, WITHIN, |found| found == wanted)).map(drop)
    };
    topic.tell(0, &["00:01.5"])?;
    topic.tell(1, &["00:01.5"])?;
    until(EVENTS, 2)?;
    // The ends are told a moment after the records.
    std::thread::sleep(END_IS_TOLD_EVERY);
    let paused = kafka.pause()?;
    std::thread::sleep(AWAY);
    let closed = runtime.block_on(instance.number(CLOSED_EVENTS))?;
    drop(paused);
    ensure!(closed == 0, "windows closed over {closed} events while nothing was heard of their partitions");

    topic.tell(0, &["00:04.5"])?;
    until(EVENTS, 3)?;
    until("SELECT late_rows FROM system.views", 0)?;
    // Now both are silent, and their broker says so.
    until(CLOSED_EVENTS, 3)?;

    let longest = "SELECT max(gap) / 1000000 FROM (SELECT CAST(committed_at AS BIGINT)
                     - lag(CAST(committed_at AS BIGINT)) OVER (ORDER BY epoch) AS gap FROM system.checkpoints)";
    let longest = runtime.block_on(instance.number(longest))?;
    ensure!(
        longest < 5,
        "there was no checkpoint for {longest} s, of which the broker was away for {AWAY:?}"
    );
    runtime.block_on(instance.terminate())
}
