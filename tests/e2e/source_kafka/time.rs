//! What the silence of a stream, and records that are refused, do to its time.

use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Runtime;

use super::{CLOSED_EVENTS, Topic, WITHIN};
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
