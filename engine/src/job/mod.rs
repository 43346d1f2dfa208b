//! The running engine: recovery, the coordinator and its workers, and the handle that callers hold.
//!
//! Only this folder starts tasks and threads. Read `coordinator` for the life of an epoch and `worker` for that of a
//! micro-batch.

mod arrival;
mod catalog;
mod chain;
mod cleaner;
mod closing;
mod closings;
mod coordinator;
mod early;
mod epoch;
mod ever;
mod fed;
mod frontier;
mod intake;
mod lake;
mod ledger;
mod lookups;
mod memory;
mod orders;
mod origins;
mod pace;
mod quiet;
mod refused;
mod report;
mod request;
mod resume;
mod retry;
mod running_leg;
mod runs;
mod scout;
mod shared;
mod stream;
mod tables;
mod waits;
mod watermark;
mod worker;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::checkpoint::DataRoot;
use crate::checkpoint::ManifestLog;
use crate::checkpoint::manifest::{Manifest, ManifestKind, StreamState, TableKind, TableState};
use crate::checkpoint::{Orphans, Owner, Watch};
use crate::clock::Clock;
use crate::collect::Collector;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::secrets::Secrets;
use crate::snapshot::Snapshot;
use crate::source::{FilesRoots, Logs};
use crate::spec::{CatalogChange, KeptStatement, LookupSpec, SourceSpec, StreamSpec, ViewSpec};
use crate::status::Status;
use crate::{Error, Result};

pub(crate) use intake::Intake;
pub(crate) use refused::{RefusedRows, system_view};

use coordinator::Command;
use request::Request;
use shared::{Shared, Stream};

/// How the engine runs; data, already checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often an epoch ends.
    pub epoch: Duration,
    /// How long closed rows may wait for Parquet.
    pub roll: Duration,
    /// How many bytes of closed rows may wait for Parquet.
    pub roll_bytes: usize,
    /// The most that the state of one view may weigh in memory.
    pub state_bytes_max: usize,
    /// The most that ingest may hold in memory (docs/decisions/one-budget.md).
    pub memory_bytes: usize,
    /// Where what views have open lies that memory has no room for.
    pub spill: Option<PathBuf>,
    /// How much of it may.
    pub spill_bytes_max: usize,
    /// Parts that wait for their manifest, over all views, before the workers pause. With less room for a state, or less
    /// memory, a share of that: parts that wait are part of it.
    pub filed_bytes_max: usize,
    /// Workers for each stream, at most.
    pub workers: usize,
    /// Rows of one micro-batch, at most: enough to make the plan's fixed cost small, few enough to stay in the cache.
    pub batch_rows: usize,
    /// How long a record may wait for others to share the fixed cost of a micro-batch, at most.
    pub linger: Duration,
    /// How long a worker may sit in its source, or rest, before it looks at its orders.
    pub poll: Duration,
    /// Push aside an owner that seems alive.
    pub take_over: bool,
    /// Read nothing before [`Engine::begin`], so that views can be there before the first record.
    pub hold: bool,
    /// So many files of one date and size become one.
    pub compact_files: usize,
    /// Files that are none of a table any more stay for so long, for readers of older versions.
    pub vacuum: Duration,
    /// How long rows stay in the lake that were refused or late; for ever if nobody says.
    pub refused_retention: Option<Duration>,
    /// Old manifests stay so long that a zombie's next number is still taken.
    pub manifests_kept: usize,
    /// What options of a source may name instead of saying it.
    pub secrets: Secrets,
    /// Where local files may lie that a stream is created over.
    pub files_roots: FilesRoots,
    /// The logs that records are brought into without Kafka.
    pub logs: Logs,
    /// A hook for tests: what views have open beyond so much lies on disk, whatever share of the memory they have.
    pub spill_above: Option<usize>,
    /// A hook for tests: each worker loses what its n-th run of the lower halves made, which the ledger must find.
    pub drop_batch: Option<u64>,
    /// A hook for tests: partitions are read to about this offset, and then no more, so that a crash comes in the middle.
    pub read_until: Option<Offset>,
    /// A hook for the bench: without it, each record goes the decoder's general way.
    pub fast_decoding: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            epoch: Duration::from_secs(1),
            roll: Duration::from_secs(60),
            roll_bytes: 128 << 20,
            state_bytes_max: 1 << 30,
            memory_bytes: 4 << 30,
            spill: None,
            spill_bytes_max: 64 << 30,
            filed_bytes_max: 256 << 20,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            batch_rows: 16 << 10,
            linger: Duration::from_millis(10),
            poll: Duration::from_millis(10),
            take_over: false,
            hold: false,
            compact_files: 8,
            vacuum: Duration::from_secs(7 * 24 * 3600),
            refused_retention: None,
            manifests_kept: 1_000,
            secrets: Secrets::default(),
            files_roots: FilesRoots::default(),
            logs: Logs::default(),
            spill_above: None,
            drop_batch: None,
            read_until: None,
            fast_decoding: true,
        }
    }
}

