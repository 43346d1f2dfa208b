//! A topic that is deleted and created again under a sink has none of the rows that were sent: its sink stops alone.

use anyhow::{Result, ensure};
use thalweg_tests::servers::Kafka;

use super::{FLAGS, WITHIN, await_all_sent, seconds, topic};
use crate::place::Place;
use crate::shop::Paced;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_exchanged_stops_its_sink_alone() -> Result<()> {
    // While rows go into it, while nothing does, and while nobody is there.
    for when in ["sending", "resting", "stopped"] {
        let kafka = Kafka::shared()?;
        let names = ["one", "other"].map(|which| format!("exchanged-{when}-{which}"));
        for name in &names {
            topic::create(&kafka, name, 2).await?;
        }
        let rows = if when == "sending" { 20_000 } else { 5_000 };
        let shop = Paced::since(std::time::Duration::from_secs(6), 59, 1000.0, rows)?;
        let sink = |name: &str, topic: &str| {
            format!(
                "CREATE SINK {name} INTO KAFKA (brokers = '{}', topic = '{topic}') AS SELECT window_start, country, events \
                 FROM by_second;",
                kafka.bootstrap
            )
        };
        let [one, other] = [sink("one", &names[0]), sink("other", &names[1])];
        let place = Place::folder(&format!("{}\n{one}\n{other}", shop.script()?), &FLAGS)?;
        let instance = place.launch.start(&[]).await?;
        let sent = "SELECT count(*) FROM system.sinks WHERE rows > 0";
        instance.until(sent, WITHIN, |sinks| sinks == 2).await?;
        if when != "sending" {
            await_all_sent(&instance, &shop).await?;
        }
        let instance = if when == "stopped" {
            instance.terminate().await?;
            topic::exchange(&kafka, &names[0], 2).await?;
            place.launch.start(&[]).await?
        } else {
            topic::exchange(&kafka, &names[0], 2).await?;
            instance
        };
        let failed = "SELECT count(*) FROM system.sinks WHERE state = 'failed'";
        instance.until(failed, WITHIN, |sinks| sinks == 1).await?;
        let told =
            &instance.query("SELECT sink, last_error FROM system.sinks WHERE state = 'failed'").await?[0];
        ensure!(told[0] == "one", "{told:?}");
        let said = [
            "the topic is not the one that rows were sent into",
            "topic id before=",
            "DROP SINK and CREATE it again",
        ];
        ensure!(said.iter().all(|said| told[1].contains(said)), "{told:?}");
        instance.command("DROP SINK one").await?;
        instance.command(one.trim_end_matches(';')).await?;
        await_all_sent(&instance, &shop).await?;
        let there = seconds(&instance).await?.values().sum::<i64>();
        for name in &names {
            let told = topic::committed(&kafka, name).await?.len() as i64;
            ensure!(told == there, "{name} has {told} rows of {there}");
        }
        instance.terminate().await?;
    }
    Ok(())
}
