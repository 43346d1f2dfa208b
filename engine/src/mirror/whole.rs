//! Puts a snapshot together again of what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use uuid::Uuid;

use super::piece::{Head, ToldFile};
use super::told::{Told, ToldInput, ToldOpen, ToldPanes, ToldTable};
use crate::job::system_view;
use crate::lookup::{Content, Contents};
use crate::sink::{ClosedRows, HistoryFile, HistoryFiles};
use crate::snapshot::{Snapshot, TableSnapshot, Version};
use crate::spec::{LookupSpec, ViewSpec};
use crate::view::arrived::Arrived;
use crate::view::panes::Panes;
use crate::view::part::{PaneRows, Part};
use crate::view::watermark::Observed;
use crate::view::{OpenInput, OpenPanes};
use crate::{Error, Result};

/// What is planned on this side.
pub trait Catalog {
    fn view(&self, id: Uuid) -> Option<Arc<ViewSpec>>;
    /// Whether it is planned as it was there, so that its state means the same.
    fn opens(&self, id: Uuid) -> bool;
    fn lookup(&self, name: &str) -> Option<Arc<LookupSpec>>;
}

/// What a told snapshot does not hold, by the names of tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    pub open: BTreeSet<String>,
    pub closed: BTreeSet<String>,
    pub lookups: BTreeSet<String>,
}

#[derive(Debug)]
enum Kept {
    Part(Part),
    Arrived(Arc<Arrived>),
    Rows(RecordBatch),
    Content(Arc<Content>),
    Files(Arc<Vec<HistoryFile>>),
}

/// What one process has been sent of another's tables.
#[derive(Debug)]
pub struct Mirror {
    store: Arc<dyn ObjectStore>,
    kept: BTreeMap<u64, Kept>,
    /// Views over what their tables hold, by the numbers of that.
    bound: BTreeMap<Uuid, (BTreeMap<String, u64>, Arc<ViewSpec>)>,
}

impl Mirror {
    /// History is read from `store`.
    pub fn new(store: Arc<dyn ObjectStore>) -> Mirror {
        Mirror { store, kept: BTreeMap::new(), bound: BTreeMap::new() }
    }

    pub fn take(
        &mut self,
        number: u64,
        head: Head,
        batches: Vec<RecordBatch>,
        catalog: &dyn Catalog,
    ) -> Result<()> {
        let mut batches = batches.into_iter();
        let mut next = || batches.next().ok_or_else(|| broken("a piece came without its rows"));
        let kept = match head {
            Head::Part { cut, after, panes } => {
                let panes = panes.into_iter().map(|(start, rows)| PaneRows { start, rows }).collect();
                Kept::Part(Part::new(cut, after, next()?, panes))
            }
            Head::Arrived => {
                let batch = next()?;
                let observed = batches.next().map(|batch| Observed::of_batch(&batch)).transpose()?;
                Kept::Arrived(Arc::new(Arrived { batch, observed }))
            }
            Head::Rows => Kept::Rows(next()?),
            Head::Content { table, version } => {
                let spec = catalog.lookup(&table).ok_or_else(|| broken("a table is not in the catalog"))?;
                Kept::Content(Arc::new(Content::new(next()?, &spec.key, version)?))
            }
            Head::Files(files) => Kept::Files(Arc::new(files.into_iter().map(ToldFile::file).collect())),
        };
        self.kept.insert(number, kept);
        Ok(())
    }

