//! All tables' shares of an epoch: what came to each from the views that it reads, how far its legs have come, and its
//! closing on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};

use crate::checkpoint::manifest::TableKind;
use crate::checkpoint::{EpochFile, FileNames};
use crate::ids::{Epoch, Micros};
use crate::job::chain;
use crate::job::coordinator::{Coordinator, micros};
use crate::job::epoch::{Closed, Roll, TableEpoch, Whole};
use crate::job::fed::Fed;
use crate::job::refused::{RefusedRows, RefusedTable};
use crate::job::runs::Places;
use crate::job::shared::{Table, Tables};
use crate::memory::Purpose;
use crate::spec::{Input, Leg, Unit, ViewShape, ViewSpec};
use crate::view::compact::compacted;
use crate::view::part::Part;
use crate::{Error, Result};

/// Tables that are closed at a time. More than there are cores: most of it may be waiting for a file to be durable.
const CLOSING: usize = 16;

/// What one table is to do when an epoch closes.
struct TableShare {
    name: String,
    /// How far its legs have come.
    through: Option<Micros>,
    fed: Fed,
}

/// What an epoch makes of all tables.
#[derive(Default)]
pub struct AllClosed {
    pub changed: Vec<Closed>,
    /// By name up to where each has closed, those of which nothing else is to be said among them.
    pub through: BTreeMap<String, Option<Micros>>,
}

impl AllClosed {
    fn rows_of(&self, name: &str) -> &[RecordBatch] {
        self.changed.iter().find(|table| table.spec.name == name).map_or(&[], |table| &table.rows)
    }
}

/// The epoch that closes.
pub(super) struct Closing {
    pub epoch: Epoch,
    pub wall: Micros,
    pub file: Arc<EpochFile>,
    pub emptied: Arc<BTreeSet<String>>,
    pub spilled: Arc<Places>,
    pub roll: Roll,
}

impl Coordinator {
    /// Closes what the epoch closes, step by step: what views close is an input of those that read them.
    pub(super) async fn close_tables(
        &mut self,
        closing: &Closing,
        frontiers: &BTreeMap<String, Option<Micros>>,
    ) -> Result<AllClosed> {
        let steps = chain::steps(&self.shared.lock());
        let mut all = AllClosed::default();
        for step in steps {
            let mut shares = vec![];
            for name in step {
                let share = self.share_of(name, frontiers, &all);
                let tables = self.shared.lock();
                let table = &tables.tables[&share.name];
                let through = match table.failure {
                    Some(_) => table.panes.closed_through,
                    None => table.panes.closed_with(share.through),
                };
                if !(share.fed.is_empty() && table.is_still(closing, through)) {
                    shares.push(share);
                } else {
                    all.through.insert(share.name, through);
                }
            }
            let shares = shares.into_iter().map(|share| self.close_table(share, closing));
            let closed: Vec<Closed> = stream::iter(shares).buffered(CLOSING).try_collect().await?;
            self.tell_refused(closing.epoch, &closed)?;
            for table in closed {
                all.through.insert(table.spec.name.clone(), table.closed_through);
                all.changed.push(table);
            }
        }
        Ok(all)
    }

    /// What came to a table from other views in this epoch, and how far its legs have come.
    fn share_of(
        &mut self,
        name: String,
        frontiers: &BTreeMap<String, Option<Micros>>,
        done: &AllClosed,
    ) -> TableShare {
        let mut fed = self.backfill.remove(&name).unwrap_or_default();
        let tables = self.shared.lock();
        let spec = &tables.tables[&name].spec;
        let (lateness, hold) = (spec.shape.allowed_lateness(), spec.shape.hold());
        let mut through = vec![];
        for (leg, Leg { input, .. }) in spec.legs.iter().enumerate() {
            through.push(match input {
                Input::Stream(stream) => {
                    let frontier = frontiers.get(stream).copied().flatten();
                    frontier.map(|frontier| frontier.saturating_sub(lateness))
                }
                Input::View(input) => {
                    fed.add(leg, done.rows_of(&input.name).iter().cloned());
                    input.frontier(done.through.get(&input.name).copied().flatten())
                }
            });
        }
        let through = through.into_iter().min().flatten().map(|through| through.saturating_sub(hold));
        // One that has ended, or is silent, has time behind it in which nothing can have grown old.
        let through = match &spec.shape {
            ViewShape::Units { unit: Unit::Ever(_), .. } => through.min(newest(&tables, spec)),
            _ => through,
        };
        TableShare { name, through, fed }
    }

