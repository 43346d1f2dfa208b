//! What a reader knows of the engine: its catalog, planned again, and the snapshots that it was told of.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use thalweg_engine::collect::Collector;
use thalweg_engine::job::CatalogEntry;
use thalweg_engine::mirror::{self as told, Mirror, Told, ToldTable};
use thalweg_engine::snapshot::Snapshot;
use thalweg_engine::spec::{CatalogChange, KeptStatement, LookupSpec, StreamSpec, ViewShape, ViewSpec};
use thalweg_engine::status::Status;
use thalweg_sql::plan;
use thalweg_sql::session::{Database, Engine, Seen};
use tokio::sync::watch;
use uuid::Uuid;

use crate::frame::Frame;
use crate::ipc;
use crate::message::{Catalog, Control, Entry};

/// Views that have been dropped are still named by snapshots of just before.
#[derive(Default)]
pub struct Planned {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    streams: Vec<Arc<StreamSpec>>,
    tables: Vec<Arc<LookupSpec>>,
    kept: Vec<Arc<KeptStatement>>,
    views: BTreeMap<Uuid, View>,
    before: BTreeMap<Uuid, View>,
    catalog: Catalog,
    /// How many there have been.
    catalogs: u64,
    /// Streams and tables are those of the catalog.
    is_planned: bool,
}

#[derive(Clone)]
struct View {
    spec: Arc<ViewSpec>,
    /// It is planned as the engine has planned it, so what is open of it can be read.
    is_same: bool,
    was_tried: bool,
}

impl Planned {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `columns` are those of the views, which are not planned before somebody asks for what they have open.
    fn take(&self, catalog: Catalog, columns: Vec<SchemaRef>) {
        let mut state = self.state();
        let mut views = BTreeMap::new();
        for (entry, columns) in catalog.views.iter().zip(columns) {
            let known = state.views.get(&entry.id).cloned();
            let of_columns =
                || View { spec: Arc::new(closed_alone(entry, columns)), is_same: false, was_tried: false };
            views.insert(entry.id, known.unwrap_or_else(of_columns));
        }
        state.before = std::mem::replace(&mut state.views, views);
        let kept = |it: &Entry| KeptStatement { id: it.id, name: it.name.clone(), sql: it.sql.clone() };
        state.kept = catalog.kept.iter().map(kept).map(Arc::new).collect();
        state.catalog = catalog;
        state.catalogs += 1;
        state.is_planned = false;
    }

    /// How many catalogs there have been: as long as it stays the same, names mean the same.
    pub fn catalogs(&self) -> u64 {
        self.state().catalogs
    }

    /// Plans the streams and tables of the catalog, and those of the views that are wanted.
    async fn plan(&self, wanted: &BTreeSet<Uuid>) {
        let (catalog, kept, planned) = {
            let state = self.state();
            let is_open = |id: &Uuid| state.views.get(id).is_none_or(|view| view.is_same || view.was_tried);
            if state.is_planned && wanted.iter().all(is_open) {
                return;
            }
            let planned = state.views.values().filter(|view| view.is_same);
            let planned: Vec<_> = planned.map(|view| Arc::clone(&view.spec)).collect();
            let kept: Vec<_> = state.kept.iter().map(|kept| KeptStatement::clone(kept)).collect();
            (state.catalog.clone(), kept, planned)
        };
        let entry = |entry: &Entry| CatalogEntry {
            id: entry.id,
            name: entry.name.clone(),
            sql: entry.sql.clone(),
            inputs: entry.inputs.clone(),
        };
        let entries = |all: &[Entry]| all.iter().map(entry).collect::<Vec<_>>();
        let (streams, tables, replanned) = plan::replan_some(
            &entries(&catalog.streams),
            &entries(&catalog.tables),
            &entries(&catalog.views),
            &kept,
            &planned,
            |id| wanted.contains(&id),
        )
        .await;
        let mut state = self.state();
        for replanned in replanned {
            let Some(view) = state.views.get_mut(&replanned.id) else { continue };
            view.was_tried = true;
            match replanned.spec {
                Ok(spec) if spec.fingerprint == view.spec.fingerprint && spec.schema == view.spec.schema => {
                    (view.spec, view.is_same) = (Arc::new(spec), true);
                }
                Ok(_) => tracing::error!(view = view.spec.name, "a view is planned in another way here"),
                Err(error) => tracing::debug!(view = view.spec.name, error, "a view can't be planned"),
            }
        }
        state.streams = streams.into_iter().map(Arc::new).collect();
        state.tables = tables.into_iter().map(Arc::new).collect();
        state.is_planned = true;
    }
}

/// Of a view that is not planned, or can't be as it was: what it had closed can be read by its columns.
fn closed_alone(entry: &Entry, columns: SchemaRef) -> ViewSpec {
    ViewSpec {
        retention: None,
        lookups: vec![],
        id: entry.id,
        name: entry.name.clone(),
        sql: entry.sql.clone(),
        legs: vec![],
        times: vec![None; columns.fields().len()],
        schema: columns,
        shape: ViewShape::Copy { lowers: vec![] },
        fingerprint: entry.fingerprint.clone(),
    }
}

