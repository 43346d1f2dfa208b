//! SIGKILL at random times, again and again, and then every row exactly once, through SQL and in Delta.
//!
//! `THALWEG_KILLS` (a dozen) says how often, `THALWEG_SEED` when. Epochs and rolls are so short that kills land in the
//! protocol and not in its sleep; one kill in four lands in a start.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use thalweg_engine::ids::PartitionId;
use thalweg_engine::source::clicks::Clicks;
use thalweg_tests::servers::Kafka;

use crate::instance::{Instance, Launch};
use crate::place::Place;
use crate::settings::set;
use crate::shop::{MINUTE, Oracle, Paced, lines, script};

const FLAGS: [&str; 2] = ["--roll", "300ms"];
/// Of the generator and of the producer, in clicks a second.
const RATE: u64 = 2000;

/// Kills so often, and starts once more.
async fn kill_again_and_again(launch: &Launch, kills: u64) -> Result<Instance> {
    let seed = std::env::var("THALWEG_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("THALWEG_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut in_starts = 0;
    for kill in 1..=kills {
        let in_start = random.random_ratio(1, 4);
        let after = Duration::from_millis(random.random_range(if in_start { 0..100 } else { 50..600 }));
        let begun = Instant::now();
        let instance = if in_start { launch.spawn(&[])? } else { launch.start(&[]).await? };
        let started = begun.elapsed();
        tokio::time::sleep(after).await;
        instance.kill().await.with_context(|| format!("kill {kill}, THALWEG_SEED={seed}"))?;
        in_starts += u64::from(in_start);
        println!("kill {kill}: started in {started:?}, killed {after:?} later, in the start: {in_start}");
    }
    println!("{kills} kills, {in_starts} of them in a start");
    launch.start(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing_of_the_generator() -> Result<()> {
    let kills = set("THALWEG_KILLS", 12)?;
    // The clicks last longer than the kills, or the kills would prove little.
    let shop = Paced::since(Duration::from_secs(8), 41, RATE as f64, RATE * (8 + kills * 3 / 2))?;
    let place = Place::folder(&shop.script()?, &FLAGS)?;
    let instance = kill_again_and_again(&place.launch, kills).await?;
    let before = instance.number("SELECT count(*) FROM public.archive").await?;
    let oracle = shop.oracle()?;
    println!("{before} of {} clicks were read when the kills ended", oracle.rows);
    ensure!(before < oracle.rows, "all clicks were read before the last kill");
    oracle.finish(instance, &place.data).await?;
    // Once more, from what a clean stop left.
    oracle.check_to_the_end(&place.launch, &place.data).await
}

const TOPIC: &str = "killed";
const PARTITIONS: i32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_and_double_nothing_of_kafka() -> Result<()> {
    let kills = set("THALWEG_KILLS", 12)?;
    let kafka = Kafka::shared()?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap).set("linger.ms", "5");
    // The oracle knows which click is at which offset; a batch that is sent again must not be overtaken by the next.
    config.set("enable.idempotence", "true");
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    // The records are dated in 2025, long past a broker's default.
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
    }
    let connector = format!(
        "connector = 'kafka', brokers = '{}', topic = '{TOPIC}', format = 'json', start = 'earliest'",
        kafka.bootstrap
    );
    let place = Place::folder(&script(&connector), &FLAGS)?;
    let enough = Arc::new(AtomicBool::new(false));
    let producing = tokio::task::spawn_blocking({
        let (producer, enough) = (config.create()?, Arc::clone(&enough));
        move || produce(&producer, &enough)
    });
    let killed = kill_again_and_again(&place.launch, kills).await;
    enough.store(true, Ordering::Relaxed);
    let oracle = producing.await??;
    println!("{} clicks were produced meanwhile", oracle.rows);
    oracle.finish(killed?, &place.data).await?;
    oracle.check_to_the_end(&place.launch, &place.data).await
}

/// Produces until it is enough, and then one record in each partition that lets every window before it close. Event
/// time runs ten times as fast as the wall, so that windows of every size close under the kills.
fn produce(producer: &BaseProducer, enough: &AtomicBool) -> Result<Oracle> {
    let clicks = Clicks::new(42, PARTITIONS, Some(RATE as f64 / 10.0), None);
    let begun = Instant::now();
    let mut count = 0;
    let mut bytes = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_millis() as u64 * RATE / 1000 / PARTITIONS as u64) as i64;
        for offset in count..due {
            for partition in 0..PARTITIONS {
                bytes.clear();
                clicks.write(PartitionId(partition), offset, &mut bytes);
                send(producer, partition, &bytes, clicks.arrival(PartitionId(partition), offset))?;
            }
        }
        count = due;
        producer.poll(Duration::from_millis(5));
    }
    let end = (clicks.arrival(PartitionId(0), count) / MINUTE + 60) * MINUTE;
    let time = arrow::temporal_conversions::timestamp_us_to_datetime(end).context("no such time")?;
    let time = time.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let mut partitions = Vec::new();
    for partition in 0..PARTITIONS {
        let last = format!(
            "{{\"event_id\":\"last-{partition}\",\"event_type\":\"page_view\",\"event_ts\":\"{time}\",\"session_id\":\"s\",\
             \"product_id\":\"p\",\"price\":1.0,\"quantity\":1,\"country\":\"DE\"}}"
        );
        send(producer, partition, last.as_bytes(), end)?;
        let mut all = lines(&clicks, partition, count);
        all.extend_from_slice(last.as_bytes());
        partitions.push(Cursor::new(all));
    }
    producer.flush(Duration::from_secs(30))?;
    // The watermark stands five seconds before the last event.
    Oracle::of(partitions, Some(end - MINUTE))
}

fn send(producer: &BaseProducer, partition: i32, payload: &[u8], arrival: i64) -> Result<()> {
    let record = BaseRecord::<[u8], [u8]>::to(TOPIC).partition(partition).payload(payload);
    producer.send(record.timestamp(arrival / 1000)).map_err(|(error, _)| error)?;
    Ok(())
}
