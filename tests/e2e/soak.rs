//! Everything at once: Kafka into a bucket behind a faulty way, kills, outages of the store and of the broker, statements
//! that come and go, records that are refused; then every row exactly once.
//!
//! `THALWEG_SOAK_S` (20) says for how long, `THALWEG_SOAK_RATE` (1000) how many clicks come a second, `THALWEG_SEED` what
//! happens. At the end all clicks and their answers lie in memory: about a gigabyte a million.

use std::collections::BTreeMap;
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
use thalweg_tests::servers::{FaultyWay, Kafka, Minio, Weather};

use crate::instance::Instance;
use crate::place::Place;
use crate::settings::set;
use crate::shop::{Lines, MINUTE, Oracle, script};

const TOPIC: &str = "soak";
const PARTITIONS: i32 = 4;
/// One record in so many has no event time, and becomes no row.
const REFUSED_EACH: i64 = 97;
/// Of a thousand requests.
const FAULTS: u32 = 50;
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn all_that_may_happen_loses_and_doubles_nothing() -> Result<()> {
    let (seconds, rate) = (set("THALWEG_SOAK_S", 20)?, set("THALWEG_SOAK_RATE", 1000)?);
    let seed = set("THALWEG_SEED", rand::rng().random_range(0..1 << 32))?;
    println!("THALWEG_SEED={seed}");
    let kafka = Arc::new(Kafka::start()?);
    let minio = Minio::shared()?;
    let way = FaultyWay::to(&minio.endpoint, seed, Duration::from_secs(2)).await?;
    let config = config(&kafka);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    // The records are dated in 2025, long past a broker's default.
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
    }
    let connector = format!("connector = 'kafka', brokers = '{}', topic = '{TOPIC}'", kafka.bootstrap);
    // At most some hundred files of each day: all are read at the end. And a bucket believes in its dead owner for half a
    // minute.
    let roll = format!("{}s", seconds.div_ceil(600));
    let flags = ["--roll", &roll, "--keep-manifests", "50", "--takeover"];
    let place = Place::bucket_by(&way.endpoint, minio, "soak", &script(&connector), &flags)?;
    let enough = Arc::new(AtomicBool::new(false));
    let producing = tokio::task::spawn_blocking({
        let (producer, enough) = (config.create()?, Arc::clone(&enough));
        move || produce(&producer, rate, &enough)
    });
    way.set(Weather::Rough(FAULTS));
    let mut stirring =
        Stirring { kafka, way, place, random: StdRng::seed_from_u64(seed), views: 0, done: BTreeMap::new() };
    let stirred = stirring.stir(Duration::from_secs(seconds)).await;
    enough.store(true, Ordering::Relaxed);
    let (oracle, refused) = producing.await??;
    let instance = stirred?;
    let Stirring { way, place, done, .. } = stirring;
    oracle.await_end(&instance).await?;
    let rejected = "SELECT coalesce(sum(rejected), 0) FROM system.streams";
    instance.until(rejected, WITHIN, |rejected| rejected == refused).await?;
    let failed = "SELECT count(*) FROM system.views WHERE state = 'failed'";
    ensure!(instance.number(failed).await? == 0, "a view has failed\n{}", instance.logged());
    oracle.finish(instance, &place.data).await?;
    let (requests, faults) = way.counts();
    println!(
        "{} clicks, {refused} records refused, {done:?}, {requests} requests to the store, faults met: {faults:?}; \
         lost 0, doubled 0, wrong 0",
        oracle.rows
    );
    Ok(())
}

fn config(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap).set("linger.ms", "5");
    // The oracle knows which click is at which offset; and a broker that is away is waited for.
    config.set("enable.idempotence", "true").set("message.timeout.ms", "0");
    config.set("queue.buffering.max.messages", "2000000");
    config
}

struct Stirring {
    kafka: Arc<Kafka>,
    way: FaultyWay,
    place: Place,
    random: StdRng,
    views: u32,
    done: BTreeMap<&'static str, u32>,
}

