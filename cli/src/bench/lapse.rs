//! Time passes fast: the whole engine over a store in memory, or a folder, with a clock that is a second further with each epoch and a
//! source that has a second's clicks for each. What an epoch costs at the end is what it cost at the beginning: requests
//! and bytes, which are counted and judged, and CPU time and memory, which are told. A month is 2,592,000 epochs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use datafusion::object_store::ObjectStore;
use datafusion::object_store::memory::InMemory;
use futures::{FutureExt, TryStreamExt};
use thalweg_engine::checkpoint::{DataRoot, LakeLog, Retry};
use thalweg_engine::clock::Clock;
use thalweg_engine::ids::Micros;
use thalweg_engine::job::{Engine, Opened, Settings};
use thalweg_engine::status::StoreRequests;
use tokio::runtime::Handle;

use super::usage::{Spent, Usage};
use super::{Arguments, execute};

const BEGIN: Micros = 1_764_547_200_000_000;
const SECONDS_A_DAY: u64 = 86_400;
const CLICKS_A_SECOND: u64 = 20;
/// What a day of it takes on a core of its own. Delta's library goes by the clock of the machine: so what it keeps for a day, or
/// for a week, is kept for about as long here.
const DAY_TAKES: Duration = Duration::from_secs(170);
/// How often whoever waits for the next epoch looks.
const LOOKS_EACH: Duration = Duration::from_micros(100);
/// Of which the first has what begins: from the second on all is as it will be.
const SPANS: u64 = 8;
/// How much dearer an epoch may have become: what is compacted and told comes in bursts.
const DEARER_MOST: f64 = 1.25;
const REQUESTS_MOST: f64 = 5.0;
/// Files of a table beside the one of each day that has closed.
const FILES_OF_TODAY: u64 = 24;

/// A second an epoch.
#[derive(Default)]
struct Lapse {
    seconds: AtomicU64,
}

impl Clock for Lapse {
    fn wall(&self) -> Micros {
        BEGIN + self.elapsed().as_micros() as Micros
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }
}

pub async fn measure(arguments: &Arguments, epochs: u64, queries: &Handle) -> Result<()> {
    let clock = Arc::new(Lapse::default());
    let mut root = match &arguments.data {
        Some(data) => DataRoot::open(data, &Default::default())?,
        None => DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///")?),
    };
    root.lake_log = LakeLog { checkpoints: DAY_TAKES, versions: 7 * DAY_TAKES, ..root.lake_log };
    let (store, in_memory) = (Arc::clone(root.readers()), arguments.data.is_none());
    let engine = start(arguments.views, &clock, root, queries).await?;
    engine.begin();
    let first = engine.epoch().0;
    let mut spans = vec![Span::begin(&engine, &store).await?];
    let step = epochs.div_ceil(SPANS);
    println!("    epoch   puts   gets  lists   dels     bytes    CPU µs      MiB  of the store");
    loop {
        let epoch = engine.epoch().0 - first;
        clock.seconds.store(epoch, Ordering::Relaxed);
        if epoch >= spans.len() as u64 * step {
            let span = Span::begin(&engine, &store).await?;
            span.since(spans.last().unwrap_or(&span)).tell(epoch);
            if let Some(view) = engine.status().views.iter().find(|view| view.failure.is_some()) {
                bail!("a view has failed: {view:?}");
            }
            spans.push(span);
        }
        if epoch >= epochs {
            break;
        }
        if let Some(outcome) = engine.ended().now_or_never() {
            outcome?;
            bail!("the engine stopped");
        }
        // A timer of the runtime is a millisecond late.
        std::thread::sleep(LOOKS_EACH);
    }
    if in_memory {
        println!(
            "what the store holds is of this process, and more than its bytes: --data on a tmpfs tells memory without it"
        );
    }
    judge(&engine, epochs, &spans)?;
    Ok(engine.stop().await?)
}

/// The engine over nothing, with the views, holding.
async fn start(views: usize, clock: &Arc<Lapse>, root: DataRoot, queries: &Handle) -> Result<Engine> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let at_once = Retry { first: Duration::ZERO, max: Duration::ZERO, stalled: Duration::MAX };
    let settings = Settings {
        epoch: Duration::ZERO,
        workers: 1,
        batch_rows: CLICKS_A_SECOND as usize,
        // The next second's clicks wait until this one's are durable.
        filed_bytes_max: 1,
        linger: Duration::ZERO,
        poll: LOOKS_EACH,
        hold: true,
        vacuum: 7 * DAY_TAKES,
        ..Settings::default()
    };
    let opened = Opened::claim(settings, root.with_retry(at_once), Arc::clone(&clock)).await?;
    ensure!(opened.streams().is_empty(), "the data holds tables already; the bench needs an empty place");
    let engine = opened.resume(vec![], vec![], vec![]).await?;
    execute(&engine, clock, statements(views), queries).await?;
    Ok(engine)
}

