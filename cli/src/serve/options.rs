//! The flags of `serve` and `demo`, checked once and handed down as finished values.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use thalweg_engine::checkpoint::{Failpoints, Step};
use thalweg_engine::ids::Offset;
use thalweg_engine::job::Settings;
use thalweg_engine::memory::Spill;
use thalweg_engine::secrets::Secrets;
use thalweg_engine::source::{FilesRoots, Spools};
use thalweg_readers::Launch;
use thalweg_sql::plan::values;
use thalweg_web::{HostName, Network};
use url::Url;

use super::memory;
use super::query_options::QueryOptions;
use crate::reader;

/// With less the shares of what passes through would hold up the reading.
const MEMORY_LEAST: usize = 64 << 20;
/// Below the data: what waits for Kafka,
const SPOOL: &str = "spool";
/// and what memory has no room for.
const SPILL: &str = "spill";
/// The stacks of its threads, and what planning takes.
const READER_MEMORY_LEAST: usize = 256 << 20;
/// A statement may stay within one step for seconds: others go on as long as not all threads are at that.
const READER_THREADS_LEAST: usize = 6;
/// What a reader takes that does nothing.
const READER_REST: usize = 96 << 20;

#[derive(clap::Args)]
pub struct ServeArguments {
    /// SQL files to run at the start: CREATE STREAM, CREATE MATERIALIZED VIEW, DROP. What exists already and is the
    /// same is left alone
    #[arg(value_name = "FILE.sql")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub common: Common,
}

#[derive(clap::Args)]
pub struct DemoArguments {
    #[command(flatten)]
    pub common: Common,
}

#[derive(clap::Args)]
pub struct Common {
    /// Where tables and checkpoints live: a folder, or s3://bucket/prefix (credentials and endpoint from AWS_… in the
    /// environment)
    #[arg(long, value_name = "DIR-or-URL", default_value = "demo-data")]
    pub data: String,

    /// Where Flight SQL listens; beyond loopback there is no password yet
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    pub flight: String,

    /// Where HTTP listens: endpoints, metrics, health; beyond loopback there is no password yet [default: nowhere, and
    /// 127.0.0.1:8080 for demo]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,

    /// A proxy before HTTP, an address or a network such as 10.0.0.0/8, whose X-Forwarded-For says who sends; may be given
    /// several times [default: nobody's is believed]
    #[arg(long, value_name = "ADDRESS")]
    pub proxy: Vec<Network>,

    /// A name by which HTTP is asked, as a proxy passes it on in Host; * is any, and may be given several times [default:
    /// localhost and addresses, and any beyond loopback]
    #[arg(long, value_name = "NAME")]
    pub http_host: Vec<HostName>,

    /// How often progress becomes durable
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    pub epoch: Duration,

