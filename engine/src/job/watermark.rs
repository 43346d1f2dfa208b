//! Sets watermarks where a statement says so: after a producer whose clock was wrong has moved them.
//!
//! A worker sets those of its partitions at a barrier, so that each record is judged by one or the other; the frontier
//! follows, and what had closed stays closed:
//!
//! ```text
//! tables: frontier, closed_through ≤ the instant ─► barrier: partitions stand there ─► manifest
//! ```
//! A view's windows that have left are remembered as spans ([`Left`]): none leaves twice (INV-4), and rows that have no
//! other window are late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ids::{CALENDAR, Epoch, Micros, PartitionId};
use crate::job::chain;
use crate::job::coordinator::{Coordinator, Leaving};
use crate::job::shared::Tables;
use crate::spec::Input;
use crate::status::{Change, Intervention};
use crate::view::left::Left;
use crate::{Error, Result};

/// What the workers of a stream are to do at the end of an epoch.
#[derive(Debug, Clone)]
pub struct SetWatermark {
    /// Of one partition, or of all.
    pub partition: Option<PartitionId>,
    pub to: Micros,
    pub ends: Epoch,
}

impl SetWatermark {
    pub fn is_for(&self, partition: PartitionId) -> bool {
        self.partition.is_none_or(|only| only == partition)
    }
}

impl Coordinator {
    pub(super) fn may_set_watermark(
        &self,
        name: &str,
        partition: Option<PartitionId>,
        to: Micros,
    ) -> Result<()> {
        self.stream(name)?;
        let tables = self.shared.lock();
        let stream = &tables.streams[name];
        if stream.spec.event_time.is_none() {
            return Err(Error::Invalid(format!("the stream declares no watermark. stream={name:?}")));
        }
        if stream.failure.is_some() {
            return Err(Error::Invalid(format!(
                "the stream has failed; ALTER STREAM … RESTART has it go on, and then its watermark can be set. stream={name:?}"
            )));
        }
        if let Some(partition) = partition.filter(|it| !stream.partitions.contains_key(it)) {
            let there: Vec<String> = stream.partitions.keys().map(PartitionId::to_string).collect();
            let there = there.join(", ");
            return Err(Error::Invalid(format!(
                "the stream has no such partition. stream={name:?}, partition={partition}, partitions={there}"
            )));
        }
        // Windows that close by a slip of the pen do not open again.
        let seen = stream.partitions.values().filter_map(|it| it.time.event_time_max).max();
        let latest = self.clock.wall().max(seen.unwrap_or(Micros::MIN));
        if !CALENDAR.contains(&to) || to > latest {
            return Err(Error::Invalid(format!(
                "the moment is ahead of the clock and of every event; windows that it closed would not open again. stream={name:?}"
            )));
        }
        Ok(())
    }

    /// Says what it did.
    pub(super) async fn set_watermark(
        &mut self,
        name: &str,
        partition: Option<PartitionId>,
        to: Micros,
    ) -> Result<String> {
        let set = SetWatermark { partition, to, ends: self.epoch };
        let (told, left) = self.turn_back(name, &set);
        let job = self.stream(name)?;
        job.orders.change_plan(|plan| {
            plan.left = left;
            plan.watermark = Some(set);
        });
        let stood = self.barrier(Leaving::Nobody).await?;
        self.commit(stood, false).await?;
        Ok(told)
    }

    /// Before the barrier: a partition that comes back from idleness until then adopts the frontier that is shown.
    fn turn_back(&self, name: &str, set: &SetWatermark) -> (String, BTreeMap<String, Left>) {
        let mut tables = self.shared.lock();
        let tables = &mut *tables;
        let Some(stream) = tables.streams.get_mut(name) else { return Default::default() };
        let frontier = stream.frontier;
        stream.frontier = frontier.map(|frontier| frontier.min(set.to));
        let mut count = 0;
        for (id, known) in stream.partitions.iter_mut().filter(|(id, _)| set.is_for(**id)) {
            let before = known.time.watermark();
            tracing::warn!(
                stream = name, partition = %id, before, after = set.to,
                "a watermark is set by a statement"
            );
            count += 1;
            tables.interventions.push_back(Intervention {
                at: self.clock.wall(),
                stream: name.to_owned(),
                partition: *id,
                change: Change::Watermark { before, after: set.to },
            });
            // No worker has it yet, as it has just been found.
            if known.last_record.is_none() && known.time.event_time_max.is_none() {
                known.time.set(set.to);
            }
        }
        let falls = frontier.is_some_and(|frontier| frontier > set.to);
        if falls {
            set_back(tables, name, set.to);
        }
        let partitions = if count == 1 { "1 partition".into() } else { format!("{count} partitions") };
        let windows = if falls { "; windows that have left stay closed" } else { "" };
        (format!("the watermark of {partitions} was set{windows}"), left_of(tables, name))
    }
}

/// Has the views of a stream, and those that read them, go on from where it is now.
fn set_back(tables: &mut Tables, stream: &str, to: Micros) {
    let mut turned: BTreeSet<String> = BTreeSet::from([stream.to_owned()]);
    for view in chain::steps(tables).concat() {
        let spec = Arc::clone(&tables.tables[&view].spec);
        let lateness = spec.shape.allowed_lateness();
        let back = spec.legs.iter().filter(|leg| turned.contains(leg.input.name()));
        let back = back.filter_map(|leg| match &leg.input {
            Input::Stream(_) => Some(to.saturating_sub(lateness)),
            Input::View(input) => input.frontier(tables.tables.get(&input.name)?.panes.closed_through),
        });
        if let (Some(back), Some(table)) = (back.min(), tables.tables.get_mut(&view)) {
            table.panes.set_back(back.saturating_sub(spec.shape.hold()));
            turned.insert(view);
        }
    }
}

/// By view of a stream: windows that have left although they end behind the watermark.
pub fn left_of(tables: &Tables, stream: &str) -> BTreeMap<String, Left> {
    let of_stream = tables.tables.values().filter(|table| table.spec.reads(stream));
    let left = of_stream.map(|table| (table.spec.name.clone(), table.panes.left_behind()));
    left.filter(|(_, left)| !left.is_empty()).collect()
}
