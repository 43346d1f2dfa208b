//! What one statement sees: a snapshot of the views and, once somebody asks for it, one of the job's status.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use thalweg_engine::Error;
use thalweg_engine::lookup::Content;
use thalweg_engine::snapshot::{Snapshot, TableSnapshot};
use thalweg_engine::status::Status;
use thalweg_engine::view::{Room, shared_bytes};
use tokio::sync::OnceCell;

use super::stamp;
use crate::session::{Kind, QueryStatus};

/// Of what is open, this much is finished at a time.
const PIECE_BYTES: usize = 32 << 20;

/// Gives the job's status and the running queries when a statement first asks for them.
pub(crate) trait StatusSource: Send + Sync {
    fn status(&self) -> Status;
    fn queries(&self) -> Vec<QueryStatus>;
    fn endpoints(&self) -> Vec<Arc<crate::session::Endpoint>>;
}

/// All tables of one statement at one instant.
pub(crate) struct Pinned {
    pub views: BTreeMap<String, Arc<PinnedTable>>,
    /// `late_rows` and `rejected_records`: tables like a view's, under `system`.
    pub system: BTreeMap<String, Arc<PinnedTable>>,
    /// What tables hold that views look up.
    pub lookups: BTreeMap<String, Arc<Content>>,
    source: Arc<dyn StatusSource>,
    status: OnceLock<Status>,
    queries: OnceLock<Vec<QueryStatus>>,
    endpoints: OnceLock<Vec<Arc<crate::session::Endpoint>>>,
}

/// One table with parts. Its open windows are finished once, however often the statement scans them.
pub(crate) struct PinnedTable {
    pub name: String,
    pub snapshot: Arc<TableSnapshot>,
    /// Names the table's object store within the statement.
    pub store: usize,
    live: OnceCell<Live>,
}

/// Counted as the query's as long as its snapshot is pinned.
struct Live {
    rows: Vec<RecordBatch>,
    _counted: MemoryReservation,
}

impl Pinned {
    pub fn new(snapshot: &Snapshot, source: Arc<dyn StatusSource>) -> Pinned {
        let pin = |(store, (name, table)): (usize, (&String, &Arc<TableSnapshot>))| {
            let pinned =
                PinnedTable { name: name.clone(), snapshot: Arc::clone(table), store, live: OnceCell::new() };
            (name.clone(), Arc::new(pinned))
        };
        let views = snapshot.views.iter().enumerate().map(pin).collect::<BTreeMap<_, _>>();
        let first = views.len();
        let system = snapshot.system.iter().enumerate().map(|(i, entry)| pin((first + i, entry))).collect();
        Pinned {
            views,
            system,
            lookups: snapshot.lookups.clone(),
            source,
            status: OnceLock::new(),
            queries: OnceLock::new(),
            endpoints: OnceLock::new(),
        }
    }

    pub fn status(&self) -> &Status {
        self.status.get_or_init(|| self.source.status())
    }

    pub fn endpoints(&self) -> &[Arc<crate::session::Endpoint>] {
        self.endpoints.get_or_init(|| self.source.endpoints())
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
    /// The provisional rows of the open windows, with the table's schema; what that takes is the query's.
    pub async fn live(&self, pool: &Arc<dyn MemoryPool>) -> Result<&[RecordBatch]> {
        let live = self
            .live
            .get_or_try_init(|| async {
                let counted = MemoryConsumer::new("open windows").register(pool);
                let rows = self.snapshot.live(&Room::of(Arc::clone(pool), PIECE_BYTES)).await;
                let rows = stamp::batches(&self.snapshot.schema, &rows.map_err(of_plan)?)?;
                counted.try_grow(shared_bytes(&rows))?;
                Ok::<_, DataFusionError>(Live { rows, _counted: counted })
            })
            .await?;
        Ok(&live.rows)
    }

    /// Closed rows that are not in Parquet yet.
    pub fn tail(&self) -> Result<Vec<RecordBatch>> {
        self.snapshot.tail.iter().map(|closed| stamp::batch(&self.snapshot.schema, &closed.rows)).collect()
    }
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