impl told::Catalog for Planned {
    fn view(&self, id: Uuid) -> Option<Arc<ViewSpec>> {
        let state = self.state();
        state.views.get(&id).or_else(|| state.before.get(&id)).map(|view| Arc::clone(&view.spec))
    }

    fn opens(&self, id: Uuid) -> bool {
        let state = self.state();
        state.views.get(&id).or_else(|| state.before.get(&id)).is_some_and(|view| view.is_same)
    }

    fn lookup(&self, name: &str) -> Option<Arc<LookupSpec>> {
        self.state().tables.iter().find(|table| table.name == name).cloned()
    }
}

/// For names and plain views; tables and facts come with each statement.
#[async_trait]
impl Engine for Planned {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn streams(&self) -> Vec<Arc<StreamSpec>> {
        self.state().streams.clone()
    }

    fn views(&self) -> Vec<Arc<ViewSpec>> {
        self.state().views.values().map(|view| Arc::clone(&view.spec)).collect()
    }

    fn tables(&self) -> Vec<Arc<LookupSpec>> {
        self.state().tables.clone()
    }

    fn kept(&self) -> Vec<Arc<KeptStatement>> {
        self.state().kept.clone()
    }

    fn collector(&self, _: &str) -> thalweg_engine::Result<Collector> {
        Err(thalweg_engine::Error::Internal("a reader takes no events".into()))
    }

    async fn apply(&self, _: CatalogChange) -> thalweg_engine::Result<Option<String>> {
        Err(thalweg_engine::Error::Internal("a reader changes nothing".into()))
    }
}

/// The snapshots that statements may see, by number.
#[derive(Default)]
pub struct Snapshots {
    seen: Mutex<BTreeMap<u64, Result<Seen, String>>>,
    newest: watch::Sender<u64>,
}

impl Snapshots {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<u64, Result<Seen, String>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It may be on its way still.
    pub async fn get(&self, number: u64) -> Result<Seen, String> {
        let mut newest = self.newest.subscribe();
        if newest.wait_for(|newest| *newest >= number).await.is_err() {
            return Err("nothing is told any more".to_owned());
        }
        self.seen().get(&number).cloned().unwrap_or_else(|| Err("it was released already".to_owned()))
    }
}

/// Takes in what the engine tells, in its order.
pub struct Listener {
    pub planned: Arc<Planned>,
    pub snapshots: Arc<Snapshots>,
    pub mirror: Mirror,
    pub database: Database,
    /// By view, as they were seen last: what is the same later is finished already.
    pub last: BTreeMap<String, (ToldTable, Seen)>,
    /// What pieces weigh, which is not refused: statements have so much less.
    pub held: BTreeMap<u64, MemoryReservation>,
    pub memory: Arc<dyn MemoryPool>,
}

impl Listener {
    pub async fn take(&mut self, frame: &Frame) -> io::Result<()> {
        match frame.message()? {
            Control::Catalog(catalog) => {
                let columns = frame.bodies.first().map(ipc::batch).transpose()?;
                let columns = columns.map(|columns| schemas(&columns)).transpose()?.unwrap_or_default();
                self.planned.take(catalog, columns);
                self.planned.plan(&BTreeSet::new()).await;
            }
            Control::Piece { number, head } => {
                let batches = frame.bodies.iter().map(ipc::batch).collect::<io::Result<_>>()?;
                let held = MemoryConsumer::new("open windows").register(&self.memory);
                held.grow(frame.bodies.iter().map(Bytes::len).sum());
                self.held.insert(number, held);
                self.mirror.take(number, head, batches, &*self.planned).map_err(io::Error::other)?;
            }
            Control::Snapshot { number, told } => {
                self.planned.plan(&told.to_plan()).await;
                let seen = self.see(&told);
                self.snapshots.seen().insert(number, seen.map_err(|error| error.to_string()));
                self.snapshots.newest.send_replace(number);
            }
            Control::Release(numbers) => {
                let mut seen = self.snapshots.seen();
                numbers.iter().for_each(|number| _ = seen.remove(number));
            }
            Control::Forget(numbers) => {
                numbers.iter().for_each(|number| _ = self.held.remove(number));
                self.mirror.forget(&numbers);
            }
        }
        Ok(())
    }

    fn see(&mut self, told: &Told) -> thalweg_engine::Result<Seen> {
        let (snapshot, missing) = self.mirror.snapshot(told, &*self.planned)?;
        let mut seen = self.database.seen(&snapshot, &missing);
        self.last.retain(|name, _| told.view(name).is_some());
        for (name, (before, with)) in &self.last {
            if told.view(name) == Some(before) {
                seen.share(with, |other| other == name);
            }
        }
        for (name, table) in told.opened() {
            self.last.insert(name.clone(), (table.clone(), seen.clone()));
        }
        Ok(seen)
    }
}

/// One byte string for each view.
fn schemas(columns: &arrow::array::RecordBatch) -> io::Result<Vec<SchemaRef>> {
    use arrow::array::AsArray;
    let all = columns.column(0).as_binary::<i32>();
    all.iter().map(|bytes| ipc::schema(&bytes::Bytes::copy_from_slice(bytes.unwrap_or_default()))).collect()
}
