//! A topic that was deleted and created again, shorter or longer than it was, is another topic. One whose records went by
//! retention is not.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::AdminOptions;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use thalweg_engine::ErrorKind;
use thalweg_engine::ids::{Offset, PartitionId};
use thalweg_engine::source::{Assignment, Reader, Reading};
use tokio::runtime::Runtime;

use super::{EVENTS, Topic, WITHIN, block_on, failure, read_to_end, rows};
use crate::place::Place;

const FAILED: &str = "SELECT count(*) FROM system.streams WHERE state = 'failed'";

impl Topic {
    /// Reads the first `count` records, as an instance does that is stopped then.
    fn read(&self, count: i64) -> Result<Assignment> {
        let (batches, _) = read_to_end(&mut *self.reader(&[(0, 0)])?, 1)?;
        let mut batches = batches.into_iter();
        let batch = batches.find(|batch| batch.offsets.contains(&(count - 1)));
        let batch = batch.context("so many records were written")?;
        let last = batch.offsets.partition_point(|offset| *offset < count) - 1;
        let (next_offset, last_record) = (Offset(count), Some(batch.fingerprint(last)));
        Ok(Assignment { partition: PartitionId(0), next_offset, last_record })
    }

    fn resume(&self, at: Assignment) -> Result<Box<dyn Reader>> {
        Ok(self.discovery()?.open(&[at], Reading::little(false))?)
    }

    /// The offsets that are read when it goes on there.
    fn resumed(&self, at: Assignment) -> Result<Vec<i64>> {
        let (batches, _) = read_to_end(&mut *self.resume(at)?, 1)?;
        Ok(rows(&batches, 0).iter().map(|(offset, _)| *offset).collect())
    }

    fn trim(&self, first: i64) -> Result<()> {
        let mut trim = TopicPartitionList::new();
        trim.add_partition_offset(self.name, 0, KafkaOffset::Offset(first))?;
        block_on(self.admin()?.delete_records(&trim, &AdminOptions::new()))?;
        Ok(())
    }
}

#[test]
fn a_topic_that_is_still_the_same_is_read_on() -> Result<()> {
    let topic = Topic::create("same", 1)?;
    topic.produce(&topic.producer("lz4")?, 0, 0..100)?;
    let (middle, end) = (topic.read(50)?, topic.read(100)?);
    assert_eq!(topic.resumed(middle)?, (50..100).collect::<Vec<_>>());
    assert_eq!(topic.resumed(end)?, [0; 0]);
    // The last record has gone by retention, and what comes after it is there.
    topic.trim(50)?;
    assert_eq!(topic.resumed(middle)?, (50..100).collect::<Vec<_>>());
    topic.trim(51)?;
    let error = failure(&mut *topic.resume(middle)?)?;
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("offsets 50 to 50 were deleted before they were read"), "{error}");
    topic.trim(100)?;
    assert_eq!(topic.resumed(end)?, [0; 0]);
    Ok(())
}

