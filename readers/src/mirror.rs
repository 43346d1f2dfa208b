//! What a reader knows of the engine: its catalog, planned again, and the snapshots that it was told of.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
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

#[derive(Default, Clone)]
struct State {
    streams: Vec<Arc<StreamSpec>>,
    tables: Vec<Arc<LookupSpec>>,
    kept: Vec<Arc<KeptStatement>>,
    views: BTreeMap<Uuid, View>,
    before: BTreeMap<Uuid, View>,
}

#[derive(Clone)]
struct View {
    spec: Arc<ViewSpec>,
    /// It is planned as the engine has planned it, so what is open of it can be read.
    is_same: bool,
}

impl Planned {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `columns` are those of the views.
    async fn take(&self, catalog: Catalog, columns: Vec<SchemaRef>) {
        let entry = |entry: &Entry| CatalogEntry {
            id: entry.id,
            name: entry.name.clone(),
            sql: entry.sql.clone(),
            inputs: entry.inputs.clone(),
        };
        let entries = |all: &[Entry]| all.iter().map(entry).collect::<Vec<_>>();
        let kept = |it: &Entry| KeptStatement { id: it.id, name: it.name.clone(), sql: it.sql.clone() };
        let kept: Vec<KeptStatement> = catalog.kept.iter().map(kept).collect();
        let known = self.state().views.clone();
        let stay = catalog.views.iter().filter_map(|entry| known.get(&entry.id));
        let stay: Vec<Arc<ViewSpec>> = stay.map(|view| Arc::clone(&view.spec)).collect();
        let (streams, tables, replanned) = plan::replan_beside(
            &entries(&catalog.streams),
            &entries(&catalog.tables),
            &entries(&catalog.views),
            &kept,
            &stay,
        )
        .await;
        let mut specs: BTreeMap<Uuid, Result<ViewSpec, String>> =
            replanned.into_iter().map(|view| (view.id, view.spec)).collect();
        let mut views = BTreeMap::new();
        for (entry, columns) in catalog.views.iter().zip(columns) {
            let view = match (known.get(&entry.id), specs.remove(&entry.id)) {
                (Some(known), _) => known.clone(),
                (None, Some(Ok(spec))) if spec.fingerprint == entry.fingerprint && spec.schema == columns => {
                    View { spec: Arc::new(spec), is_same: true }
                }
                (None, _) => View { spec: Arc::new(closed_alone(entry, columns)), is_same: false },
            };
            views.insert(entry.id, view);
        }
        let mut state = self.state();
        state.before = std::mem::replace(&mut state.views, views);
        state.streams = streams.into_iter().map(Arc::new).collect();
        state.tables = tables.into_iter().map(Arc::new).collect();
        state.kept = kept.into_iter().map(Arc::new).collect();
    }
}

/// Of a view whose statement can't be planned as it was: what it had closed can be read by its columns.
fn closed_alone(entry: &Entry, columns: SchemaRef) -> ViewSpec {
    ViewSpec {
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
}

impl Listener {
    pub async fn take(&mut self, frame: &Frame) -> io::Result<()> {
        match frame.message()? {
            Control::Catalog(catalog) => {
                let columns = frame.bodies.first().map(ipc::batch).transpose()?;
                let columns = columns.map(|columns| schemas(&columns)).transpose()?.unwrap_or_default();
                self.planned.take(catalog, columns).await;
            }
            Control::Piece { number, head } => {
                let batches = frame.bodies.iter().map(ipc::batch).collect::<io::Result<_>>()?;
                self.mirror.take(number, head, batches, &*self.planned).map_err(io::Error::other)?;
            }
            Control::Snapshot { number, told } => {
                let seen = self.see(&told);
                self.snapshots.seen().insert(number, seen.map_err(|error| error.to_string()));
                self.snapshots.newest.send_replace(number);
            }
            Control::Release(numbers) => {
                let mut seen = self.snapshots.seen();
                numbers.iter().for_each(|number| _ = seen.remove(number));
            }
            Control::Forget(numbers) => self.mirror.forget(&numbers),
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