impl Stirring {
    /// Gives the instance that is there in the end.
    async fn stir(&mut self, during: Duration) -> Result<Instance> {
        let begun = Instant::now();
        let mut instance = self.place.launch.start(&[]).await?;
        while begun.elapsed() < during {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(100..2000))).await;
            let what = match self.random.random_range(0..10) {
                0..4 => {
                    instance.kill().await?;
                    if self.random.random_ratio(1, 4) {
                        let starting = self.place.launch.spawn(&[])?;
                        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..300))).await;
                        starting.kill().await?;
                    }
                    instance = self.place.launch.start(&[]).await?;
                    "kills"
                }
                4..6 => {
                    let bad =
                        [Weather::Away, Weather::Silent, Weather::Throttled][self.random.random_range(0..3)];
                    self.way.set(bad);
                    tokio::time::sleep(Duration::from_millis(self.random.random_range(100..4000))).await;
                    self.way.set(Weather::Rough(FAULTS));
                    "outages of the store"
                }
                6 => {
                    self.kafka.stop()?;
                    tokio::time::sleep(Duration::from_millis(self.random.random_range(0..3000))).await;
                    self.kafka.start_again()?;
                    "restarts of the broker"
                }
                _ => {
                    self.statements(&instance).await?;
                    "views made and dropped"
                }
            };
            *self.done.entry(what).or_default() += 1;
        }
        Ok(instance)
    }

    async fn statements(&mut self, instance: &Instance) -> Result<()> {
        self.views += 1;
        let view = format!("passing_{}", self.views);
        let query = match self.views % 3 {
            0 => "SELECT event_id, 100 / (quantity - 1) AS share FROM clicks",
            1 => {
                "SELECT window_start, session_id, max(price) AS most FROM HOP(clicks, event_ts, INTERVAL '2 s', INTERVAL '20 s') GROUP BY window_start, session_id"
            }
            _ => {
                "SELECT window_end, count(DISTINCT product_id) AS products FROM TUMBLE(clicks, event_ts, INTERVAL '30 s') GROUP BY window_end"
            }
        };
        instance.command(&format!("CREATE MATERIALIZED VIEW {view} AS {query}")).await?;
        instance.query(&format!("SELECT count(*) FROM {view}")).await?;
        instance.command(&format!("DROP VIEW {view}")).await
    }
}

/// Clicks of ten times the speed of the wall, those without an event time among them, until it is enough; then one record
/// in each partition that lets every window before it close. Gives how many records are to be refused, too.
fn produce(producer: &BaseProducer, rate: u64, enough: &AtomicBool) -> Result<(Oracle, i64)> {
    let clicks = Arc::new(Clicks::new(47, PARTITIONS, Some(rate as f64 / 10.0), None));
    let begun = Instant::now();
    let (mut count, mut refused, mut line) = (0, 0, Vec::new());
    while !enough.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_millis() as u64 * rate / 1000 / PARTITIONS as u64) as i64;
        for offset in count..due {
            for partition in 0..PARTITIONS {
                line.clear();
                refused += i64::from(write(&clicks, partition, offset, &mut line));
                send(producer, partition, &line, clicks.arrival(PartitionId(partition), offset))?;
            }
        }
        count = due;
        producer.poll(Duration::from_millis(5));
    }
    let end = (clicks.arrival(PartitionId(0), count) / MINUTE + 60) * MINUTE;
    let time = arrow::temporal_conversions::timestamp_us_to_datetime(end).context("no such time")?;
    let time = time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let last = move |partition: i32| {
        format!(
            "{{\"event_id\":\"last-{partition}\",\"event_type\":\"page_view\",\"event_ts\":\"{time}\",\"session_id\":\"s\",\
             \"product_id\":\"p\",\"price\":1.0,\"quantity\":1,\"country\":\"DE\"}}"
        )
    };
    for partition in 0..PARTITIONS {
        send(producer, partition, last(partition).as_bytes(), end)?;
    }
    producer.flush(WITHIN)?;
    let again = (0..PARTITIONS).map(|partition| {
        let (clicks, last) = (Arc::clone(&clicks), last(partition));
        Lines::of(count + 1, move |offset, line| {
            if offset == count {
                line.extend_from_slice(last.as_bytes());
            } else {
                write(&clicks, partition, offset, line);
            }
        })
    });
    // The watermark stands five seconds before the last event.
    Ok((Oracle::of(again.collect(), Some(end - MINUTE))?, refused))
}

/// Writes a record behind what is there; says whether it is one to be refused.
fn write(clicks: &Clicks, partition: i32, offset: i64, to: &mut Vec<u8>) -> bool {
    let to_refuse = offset % REFUSED_EACH == REFUSED_EACH - 1;
    if to_refuse {
        to.extend_from_slice(b"{\"event_id\":\"without a time\"}");
    } else {
        clicks.write(PartitionId(partition), offset, to);
    }
    to_refuse
}

fn send(producer: &BaseProducer, partition: i32, payload: &[u8], arrival: i64) -> Result<()> {
    let record = BaseRecord::<[u8], [u8]>::to(TOPIC).partition(partition).payload(payload);
    producer.send(record.timestamp(arrival / 1000)).map_err(|(error, _)| error)?;
    Ok(())
}
