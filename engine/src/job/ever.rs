//! What the lake gets of views that never close: all their rows, now and then.

use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};

use crate::Result;
use crate::checkpoint::manifest::{DeltaState, PendingCommit};
use crate::ids::Micros;
use crate::job::epoch::TableEpoch;
use crate::sink::ClosedRows;
use crate::spec::{Ever, Unit, ViewShape, ViewSpec};
use crate::view::Stretch;
use crate::view::run::Run;
use crate::view::session;

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

    /// Whether the lake is to be told all rows of a view now, or before it leaves.
    pub fn is_due(self, spec: &ViewSpec, wall: Micros, leaving: bool) -> bool {
        let ViewShape::Units { unit: Unit::Ever(Ever { snapshot: Some(every), .. }), .. } = &spec.shape
        else {
            return false;
        };
        self.stale && (leaving || self.at.is_none_or(|at| !(0..*every).contains(&(wall - at))))
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
        let ViewShape::Units { unit, cuts, upper, .. } = &spec.shape else { return Ok(told) };
        // One that Delta has not been told yet says as much, but for what came last: there is no later one for that.
        let leaving = self.roll.now;
        if !told.is_due(spec, self.wall, leaving) || !(leaving || delta.pending.is_empty()) {
            return Ok(told);
        }
        let parts = session::of_ever(*unit, cuts, runs.iter().flat_map(|run| run.parts()).collect())?;
        let rows = match self.finish(cuts, upper, &Stretch::of(parts)).await {
            // As a reader would, who may read again when it is another number that is divided by.
            Err(error) if !error.is_of_store() => {
                tracing::warn!(view = spec.name, %error, "the lake is told nothing now of a view that can't be read now");
                return Ok(Told { at: Some(self.wall), ..told });
            }
            rows => rows?,
        };
        let rows = rows.map(|rows| dated(&rows, self.wall)).transpose()?;
        let rows = rows.map(|rows| ClosedRows { epoch: self.epoch, rows });
        let files = self.put_rows(spec, rows.into_iter().collect()).await?;
        let previous = delta.last();
        delta.pending.push(PendingCommit { txn: self.epoch, previous, files, replace: true });
        Ok(Told { at: Some(self.wall), stale: false })
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