#[test]
fn a_topic_created_anew_and_longer_is_noticed_by_its_last_record() -> Result<()> {
    let topic = Topic::create("longer", 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..100)?;
    let (middle, end) = (topic.read(50)?, topic.read(100)?);
    topic.delete()?;
    let topic = Topic::create_on(Arc::clone(&topic.kafka), topic.name, 1)?;
    // It ends right at the last record that was read: shorter, by the smallest amount.
    topic.produce(&topic.producer("none")?, 0, 1000..1099)?;
    let error = failure(&mut *topic.resume(end)?)?;
    assert!(error.to_string().contains("wanted offset=100, first available=0, end=99"), "{error}");
    topic.produce(&topic.producer("none")?, 0, 1099..1300)?;
    for (at, last, found) in [(middle, "49 of timestamp=1049", 2049), (end, "99 of timestamp=1099", 2099)] {
        let error = failure(&mut *topic.resume(at)?)?;
        assert_eq!(error.kind(), ErrorKind::BadData);
        let text = error.to_string();
        let offset = at.next_offset.0 - 1;
        assert!(
            text.starts_with("the topic is not the one that was read before. ")
                && text.contains("topic=\"longer\", partition=0")
                && text.contains(&format!("last read offset={last} ms"))
                && text.contains(&format!("found offset={offset} of timestamp={found} ms"))
                && text.contains("RESTART AT"),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn an_instance_goes_on_in_another_topic_only_when_told() -> Result<()> {
    let five = ["00:02.1", "00:02.2", "00:02.3", "00:02.4", "00:02.5"];
    exchanged("exchanged-longer", true, &five)?;
    exchanged("exchanged-alike", true, &five[..3])?;
    exchanged("exchanged-shorter", true, &five[..1])
}

#[test]
fn a_topic_exchanged_while_it_is_read_gives_no_record_that_is_taken_for_one_of_the_other() -> Result<()> {
    let many: Vec<String> = (0..40).map(|number| format!("00:02.{number:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    exchanged("swapped-longer", false, &many)?;
    exchanged("swapped-alike", false, &many[..3])?;
    exchanged("swapped-shorter", false, &many[..1])
}

/// Three events are read, and then the topic is another, with these.
fn exchanged(name: &'static str, stopped: bool, events: &[&str]) -> Result<()> {
    let topic = Topic::create(name, 1)?;
    topic.tell(0, &["00:01.1", "00:01.2", "00:01.3"])?;
    let place = Place::folder(&topic.script(&topic.kafka.bootstrap, ""), &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    let mut running = Some(runtime.block_on(async {
        let instance = place.launch.start(&[]).await?;
        instance.until(EVENTS, WITHIN, |events| events == 3).await?;
        Ok::<_, anyhow::Error>(instance)
    })?);
    if stopped && let Some(instance) = running.take() {
        runtime.block_on(instance.terminate())?;
    }
    topic.exchange(1)?;
    topic.tell(0, events)?;
    let count = events.len() as i64;
    runtime.block_on(async {
        let instance = match running {
            Some(instance) => instance,
            None => place.launch.start(&[]).await?,
        };
        instance.until(FAILED, WITHIN, |failed| failed == 1).await?;
        let error = instance.command("ALTER STREAM events RESTART").await.expect_err("it is another topic");
        let error = format!("{error:#}");
        ensure!(error.contains("the topic is not the one that was read before"), "{error}");
        assert_eq!(instance.number(FAILED).await?, 1);
        let reason = &instance.query("SELECT reason FROM system.streams").await?[0][0];
        ensure!(reason.contains("the topic is not the one that was read before"), "{reason}");
        ensure!(reason.contains("topic id before="), "{reason}");
        assert_eq!(instance.number(EVENTS).await?, 3, "what was read is served");
        instance.command("ALTER STREAM events RESTART AT 'earliest'").await?;
        instance.until(EVENTS, WITHIN, |events| events == 3 + count).await?;
        let skips = "SELECT stream, partition, offset_before, offset_after FROM system.interventions";
        assert_eq!(instance.query(skips).await?, [["events", "0", "3", "0"]]);
        instance.terminate().await?;
        // The next process knows the one that it has gone on in.
        let instance = place.launch.start(&[]).await?;
        topic.tell(0, &["00:03.1"])?;
        instance.until(EVENTS, WITHIN, |events| events == 4 + count).await?;
        instance.terminate().await
    })
}

/// A copy of a topic, as of a cluster that was moved, is read on where its records are the same.
#[test]
fn another_topic_with_the_same_records_is_gone_on_with_where_it_stood() -> Result<()> {
    let topic = Topic::create("copied", 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..20)?;
    let script = format!(
        "CREATE STREAM events (at TIMESTAMP METADATA FROM 'timestamp') WITH (connector = 'kafka', brokers = '{}', topic = \
         '{}', format = 'json');
         CREATE MATERIALIZED VIEW copied AS SELECT at FROM events;",
        topic.kafka.bootstrap, topic.name
    );
    let place = Place::folder(&script, &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    let read = "SELECT coalesce(sum(records), 0) FROM system.streams";
    let instance = runtime.block_on(async {
        let instance = place.launch.start(&[]).await?;
        instance.until(read, WITHIN, |records| records == 20).await?;
        Ok::<_, anyhow::Error>(instance)
    })?;
    topic.exchange(1)?;
    topic.produce(&topic.producer("none")?, 0, 0..30)?;
    runtime.block_on(async {
        instance.until(FAILED, WITHIN, |failed| failed == 1).await?;
        instance.command("ALTER STREAM events RESTART AT 'earliest'").await?;
        instance.until(read, WITHIN, |records| records == 30).await?;
        let skips = "SELECT stream, partition, offset_before, offset_after FROM system.interventions";
        assert_eq!(instance.query(skips).await?, [["events", "0", "20", "20"]]);
        instance.terminate().await
    })
}

#[test]
fn a_partition_that_is_gone_is_not_waited_for() -> Result<()> {
    const CLOSED: &str = "SELECT count(*) FROM history.per_second";
    let topic = Topic::create("narrower", 2)?;
    for partition in 0..2 {
        topic.tell(partition, &["00:01.1", "00:02.1"])?;
    }
    let place = Place::folder(&topic.script(&topic.kafka.bootstrap, ""), &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    runtime.block_on(async {
        let instance = place.launch.start(&[]).await?;
        instance.until(CLOSED, WITHIN, |closed| closed == 1).await?;
        instance.terminate().await
    })?;
    topic.delete()?;
    let topic = Topic::create_on(Arc::clone(&topic.kafka), topic.name, 1)?;
    topic.tell(0, &["01:01.1", "01:02.1", "01:03.1"])?;
    runtime.block_on(async {
        let instance = place.launch.start(&[]).await?;
        instance.until(FAILED, WITHIN, |failed| failed == 1).await?;
        let error = instance.command("ALTER STREAM events RESTART AT '2999-01-01T00:00:00Z'").await;
        let error = format!("{:#}", error.expect_err("nobody knows what comes until then"));
        ensure!(error.contains("the moment is ahead of the clock"), "{error}");
        let error = instance.command("ALTER STREAM events RESTART").await.expect_err("there is one less");
        let error = format!("{error:#}");
        ensure!(error.contains("the topic is not the one"), "{error}");
        instance.command("ALTER STREAM events RESTART AT 'earliest'").await?;
        instance.until(CLOSED, WITHIN, |closed| closed == 4).await?;
        let partitions = "SELECT partition FROM system.partitions WHERE stream = 'events'";
        assert_eq!(instance.query(partitions).await?, [["0"]]);
        let set = "ALTER STREAM events SET WATERMARK '2025-06-01T00:01:02Z' PARTITION 1";
        let error = format!("{:#}", instance.command(set).await.expect_err("it is gone"));
        ensure!(error.contains("no such partition"), "{error}");
        instance.terminate().await?;
        // Nor by the next process.
        let instance = place.launch.start(&[]).await?;
        topic.tell(0, &["01:04.1"])?;
        instance.until(CLOSED, WITHIN, |closed| closed == 5).await?;
        instance.terminate().await
    })
}

#[test]
fn a_topic_created_anew_stops_the_reader() -> Result<()> {
    let topic = Topic::create("anew", 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..100)?;
    let mut reader = topic.reader(&[(0, 0)])?;
    assert_eq!(rows(&read_to_end(&mut *reader, 1)?.0, 0).len(), 100);
    topic.delete()?;
    let topic = Topic::create_on(Arc::clone(&topic.kafka), topic.name, 1)?;
    topic.produce(&topic.producer("none")?, 0, 0..10)?;
    // One that read the other knows that it was another.
    let numbers = "partition=0, wanted offset=100, first available=0, end=10";
    for (reader, said) in [(&mut reader, "topic id before="), (&mut topic.reader(&[(0, 100)])?, numbers)] {
        let error = failure(&mut **reader)?;
        assert_eq!(error.kind(), ErrorKind::BadData);
        assert!(error.to_string().contains(said), "{error}");
    }
    Ok(())
}
