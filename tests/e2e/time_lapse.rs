//! Time passes fast: the whole engine over a store in memory, with a clock that is a second further with each epoch and a
//! source that has a second's clicks for each. What an epoch costs at the end is what it cost at the beginning: requests
//! and bytes, which are counted and asserted, and CPU time and memory, which are told.
//!
//! `THALWEG_LAPSE_EPOCHS` (4,000, a little over an hour) says for how long, 2,592,000 being a month, and
//! `THALWEG_LAPSE_VIEWS` (6) for how many views; of ten, nine get a row only now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use object_store::memory::InMemory;
use thalweg_engine::checkpoint::{DataRoot, Retry};
use thalweg_engine::clock::Clock;
use thalweg_engine::ids::Micros;
use thalweg_engine::job::{Engine, Opened, Settings};
use thalweg_engine::status::StoreRequests;
use thalweg_sql::session::{Answer, Client, Database, Settings as QuerySettings};
use tokio::runtime::Handle;

use crate::settings::set;

const BEGIN: Micros = 1_764_547_200_000_000;
const CLICKS_A_SECOND: u64 = 20;
/// Whoever waits for the next epoch.
const LOOKS_EACH: Duration = Duration::from_micros(100);

/// A second an epoch.
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

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_costs_at_the_end_what_it_cost_at_the_beginning() -> Result<()> {
    let (epochs, views) = (set("THALWEG_LAPSE_EPOCHS", 4_000)?, set("THALWEG_LAPSE_VIEWS", 6)?);
    let clock = Arc::new(Lapse { seconds: AtomicU64::new(0) });
    let at_once = Retry { first: Duration::ZERO, max: Duration::ZERO, stalled: Duration::MAX };
    let root = DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///")?).with_retry(at_once);
    let settings = Settings {
        epoch: Duration::ZERO,
        workers: 1,
        batch_rows: CLICKS_A_SECOND as usize,
        // The next second's clicks wait until this one's are durable.
        filed_bytes_max: 1,
        linger: Duration::ZERO,
        poll: LOOKS_EACH,
        hold: true,
        ..Settings::default()
    };
    let opened = Opened::claim(settings, root, Arc::clone(&clock) as Arc<dyn Clock>).await?;
    let engine = opened.resume(vec![], vec![], vec![]).await?;
    create(&engine, &clock, views).await?;
    engine.begin();
    let first = engine.epoch().0;
    let mut spans = vec![Span::begin(&engine)];
    let step = epochs.div_ceil(8);
    println!(
        "{:>9} {:>6} {:>6} {:>6} {:>6} {:>9} {:>9} {:>8}",
        "epoch", "puts", "gets", "lists", "dels", "bytes", "CPU µs", "MiB"
    );
    loop {
        let epoch = engine.epoch().0 - first;
        clock.seconds.store(epoch, Ordering::Relaxed);
        if epoch >= spans.len() as u64 * step {
            let span = Span::begin(&engine);
            span.since(spans.last().unwrap_or(&span)).tell(epoch);
            if let Some(view) = engine.status().views.iter().find(|view| view.failure.is_some()) {
                bail!("a view has failed: {view:?}");
            }
            spans.push(span);
        }
        if epoch >= epochs {
            break;
        }
        // A timer of the runtime is a millisecond late.
        std::thread::sleep(LOOKS_EACH);
    }
    let read = engine.status().streams[0].records;
    ensure!(read >= epochs * CLICKS_A_SECOND / 2, "only {read} clicks were read: most epochs had none");
    // The first span has what begins; from the second on all is as it will be.
    let (before, after) = (spans[2].since(&spans[1]), spans[spans.len() - 1].since(&spans[spans.len() - 2]));
    for (what, of) in [("requests", (|cost| cost.requests) as fn(&Cost) -> f64), ("bytes", |cost| cost.bytes)]
    {
        let ratio = of(&after) / of(&before);
        println!(
            "{what} an epoch: {:.2} in the second eighth, {:.2} in the last, {ratio:.2} times",
            of(&before),
            of(&after)
        );
        ensure!(ratio < 1.25, "an epoch costs {ratio:.2} times the {what} that it cost at the beginning");
    }
    ensure!(after.requests < 5.0, "an epoch asks {:.1} times of the store", after.requests);
    let status = engine.status();
    let files: Vec<u64> = status.views.iter().map(|view| view.history_files).collect();
    println!("files of the tables: {files:?}, after {} compactions", status.compactions.len());
    ensure!(!status.compactions.is_empty(), "no files became fewer");
    ensure!(files.iter().all(|files| *files < 24), "a table has many files: {files:?}");
    engine.stop().await?;
    Ok(())
}