/// A claimed data root: nothing runs yet. Its caller plans what the manifest names, and resumes.
pub struct Opened {
    settings: Settings,
    root: DataRoot,
    clock: Arc<dyn Clock>,
    owner: Owner,
    log: ManifestLog,
    orphans: Orphans,
    nonce: Uuid,
    manifest: Manifest,
}

/// A view that the manifest names, planned again, or why it can't be.
pub struct Replanned {
    pub id: Uuid,
    pub spec: Result<ViewSpec, String>,
}

/// What the manifest says was created, for planning again.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    pub id: Uuid,
    pub name: String,
    pub sql: String,
    /// The streams and views that a view reads.
    pub inputs: Vec<String>,
}

/// How often one that pushes another aside claims the data, while that one goes on committing.
const CLAIMED_TIMES: u32 = 8;

impl Opened {
    /// Takes the data over: refuses while another instance lives, then commits a claim, which fences whoever was here
    /// before.
    pub async fn claim(settings: Settings, root: DataRoot, clock: Arc<dyn Clock>) -> Result<Opened> {
        #[expect(clippy::disallowed_methods, reason = "the one draw: no two instances may share a nonce")]
        let nonce = Uuid::new_v4();
        let mut owner = Owner::acquire(&root, nonce, clock.wall(), settings.take_over).await?;
        owner.keep(Arc::clone(&clock), Owner::RENEW_EVERY);
        let mut tries = 1..=if settings.take_over { CLAIMED_TIMES } else { 1 };
        let (log, manifest) = loop {
            let (mut log, newest) = ManifestLog::open(root.clone(), nonce, settings.manifests_kept).await?;
            let manifest = Manifest {
                epoch: log.next_epoch(),
                nonce,
                kind: ManifestKind::Claim,
                committed_at: clock.wall(),
                ledger: vec![],
                ..newest.unwrap_or_else(|| Manifest::empty(nonce))
            };
            tries.next();
            match log.commit(manifest.clone()).await {
                Ok(()) => break (log, manifest),
                // Whoever is pushed aside has committed meanwhile, for the last time or once more.
                Err(Error::Fenced(_)) if !tries.is_empty() => {}
                Err(error) => return Err(error),
            }
        };
        let orphans = log.orphans();
        Ok(Opened { settings, root, clock, owner, log, orphans, nonce, manifest })
    }

    pub fn streams(&self) -> Vec<CatalogEntry> {
        let entry = |stream: &StreamState| CatalogEntry {
            id: stream.id,
            name: stream.name.clone(),
            sql: stream.sql.clone(),
            inputs: vec![],
        };
        self.manifest.streams.iter().map(entry).collect()
    }

    pub fn kept(&self) -> Vec<KeptStatement> {
        self.manifest.kept.iter().map(|state| state.spec()).collect()
    }

    pub fn views(&self) -> Vec<CatalogEntry> {
        let entry = |table: &Arc<TableState>| match &table.kind {
            TableKind::View { sql, inputs, .. } => Some(CatalogEntry {
                id: table.id,
                name: table.name.clone(),
                sql: sql.clone(),
                inputs: inputs.clone(),
            }),
            TableKind::RejectedRecords | TableKind::LateRows => None,
        };
        self.manifest.tables.iter().filter_map(entry).collect()
    }
}

/// The handle on a running engine.
#[derive(Clone)]
pub struct Engine {
    settings: Settings,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    store: Arc<Watch>,
    commands: mpsc::Sender<Command>,
    outcome: watch::Receiver<Option<Result<()>>>,
}

