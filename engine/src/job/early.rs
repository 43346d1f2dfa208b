//! However much an epoch closes, its rows do not pile up: where they weigh much, they are files before all have closed.
//!
//! Data files come before the manifest anyway, and without one that names them they mean nothing (C1). A view that others
//! read keeps its rows until those have been fed.

use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use crate::ids::Micros;
use crate::job::epoch::{DATES_A_ROLL, TableEpoch};
use crate::sink::{ClosedRows, first_dates};
use crate::spec::ViewSpec;
use crate::view::left::Left;
use crate::{Error, Result};

impl TableEpoch {
    /// Turns the rows that have closed so far into files, if they weigh much.
    pub(super) async fn put_much(
        &mut self,
        spec: &ViewSpec,
        rows: &mut Vec<RecordBatch>,
        left: &mut Left,
        through: Micros,
    ) -> Result<()> {
        let weigh = |rows: &[RecordBatch]| rows.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        let (bytes, piece) = (weigh(rows), self.room.piece_bytes);
        if self.is_read || bytes < self.roll.bytes.clamp(piece, 4 * piece) {
            return Ok(());
        }
        add_to_left(left, spec, rows, Some(through))?;
        let closed = rows.drain(..).map(|rows| ClosedRows { epoch: self.epoch, rows });
        let (first, others) = first_dates(&closed.collect::<Vec<_>>(), DATES_A_ROLL)?;
        let files = self.put_rows(spec, first).await?;
        self.early.extend(files);
        rows.extend(others.into_iter().map(|closed| closed.rows));
        self.made.sub(bytes - weigh(rows));
        Ok(())
    }
}

/// The windows of these rows have left too.
pub fn add_to_left(
    left: &mut Left,
    spec: &ViewSpec,
    rows: &[RecordBatch],
    closed: Option<Micros>,
) -> Result<()> {
    let (Some(window), Some(closed)) = (spec.shape.window(), closed) else { return Ok(()) };
    for batch in rows.iter().filter(|batch| batch.num_rows() > 0) {
        let times = batch.column(batch.num_columns() - 1).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| Error::Internal("closed rows lack their window's start".into()))?;
        let times: BTreeSet<Micros> = times.values().chunk_by(|a, b| a == b).map(|same| same[0]).collect();
        left.add(times.into_iter().flat_map(|time| window.marks_of_closed(time, closed)), window);
    }
    Ok(())
}
