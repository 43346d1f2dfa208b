//! What one statement sees: a snapshot of the views and, once somebody asks for it, one of the job's status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::future::BoxFuture;
use thalweg_engine::Error;
use thalweg_engine::lookup::Content;
use thalweg_engine::mirror::{Missing, WantedParts};
use thalweg_engine::snapshot::{Snapshot, TableSnapshot};
use thalweg_engine::status::Status;
use thalweg_engine::view::{Buffers, Only, Room, Take};
use tokio::sync::OnceCell;

use super::stamp;
use crate::session::{DeadLetter, Kind, QueryStatus, SinkStatus};

/// Of what is open, this much is finished at a time.
const PIECE_BYTES: usize = 32 << 20;
/// To find out which groups need no merging, where there is as much.
const ALONE_BYTES: usize = 256 << 20;
/// So many partial rows are finished at once, whatever of them is asked for.
const FEW_ROWS: usize = 16 << 10;

/// Gives the job's status and the running queries when a statement first asks for them.
pub(crate) trait StatusSource: Send + Sync {
    fn status(&self) -> Status;
    fn queries(&self) -> Vec<QueryStatus>;
    fn endpoints(&self) -> Vec<Arc<crate::session::Endpoint>>;
    fn sinks(&self) -> Vec<SinkStatus>;
    fn dead_letters(&self) -> Vec<DeadLetter>;
}

/// All tables of one statement at one instant.
pub(crate) struct Pinned {
    pub views: BTreeMap<String, Arc<PinnedTable>>,
    /// `late_rows` and `rejected_records`: tables like a view's, under `system`.
    pub system: BTreeMap<String, Arc<PinnedTable>>,
    /// What tables hold that views look up.
    pub lookups: BTreeMap<String, Arc<Content>>,
    missing_lookups: BTreeSet<String>,
    /// Tables of `system`, where they were made by another process.
    facts: Option<BTreeMap<String, RecordBatch>>,
    source: Arc<dyn StatusSource>,
    status: OnceLock<Status>,
    queries: OnceLock<Vec<QueryStatus>>,
    endpoints: OnceLock<Vec<Arc<crate::session::Endpoint>>>,
}

/// One table with parts. Its open windows are finished once, however often the statement scans them.
pub(crate) struct PinnedTable {
    pub name: String,
    pub snapshot: Arc<TableSnapshot>,
    /// Names the table's object store.
    pub store: usize,
    /// Nobody may take for empty what was not asked for when the snapshot was told to this process.
    missing: WantedParts,
    /// Of this process: where finished rows are counted that statements share.
    kept: Arc<dyn MemoryPool>,
    /// `None` where there was no room for them.
    live: OnceCell<Option<Live>>,
}

/// Counted as long as its snapshot is pinned.
struct Live {
    rows: Vec<RecordBatch>,
    _counted: MemoryReservation,
}

impl Pinned {
    pub fn new(snapshot: &Snapshot, source: Arc<dyn StatusSource>, kept: &Arc<dyn MemoryPool>) -> Pinned {
        Pinned::of_another(snapshot, &Missing::default(), source, kept)
    }

    /// A snapshot of another process, which has not sent all of it.
    pub fn of_another(
        snapshot: &Snapshot,
        missing: &Missing,
        source: Arc<dyn StatusSource>,
        kept: &Arc<dyn MemoryPool>,
    ) -> Pinned {
        /// So that no two tables are read from one another's store, whichever statements they are of.
        static STORES: AtomicUsize = AtomicUsize::new(0);
        let pin = |(name, table): (&String, &Arc<TableSnapshot>)| {
            let missing =
                WantedParts { open: missing.open.contains(name), closed: missing.closed.contains(name) };
            let store = STORES.fetch_add(1, Ordering::Relaxed);
            let pinned = PinnedTable {
                name: name.clone(),
                snapshot: Arc::clone(table),
                store,
                missing,
                kept: Arc::clone(kept),
                live: OnceCell::new(),
            };
            (name.clone(), Arc::new(pinned))
        };
        Pinned {
            views: snapshot.views.iter().map(pin).collect(),
            system: snapshot.system.iter().map(pin).collect(),
            lookups: snapshot.lookups.clone(),
            missing_lookups: missing.lookups.clone(),
            facts: None,
            source,
            status: OnceLock::new(),
            queries: OnceLock::new(),
            endpoints: OnceLock::new(),
        }
    }

    /// The same tables for one statement.
    pub fn with_facts(&self, facts: BTreeMap<String, RecordBatch>) -> Pinned {
        Pinned { facts: Some(facts), ..self.again() }
    }

    /// The same, with what finished rows another has of tables that are the same.
    pub fn sharing(&self, other: &Pinned, same: impl Fn(&str) -> bool) -> Pinned {
        let shared = |(name, table): (&String, &Arc<PinnedTable>)| {
            let known = other.views.get(name).or_else(|| other.system.get(name)).filter(|_| same(name));
            (name.clone(), Arc::clone(known.unwrap_or(table)))
        };
        Pinned {
            views: self.views.iter().map(shared).collect(),
            system: self.system.iter().map(shared).collect(),
            ..self.again()
        }
    }

