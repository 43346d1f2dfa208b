//! What the silence of a stream, and records that are refused, do to its time.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use thalweg_tests::servers::Kafka;
use tokio::runtime::Runtime;

use super::{CLOSED_EVENTS, Topic, WITHIN, block_on};
use crate::place::Place;

const LATE: &str = "SELECT late_rows FROM system.views";

/// A stream that was silent as a whole, for longer than its backlog is old.
#[test]
fn a_backlog_after_a_silence_is_not_late() -> Result<()> {
    const SILENT: Duration = Duration::from_secs(6);
    let topic = Topic::create("backlog", 1)?;
    let place = Place::folder(&topic.script(&topic.kafka.bootstrap, ""), &[])?;
    let runtime = Runtime::new()?;
    let instance = runtime.block_on(place.launch.start(&[]))?;
    let until = |sql: &str, wanted: i64| {
        runtime.block_on(instance.until(sql, WITHIN, |found| found == wanted)).map(drop)
    };
    topic.tell(0, &["00:01.5"])?;
    until(CLOSED_EVENTS, 1)?;
    std::thread::sleep(SILENT);
    topic.tell(0, &["00:02.1", "00:03.1", "00:04.1"])?;
    until(CLOSED_EVENTS, 4)?;
    until(LATE, 0)?;
    runtime.block_on(instance.terminate())
}

#[test]
fn a_topic_is_warned_of_whose_producers_may_date_as_they_like() -> Result<()> {
    let bounded = Topic::create("bounded", 1)?;
    let unbounded = Topic { kafka: Kafka::shared()?, name: "unbounded" };
    let new = NewTopic::new(unbounded.name, 1, TopicReplication::Fixed(1))
        .set("message.timestamp.after.max.ms", "9223372036854775807");
    block_on(unbounded.admin()?.create_topics([&new], &AdminOptions::new()))?;
    super::until("the topic is there", || Ok(unbounded.discovery()?.partitions().is_ok()))?;
    assert_eq!(bounded.discovery()?.warnings(), [""; 0]);
    let warnings = unbounded.discovery()?.warnings();
    ensure!(
        warnings.len() == 1 && warnings[0].contains("--add-config message.timestamp.after.max.ms=3600000"),
        "{warnings:?}"
    );
    Ok(())
}

/// A producer's clock is an hour ahead for a moment.
#[test]
fn a_watermark_that_a_wrong_clock_moved_can_be_set_back() -> Result<()> {
    const WINDOWS_TWICE: &str = "SELECT count(*) - count(DISTINCT window_start) FROM per_second";
    let topic = Topic::create("ahead", 1)?;
    let place = Place::folder(&topic.script(&topic.kafka.bootstrap, ""), &["--roll", "100ms"])?;
    let runtime = Runtime::new()?;
    let mut instance = runtime.block_on(place.launch.start(&[]))?;
    topic.tell(0, &["00:01.5", "59:01.5", "59:02.5"])?;
    runtime.block_on(instance.until(CLOSED_EVENTS, WITHIN, |closed| closed == 2))?;
    topic.tell(0, &["00:03.5"])?;
    runtime.block_on(instance.until(LATE, WITHIN, |late| late == 1))?;
    let set = "ALTER STREAM events SET WATERMARK '2025-06-01T00:00:03Z'";
    for (wrong, said) in [
        (set.replace("2025", "2999"), "ahead of the clock"),
        (format!("{set} PARTITION 7"), "no such partition"),
        (set.replace("2025-06", "June"), "it is a moment such as"),
    ] {
        let error = runtime.block_on(instance.command(&wrong)).expect_err("it is refused");
        ensure!(format!("{error:#}").contains(said), "{error:#}");
    }
    runtime.block_on(instance.command(set))?;
    // It is durable.
    runtime.block_on(instance.kill())?;
    instance = runtime.block_on(place.launch.start(&[]))?;
    let until = |sql: &str, wanted: i64| {
        runtime.block_on(instance.until(sql, WITHIN, |found| found == wanted)).map(drop)
    };
    topic.tell(0, &["00:01.9", "00:03.6", "00:04.5"])?;
    until(CLOSED_EVENTS, 3)?;
    until(LATE, 2)?;
    // The window of this one has left with what the wrong clock had brought.
    topic.tell(0, &["59:01.8"])?;
    until(CLOSED_EVENTS, 4)?;
    until(LATE, 3)?;
    until(WINDOWS_TWICE, 0)?;
    let told = "SELECT count(*) FROM system.interventions
                WHERE stream = 'events' AND partition = 0 AND offset_after IS NULL
                  AND watermark_before = TIMESTAMP '2025-06-01 00:59:02.5' AND watermark_after = TIMESTAMP '2025-06-01 00:00:03'";
    until(told, 1)?;
    runtime.block_on(instance.terminate())
}

/// One partition of a broken producer, whose records never stop.
#[test]
fn refused_records_hold_no_frontier() -> Result<()> {
    let topic = Topic::create("garbled", 2)?;
    let place = Place::folder(&topic.script(&topic.kafka.bootstrap, ""), &[])?;
    let runtime = Runtime::new()?;
    let instance = runtime.block_on(place.launch.start(&[]))?;
    topic.tell(0, &["00:01.5", "00:09.5"])?;
    super::until("the first event is closed", || {
        topic.tell(1, &["not a time "])?;
        // So often that the partition is never silent for as long as it would have to be.
        std::thread::sleep(Duration::from_millis(300));
        Ok(runtime.block_on(instance.number(CLOSED_EVENTS))? >= 1)
    })?;
    runtime.block_on(instance.terminate())
}