    /// How long closed rows may wait before they become Parquet
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = values::duration)]
    pub roll: Duration,

    /// How many bytes of closed rows may wait before they become Parquet
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = values::bytes)]
    pub roll_size: usize,

    /// How long files that others were put in place of stay in the lake, for readers of older versions of a table
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = values::duration)]
    vacuum: Duration,

    /// How long rows stay in system.rejected_records and system.late_rows, a day at least [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = days)]
    refused_retention: Option<Duration>,

    /// The most that the state of one view may weigh in memory
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = values::bytes)]
    pub state_max: usize,

    /// The most that ingest may hold in memory: what views have open, rows that wait, closing, files on their way, queues
    /// [default: half of the machine's memory, or of the container's]
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    memory: Option<usize>,

    /// Where what views have open lies that memory has no room for: a fast disk of this machine [default: the folder "spill"
    /// below --data, where that is a folder; else /var/tmp]
    #[arg(long, value_name = "DIR")]
    spill: Option<PathBuf>,

    /// How much may lie there; with 0 nothing does, and a view that memory has no room for fails
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = nothing_or_bytes)]
    spill_max: usize,

    /// Workers for each stream [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// How long a record may wait for others, so that a slow stream does not become one micro-batch for each; where that
    /// is cheap it waits less, and where there is more to read not at all
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = values::duration)]
    linger: Duration,

    /// Where '${file:NAME}' in the options of a stream is looked up
    #[arg(long, value_name = "DIR", default_value = "/run/secrets")]
    pub secrets: PathBuf,

    /// Where events that were taken over HTTP wait while Kafka is away [default: the folder "spool" below --data, where that
    /// is a folder; else nowhere, and then nothing is taken meanwhile]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,

    /// How much of one stream may wait there; then nothing more is taken
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = values::bytes)]
    spool_max: usize,

    /// Streams and tables may be created over local files below this folder, and no others; may be given several times [default: the
    /// folders of the SQL files]
    #[arg(long, value_name = "DIR")]
    pub files_root: Vec<PathBuf>,

    /// Where CREATE SINK … INTO WEBHOOK may post rows to: this address and what lies below it; may be given several times
    /// [default: nowhere]
    #[arg(long, value_name = "URL")]
    pub webhooks: Vec<Url>,

    #[command(flatten)]
    pub queries: QueryOptions,

    /// Push aside an instance that seems to be alive on the same data; it stops at its next commit
    #[arg(long)]
    pub takeover: bool,

    /// For tests: abort the process when a step of the commit is reached for the n-th time
    #[arg(long, hide = true, value_name = "STEP:N")]
    failpoint: Option<String>,

    /// For tests: each worker loses what its n-th run of the views' plans made
    #[arg(long, hide = true, value_name = "N")]
    drop_batch: Option<u64>,

    /// For tests: what views have open beyond so much lies on disk
    #[arg(long, hide = true, value_name = "SIZE", value_parser = nothing_or_bytes)]
    spill_above: Option<usize>,

    /// For tests: rows of a micro-batch, at most
    #[arg(long, hide = true, value_name = "N", default_value_t = Settings::default().batch_rows)]
    batch_rows: usize,

    /// For tests: partitions are read to about this offset, and then no more
    #[arg(long, hide = true, value_name = "OFFSET")]
    read_until: Option<i64>,

    /// For tests: how many files of one date and size become one
    #[arg(long, hide = true, value_name = "N", default_value_t = Settings::default().compact_files)]
    compact_files: usize,

    /// For tests: how many old manifests stay
    #[arg(long, hide = true, value_name = "N", default_value_t = Settings::default().manifests_kept)]
    keep_manifests: usize,
}

