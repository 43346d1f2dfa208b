//! The open part of a table at one instant.

use std::future::ready;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;

use crate::Result;
use crate::ids::Epoch;
use crate::spec::{Upper, ViewShape, ViewSpec};
use crate::view::arrived::Arrived;
use crate::view::extent::Above;
use crate::view::lower::LowerHalf;
use crate::view::only::Only;
use crate::view::panes::Panes;
use crate::view::part::Part;
use crate::view::running::Room;

/// Takes finished rows, some at a time.
pub type Take<'a> = dyn FnMut(RecordBatch) -> BoxFuture<'static, Result<()>> + Send + 'a;

/// What a view has open, pinned: the rows of its open units come of it.
#[derive(Debug, Clone)]
pub enum OpenPanes {
    /// Rows that need no finishing: they have the table's schema.
    Rows(Vec<RecordBatch>),
    /// The view's panes as they were, sharing every batch with them, and what no lower half of its has seen: by leg.
    Panes { view: Arc<ViewSpec>, panes: Arc<Panes>, inputs: Vec<OpenInput> },
}

/// What a leg's input has that the view's panes do not.
#[derive(Debug, Clone)]
pub enum OpenInput {
    /// The rows of a stream that wait, as far as they are of the epochs that the view runs in.
    Stream { arrived: Arc<Vec<(Epoch, Arc<Arrived>)>>, runs: RangeInclusive<Epoch> },
    /// The rows of another view that may still change.
    View(Arc<OpenPanes>),
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

    /// Where groups can be asked for by their keys, what they are finished by.
    pub fn upper(&self) -> Option<&Upper> {
        let OpenPanes::Panes { view, .. } = self else { return None };
        match &view.shape {
            ViewShape::Units { upper, .. } => Some(upper).filter(|upper| upper.by_group),
            ViewShape::Copy { .. } => None,
        }
    }

    /// Partial ones, or those that need no finishing.
    pub fn rows(&self) -> usize {
        match self {
            OpenPanes::Rows(rows) => rows.iter().map(RecordBatch::num_rows).sum(),
            OpenPanes::Panes { panes, .. } => panes.rows(),
        }
    }

    /// What of it weighs enough to be asked for, wherever it is.
    pub fn weight(&self) -> usize {
        let OpenPanes::Panes { panes, inputs, .. } = self else { return 0 };
        let of_views = inputs.iter().map(|input| match input {
            OpenInput::View(open) => open.weight(),
            OpenInput::Stream { .. } => 0,
        });
        panes.weight() + of_views.sum::<usize>()
    }

    /// The provisional rows, with the table's schema: those that are asked for, and maybe others.
    pub async fn finish(&self, only: Option<&Only>, room: &Room) -> Result<Vec<RecordBatch>> {
        let mut all = vec![];
        let mut take = |rows| {
            all.push(rows);
            Box::pin(ready(Ok(()))) as BoxFuture<'static, Result<()>>
        };
        self.finish_each(only, room, &mut take).await?;
        Ok(all)
    }

    /// Likewise, but no more of them are there at a time than are finished together, where groups are finished one by one.
    pub fn finish_each<'a>(
        &'a self,
        only: Option<&'a Only>,
        room: &'a Room,
        take: &'a mut Take<'_>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (view, panes, inputs) = match self {
                OpenPanes::Rows(rows) => {
                    for batch in rows {
                        take(batch.clone()).await?;
                    }
                    return Ok(());
                }
                OpenPanes::Panes { view, panes, inputs } => (view, panes, inputs),
            };
            let mut fresh = vec![];
            for (leg, input) in inputs.iter().enumerate() {
                fresh.extend(lowered(view, leg, &input.waiting(room).await?).await?);
            }
            match &view.shape {
                ViewShape::Copy { .. } => {
                    for part in panes.all_and(&fresh) {
                        take(without_time(view, &part.batch)?).await?;
                    }
                }
                ViewShape::Units { cuts, upper, .. } => {
                    let mut open = panes.open(Above { cuts, upper, only }, &fresh, room)?;
                    while let Some(stretch) = open.next().await? {
                        for batch in stretch.finish(cuts, upper, room).await? {
                            take(without_time(view, &batch)?).await?;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}

impl OpenInput {
    async fn waiting(&self, room: &Room) -> Result<Vec<Arc<Arrived>>> {
        match self {
            OpenInput::Stream { arrived, runs } => {
                let waiting = arrived.iter().filter(|(epoch, _)| runs.contains(epoch));
                Ok(waiting.map(|(_, arrived)| Arc::clone(arrived)).collect())
            }
            OpenInput::View(open) => {
                let rows = open.finish(None, room).await?;
                Ok(rows.into_iter().map(|batch| Arc::new(Arrived::of_view(batch))).collect())
            }
        }
    }
}

/// What no worker has run the view's lower half on.
async fn lowered(view: &ViewSpec, leg: usize, waiting: &[Arc<Arrived>]) -> Result<Vec<Part>> {
    let mut parts = vec![];
    if waiting.is_empty() {
        return Ok(parts);
    }
    let mut half = LowerHalf::new(&view.shape, leg)?;
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
    use crate::spec::{Input, Leg, TIME_COLUMN};
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
            lookups: vec![],
            retention: None,
            id: Uuid::from_u128(1),
            name: "v".into(),
            sql: String::new(),
            legs: vec![Leg { input: Input::Stream("s".into()), columns: vec![1] }],
            times: vec![None; schema.fields().len()],
            schema,
            shape: ViewShape::Copy { lowers: vec![Arc::new(lower)] },
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
            let input = OpenInput::Stream { arrived: Arc::new(arrived), runs: Epoch(1)..=Epoch(2) };
            let open = OpenPanes::Panes { view: Arc::clone(&view), panes, inputs: vec![input] };
            let rows = open.finish(None, &Room::unbounded()).await.expect("it can be read");
            let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            let mut values: Vec<i64> = rows.iter().flat_map(values).collect();
            values.sort();
            assert_eq!(values, [1, 2]);
        }
    }
}