    /// Rows of views that views could not take join the table of ours that is closed last.
    fn tell_refused(&self, epoch: Epoch, done: &[Closed]) -> Result<()> {
        let tables = &mut self.shared.lock();
        for table in done {
            let mut rows = RefusedRows::default();
            table.refused.iter().for_each(|row| rows.push(row.clone()));
            let input = table.spec.inputs().join(", ");
            if let Some(batch) = rows.take(&input)? {
                let part = Part::of_one_pane(0, 0, compacted(batch)?);
                tables.file(&RefusedTable::RejectedRecords.spec_name(), epoch, Arc::new(vec![part]));
            }
        }
        Ok(())
    }

    /// When closed rows become Parquet in this epoch.
    pub(super) fn roll(&self, leaving: bool) -> Roll {
        let memory = self.shared.memory();
        // Where closed rows take more than their share, none wait any longer.
        let much = memory.held(Purpose::Tails) > memory.shares().tails;
        let bytes = if much { 0 } else { self.settings.roll_bytes };
        Roll { bytes, age: micros(self.settings.roll), now: leaving }
    }

    /// On a thread where computing keeps nobody from being served.
    async fn close_table(
        &self,
        TableShare { name, through, fed }: TableShare,
        closing: &Closing,
    ) -> Result<Closed> {
        let (whole, is_read) = {
            let tables = self.shared.lock();
            // The ended epoch's ledger was taken when it was checked; what is left is of epochs after it.
            let since = tables.ledger.values().map(|ledger| ledger.view(&name));
            let is_read = tables.tables.values().any(|table| table.spec.reads(&name));
            (Whole::of(&tables.tables[&name], since), is_read)
        };
        let memory = Arc::clone(self.shared.memory());
        let needs = whole.needs(&closing.roll, closing.wall, memory.shares().piece);
        let _in_lane = self.shared.lane().enter(needs).await;
        let made = memory.hold(Purpose::Closing, 0);
        let share = TableEpoch {
            root: self.root.clone(),
            names: FileNames::new(whole.spec.id, closing.epoch, self.nonce),
            file: Arc::clone(&closing.file),
            emptied: Arc::clone(&closing.emptied),
            spilled: Arc::clone(&closing.spilled),
            epoch: closing.epoch,
            wall: closing.wall,
            roll: closing.roll,
            room: self.shared.room(&name, closing.wall),
            memory,
            made,
            is_read,
            early: vec![],
        };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(share.close(whole, through, fed)))
            .await
            .map_err(|error| Error::Internal(format!("closing a table panicked. table={name:?}, {error}")))?
    }
}

impl Table {
    /// Whether an epoch leaves it as the newest manifest has it, but for how far it has closed: nothing came, nothing leaves,
    /// and nothing is due. What all has closed up to is known from the streams.
    fn is_still(&self, closing: &Closing, closed: Option<Micros>) -> bool {
        let nothing_comes = !self.panes.has_filed(closing.epoch);
        let nothing_leaves = closed.is_none_or(|closed| !self.panes.leave_at(closed));
        let nothing_is_due = !closing.roll.is_due(&self.tail, closing.wall)
            && !self.told.is_due(&self.spec, closing.wall, closing.roll.now);
        let emptied = || {
            let written = self.written.iter().flat_map(|written| written.state_files());
            !closing.emptied.is_empty() && written.into_iter().any(|it| closing.emptied.contains(&it.path))
        };
        let spills = || {
            let sections = || self.panes.runs().iter().flat_map(|run| &run.sections);
            !closing.spilled.is_empty() && sections().any(|it| closing.spilled.contains(&it.place()))
        };
        nothing_comes && nothing_leaves && nothing_is_due && self.is_as_written() && !emptied() && !spills()
    }

    fn is_as_written(&self) -> bool {
        let Some(written) = &self.written else { return false };
        let same_kind = match &written.kind {
            TableKind::View { sql, fingerprint, born_after, closed_through, late, failed, .. } => {
                *sql == self.spec.sql
                    && *fingerprint == self.spec.fingerprint
                    && *born_after == self.panes.born_after
                    && *closed_through <= self.panes.closed_through
                    && (*late, *failed) == (self.late, self.failed)
            }
            TableKind::RejectedRecords | TableKind::LateRows => true,
        };
        let waits = self.waits.is_some();
        same_kind
            && written.id == self.spec.id
            && written.delta == self.delta
            && written.tail.len() == self.tail.files.len()
            && (waits || written.failure == self.failure && written.runs.len() == self.panes.runs().len())
    }
}

/// The newest row of any partition below a view: what watermarks make of silence, or of an end, is no age.
fn newest(tables: &Tables, spec: &ViewSpec) -> Option<Micros> {
    let below = spec.legs.iter().map(|leg| match &leg.input {
        Input::Stream(stream) => {
            let partitions =
                tables.streams.get(stream).into_iter().flat_map(|stream| stream.partitions.values());
            partitions.filter_map(|partition| partition.time.event_time_max).max()
        }
        Input::View(view) => tables.tables.get(&view.name).and_then(|read| newest(tables, &read.spec)),
    });
    below.max().flatten()
}