impl Common {
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(cores).max(1)
    }

    /// The name where HTTP was told to listen; an address is none.
    pub fn http_name(&self) -> Option<HostName> {
        let (name, _) = self.http.as_deref()?.rsplit_once(':')?;
        name.parse().ok()
    }

    /// `scripts` are the SQL files that were given.
    pub fn settings(&self, scripts: &[PathBuf]) -> Result<Settings> {
        let folders = match self.files_root.as_slice() {
            // A file in / does not open the whole disk.
            [] => scripts.iter().map(|script| folder(script)).filter(|at| at != Path::new("/")).collect(),
            given => given.to_vec(),
        };
        let memory_bytes = self.memory.unwrap_or_else(|| (memory::available() / 2).max(MEMORY_LEAST));
        let posted = |url: &&Url| !matches!(url.scheme(), "http" | "https");
        if let Some(url) = self.webhooks.iter().find(posted) {
            return Err(anyhow!("--webhooks {url}: rows are posted to addresses of http and https"));
        }
        ensure!(memory_bytes >= MEMORY_LEAST, "--memory is at least {} MiB", MEMORY_LEAST >> 20);
        Ok(Settings {
            epoch: self.epoch,
            roll: self.roll,
            roll_bytes: self.roll_size,
            state_bytes_max: self.state_max,
            memory_bytes,
            spill_bytes_max: self.spill_max,
            workers: self.workers(),
            batch_rows: self.batch_rows.max(1),
            linger: self.linger,
            take_over: self.takeover,
            hold: true,
            compact_files: self.compact_files.max(2),
            vacuum: self.vacuum,
            refused_retention: self.refused_retention,
            manifests_kept: self.keep_manifests.max(1),
            spill_above: self.spill_above,
            drop_batch: self.drop_batch,
            read_until: self.read_until.map(Offset),
            secrets: Secrets::new(variables(), Some(self.secrets.clone())),
            files_roots: FilesRoots::below(&folders)?,
            ..Settings::default()
        })
    }

    /// How many processes run queries, and how each is started; none where queries run beside ingest.
    pub fn readers(&self) -> Result<Option<(usize, Launch)>> {
        let count = self.queries.readers();
        let memory_bytes = self.queries.reader_memory(memory::available());
        ensure!(
            memory_bytes >= READER_MEMORY_LEAST,
            "--reader-memory is at least {} MiB",
            READER_MEMORY_LEAST >> 20
        );
        let settings = self.queries.settings();
        // Threads have their stacks, and not all that a plan takes is counted.
        let statements_bytes = memory_bytes.saturating_sub(READER_REST) / 8 * 5;
        let arguments = reader::Arguments {
            data: self.data.clone(),
            parent: std::process::id(),
            threads: settings.parallelism.max(READER_THREADS_LEAST),
            query_memory: settings.query_memory_bytes.min(memory_bytes / 2),
            queries_memory: statements_bytes,
            // What they are made of lies in it too, and of two snapshots where one follows the other.
            open_rows: memory_bytes / 4,
            query_seconds: settings.query_deadline.as_secs().max(1) * 2,
        };
        Ok((count > 0)
            .then(|| Launch { arguments: arguments.line(), memory_bytes, statements_bytes, in_haste: false })
            .map(|launch| (count, launch)))
    }

    /// `data` is the folder of --data, where it is one.
    pub fn spools(&self, data: Option<&Path>) -> Option<Spools> {
        let folder = self.spool.clone().or_else(|| data.map(|data| data.join(SPOOL)))?;
        Some(Spools { folder, bytes_max: self.spool_max as u64 })
    }

    /// Likewise. `/tmp` is memory on many machines.
    pub fn spill(&self, data: Option<&Path>) -> Result<Option<PathBuf>> {
        if self.spill_max == 0 {
            return Ok(None);
        }
        let folder = || data.map_or_else(|| PathBuf::from("/var/tmp"), |data| data.join(SPILL));
        let folder = self.spill.clone().unwrap_or_else(folder);
        match Spill::check(&folder) {
            Ok(()) => Ok(Some(folder)),
            Err(error) if self.spill.is_some() => {
                Err(error).context(format!("--spill {}: no file can be made there", folder.display()))
            }
            Err(error) => {
                tracing::warn!(
                    folder = %folder.display(), %error,
                    "what memory has no room for can't lie on disk, and its view fails: --spill names another folder (--spill-max 0 \
                     says so without this warning)"
                );
                Ok(None)
            }
        }
    }

    pub fn failpoints(&self) -> Result<Failpoints> {
        let Some(text) = &self.failpoint else { return Ok(Failpoints::default()) };
        let (step, hit) = text.split_once(':').ok_or_else(|| anyhow!("--failpoint is STEP:N"))?;
        let step: Step = step.parse().map_err(|error: String| anyhow!(error))?;
        Ok(Failpoints::abort_at(step, hit.parse()?))
    }
}

fn days(text: &str) -> Result<Duration, String> {
    let kept = values::duration(text)?;
    // It goes by dates.
    if kept.as_secs() < 24 * 3600 { Err("it is a day at least, such as 30d".into()) } else { Ok(kept) }
}

fn nothing_or_bytes(text: &str) -> Result<usize, String> {
    if text == "0" { Ok(0) } else { values::bytes(text) }
}

fn folder(script: &Path) -> PathBuf {
    match script.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The environment, as far as it is text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
