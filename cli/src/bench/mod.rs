//! `thalweg bench`: how many events a second, at what cost of CPU and memory, and how soon an event can be read.
//!
//! Two views, as a shop would have them, into Delta; the same engine and the same statements that `serve` runs. With
//! `--baseline` the same clicks go through batch DataFusion in the same run, because a figure alone says little on a
//! shared machine.

mod baseline;
mod clicks_file;
mod lapse;
mod latency;
mod producer;
mod stages;
mod topic;
mod usage;
mod views;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use thalweg_engine::checkpoint::DataRoot;
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::job::{Engine, Opened, Settings};
use thalweg_engine::source::FilesRoots;
use thalweg_sql::session::{Answer, Client, Database, Settings as QuerySettings};
use tokio::runtime::Handle;

use crate::threads;
use stages::Threads;
use topic::Topic;
use usage::Usage;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the clicks come from
    #[arg(long, value_enum, default_value_t = Source::Generator)]
    from: Source,

    /// How many clicks
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    rows: u64,

    /// Of the clicks; the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// The file to read, with --from file, or to fill the topic from; written first if it is not there
    #[arg(long, value_name = "FILE", default_value = "bench-clicks.ndjson")]
    file: PathBuf,

    /// The broker, with --from kafka
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    brokers: String,

    /// The topic to read, with --from kafka; created and filled first if it is not there
    #[arg(long, default_value = "clicks")]
    topic: String,

    /// Where Delta tables and checkpoints go; a folder that is removed afterwards if not given
    #[arg(long, value_name = "DIR-or-URL")]
    data: Option<String>,

    /// Workers [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Run the file through batch DataFusion too (with --from file or kafka)
    #[arg(long)]
    baseline: bool,

    /// Read each record the decoder's general way, to see what its fast path is worth
    #[arg(long)]
    general_decoder: bool,

    /// Views: two as a shop would have them, and others
    #[arg(long, value_name = "N", default_value_t = 2)]
    views: usize,

    /// All views are like the first
    #[arg(long)]
    alike: bool,

    /// Instead of these views: the tables and views that the statements of this file create, over the stream clicks
    #[arg(long, value_name = "FILE", conflicts_with_all = ["views", "alike", "baseline", "latency"])]
    sql: Option<PathBuf>,

    /// Instead, with --from kafka: write clicks to a topic of its own at this rate, and tell how long each takes until
    /// it can be read, and until it is durable
    #[arg(long, value_name = "EVENTS/S")]
    latency: Option<f64>,

    /// Instead: so many epochs of a second each, as fast as they go, over a store in memory or --data, and what an epoch
    /// costs on the way: a month is 2592000. One of ten --views has rows in each epoch
    #[arg(long, value_name = "EPOCHS", conflicts_with_all = ["from", "sql", "alike", "baseline", "latency"])]
    lapse: Option<u64>,

    /// Partitions of a topic that is created
    #[arg(long, value_name = "N", default_value_t = 4)]
    partitions: i32,

    /// How long the producer of --latency gathers a batch, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2)]
    producer_linger: u32,

    /// Each click of --latency goes to another partition, as keys spread records, and not all of one batch to one
    #[arg(long)]
    keyed: bool,

    /// Be the process that writes the clicks of --latency
    #[arg(long, hide = true)]
    produce: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Source {
    Generator,
    File,
    Kafka,
}

const COLUMNS: &str = "event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, session_id STRING, \
     product_id STRING, price DOUBLE, quantity INT, country STRING, device STRUCT<type STRING, os STRING>, \
     utm STRUCT<source STRING>, WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND";

pub fn run(arguments: Arguments) -> ExitCode {
    let outcome = run_with_threads(&arguments);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The same threads as those of a server.
fn run_with_threads(arguments: &Arguments) -> Result<()> {
    let threads = workers(arguments).max(2);
    let (engine, queries) = (threads::engine(threads)?, threads::queries(threads)?);
    let outcome = engine.block_on(bench(arguments, queries.handle()));
    queries.shutdown_background();
    outcome
}

async fn bench(arguments: &Arguments, queries: &Handle) -> Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimized; for figures: make bench");
    }
    if let (true, Some(rate)) = (arguments.produce, arguments.latency) {
        return producer::run(arguments, rate);
    }
    if let Some(epochs) = arguments.lapse {
        return lapse::measure(arguments, epochs, queries).await;
    }
    if arguments.latency.is_some() && (arguments.baseline || arguments.from != Source::Kafka) {
        return Err(anyhow!(
            "--latency is of clicks that come through a broker: add --from kafka, without --baseline"
        ));
    }
    if arguments.latency.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) || arguments.partitions < 1 {
        return Err(anyhow!("--latency wants a rate above 0, and --partitions at least 1"));
    }
    if arguments.views == 0 {
        return Err(anyhow!("--views wants at least 1"));
    }
    if arguments.baseline && (arguments.from == Source::Generator || arguments.views != 2 || arguments.alike)
    {
        return Err(anyhow!(
            "--baseline reads a file through the two views; add --from file or --from kafka"
        ));
    }
    let scratch = std::env::temp_dir().join(format!("thalweg-bench-{}", std::process::id()));
    let data = arguments.data.clone().unwrap_or_else(|| scratch.display().to_string());
    let outcome = match arguments.latency {
        Some(rate) => latency::measure(&data, arguments, rate, queries).await,
        None => throughput(&data, arguments, queries).await,
    };
    if arguments.data.is_none() {
        std::fs::remove_dir_all(&scratch).ok();
    }
    outcome
}

