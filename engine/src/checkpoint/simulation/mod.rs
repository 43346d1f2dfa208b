//! The protocol of a commit under crashes, zombies and a faulty store, over the code that runs in production.
//!
//! One instance runs at a time, and any operation on the store may stop it. Then the scheduler kills it, leaves it
//! asleep and starts a successor, wakes an older one, or lets it go on. After every stop the whole world is looked at:
//! what Delta holds, read from the text of its log, and what the newest manifest stands for, make up each row read so
//! far exactly once (INV-C3).

mod instance;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_faulty_store::{Control, FaultyStore, Mode};
use uuid::Uuid;

use self::instance::{Bug, ROWS, VIEW, numbers, offset, rows_of, run};
use super::data::{DataRoot, Retry};
use super::failpoint::{Failpoints, Step};
use super::log;
use super::names;
use crate::{Error, ErrorKind, Result};

const KILLS_MAX: u32 = 8;

struct World {
    objects: Arc<InMemory>,
    failpoints: Failpoints,
}

struct Instance {
    control: Arc<Control>,
    work: Pin<Box<dyn Future<Output = Result<()>>>>,
}

enum Turn {
    Stopped,
    Ended(Result<()>),
}

impl Instance {
    fn start(world: &World, seed: u64, number: u32, bug: Bug) -> Instance {
        let control = Control::new(40);
        let own_seed = seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number));
        let store = FaultyStore::new(Arc::<InMemory>::clone(&world.objects), Arc::clone(&control), own_seed);
        let root = root(Arc::new(store)).with_failpoints(world.failpoints.clone());
        let nonce = Uuid::from_u128(u128::from(number) + 1);
        Instance { control, work: Box::pin(run(root, own_seed, nonce, bug)) }
    }

    async fn turn(&mut self) -> Turn {
        self.control.set(Mode::Running);
        tokio::select! {
            biased;
            () = self.control.stopped() => Turn::Stopped,
            result = &mut self.work => Turn::Ended(result),
        }
    }
}

/// What is dropped is dead: a library's threads that wait for its operations get an error.
impl Drop for Instance {
    fn drop(&mut self) {
        self.control.set(Mode::Dead);
    }
}

fn root(store: Arc<dyn ObjectStore>) -> DataRoot {
    let at_once = Retry { first: Duration::ZERO, max: Duration::ZERO, stalled: Duration::MAX };
    let mut root = DataRoot::over(store, url::Url::parse("memory:///").unwrap()).with_retry(at_once);
    // The library writes one on threads that block, and whoever stops operations would wait for them.
    root.lake_log.versions_a_checkpoint = 100;
    root
}

/// Kills and zombies of the run, or what went wrong.
async fn simulate(seed: u64, bug: Bug, failpoints: &Failpoints) -> std::result::Result<u32, String> {
    let world = World { objects: Arc::new(InMemory::new()), failpoints: failpoints.clone() };
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut started, mut kills) = (1, 0);
    let mut live = Instance::start(&world, seed, 0, bug);
    let mut zombies: Vec<Instance> = Vec::new();
    loop {
        let ended = match live.turn().await {
            Turn::Ended(Ok(())) => break,
            Turn::Ended(Err(error)) => Some(expected(error)?),
            Turn::Stopped => None,
        };
        check(&world.objects).await?;
        if kills >= KILLS_MAX {
            live.control.never_stop_again();
        }
        if started > 200 {
            return Err(format!(
                "{started} instances, and the work is not done; the last ended with {ended:?}"
            ));
        }
        let restart = ended.is_some() || (kills < KILLS_MAX && rng.random_bool(0.4));
        if restart {
            kills += 1;
            let successor = Instance::start(&world, seed, started, bug);
            started += 1;
            let old = std::mem::replace(&mut live, successor);
            if ended.is_none() && rng.random_bool(0.6) {
                zombies.push(old);
            }
        }
        if !zombies.is_empty() && rng.random_bool(0.4) {
            let at = rng.random_range(0..zombies.len());
            if let Turn::Ended(result) = zombies[at].turn().await {
                result.map_or_else(expected, Ok)?;
                zombies.swap_remove(at);
            }
            check(&world.objects).await?;
        }
    }
    for mut zombie in zombies {
        zombie.control.never_stop_again();
        if let Turn::Ended(result) = zombie.turn().await {
            result.map_or_else(expected, Ok)?;
        }
        check(&world.objects).await?;
    }
    let (rows, _) = delta_rows(&world.objects).await?;
    match rows.iter().copied().eq(0..ROWS) {
        true => Ok(kills),
        false => Err(format!("at the end Delta holds {rows:?}")),
    }
}

/// An instance may end fenced, or give up on a store that does not answer; nothing else.
fn expected(error: Error) -> std::result::Result<(), String> {
    match error.kind() {
        ErrorKind::Fenced | ErrorKind::Unavailable => Ok(()),
        _ => Err(format!("an instance ended with {error:?}")),
    }
}

