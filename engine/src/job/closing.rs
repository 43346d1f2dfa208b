//! All tables' shares of an epoch: what came to each from the views that it reads, how far its legs have come, and its
//! closing on a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use crate::checkpoint::FileNames;
use crate::ids::{Epoch, Micros};
use crate::job::chain;
use crate::job::coordinator::{Coordinator, micros};
use crate::job::epoch::{Closed, Roll, TableEpoch, Whole};
use crate::job::fed::Fed;
use crate::job::refused::{RefusedRows, RefusedTable};
use crate::job::shared::Tables;
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

impl Coordinator {
    /// Closes what the epoch closes, step by step: what views close is an input of those that read them.
    pub(super) async fn close_tables(
        &mut self,
        epoch: Epoch,
        wall: Micros,
        frontiers: &BTreeMap<String, Option<Micros>>,
        stop: bool,
    ) -> Result<Vec<Closed>> {
        let steps = chain::steps(&self.shared.lock());
        let mut done: Vec<Closed> = vec![];
        for step in steps {
            let mut shares = vec![];
            for name in step {
                shares.push(self.share_of(name, frontiers, &done));
            }
            let closing = shares.into_iter().map(|share| self.close_table(share, epoch, wall, stop));
            let closed: Vec<Closed> = stream::iter(closing).buffered(CLOSING).try_collect().await?;
            self.tell_refused(epoch, &closed)?;
            done.extend(closed);
        }
        Ok(done)
    }

    /// What came to a table from other views in this epoch, and how far its legs have come.
    fn share_of(
        &mut self,
        name: String,
        frontiers: &BTreeMap<String, Option<Micros>>,
        done: &[Closed],
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
                Input::View(input) => match done.iter().find(|table| table.spec.name == input.name) {
                    Some(read) => {
                        fed.add(leg, read.rows.iter().cloned());
                        input.frontier(read.closed_through)
                    }
                    None => None,
                },
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

    /// On a thread where computing keeps nobody from being served.
    async fn close_table(
        &self,
        TableShare { name, through, fed }: TableShare,
        epoch: Epoch,
        wall: Micros,
        stop: bool,
    ) -> Result<Closed> {
        let whole = {
            let tables = self.shared.lock();
            // The ended epoch's ledger was taken when it was checked; what is left is of epochs after it.
            let since = tables.ledger.values().map(|ledger| ledger.view(&name));
            Whole::of(&tables.tables[&name], since)
        };
        let memory = Arc::clone(self.shared.memory());
        let shares = memory.shares();
        // Where closed rows take more than their share, none wait any longer.
        let much = memory.held(Purpose::Tails) > shares.tails;
        let bytes = if much { 0 } else { self.settings.roll_bytes };
        let roll = Roll { bytes, age: micros(self.settings.roll), now: stop };
        let _in_lane = self.shared.lane().enter(whole.needs(&roll, wall, shares.piece)).await;
        let names = FileNames::new(whole.spec.id, epoch, self.nonce);
        let room = self.shared.room(&name, wall);
        let made = memory.hold(Purpose::Closing, 0);
        let share = TableEpoch { root: self.root.clone(), names, epoch, wall, roll, room, memory, made };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(share.close(whole, through, fed)))
            .await
            .map_err(|error| Error::Internal(format!("closing a table panicked. table={name:?}, {error}")))?
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