async fn throughput(data: &str, arguments: &Arguments, queries: &Handle) -> Result<()> {
    let expected = make_ready(arguments).await?;
    let engine = start(data, arguments, &source_options(arguments)?, queries).await?;
    let (before, threads_before) = (Usage::now(), Threads::now()?);
    engine.begin();
    let records = read_all(&engine, expected).await?;
    let (read, status, threads) = (before.until_now(), engine.status(), Threads::now()?);
    engine.stop().await?;
    let spent = before.until_now();
    println!("{}", spent.line("thalweg", records));
    println!("  peak memory {} MiB", Usage::peak_memory_bytes() >> 20);
    println!("  the workers' time: {}", stages::of_workers(&status, workers(arguments), read.wall));
    println!("  CPU by thread:     {}", threads.since(&threads_before));
    println!("  {}", stages::of_commits(&engine.status()));
    println!("  open when all was read: {}", stages::of_views(&status));
    if arguments.baseline {
        let baseline = baseline::measure(&arguments.file, records).await?;
        let ratio = baseline.cpu.as_secs_f64() / spent.cpu.as_secs_f64();
        println!("events per CPU-second: thalweg has {ratio:.1} times those of batch DataFusion");
    }
    Ok(())
}

/// Writes what is to be read, where it is not there yet. How many records will come, where only that tells the end.
async fn make_ready(arguments: &Arguments) -> Result<Option<u64>> {
    if arguments.from == Source::Generator {
        return Ok(None);
    }
    clicks_file::write_if_absent(&arguments.file, arguments.seed, arguments.rows)?;
    if arguments.from == Source::File {
        return Ok(None);
    }
    let topic = Topic { brokers: &arguments.brokers, name: &arguments.topic };
    Ok(Some(topic.fill_if_empty(&arguments.file, arguments.partitions).await?))
}

fn workers(arguments: &Arguments) -> usize {
    arguments.workers.unwrap_or(Settings::default().workers).max(1)
}

/// The options of the stream, for the `WITH (…)`.
fn source_options(arguments: &Arguments) -> Result<String> {
    Ok(match arguments.from {
        Source::Generator => {
            format!("connector = 'generator', seed = {}, rows = {}", arguments.seed, arguments.rows)
        }
        Source::File => {
            let path = arguments.file.to_str().context("the file's name is not UTF-8")?;
            format!("connector = 'files', path = '{}'", path.replace('\'', "''"))
        }
        Source::Kafka => Topic { brokers: &arguments.brokers, name: &arguments.topic }.options("earliest"),
    })
}

/// The engine with the stream and its views, holding until it is told to begin.
async fn start(data: &str, arguments: &Arguments, options: &str, queries: &Handle) -> Result<Engine> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let defaults = Settings::default();
    let settings = Settings {
        workers: workers(arguments),
        hold: true,
        fast_decoding: !arguments.general_decoder,
        files_roots: FilesRoots::Anywhere,
        ..defaults
    };
    let root = DataRoot::open(data, &Default::default())?;
    let opened = Opened::claim(settings, root, Arc::clone(&clock)).await?;
    if !opened.streams().is_empty() {
        return Err(anyhow!("{data} holds tables already; the bench needs an empty place"));
    }
    let engine = opened.resume(vec![], vec![], vec![]).await?;
    let mut statements = vec![format!("CREATE STREAM clicks ({COLUMNS}) WITH ({options})")];
    match &arguments.sql {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let parsed = thalweg_sql::parse::statements(&text);
            let parsed = parsed.map_err(|error| anyhow!("{}: {error}", file.display()))?;
            statements.extend(parsed.into_iter().map(|statement| statement.text));
        }
        None => {
            let views = views::views(arguments.views, arguments.alike);
            let create =
                |view: &views::View| format!("CREATE MATERIALIZED VIEW {} AS {}", view.name, view.query);
            statements.extend(views.iter().map(create));
        }
    }
    execute(&engine, clock, statements, queries).await?;
    Ok(engine)
}

/// As a client would have them executed.
async fn execute(
    engine: &Engine,
    clock: Arc<dyn Clock>,
    statements: Vec<String>,
    queries: &Handle,
) -> Result<()> {
    let settings = QuerySettings::default();
    let database = Database::new(Arc::new(engine.clone()), clock, queries.clone(), settings)?;
    let session = database.session(Client { user: None, name: Some("bench".into()) });
    for statement in statements {
        match session.execute(&statement, &[]).await.map_err(|error| anyhow!("{error}"))? {
            Answer::Done(_) => {}
            Answer::Rows(_) => return Err(anyhow!("a CREATE answered with rows")),
        }
    }
    Ok(())
}

/// Waits until a bounded source has ended, or the expected records have come; says how many came.
async fn read_all(engine: &Engine, expected: Option<u64>) -> Result<u64> {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        let status = engine.status();
        let records = status.streams.iter().map(|stream| stream.records).sum();
        let done = match expected {
            Some(expected) => records >= expected,
            None => {
                !status.partitions.is_empty() && status.partitions.iter().all(|partition| partition.ended)
            }
        };
        if done {
            return Ok(records);
        }
        if let Some(outcome) = futures::FutureExt::now_or_never(engine.ended()) {
            outcome?;
            return Err(anyhow!("the engine stopped before its source ended"));
        }
    }
}
