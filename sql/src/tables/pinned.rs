//! What one statement sees: a snapshot of the views and, once somebody asks for it, one of the job's status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use thalweg_engine::Error;
use thalweg_engine::lookup::Content;
use thalweg_engine::mirror::{Missing, WantedParts};
use thalweg_engine::snapshot::{Snapshot, TableSnapshot};
use thalweg_engine::status::Status;
use thalweg_engine::view::{Only, Room, shared_bytes};
use tokio::sync::OnceCell;

use super::stamp;
use crate::session::{DeadLetter, Kind, QueryStatus, SinkStatus};

/// Of what is open, this much is finished at a time.
const PIECE_BYTES: usize = 32 << 20;
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
    live: OnceCell<Live>,
}

/// Counted as the query's as long as its snapshot is pinned.
struct Live {
    rows: Vec<RecordBatch>,
    _counted: MemoryReservation,
}

impl Pinned {
    pub fn new(snapshot: &Snapshot, source: Arc<dyn StatusSource>) -> Pinned {
        Pinned::of_another(snapshot, &Missing::default(), source)
    }

    /// A snapshot of another process, which has not sent all of it.
    pub fn of_another(snapshot: &Snapshot, missing: &Missing, source: Arc<dyn StatusSource>) -> Pinned {
        /// So that no two tables are read from one another's store, whichever statements they are of.
        static STORES: AtomicUsize = AtomicUsize::new(0);
        let pin = |(name, table): (&String, &Arc<TableSnapshot>)| {
            let missing =
                WantedParts { open: missing.open.contains(name), closed: missing.closed.contains(name) };
            let store = STORES.fetch_add(1, Ordering::Relaxed);
            let snapshot = Arc::clone(table);
            let pinned = PinnedTable { name: name.clone(), snapshot, store, missing, live: OnceCell::new() };
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
    /// The provisional rows of the open windows, with the table's schema; what that takes is the query's. Where some groups
    /// are asked for, those, and maybe others.
    pub async fn live(&self, only: Option<&Only>, pool: &Arc<dyn MemoryPool>) -> Result<Vec<RecordBatch>> {
        if self.missing.open {
            return Err(not_sent(&self.name));
        }
        // Few are finished once for all who ask; what is finished of many goes with its statement.
        if only.is_some() && !self.live.initialized() && self.snapshot.open.rows() > FEW_ROWS {
            return Ok(self.finished(only, pool).await?.rows);
        }
        let live = self.live.get_or_try_init(|| self.finished(None, pool)).await?;
        Ok(live.rows.clone())
    }

    async fn finished(&self, only: Option<&Only>, pool: &Arc<dyn MemoryPool>) -> Result<Live> {
        let counted = MemoryConsumer::new("open windows").register(pool);
        let rows = self.snapshot.live(only, &Room::of(Arc::clone(pool), PIECE_BYTES)).await;
        let rows = stamp::batches(&self.snapshot.schema, &rows.map_err(of_plan)?)?;
        counted.try_grow(shared_bytes(&rows))?;
        Ok(Live { rows, _counted: counted })
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
