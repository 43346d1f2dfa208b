//! The open part of a table at one instant.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::Result;
use crate::ids::Epoch;
use crate::spec::{ViewShape, ViewSpec};
use crate::view::arrived::Arrived;
use crate::view::lower::LowerHalf;
use crate::view::panes::Panes;
use crate::view::part::Part;
use crate::view::upper::finish;

/// Partial aggregates of the windows still open (or uncommitted rows), pinned.
#[derive(Debug, Clone)]
pub enum OpenPanes {
    /// Rows that need no finishing: they have the table's schema.
    Rows(Vec<RecordBatch>),
    /// The view's panes as they were, sharing every batch with them, and the rows that wait for its lower half: those of
    /// the stream, as far as they are of the epochs that the view runs in.
    Panes {
        view: Arc<ViewSpec>,
        panes: Arc<Panes>,
        arrived: Arc<Vec<(Epoch, Arc<Arrived>)>>,
        runs: RangeInclusive<Epoch>,
    },
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
        let (view, panes, arrived, runs) = match self {
            OpenPanes::Rows(rows) => return Ok(rows.clone()),
            OpenPanes::Panes { view, panes, arrived, runs } => (view, panes, arrived, runs),
        };
        let waiting = arrived.iter().filter(|(epoch, _)| runs.contains(epoch));
        let waiting: Vec<Arc<Arrived>> = waiting.map(|(_, arrived)| Arc::clone(arrived)).collect();
        let fresh = lowered(view, &waiting).await?;
        let parts = panes.open_parts(&fresh);
        let rows = match &view.shape {
            ViewShape::Copy { .. } => parts.into_iter().map(|part| part.batch).collect(),
            ViewShape::Windowed { cuts, upper, .. } => finish(cuts, upper, &parts).await?,
        };
        rows.iter().map(|batch| without_time(view, batch)).collect()
    }
}

/// What no worker has run the view's lower half on.
async fn lowered(view: &ViewSpec, waiting: &[Arc<Arrived>]) -> Result<Vec<Part>> {
    let mut parts = vec![];
    if waiting.is_empty() {
        return Ok(parts);
    }
    let mut half = LowerHalf::new(&view.shape)?;
    // Workers take up a changed set of views one after the other, and with it other columns.
    for alike in waiting.chunk_by(|a, b| a.batch.schema_ref() == b.batch.schema_ref()) {
        if let Some(arrived) = Arrived::concat(alike)? {
            parts.extend(half.take_in(&arrived).await?.parts);
        }
    }
    Ok(parts)
}

/// Drops the hidden last column of rows on their way to history.
pub fn without_time(view: &ViewSpec, batch: &RecordBatch) -> Result<RecordBatch> {
    let visible = &batch.columns()[..batch.num_columns() - 1];
    Ok(RecordBatch::try_new(Arc::clone(&view.schema), visible.to_vec())?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
    use uuid::Uuid;

    use super::*;
    use crate::spec::TIME_COLUMN;
    use crate::view::LeafExec;

    /// `SELECT b`, with `b` for its time too.
    fn copy_of_b() -> ViewSpec {
        let schema = Arc::new(Schema::new(vec![Field::new("b", DataType::Int64, true)]));
        let column = |alias: &str| ProjectionExpr {
            expr: col("b", &schema).expect("the column is declared"),
            alias: alias.to_string(),
        };
        let leaf = Arc::new(LeafExec::of_micro_batch(Arc::clone(&schema)));
        let lower =
            ProjectionExec::try_new(vec![column("b"), column(TIME_COLUMN)], leaf).expect("it is legal");
        ViewSpec {
            id: Uuid::from_u128(1),
            name: "v".into(),
            sql: String::new(),
            stream: "s".into(),
            columns: vec![1],
            schema,
            shape: ViewShape::Copy { lower: Arc::new(lower) },
            fingerprint: String::new(),
        }
    }

    fn arrived(epoch: u64, columns: &[(&str, i64)]) -> (Epoch, Arc<Arrived>) {
        let columns = columns.iter().map(|&(name, value)| {
            let values: ArrayRef = Arc::new(Int64Array::from(vec![value]));
            (name, values, true)
        });
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("columns are equally long");
        (Epoch(epoch), Arc::new(Arrived { batch, observed: None }))
    }

    #[tokio::test]
    async fn rows_of_workers_that_run_other_views_already_are_read_by_name() {
        let view = Arc::new(copy_of_b());
        let (narrow, wide) = (arrived(1, &[("b", 1)]), arrived(2, &[("a", 7), ("b", 2)]));
        let gone = arrived(3, &[("a", 9)]);
        for pieces in [[&narrow, &wide], [&wide, &narrow]] {
            let arrived = pieces.into_iter().chain([&gone]).cloned().collect();
            let panes = Arc::new(Panes::new(&view, None));
            let runs = Epoch(1)..=Epoch(2);
            let open = OpenPanes::Panes { view: Arc::clone(&view), panes, arrived: Arc::new(arrived), runs };
            let rows = open.finish().await.expect("it can be read");
            let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            let mut values: Vec<i64> = rows.iter().flat_map(values).collect();
            values.sort();
            assert_eq!(values, [1, 2]);
        }
    }
}
