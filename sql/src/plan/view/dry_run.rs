//! Runs a view's plans, by the engine's own code, when it is created: once on no rows and once on one, since some
//! aggregates fail, or panic, only when they run in two phases.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result as PlannerResult;
use futures::FutureExt;
use thalweg_engine::spec::{StreamSpec, TIME_COLUMN, ViewShape};
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::lower::LowerHalf;
use thalweg_engine::view::part::Part;
use thalweg_engine::view::upper::{WindowPart, finish, reduce};

use crate::error::{Error, Result};

/// The schema of the view's rows.
pub(super) async fn dry_run(shape: &ViewShape, stream: &StreamSpec) -> Result<SchemaRef> {
    let run = async {
        let nothing = RecordBatch::new_empty(Arc::clone(&stream.schema));
        let one = one_row(stream)?;
        for batch in [nothing, one] {
            run_once(shape, &batch).await?;
        }
        schema_of(shape)
    };
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(schema) => schema,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panics");
            Err(Error::invalid(text))
        }
    }
}

/// All columns NULL but the event time, which a decoded row always has.
fn one_row(stream: &StreamSpec) -> PlannerResult<RecordBatch> {
    let event_time = stream.event_time.map(|it| it.column);
    let columns =
        stream.schema.fields().iter().enumerate().map(|(index, field)| match event_time == Some(index) {
            true => arrow::compute::cast(&arrow::array::Int64Array::from(vec![1_000_000]), field.data_type()),
            false => Ok(new_null_array(field.data_type(), 1)),
        });
    Ok(RecordBatch::try_new(Arc::clone(&stream.schema), columns.collect::<Result<_, _>>()?)?)
}

/// As workers and the coordinator do it: in two micro-batches, merged, and finished.
async fn run_once(shape: &ViewShape, batch: &RecordBatch) -> Result<()> {
    let mut half = LowerHalf::new(shape)?;
    let arrived = Arrived { batch: batch.clone(), observed: None };
    let mut parts = vec![];
    for _ in 0..2 {
        let lowered = half.take_in(&arrived).await?;
        if let Some(failed) = lowered.failed.first() {
            return Err(Error::invalid(&failed.reason));
        }
        parts.extend(lowered.parts);
    }
    if let ViewShape::Windowed { window, cuts, upper, .. } = shape {
        let reduced = reduce(cuts, *window, &parts).await?;
        let whole = |part: Part| WindowPart { cut: part.cut, batch: part.batch, bounds: None };
        finish(cuts, upper, &reduced.into_iter().map(whole).collect::<Vec<_>>()).await?;
    }
    Ok(())
}

fn schema_of(shape: &ViewShape) -> Result<SchemaRef> {
    let with_time = match shape {
        ViewShape::Copy { lower } => lower.schema(),
        ViewShape::Windowed { upper, .. } => upper.plan.schema(),
    };
    match with_time.fields().split_last() {
        Some((time, fields)) if time.name() == TIME_COLUMN => Ok(Arc::new(Schema::new(fields.to_vec()))),
        _ => Err(Error::internal("the last column of a view's plan is not its time")),
    }
}
