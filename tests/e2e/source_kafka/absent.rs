//! A start that names a topic, or a broker, that is not there comes up with all the rest; what is missing is waited for.

use std::sync::Arc;

use anyhow::{Result, ensure};
use thalweg_tests::servers::Kafka;
use tokio::runtime::Runtime;

use super::{Topic, WITHIN};
use crate::instance::Instance;
use crate::place::Place;

fn stream(topic: &str, brokers: &str) -> String {
    format!(
        "CREATE STREAM {topic}_in (id STRING, at TIMESTAMP(3), WATERMARK FOR at AS at)
         WITH (connector = 'kafka', brokers = '{brokers}', topic = '{topic}', format = 'json', start = 'earliest')"
    )
}

fn script(topics: &[&str], brokers: &str) -> String {
    let of = |topic: &&str| {
        format!(
            "{};\nCREATE MATERIALIZED VIEW {topic} AS SELECT id FROM {topic}_in;\n",
            stream(topic, brokers)
        )
    };
    topics.iter().map(of).collect()
}

async fn reason(instance: &Instance, stream: &str) -> Result<String> {
    let told = format!("SELECT coalesce(reason, '') FROM system.streams WHERE stream = '{stream}_in'");
    Ok(instance.query(&told).await?.concat().concat())
}

const RUNNING: &str = "SELECT count(*) FROM system.streams WHERE state = 'running'";