impl Engine {
    /// Every table at this instant.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot()
    }

    /// Tells, a moment after, that rows have come or an epoch has become durable.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes()
    }

    pub fn status(&self) -> Status {
        Status { store: self.store.status(), ..report::status(&self.shared.lock()) }
    }

    /// The newest that is durable.
    pub fn epoch(&self) -> Epoch {
        self.shared.lock().epoch
    }

    /// How long the store has left something unanswered by now.
    pub fn store_wait(&self) -> Duration {
        self.store.longest_wait()
    }

    /// What comes next in each partition of a stream: all before it is in every snapshot from now on.
    pub fn positions(&self, stream: &str) -> Vec<(PartitionId, Offset)> {
        let tables = self.shared.lock();
        let partitions = tables.streams.get(stream).into_iter().flat_map(|stream| &stream.partitions);
        partitions.map(|(id, partition)| (*id, partition.next_offset)).collect()
    }

    pub fn streams(&self) -> Vec<Arc<StreamSpec>> {
        self.shared.lock().streams.values().map(|stream| Arc::clone(&stream.spec)).collect()
    }

    pub fn stream(&self, name: &str) -> Option<Arc<StreamSpec>> {
        self.shared.lock().streams.get(name).map(|stream| Arc::clone(&stream.spec))
    }

    pub fn lookups(&self) -> Vec<Arc<LookupSpec>> {
        self.shared.lock().lookups.values().map(|lookup| Arc::clone(&lookup.spec)).collect()
    }

    pub fn views(&self) -> Vec<Arc<ViewSpec>> {
        let tables = self.shared.lock();
        let views = tables.tables.values().filter(|table| !table.spec.is_system());
        views.map(|table| Arc::clone(&table.spec)).collect()
    }

    /// For whoever brings records into a stream.
    pub fn collector(&self, stream: &str) -> Result<Collector> {
        let spec = self.stream(stream);
        let spec =
            spec.ok_or_else(|| Error::Invalid(format!("there is no such stream. stream={stream:?}")))?;
        Collector::new(spec, &self.settings.secrets, &self.settings.logs, Arc::clone(&self.clock))
    }

    /// Streams into which records may wait that an earlier run has taken.
    pub fn spooled(&self) -> Vec<String> {
        let waits = |spec: &Arc<StreamSpec>| {
            matches!(spec.source, SourceSpec::Kafka(_)) && self.settings.logs.has_spool(spec.id)
        };
        self.streams().into_iter().filter(waits).map(|spec| spec.name.clone()).collect()
    }

    /// What a reference stands for: `${env:NAME}`, `${file:NAME}`.
    pub fn secret(&self, reference: &str) -> Result<String> {
        self.settings.secrets.referred(reference)
    }

    pub fn kept(&self) -> Vec<Arc<KeptStatement>> {
        self.shared.lock().kept.values().cloned().collect()
    }

    pub fn kept_as(&self, name: &str) -> Option<Arc<KeptStatement>> {
        self.shared.lock().kept.get(name).cloned()
    }

    /// Lets the workers read, where the settings told them to hold.
    pub fn begin(&self) {
        self.shared.hold(false);
    }

    /// Changes the catalog; durable and in force when it returns. Gives what there is to say about it.
    pub async fn apply(&self, change: CatalogChange) -> Result<Option<String>> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Error::Unavailable("the engine has stopped".into());
        // A source may take long to answer, and commits go on meanwhile.
        let request = Request::of(change, &self.shared, &self.settings, self.clock.wall()).await?;
        let restarted = match &request {
            Request::RestartStream(stream, _) => Some(stream.spec.name.clone()),
            _ => None,
        };
        self.commands.send(Command::Apply(request, reply)).await.map_err(|_| stopped())?;
        let note = answer.await.map_err(|_| stopped())??;
        match restarted {
            Some(stream) => self.reads(&stream).await,
            None => Ok(note),
        }
    }

    /// Waits until a stream that was restarted reads from all of its partitions, or has failed again. What is not known in
    /// time is said.
    async fn reads(&self, stream: &str) -> Result<Option<String>> {
        const WITHIN: Duration = Duration::from_secs(10);
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let known = async {
            // Workers that are held read nothing yet.
            while !self.shared.is_held() {
                match self.shared.lock().streams.get(stream).map(Stream::answers) {
                    None | Some(Ok(true)) => break,
                    Some(Ok(false)) => {}
                    Some(Err(error)) => return Err(error),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(None)
        };
        tokio::time::timeout(WITHIN, known).await.unwrap_or_else(|_| {
            let within = WITHIN.as_secs();
            Ok(Some(format!(
                "after {within} s it is not known whether it reads; see the offsets in system.partitions, and state and reason in \
                 system.streams"
            )))
        })
    }

    /// Ends the running epoch, makes it durable, rolls what there is, and stops.
    pub async fn stop(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).await.is_ok() && answer.await.is_ok() {
            return self.ended().await;
        }
        self.ended().await
    }

    /// Waits until the engine has stopped, by itself or by request.
    pub async fn ended(&self) -> Result<()> {
        let mut outcome = self.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(Error::Internal("the coordinator vanished".into())),
        }
    }
}