    fn again(&self) -> Pinned {
        Pinned {
            views: self.views.clone(),
            system: self.system.clone(),
            lookups: self.lookups.clone(),
            missing_lookups: self.missing_lookups.clone(),
            facts: self.facts.clone(),
            source: Arc::clone(&self.source),
            status: OnceLock::new(),
            queries: OnceLock::new(),
            endpoints: OnceLock::new(),
        }
    }

    /// A table of `system` that another process has made.
    pub fn fact(&self, table: &str) -> Option<Result<RecordBatch>> {
        let facts = self.facts.as_ref()?;
        Some(facts.get(table).cloned().ok_or_else(|| not_sent(table)))
    }

    pub fn lookup(&self, name: &str) -> Option<Result<Arc<Content>>> {
        let content = self.lookups.get(name)?;
        Some(match self.missing_lookups.contains(name) {
            true => Err(not_sent(name)),
            false => Ok(Arc::clone(content)),
        })
    }

    pub fn status(&self) -> &Status {
        self.status.get_or_init(|| self.source.status())
    }

    pub fn endpoints(&self) -> &[Arc<crate::session::Endpoint>] {
        self.endpoints.get_or_init(|| self.source.endpoints())
    }

    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.source.sinks()
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.source.dead_letters()
    }

    pub fn running(&self, kind: Kind) -> Vec<QueryStatus> {
        let all = self.queries.get_or_init(|| self.source.queries());
        all.iter().filter(|query| query.kind == kind).cloned().collect()
    }

    pub fn tables(&self) -> impl Iterator<Item = &Arc<PinnedTable>> {
        self.views.values().chain(self.system.values())
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("views", &self.views.keys()).finish_non_exhaustive()
    }
}

impl PinnedTable {
    /// The provisional rows of the open windows, with the table's schema, finished once for all who ask: by nobody's
    /// memory but what is kept for that. `None` where they are more than is kept, or a few are asked for of many: they are
    /// to be finished as they are read.
    pub async fn live(&self, only: Option<&Only>) -> Result<Option<Vec<RecordBatch>>> {
        if self.missing.open {
            return Err(not_sent(&self.name));
        }
        if only.is_some() && !self.live.initialized() && self.snapshot.open.rows() > FEW_ROWS {
            return Ok(None);
        }
        let live = self.live.get_or_try_init(|| async {
            match self.finished(&self.kept).await {
                Ok(live) => Ok(Some(live)),
                Err(error) if is_for_memory(&error) => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(live.await?.as_ref().map(|live| live.rows.clone()))
    }

    /// Its open rows were to be kept, and there was no room for them.
    pub fn is_too_much(&self) -> bool {
        self.live.get().is_some_and(Option::is_none)
    }

    /// Likewise, all of them, and by the memory of whoever asks.
    pub async fn all_live(&self, pool: &Arc<dyn MemoryPool>) -> Result<Vec<RecordBatch>> {
        Ok(self.finished(pool).await?.rows)
    }

    async fn finished(&self, pool: &Arc<dyn MemoryPool>) -> Result<Live> {
        let counted = MemoryConsumer::new("open windows").register(pool);
        let (mut rows, mut buffers) = (vec![], Buffers::default());
        let mut take = |batch: RecordBatch| {
            let taken = counted.try_grow(buffers.weigh(&batch)).map(|()| rows.push(batch));
            Box::pin(ready(taken.map_err(Error::from))) as BoxFuture<'static, _>
        };
        self.finish_each(None, pool, &mut take).await?;
        Ok(Live { rows, _counted: counted })
    }

    /// By the memory of whoever asks, which is that of a piece: these rows, and maybe others.
    pub async fn finish_each(
        &self,
        only: Option<&Only>,
        pool: &Arc<dyn MemoryPool>,
        take: &mut Take<'_>,
    ) -> Result<()> {
        let mut room = Room::of(Arc::clone(pool), PIECE_BYTES);
        room.alone_bytes = ALONE_BYTES;
        let schema = &self.snapshot.schema;
        let mut stamped = |batch: RecordBatch| match stamp::batch(schema, &batch) {
            Ok(batch) => take(batch),
            Err(error) => Box::pin(ready(Err(Error::from(error)))) as BoxFuture<'static, _>,
        };
        self.snapshot.open.finish_each(only, &room, &mut stamped).await.map_err(of_plan)
    }

    /// Closed rows that are not in Parquet yet.
    pub fn tail(&self) -> Result<Vec<RecordBatch>> {
        if self.missing.closed {
            return Err(not_sent(&self.name));
        }
        self.snapshot.tail.iter().map(|closed| stamp::batch(&self.snapshot.schema, &closed.rows)).collect()
    }
}

fn not_sent(table: &str) -> DataFusionError {
    internal_datafusion_err!("a statement reads what it was not seen to read. table={table}")
}

fn is_for_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// That memory was lacking is to be told apart.
fn of_plan(error: Error) -> DataFusionError {
    match &error {
        Error::Plan(plan) => match plan.find_root() {
            DataFusionError::ResourcesExhausted(text) => DataFusionError::ResourcesExhausted(text.clone()),
            _ => DataFusionError::External(Box::new(error)),
        },
        _ => DataFusionError::External(Box::new(error)),
    }
}

impl fmt::Debug for PinnedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedTable").field("name", &self.name).finish_non_exhaustive()
    }
}
