//! The whole engine in this process, with views of every shape, over a store in memory where operations fail before or after
//! their effect, replies are lost, and any operation may stop the instance: then it is killed, or left asleep to wake up
//! beside its successors, or goes on. In the end every closed row is in the lake once.
//!
//! The protocol alone is simulated in the engine's own tests, thousands of times faster. `THALWEG_SIMULATIONS` (3) says how
//! often, `THALWEG_SEED` where to begin.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use thalweg_engine::checkpoint::{DataRoot, Retry};
use thalweg_engine::clock::SystemClock;
use thalweg_engine::job::{Engine, Opened, Replanned, Settings};
use thalweg_engine::source::FilesRoots;
use thalweg_engine::spec::{LookupSpec, StreamSpec, ViewSpec};
use thalweg_engine::{Error, ErrorKind};
use thalweg_faulty_store::{Control, FaultyStore, Mode};
use thalweg_sql::session::{Answer, Client, Database, Settings as QuerySettings};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::settings::set;
use crate::shop::{CONTINENTS, DataCopy, Paced};

/// Of 1,000 operations on the store, so many stop their instance.
const STOPS: u64 = 6;
const KILLS_MAX: u32 = 12;
const ROWS: u64 = 3000;
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_any_shape_is_lost_or_doubled() -> Result<()> {
    let first = set("THALWEG_SEED", rand::rng().random_range(0..1 << 32))?;
    let (mut kills, mut sleepers) = (0, 0);
    for seed in first..first + set("THALWEG_SIMULATIONS", 3)? {
        println!("THALWEG_SEED={seed}");
        let met =
            tokio::time::timeout(WITHIN, simulate(seed)).await.context("it does not come to an end")??;
        println!("{} kills, {} left asleep", met.kills, met.sleepers);
        kills += met.kills;
        sleepers += met.sleepers;
    }
    ensure!(kills > 3 && sleepers > 0, "too little has happened to mean anything");
    Ok(())
}

#[derive(Default)]
struct Met {
    kills: u32,
    sleepers: u32,
}

async fn simulate(seed: u64) -> Result<Met> {
    let world: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let folder = tempfile::TempDir::with_prefix("thalweg-e2e-")?;
    // Long due, so that reading waits for commits alone.
    let shop = Paced::since(Duration::from_secs(86_400), seed, 40.0, ROWS)?;
    let specs = Arc::new(Specs::of(&shop, &world, folder.path()).await?);
    let mut random = StdRng::seed_from_u64(seed);
    let mut met = Met::default();
    let mut live = Instance::start(&world, &specs, seed, 0);
    let mut asleep: Vec<Instance> = vec![];
    for started in 1.. {
        let ended = match live.turn().await? {
            Turn::Ended(Ok(())) => break,
            Turn::Ended(Err(_)) => true,
            Turn::Stopped => false,
        };
        if met.kills + met.sleepers >= KILLS_MAX {
            live.control.never_stop_again();
        }
        if !ended && (met.kills + met.sleepers >= KILLS_MAX || random.random_bool(0.3)) {
            continue;
        }
        let old = std::mem::replace(&mut live, Instance::start(&world, &specs, seed, started));
        if !ended && random.random_bool(0.4) {
            asleep.push(old);
            met.sleepers += 1;
        } else {
            old.kill().await?;
            met.kills += 1;
        }
        if !asleep.is_empty() && random.random_bool(0.5) {
            let at = random.random_range(0..asleep.len());
            if let Turn::Ended(_) = asleep[at].turn().await? {
                asleep.swap_remove(at);
            }
        }
    }
    for mut sleeper in asleep {
        sleeper.control.never_stop_again();
        // An operation may just have been about to stop it.
        while let Turn::Stopped = sleeper.turn().await? {}
    }
    let copy = DataCopy::Bucket { root: root(world), copy: tempfile::TempDir::with_prefix("thalweg-e2e-")? };
    shop.oracle()?.check_delta(&copy.local().await?).await?;
    Ok(met)
}

fn root(store: Arc<dyn ObjectStore>) -> DataRoot {
    let at_once = Retry { first: Duration::ZERO, max: Duration::ZERO, stalled: Duration::MAX };
    DataRoot::over(store, url::Url::parse("memory:///").expect("it is a URL")).with_retry(at_once)
}

/// What runs in each instance: planned once, for planning takes longer than all else here.
struct Specs {
    streams: Vec<StreamSpec>,
    lookups: Vec<LookupSpec>,
    views: Vec<ViewSpec>,
}