    pub fn forget(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.kept.remove(number);
        }
        let kept = &self.kept;
        self.bound.retain(|_, (contents, _)| contents.values().all(|number| kept.contains_key(number)));
    }

    /// The snapshot, and what of it was not sent.
    pub fn snapshot(&mut self, told: &Told, catalog: &dyn Catalog) -> Result<(Snapshot, Missing)> {
        let mut missing = Missing::default();
        let mut snapshot = Snapshot { epoch: told.epoch, ..Snapshot::default() };
        for (name, table) in &told.views {
            // One that is gone by now, and that nobody wants.
            if table.is_unwanted() && spec(table.view, catalog).is_err() {
                continue;
            }
            let pinned = self.table(name, table, catalog, &mut missing)?;
            snapshot.views.insert(name.clone(), Arc::new(pinned));
        }
        for (name, table) in &told.system {
            let pinned = self.table(name, table, catalog, &mut missing)?;
            snapshot.system.insert(name.clone(), Arc::new(pinned));
        }
        for (name, number) in &told.lookups {
            let spec = catalog.lookup(name).ok_or_else(|| broken("a table is not in the catalog"))?;
            let content = match number {
                Some(number) => self.content(*number)?,
                None => {
                    missing.lookups.insert(name.clone());
                    Arc::new(Content::empty(&spec.schema, &spec.key))
                }
            };
            snapshot.lookups.insert(name.clone(), content);
        }
        Ok((snapshot, missing))
    }

    fn table(
        &mut self,
        name: &str,
        told: &ToldTable,
        catalog: &dyn Catalog,
        missing: &mut Missing,
    ) -> Result<TableSnapshot> {
        let view = spec(told.view, catalog)?;
        let open = match &told.open {
            Some(open) => Arc::new(self.open(open, catalog)?),
            None => {
                missing.open.insert(name.to_owned());
                Arc::default()
            }
        };
        let mut tail = vec![];
        let mut files = Arc::default();
        match &told.closed {
            None => _ = missing.closed.insert(name.to_owned()),
            Some(closed) => {
                for (epoch, number) in &closed.tail {
                    tail.push(ClosedRows { epoch: *epoch, rows: self.rows(*number)? });
                }
                files = match self.kept.get(&closed.files) {
                    Some(Kept::Files(files)) => Arc::clone(files),
                    _ => return Err(broken("the files of a table were not sent")),
                };
            }
        }
        Ok(TableSnapshot {
            schema: Arc::clone(&view.schema),
            version: Version { view: told.view, failed: told.failure.is_some(), ..Version::default() },
            open,
            tail: Arc::new(tail),
            history: Arc::new(HistoryFiles { store: Arc::clone(&self.store), files, is_lost: told.is_lost }),
            failure: told.failure.clone(),
            behind: told.behind.clone(),
        })
    }

    fn open(&mut self, told: &ToldOpen, catalog: &dyn Catalog) -> Result<OpenPanes> {
        let told = match told {
            ToldOpen::Rows(rows) => {
                let rows = rows.iter().map(|number| self.rows(*number)).collect::<Result<_>>()?;
                return Ok(OpenPanes::Rows(rows));
            }
            ToldOpen::Panes(told) => told,
        };
        let view = self.over(told, catalog)?;
        let parts = told.parts.iter().map(|number| match self.kept.get(number) {
            Some(Kept::Part(part)) => Ok(part.clone()),
            _ => Err(broken("a part was not sent")),
        });
        let mut panes = Panes::new(&view, told.born_after);
        panes.restore_open(parts.collect::<Result<_>>()?, told.closed_through, told.left.clone());
        let mut inputs = vec![];
        for input in &told.inputs {
            inputs.push(self.input(input, catalog)?);
        }
        Ok(OpenPanes::Panes { view, panes: Arc::new(panes), inputs })
    }

    fn input(&mut self, told: &ToldInput, catalog: &dyn Catalog) -> Result<OpenInput> {
        match told {
            ToldInput::View(open) => Ok(OpenInput::View(Arc::new(self.open(open, catalog)?))),
            ToldInput::Stream { arrived, first, last } => {
                let arrived = arrived.iter().map(|(epoch, number)| match self.kept.get(number) {
                    Some(Kept::Arrived(arrived)) => Ok((*epoch, Arc::clone(arrived))),
                    _ => Err(broken("rows that arrived were not sent")),
                });
                Ok(OpenInput::Stream {
                    arrived: Arc::new(arrived.collect::<Result<_>>()?),
                    runs: *first..=*last,
                })
            }
        }
    }

    /// The view over what its tables held.
    fn over(&mut self, told: &ToldPanes, catalog: &dyn Catalog) -> Result<Arc<ViewSpec>> {
        let view = spec(told.view, catalog)?;
        if system_view(told.view).is_none() && !catalog.opens(told.view) {
            return Err(broken("the statement of a view is planned in another way than in the engine"));
        }
        if told.contents.is_empty() {
            return Ok(view);
        }
        if let Some((contents, bound)) = self.bound.get(&told.view)
            && *contents == told.contents
        {
            return Ok(Arc::clone(bound));
        }
        let content = |(table, number): (&String, &u64)| Ok((table.clone(), self.content(*number)?));
        let contents = Contents(told.contents.iter().map(content).collect::<Result<_>>()?);
        let bound = Arc::new(contents.of_view(&view)?);
        self.bound.insert(told.view, (told.contents.clone(), Arc::clone(&bound)));
        Ok(bound)
    }

    fn rows(&self, number: u64) -> Result<RecordBatch> {
        match self.kept.get(&number) {
            Some(Kept::Rows(rows)) => Ok(rows.clone()),
            _ => Err(broken("rows were not sent")),
        }
    }

    fn content(&self, number: u64) -> Result<Arc<Content>> {
        match self.kept.get(&number) {
            Some(Kept::Content(content)) => Ok(Arc::clone(content)),
            _ => Err(broken("what a table holds was not sent")),
        }
    }
}

fn spec(id: Uuid, catalog: &dyn Catalog) -> Result<Arc<ViewSpec>> {
    let view = system_view(id).map(Arc::new).or_else(|| catalog.view(id));
    view.ok_or_else(|| broken("a view is not in the catalog"))
}

fn broken(what: &str) -> Error {
    Error::Internal(format!("a snapshot can't be put together: {what}"))
}