#[test]
fn a_topic_that_is_not_there_is_waited_for_and_keeps_nobody_from_starting() -> Result<()> {
    let kafka = Kafka::shared()?;
    let there = Topic::create_on(Arc::clone(&kafka), "there", 1)?;
    there.tell(0, &["00:01.1", "00:01.2"])?;
    let sink = format!(
        "CREATE SINK s INTO KAFKA (brokers = '{}', topic = 'sunk-later') AS SELECT id FROM there;",
        kafka.bootstrap
    );
    let place = Place::folder(&(script(&["there", "comes"], &kafka.bootstrap) + &sink), &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    let missing = |instance: Instance| async {
        instance.until("SELECT count(*) FROM there", WITHIN, |rows| rows == 2).await?;
        let told = "SELECT count(*) FROM system.streams WHERE reason LIKE 'the topic does not exist%topic=\"comes\"%'";
        instance.until(told, WITHIN, |streams| streams == 1).await?;
        ensure!(instance.number(RUNNING).await? == 1);
        let error = instance.command("ALTER STREAM comes_in RESTART").await.expect_err("it is not there");
        ensure!(format!("{error:#}").contains("the topic does not exist"), "{error:#}");
        let tried = "SELECT count(*) FROM system.streams WHERE next_try IS NOT NULL";
        instance.until(tried, WITHIN, |streams| streams == 1).await?;
        let sent = "SELECT count(*) FROM system.sinks WHERE last_error LIKE '%no such topic%'";
        instance.until(sent, WITHIN, |sinks| sinks == 1).await?;
        Ok::<_, anyhow::Error>(instance)
    };
    let instance = runtime.block_on(async {
        let instance = missing(place.launch.start(&[]).await?).await?;
        // Whoever types it is told that there is none.
        let error = instance.command(&stream("other", &kafka.bootstrap)).await.expect_err("it is not there");
        ensure!(format!("{error:#}").contains("the topic does not exist"), "{error:#}");
        instance.kill().await?;
        missing(place.launch.start(&[]).await?).await
    })?;
    let comes = Topic::create_on(Arc::clone(&kafka), "comes", 2)?;
    Topic::create_on(Arc::clone(&kafka), "sunk-later", 1)?;
    comes.tell(0, &["00:01.1", "00:01.2", "00:01.3"])?;
    comes.tell(1, &["00:01.4"])?;
    runtime.block_on(async {
        instance.until("SELECT count(*) FROM comes", WITHIN, |rows| rows == 4).await?;
        ensure!(instance.number(RUNNING).await? == 2);
        let skips = instance.query("SELECT * FROM system.interventions").await?;
        ensure!(skips.is_empty(), "{skips:?}");
        instance.until("SELECT rows FROM system.sinks", WITHIN, |rows| rows == 2).await?;
        instance.terminate().await?;
        let instance = place.launch.start(&[]).await?;
        instance.until("SELECT count(*) FROM comes", WITHIN, |rows| rows == 4).await?;
        instance.terminate().await
    })
}

#[test]
fn a_broker_that_is_not_there_is_waited_for_and_named() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    let topic = Topic::create_on(Arc::clone(&kafka), "later", 1)?;
    topic.tell(0, &["00:01.1"])?;
    kafka.stop()?;
    let place = Place::folder(&script(&["later"], &kafka.bootstrap), &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    runtime.block_on(async {
        let instance = place.launch.start(&[]).await?;
        let told = reason(&instance, "later").await?;
        ensure!(told.contains("no answer") || told.contains("no broker answers"), "{told}");
        kafka.start_again()?;
        instance.until("SELECT count(*) FROM later", WITHIN * 2, |rows| rows == 1).await?;
        instance.terminate().await
    })
}

#[test]
fn a_table_of_a_topic_that_is_not_there_is_waited_for_by_the_streams_that_look_it_up() -> Result<()> {
    let kafka = Kafka::shared()?;
    let (asks, plain) = ("asks", "asks_not");
    for name in [asks, plain] {
        Topic::create_on(Arc::clone(&kafka), name, 1)?.tell(0, &["00:01.1", "00:01.2"])?;
    }
    let brokers = &kafka.bootstrap;
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id STRING PRIMARY KEY, at TIMESTAMP(3))
             WITH (connector = 'kafka', brokers = '{brokers}', topic = 'looked-up-later')"
        )
    };
    let script = format!(
        "{};\n{};\n{};\nCREATE MATERIALIZED VIEW plain AS SELECT id FROM {plain}_in;
         CREATE MATERIALIZED VIEW found AS
         SELECT c.id, t.at AS known FROM {asks}_in AS c LEFT JOIN later AS t ON t.id = c.id;",
        stream(asks, brokers),
        stream(plain, brokers),
        table("later"),
    );
    let place = Place::folder(&script, &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    let missing = |instance: Instance| async {
        instance.until("SELECT count(*) FROM plain", WITHIN, |rows| rows == 2).await?;
        let told = "SELECT count(*) FROM system.tables WHERE state = 'unread' AND reason LIKE '%topic does not exist%'";
        instance.until(told, WITHIN, |tables| tables == 1).await?;
        let told = reason(&instance, asks).await?;
        ensure!(told.contains("table later has not been read"), "{told}");
        ensure!(instance.number("SELECT count(*) FROM found").await? == 0);
        Ok::<_, anyhow::Error>(instance)
    };
    let instance = runtime.block_on(async {
        let instance = missing(place.launch.start(&[]).await?).await?;
        // Whoever types it is told, and stops no stream by it.
        let error = instance.command(&table("other")).await.expect_err("it is not there");
        ensure!(format!("{error:#}").contains("the topic does not exist"), "{error:#}");
        let view = format!(
            "CREATE MATERIALIZED VIEW second AS SELECT c.id FROM {plain}_in AS c JOIN later AS t ON t.id = c.id"
        );
        let error = instance.command(&view).await.expect_err("the table is not read");
        ensure!(format!("{error:#}").contains("has not been read yet"), "{error:#}");
        ensure!(instance.number(RUNNING).await? == 1);
        instance.kill().await?;
        missing(place.launch.start(&[]).await?).await
    })?;
    Topic::create_on(Arc::clone(&kafka), "looked-up-later", 1)?.tell(0, &["00:01.1"])?;
    runtime.block_on(async {
        instance.until("SELECT count(*) FROM found", WITHIN * 2, |rows| rows == 2).await?;
        ensure!(instance.number("SELECT count(known) FROM found").await? == 1);
        ensure!(instance.number(RUNNING).await? == 2);
        instance.terminate().await
    })
}
