//! A store that is away, for a moment or for long, costs time and nothing else: faults, outages and kills on the way to a
//! bucket; a local disk without room; no descriptor left.
//!
//! `THALWEG_KILLS` (a dozen, a quarter of which is taken here) says how often the process is killed, `THALWEG_OUTAGE_S` (4)
//! how long the store is away, `THALWEG_SEED` when things go wrong.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use thalweg_tests::servers::{FaultyWay, Minio, Weather};

use crate::instance::Instance;
use crate::place::Place;
use crate::settings::set;
use crate::shop::Paced;

/// A bucket believes in its dead owner for half a minute; and with few manifests there is always something to delete.
const FLAGS: [&str; 5] = ["--roll", "300ms", "--keep-manifests", "4", "--takeover"];
const WITHIN: Duration = Duration::from_secs(90);
const RATE: u64 = 1000;
/// One request in ten.
const ROUGH: Weather = Weather::Rough(100);

const STATE: &str = "SELECT CASE state WHEN 'away' THEN 1 ELSE 0 END FROM system.store";
const EPOCH: &str = "SELECT coalesce(max(epoch), 0) FROM system.checkpoints";
const READ: &str = "SELECT sum(records) FROM system.streams";

fn seed() -> Result<u64> {
    let seed = set("THALWEG_SEED", rand::rng().random_range(0..1 << 32))?;
    println!("THALWEG_SEED={seed}");
    Ok(seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_outages_and_kills_lose_and_double_nothing() -> Result<()> {
    let (kills, outage) = (set("THALWEG_KILLS", 12)?.div_ceil(4), set("THALWEG_OUTAGE_S", 4)?);
    let seed = seed()?;
    let mut random = StdRng::seed_from_u64(seed);
    let minio = Minio::shared()?;
    // Longer than a request waits for its reply would be a matter of minutes.
    let way = FaultyWay::to(&minio.endpoint, seed, Duration::from_secs(2)).await?;
    // Clicks come while anything happens, and not for much longer.
    let outages = [(Weather::Away, outage), (Weather::Silent, outage.min(60))];
    let seconds = 60 + kills * 8 + outages.iter().map(|(_, seconds)| seconds).sum::<u64>();
    let shop = Paced::since(Duration::from_secs(8), 43, RATE as f64, RATE * seconds)?;
    let place = Place::bucket_by(&way.endpoint, minio, "away", &shop.script()?, &FLAGS)?;
    way.set(ROUGH);
    for kill in 1..=kills {
        let in_start = random.random_ratio(1, 4);
        let after = Duration::from_millis(random.random_range(if in_start { 0..300 } else { 100..2000 }));
        let instance = if in_start { place.launch.spawn(&[])? } else { place.launch.start(&[]).await? };
        // Some are killed while the store is away, and some come back to that.
        let weather = [ROUGH, Weather::Away, Weather::Throttled][random.random_range(0..3)];
        way.set(weather);
        tokio::time::sleep(after).await;
        instance.kill().await.with_context(|| format!("kill {kill}"))?;
        println!("kill {kill}: {after:?} later, in {weather:?} weather, in the start: {in_start}");
        way.set(ROUGH);
    }
    let instance = place.launch.start(&[]).await?;
    for (weather, outage) in outages {
        // Behind a long one there is no more room for what comes.
        instance.until(READ, Duration::from_secs(300), |read| read >= shop.due()).await?;
        outlast(&instance, &way, weather, Duration::from_secs(outage)).await?;
    }
    let commits = instance.number(EPOCH).await?;
    shop.oracle()?.finish(instance, &place.data).await?;
    let (requests, met) = way.counts();
    println!("{commits} commits, {requests} requests, faults met: {met:?}");
    ensure!(met.len() == 8, "a fault was never met");
    Ok(())
}

/// An outage under a running instance: it says so, goes on reading and being read, commits nothing, and comes back.
async fn outlast(instance: &Instance, way: &FaultyWay, weather: Weather, outage: Duration) -> Result<()> {
    instance.until(EPOCH, WITHIN, |epoch| epoch > 1).await?;
    way.set(weather);
    let begun = Instant::now();
    instance.until(STATE, WITHIN, |away| away == 1).await?;
    let said_after = begun.elapsed();
    let (epoch, read) = (instance.number(EPOCH).await?, instance.number(READ).await?);
    let now = instance.until(READ, WITHIN, |now| now > read).await?;
    ensure!(instance.number("SELECT count(*) FROM live.archive").await? > 0, "nothing can be read");
    tokio::time::sleep(outage.saturating_sub(begun.elapsed())).await;
    ensure!(instance.number(EPOCH).await? == epoch, "a checkpoint without a store");
    let rows = instance.query("SELECT last_error, retries FROM system.store WHERE since < now()").await?;
    ensure!(rows.len() == 1 && !rows[0][0].is_empty(), "{rows:?}");
    let memory = instance.peak_memory_bytes()? >> 20;
    way.set(ROUGH);
    let back = Instant::now();
    instance.until(STATE, WITHIN, |away| away == 0).await?;
    instance.until(EPOCH, WITHIN, |later| later > epoch + 1).await?;
    println!(
        "{weather:?} for {:?}: said so after {said_after:?}, {} records read meanwhile, {} retries ({}), {memory} MiB at \
         most; two checkpoints {:?} after it was back",
        begun.elapsed(),
        now - read,
        rows[0][1],
        rows[0][0],
        back.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_store_that_is_away() -> Result<()> {
    let minio = Minio::shared()?;
    let way = FaultyWay::to(&minio.endpoint, 1, Duration::ZERO).await?;
    let shop = Paced::since(Duration::from_secs(8), 44, 500.0, 500 * 20)?;
    let place = Place::bucket_by(&way.endpoint, minio, "stopped", &shop.script()?, &FLAGS)?;
    for weather in [Weather::Away, Weather::Silent] {
        let mut instance = place.launch.start(&[]).await?;
        instance.until(EPOCH, WITHIN, |epoch| epoch > 1).await?;
        way.set(weather);
        let begun = Instant::now();
        instance.signal("TERM").await?;
        let status = instance.ended().await?;
        let (took, logged) = (begun.elapsed(), instance.logged());
        ensure!(status.code() == Some(1), "it ended by {status}\n{logged}");
        ensure!(took < Duration::from_secs(10), "it left after {took:?}");
        ensure!(logged.contains("left without a last checkpoint"), "{logged}");
        way.set(Weather::Fair);
    }
    shop.oracle()?.check_to_the_end(&place.launch, &place.data).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_store_that_is_away_and_not_for_one_that_refuses() -> Result<()> {
    let minio = Minio::shared()?;
    let way = FaultyWay::to(&minio.endpoint, 2, Duration::ZERO).await?;
    let shop = Paced::since(Duration::from_secs(8), 45, 500.0, 500 * 9)?;
    let place = Place::bucket_by(&way.endpoint, minio.clone(), "waits", &shop.script()?, &FLAGS)?;
    way.set(Weather::Away);
    let mut early = place.launch.spawn(&[])?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    ensure!(early.logged().contains("the store is away"), "{}", early.logged());
    early.signal("TERM").await?;
    ensure!(early.ended().await?.code() == Some(1), "{}", early.logged());
    ensure!(early.logged().contains("stopped before it had started"), "{}", early.logged());
    let mut patient = place.launch.spawn(&[])?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    way.set(Weather::Fair);
    patient.await_address().await?;

    let mut refused = place.launch.clone();
    refused.environment.push(("AWS_SECRET_ACCESS_KEY".into(), "wrong".into()));
    let mut elsewhere = place.launch.clone();
    elsewhere.data = "s3://no-such-bucket/x".into();
    for (launch, said) in [(refused, "SignatureDoesNotMatch"), (elsewhere, "NoSuchBucket")] {
        let begun = Instant::now();
        let mut instance = launch.spawn(&[])?;
        let status = instance.ended().await?;
        let logged = instance.logged();
        ensure!(status.code() == Some(1), "it ended by {status}\n{logged}");
        ensure!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
        ensure!(logged.contains("the store refuses this data") && logged.contains(said), "{logged}");
    }
    shop.oracle()?.finish(patient, &place.data).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_halts_and_resumes() -> Result<()> {
    // No file may grow, as on a full disk; without the trap that is a signal instead of an error.
    starve("trap '' XFSZ", "--fsize=0:unlimited", "--fsize=unlimited", "File too large").await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_left_halts_and_resumes() -> Result<()> {
    starve(":", "--nofile=3:4096", "--nofile=4096", "Too many open files").await
}

/// Takes something away from a running instance twice, and gives it back.
async fn starve(through: &'static str, take: &str, give: &str, said: &str) -> Result<()> {
    let shop = Paced::since(Duration::from_secs(8), 46, 500.0, 500 * 40)?;
    let mut place = Place::folder(&shop.script()?, &["--roll", "300ms"])?;
    place.launch.through = Some(through);
    let mut instance = place.launch.start(&[]).await?;
    for _ in 0..2 {
        instance.until(EPOCH, WITHIN, |epoch| epoch > 1).await?;
        instance.limit(take).await?;
        instance.until(STATE, WITHIN, |away| away == 1).await?;
        let (epoch, read) = (instance.number(EPOCH).await?, instance.number(READ).await?);
        instance.until(READ, WITHIN, |now| now > read).await?;
        let error = instance.query("SELECT last_error FROM system.store").await?;
        ensure!(error[0][0].contains(said), "{error:?}");
        ensure!(instance.number(EPOCH).await? == epoch, "a checkpoint without a store");
        // Whoever connects now is not let in where there is no descriptor, and is afterwards.
        let early = tokio::net::TcpStream::connect(instance.address()).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        instance.limit(give).await?;
        drop(early);
        instance.connect().await?;
        instance.until(STATE, WITHIN, |away| away == 0).await?;
        instance.until(EPOCH, WITHIN, |later| later > epoch + 1).await?;
    }
    shop.oracle()?.finish(instance, &place.data).await
}