/// One view of ten has rows in each epoch, the others have a few in an hour.
fn statements(views: usize) -> Vec<String> {
    let stream = format!(
        "CREATE STREAM clicks (event_id STRING, event_type STRING, event_ts TIMESTAMP(3), session_id STRING,
         WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND)
         WITH (connector = 'generator', rate = '{CLICKS_A_SECOND}', start = '2025-06-01T00:00:00Z', partitions = '2')"
    );
    let view = |view: usize| {
        let (filter, window) = match view % 10 {
            0 => (String::new(), "1 minute"),
            nth => (format!("WHERE event_id LIKE '%{nth}{:02x}'", view % 256), "10 minutes"),
        };
        format!(
            "CREATE MATERIALIZED VIEW v{view} AS SELECT window_start, event_type, count(*) AS events,
             count(DISTINCT session_id) AS sessions FROM TUMBLE(clicks, event_ts, INTERVAL '{window}') {filter}
             GROUP BY window_start, event_type"
        )
    };
    std::iter::once(stream).chain((0..views).map(view)).collect()
}

fn judge(engine: &Engine, epochs: u64, spans: &[Span]) -> Result<()> {
    let status = engine.status();
    let read: u64 = status.streams.iter().map(|stream| stream.records).sum();
    ensure!(read >= epochs * CLICKS_A_SECOND / 2, "only {read} clicks were read: most epochs had none");
    let [_, early, before, .., last_but_one, last] = spans else {
        return Err(anyhow!("{epochs} epochs are too few to compare"));
    };
    let (before, after) = (before.since(early), last.since(last_but_one));
    for (what, of) in [
        ("requests", (|cost| cost.requests()) as fn(&Cost) -> f64),
        ("bytes", |cost| cost.bytes),
        ("µs of CPU", |cost| cost.cpu.as_secs_f64() * 1e6),
        ("MiB resident", |cost| cost.resident as f64 / f64::from(1 << 20)),
    ] {
        let (before, after) = (of(&before), of(&after));
        println!(
            "{what}: {before:.2} in the second eighth, {after:.2} in the last, {:.2} times",
            after / before
        );
    }
    for (what, before, after) in
        [("requests", before.requests(), after.requests()), ("bytes", before.bytes, after.bytes)]
    {
        let dearer = after / before;
        ensure!(
            dearer < DEARER_MOST,
            "an epoch costs {dearer:.2} times the {what} that it cost at the beginning"
        );
    }
    let requests = after.requests();
    ensure!(requests < REQUESTS_MOST, "an epoch asks {requests:.1} times of the store");
    let files = status.views.iter().map(|view| view.history_files).max().unwrap_or(0);
    println!("files of a table at most: {files}, after {} compactions", status.compactions.len());
    ensure!(!status.compactions.is_empty(), "no files became fewer");
    ensure!(files < FILES_OF_TODAY + epochs / SECONDS_A_DAY, "a table has {files} files");
    Ok(())
}

/// What has been spent by an epoch.
struct Span {
    epoch: u64,
    requests: StoreRequests,
    usage: Usage,
    resident: u64,
    /// What lies in the store.
    stored: u64,
}

/// Of one epoch, on the average.
struct Cost {
    puts: f64,
    gets: f64,
    lists: f64,
    deletes: f64,
    bytes: f64,
    cpu: Duration,
    resident: u64,
    stored: u64,
}

impl Span {
    async fn begin(engine: &Engine, store: &Arc<dyn ObjectStore>) -> Result<Span> {
        let (epoch, requests, usage) = (engine.epoch().0, engine.status().store.requests, Usage::now());
        let stored = store.list(None).try_fold(0, async |sum, object| Ok(sum + object.size)).await?;
        Ok(Span { epoch, requests, usage, resident: Usage::memory_bytes(), stored })
    }

    fn since(&self, before: &Span) -> Cost {
        let epochs = (self.epoch - before.epoch).max(1) as f64;
        let (now, then) = (&self.requests, &before.requests);
        let Spent { cpu, .. } = before.usage.until(self.usage);
        Cost {
            puts: (now.puts - then.puts) as f64 / epochs,
            gets: (now.gets - then.gets) as f64 / epochs,
            lists: (now.lists - then.lists) as f64 / epochs,
            deletes: (now.deletes - then.deletes) as f64 / epochs,
            bytes: (now.bytes_put - then.bytes_put) as f64 / epochs,
            cpu: cpu.div_f64(epochs),
            resident: self.resident,
            stored: self.stored,
        }
    }
}

impl Cost {
    fn requests(&self) -> f64 {
        self.puts + self.gets + self.lists + self.deletes
    }

    fn tell(&self, epoch: u64) {
        let Cost { puts, gets, lists, deletes, bytes, cpu, resident, stored } = self;
        let (cpu, resident, stored) = (cpu.as_micros(), resident >> 20, stored >> 20);
        println!(
            "{epoch:>9} {puts:>6.2} {gets:>6.2} {lists:>6.2} {deletes:>6.2} {bytes:>9.0} {cpu:>9} {resident:>8} {stored:>13}"
        );
    }
}
