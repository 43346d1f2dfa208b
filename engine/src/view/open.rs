//! The open part of a table at one instant.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::Result;
use crate::spec::{ViewShape, ViewSpec};
use crate::view::arrived::Arrived;
use crate::view::lower::LowerHalf;
use crate::view::panes::Panes;
use crate::view::upper::finish;

/// Partial aggregates of the windows still open (or uncommitted rows), pinned.
#[derive(Debug, Clone)]
pub enum OpenPanes {
    /// Rows that need no finishing: they have the table's schema.
    Rows(Vec<RecordBatch>),
    /// The view's panes as they were, sharing every batch with them, and the rows that wait for its lower half.
    Panes { view: Arc<ViewSpec>, panes: Arc<Panes>, arrived: Vec<Arc<Arrived>> },
}

impl Default for OpenPanes {
    fn default() -> Self {
        OpenPanes::Rows(vec![])
    }
}

impl OpenPanes {
    pub fn of_rows(rows: Vec<RecordBatch>) -> OpenPanes {
        OpenPanes::Rows(rows)
    }

    /// The provisional rows, with the table's schema.
    pub async fn finish(&self) -> Result<Vec<RecordBatch>> {
        let (view, panes, arrived) = match self {
            OpenPanes::Rows(rows) => return Ok(rows.clone()),
            OpenPanes::Panes { view, panes, arrived } => (view, panes, arrived),
        };
        let fresh = match Arrived::concat(arrived)? {
            Some(arrived) => LowerHalf::new(&view.shape)?.take_in(&arrived).await?.parts,
            None => vec![],
        };
        let parts = panes.open_parts(&fresh);
        let rows = match &view.shape {
            ViewShape::Copy { .. } => parts.into_iter().map(|part| part.batch).collect(),
            ViewShape::Windowed { cuts, upper, .. } => finish(cuts, upper, &parts).await?,
        };
        rows.iter().map(|batch| without_time(view, batch)).collect()
    }
}

/// Drops the hidden last column of rows on their way to history.
pub fn without_time(view: &ViewSpec, batch: &RecordBatch) -> Result<RecordBatch> {
    let visible = &batch.columns()[..batch.num_columns() - 1];
    Ok(RecordBatch::try_new(Arc::clone(&view.schema), visible.to_vec())?)
}