/// What has been spent by an epoch.
struct Span {
    epoch: u64,
    requests: StoreRequests,
    cpu: Duration,
}

/// Of one epoch, on the average.
struct Cost {
    requests: f64,
    kinds: [f64; 4],
    bytes: f64,
    cpu: Duration,
}

impl Span {
    fn begin(engine: &Engine) -> Span {
        let requests = engine.status().store.requests;
        Span { epoch: engine.epoch().0, requests, cpu: cpu() }
    }

    fn since(&self, before: &Span) -> Cost {
        let epochs = (self.epoch - before.epoch).max(1) as f64;
        let (now, then) = (&self.requests, &before.requests);
        let kinds =
            [now.puts - then.puts, now.gets - then.gets, now.lists - then.lists, now.deletes - then.deletes];
        let kinds = kinds.map(|asked| asked as f64 / epochs);
        Cost {
            requests: kinds.iter().sum(),
            kinds,
            bytes: (now.bytes_put - then.bytes_put) as f64 / epochs,
            cpu: (self.cpu - before.cpu).div_f64(epochs),
        }
    }
}

impl Cost {
    fn tell(&self, epoch: u64) {
        let [puts, gets, lists, deletes] = self.kinds;
        let (bytes, cpu) = (self.bytes, self.cpu.as_micros());
        let resident = resident_mib();
        println!(
            "{epoch:>9} {puts:>6.2} {gets:>6.2} {lists:>6.2} {deletes:>6.2} {bytes:>9.0} {cpu:>9} {resident:>8}"
        );
    }
}

/// One view of ten has rows in each epoch, the others have a few in an hour.
async fn create(engine: &Engine, clock: &Arc<Lapse>, views: u64) -> Result<()> {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let database =
        Database::new(Arc::new(engine.clone()), clock, Handle::current(), QuerySettings::default())?;
    let session = database.session(Client { user: None, name: None });
    let stream = format!(
        "CREATE STREAM clicks (event_id STRING, event_type STRING, event_ts TIMESTAMP(3), session_id STRING,
         WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND)
         WITH (connector = 'generator', rate = '{CLICKS_A_SECOND}', start = '2025-06-01T00:00:00Z', partitions = '2')"
    );
    let mut statements = vec![stream];
    for view in 0..views {
        let (filter, window) = match view % 10 {
            0 => (String::new(), "1 minute"),
            nth => (format!("WHERE event_id LIKE '%{nth}{:02x}'", view % 256), "10 minutes"),
        };
        statements.push(format!(
            "CREATE MATERIALIZED VIEW v{view} AS SELECT window_start, event_type, count(*) AS events,
             count(DISTINCT session_id) AS sessions FROM TUMBLE(clicks, event_ts, INTERVAL '{window}') {filter}
             GROUP BY window_start, event_type"
        ));
    }
    for statement in statements {
        let answer = session.execute(&statement, &[]).await?;
        ensure!(matches!(answer, Answer::Done(_)), "{statement} has rows");
    }
    Ok(())
}

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // A hundred a second, on every Linux that there is.
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let kib = fields.get("VmRSS").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