async fn check(world: &Arc<InMemory>) -> std::result::Result<(), String> {
    let (delta, txn) = delta_rows(world).await?;
    if let Some(twice) = delta.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("row {} is twice in Delta: {delta:?}", twice[0]));
    }
    let Some(path) = listed(world, "manifests").await.pop() else { return Ok(()) };
    let clean = root(Arc::clone(world) as Arc<dyn ObjectStore>);
    let epoch = names::manifest_epoch(path.rsplit('/').next().unwrap_or_default()).unwrap();
    let manifest = log::read(&clean, epoch).await.map_err(|error| error.to_string())?.manifest;
    let mut seen = rows_of(&clean, &manifest).await.map_err(|error| format!("{path}: {error}"))?;
    for pending in manifest.tables[0].delta.pending.iter().filter(|pending| Some(pending.txn.0) > txn) {
        for file in &pending.files {
            seen.extend(parquet_rows(world, &file.path).await?);
        }
    }
    seen.extend(&delta);
    seen.sort_unstable();
    match seen.iter().copied().eq(0..offset(&manifest)) {
        true => Ok(()),
        false => Err(format!("{path} and Delta make up {seen:?}, not 0..{}", offset(&manifest))),
    }
}

/// Rows in ascending order, and the newest `txn`, by the text of the log alone.
async fn delta_rows(world: &Arc<InMemory>) -> std::result::Result<(Vec<i64>, Option<u64>), String> {
    let (mut files, mut txn) = (BTreeSet::new(), None);
    let log = listed(world, "tables/v/_delta_log").await;
    for path in log.into_iter().filter(|path| path.ends_with(".json")) {
        let text = read(world, &path).await;
        for line in std::str::from_utf8(&text).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["remove"]["path"].as_str() {
                files.remove(path);
            }
            if let Some(path) = action["add"]["path"].as_str()
                && !files.insert(path.to_string())
            {
                return Err(format!("{path} was added twice"));
            }
            if action["txn"]["appId"] == VIEW.to_string() {
                let version = action["txn"]["version"].as_u64();
                if version <= txn {
                    return Err(format!("txn {version:?} follows {txn:?}"));
                }
                txn = version;
            }
        }
    }
    let mut rows = Vec::new();
    for file in files {
        rows.extend(parquet_rows(world, &file).await?);
    }
    rows.sort_unstable();
    Ok((rows, txn))
}

async fn parquet_rows(world: &Arc<InMemory>, path: &str) -> std::result::Result<Vec<i64>, String> {
    let path = Path::from(format!("tables/v/{path}"));
    let bytes = world.get(&path).await.map_err(|error| error.to_string())?.bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    Ok(reader.flat_map(|batch| numbers(&batch.unwrap())).collect())
}

async fn listed(world: &Arc<InMemory>, folder: &str) -> Vec<String> {
    let folder = Path::from(folder);
    let paths = world.list(Some(&folder)).map_ok(|meta| meta.location.to_string());
    let mut paths: Vec<String> = paths.try_collect().await.unwrap();
    paths.sort();
    paths
}

async fn read(world: &Arc<InMemory>, path: &str) -> bytes::Bytes {
    world.get(&Path::from(path)).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn rows_are_never_lost_or_doubled() {
    let mut kills = 0;
    let failpoints = Failpoints::counting();
    for seed in 0..150 {
        kills += simulate(seed, Bug::None, &failpoints)
            .await
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    assert!(kills > 150, "too few kills to mean anything: {kills}");
    // Those of the whole job are for the tests of the whole job.
    let elsewhere = [&[Step::OwnerTaken, Step::Published][..], &Step::OF_SINKS].concat();
    for (step, hits) in failpoints.hits() {
        assert!(hits > 100 || elsewhere.contains(&step), "step {step} was reached {hits} times");
    }
}

#[tokio::test]
async fn a_seed_replays() {
    for seed in [3, 14, 159] {
        let (first, second) = (Failpoints::counting(), Failpoints::counting());
        let kills = simulate(seed, Bug::None, &first).await;
        assert_eq!(kills, simulate(seed, Bug::None, &second).await);
        assert_eq!(first.hits(), second.hits(), "seed {seed}");
    }
}

/// A check that finds nothing wrong with a wrong protocol is none.
async fn is_found(bug: Bug) {
    for seed in 0..100 {
        if simulate(seed, bug, &Failpoints::default()).await.is_err() {
            return;
        }
    }
    panic!("{bug:?} went unnoticed");
}

#[tokio::test]
async fn a_roll_confirmed_early_is_found() {
    is_found(Bug::ConfirmedEarly).await;
}

#[tokio::test]
async fn a_dropped_tail_is_found() {
    is_found(Bug::TailDropped).await;
}

#[tokio::test]
async fn delta_before_the_manifest_is_found() {
    is_found(Bug::DeltaBeforeManifest).await;
}

#[tokio::test]
async fn names_shared_by_instances_that_do_not_claim_are_found() {
    is_found(Bug::NoClaimAndSharedNames).await;
}
