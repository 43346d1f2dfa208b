//! What is of views that never close alone: the lake gets all their rows now and then, and groups leave that have become too
//! old.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};

use crate::Result;
use crate::checkpoint::manifest::{DeltaState, PendingCommit};
use crate::ids::Micros;
use crate::job::epoch::TableEpoch;
use crate::spec::{Ever, Unit, ViewShape, ViewSpec};
use crate::view::Stretch;
use crate::view::ever::without_old;
use crate::view::panes::{Panes, Run};
use crate::view::part::Part;
use crate::view::upper::{WindowPart, reduce};

/// What the lake knows of a view that never closes.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// By the wall's clock, when it was last told all rows in this run of the engine.
    pub at: Option<Micros>,
    /// Since then they may have become others.
    pub stale: bool,
}

impl Told {
    /// Of a view that goes on from what another run left.
    pub const UNKNOWN: Told = Told { at: None, stale: true };

    pub fn with(self, changed: bool) -> Told {
        Told { stale: self.stale || changed, ..self }
    }
}

impl TableEpoch {
    /// Has the lake get all rows of a view that never closes, in place of those that it has.
    pub(super) async fn tell_all(
        &mut self,
        spec: &ViewSpec,
        told: Told,
        runs: &[Arc<Run>],
        delta: &mut DeltaState,
    ) -> Result<Told> {
        let ViewShape::Units { unit: Unit::Ever(Ever { snapshot: Some(every), .. }), cuts, upper, .. } =
            &spec.shape
        else {
            return Ok(told);
        };
        let due = self.roll.now || told.at.is_none_or(|at| self.wall - at >= *every);
        // One that Delta has not been told yet says as much.
        if !due || !told.stale || !delta.pending.is_empty() {
            return Ok(told);
        }
        let parts = runs.iter().flat_map(|run| run.parts.iter()).map(WindowPart::of_itself).collect();
        let rows = self.finish(cuts, upper, &Stretch { parts, within: None }).await?;
        let rows = rows.map(|rows| dated(&rows, self.wall)).transpose()?;
        let files = self.put_rows(spec, rows.into_iter().collect()).await?;
        let previous = delta.confirmed;
        delta.pending.push(PendingCommit { txn: self.epoch, previous, files, replace: true });
        Ok(Told { at: Some(self.wall), stale: false })
    }

    /// One run in place of all where groups of a view that never closes have become too old.
    pub(super) async fn young_runs(
        &mut self,
        panes: &Panes,
        spec: &ViewSpec,
        fresh: &[Part],
        looked_through: Option<Micros>,
    ) -> Result<Option<(Vec<Arc<Run>>, u64)>> {
        let ViewShape::Units { unit: unit @ Unit::Ever(Ever { keep: Some(keep), .. }), cuts, .. } =
            &spec.shape
        else {
            return Ok(None);
        };
        let Some(looked) = looked_through.filter(|_| looked_through > panes.closed_through) else {
            return Ok(None);
        };
        let all: Vec<Part> = panes.durable_and(fresh).into_iter().cloned().collect();
        let merged = reduce(cuts, *unit, &all, &self.room).await?;
        let Some(young) = without_old(cuts, &merged, *keep, looked)? else { return Ok(None) };
        if young.is_empty() {
            return Ok(Some((vec![], 0)));
        }
        let level = panes.runs().iter().map(|run| run.level).max().unwrap_or(0);
        let run = self.merged_run(level, young).await?;
        let written = run.file.bytes;
        Ok(Some((vec![Arc::new(run)], written)))
    }
}

/// Finished rows with an instant for their hidden time: what they are as of then.
fn dated(rows: &RecordBatch, at: Micros) -> Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    let times = TimestampMicrosecondArray::from_value(at, rows.num_rows()).with_timezone("UTC");
    columns.pop();
    columns.push(Arc::new(times));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