impl Specs {
    /// Of the shop's statements, run by an instance that reads nothing and then leaves.
    async fn of(shop: &Paced, world: &Arc<dyn ObjectStore>, folder: &Path) -> Result<Specs> {
        let continents = folder.join("continents.csv");
        std::fs::write(&continents, CONTINENTS)?;
        let script = shop.script()?.replace("continents.csv", continents.to_str().context("it is text")?);
        let clock = Arc::new(SystemClock::new());
        let opened = Opened::claim(settings(true), root(Arc::clone(world)), clock.clone()).await?;
        let engine = opened.resume(vec![], vec![], vec![]).await?;
        let database =
            Database::new(Arc::new(engine.clone()), clock, Handle::current(), QuerySettings::default())?;
        let session = database.session(Client { user: None, name: None });
        for statement in thalweg_sql::parse::statements(&script)? {
            let answer = session.execute(&statement.text, &[]).await?;
            ensure!(matches!(answer, Answer::Done(_)), "{} has rows", statement.text);
        }
        let specs = Specs {
            streams: engine.streams().iter().map(|spec| StreamSpec::clone(spec)).collect(),
            lookups: engine.lookups().iter().map(|spec| LookupSpec::clone(spec)).collect(),
            views: engine.views().iter().map(|spec| ViewSpec::clone(spec)).collect(),
        };
        engine.stop().await?;
        Ok(specs)
    }

    fn replanned(&self) -> Vec<Replanned> {
        self.views.iter().map(|spec| Replanned { id: spec.id, spec: Ok(spec.clone()) }).collect()
    }
}

fn settings(hold: bool) -> Settings {
    Settings {
        epoch: Duration::from_millis(2),
        roll: Duration::from_millis(15),
        workers: 2,
        batch_rows: 40,
        // The next micro-batch waits until this one is durable.
        filed_bytes_max: 1,
        take_over: true,
        manifests_kept: 4,
        compact_files: 2,
        files_roots: FilesRoots::Anywhere,
        hold,
        ..Settings::default()
    }
}

struct Instance {
    control: Arc<Control>,
    work: JoinHandle<Result<(), Error>>,
}

enum Turn {
    Stopped,
    Ended(Result<(), Error>),
}

impl Instance {
    fn start(world: &Arc<dyn ObjectStore>, specs: &Arc<Specs>, seed: u64, number: u64) -> Instance {
        let control = Control::new(STOPS);
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let store = FaultyStore::new(Arc::clone(world), Arc::clone(&control), seed);
        let work = tokio::spawn(run(root(Arc::new(store)), Arc::clone(specs)));
        Instance { control, work }
    }

    async fn turn(&mut self) -> Result<Turn> {
        self.control.set(Mode::Running);
        tokio::select! {
            () = self.control.stopped() => Ok(Turn::Stopped),
            ended = &mut self.work => Ok(Turn::Ended(expected(ended?)?)),
        }
    }

    /// From now on it can do nothing to the world; what is left of it ends by itself.
    async fn kill(self) -> Result<()> {
        self.control.set(Mode::Dead);
        if !self.work.is_finished() {
            _ = self.work.await?;
        }
        Ok(())
    }
}

/// An instance may be fenced, or find a store that does not do what it should; nothing else.
fn expected(ended: Result<(), Error>) -> Result<Result<(), Error>> {
    match ended {
        Err(error) if !matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Unavailable) => {
            bail!("an instance ended with {error:?}")
        }
        ended => Ok(ended),
    }
}

/// Reads all there is, waits until what can close has, and leaves.
async fn run(root: DataRoot, specs: Arc<Specs>) -> Result<(), Error> {
    let opened = Opened::claim(settings(false), root, Arc::new(SystemClock::new())).await?;
    let engine = opened.resume(specs.streams.clone(), specs.lookups.clone(), specs.replanned()).await?;
    let reading = async {
        while !has_ended(&engine) && failure(&engine).is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = reading => engine.stop().await?,
        ended = engine.ended() => ended?,
    }
    // One that woke up may find that files are gone which its successors did not need; but then it has just been fenced.
    failure(&engine).map_or(Ok(()), |reason| Err(Error::BadData(format!("a view has failed: {reason}"))))
}

fn failure(engine: &Engine) -> Option<String> {
    engine.status().views.into_iter().find_map(|view| view.failure).map(|failure| failure.reason)
}

fn has_ended(engine: &Engine) -> bool {
    let status = engine.status();
    !status.partitions.is_empty()
        && status.partitions.iter().all(|partition| partition.ended)
        && status.views.iter().all(|view| view.open_windows == 0)
}
