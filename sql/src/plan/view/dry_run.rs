//! Runs a view's plans, by the engine's own code, when it is created: once on no rows and once on one, since some
//! aggregates fail, or panic, only when they run in two phases.
//!
//! The one row is made up, and tells of types, not of values: an expression may well fail on it
//! (`CAST(concat('2025-06-', k) AS DATE)` where `k` is NULL) and not on real ones. Then another row is tried.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringViewArray, new_null_array};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::Result as PlannerResult;
use futures::FutureExt;
use thalweg_engine::lookup::{Content, Contents};
use thalweg_engine::spec::{Leg, TIME_COLUMN, ViewShape};
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::lower::{FailedRow, LowerHalf};
use thalweg_engine::view::part::Part;
use thalweg_engine::view::upper::{WindowPart, finish, reduce};
use thalweg_engine::view::{Fault, Room};

use super::inputs::{Inputs, Known};
use crate::error::{Error, Result};

/// The schema of the view's rows.
pub(super) async fn dry_run(shape: &ViewShape, legs: &[Leg], inputs: Inputs<'_>) -> Result<SchemaRef> {
    let run = async {
        let known: Vec<Known<'_>> = legs.iter().filter_map(|leg| inputs.find(leg.input.name())).collect();
        let nothing = |known: &Known<'_>| RecordBatch::new_empty(known.schema());
        run_once(&looked_up(shape, inputs, None)?, &known.iter().map(nothing).collect::<Vec<_>>()).await?;
        for text in [None, Some("1"), Some("2025-06-01")] {
            let rows = known.iter().map(|known| one_row(*known, text)).collect::<PlannerResult<Vec<_>>>()?;
            match run_once(&looked_up(shape, inputs, text)?, &rows).await? {
                None => break,
                Some(fault) if fault.of_a_value => {}
                Some(fault) => return Err(Error::invalid(fault.reason)),
            }
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

/// With one made-up row in each table, which is found by whatever key.
pub(super) fn looked_up(shape: &ViewShape, inputs: Inputs<'_>, text: Option<&str>) -> Result<ViewShape> {
    let mut contents = Contents::default();
    for table in inputs.tables {
        let row = row_of(&table.schema, text, |_, _| Ok(None))?;
        contents.0.insert(table.name.clone(), Arc::new(Content::any(row)));
    }
    Ok(contents.of_shape(shape)?)
}

/// All columns `text`, as far as their types can hold that, but those of time.
fn one_row(known: Known<'_>, text: Option<&str>) -> PlannerResult<RecordBatch> {
    row_of(&known.schema(), text, |index, field| time_of(known, index, field))
}

/// The value of a column that a row always has: its time.
pub(super) fn time_of(known: Known<'_>, index: usize, field: &Field) -> PlannerResult<Option<ArrayRef>> {
    let is_time = known.event_time() == Some(index) || known.row_time(field.name()).is_some();
    Ok(is_time.then(|| cast(&Int64Array::from(vec![1_000_000]), field.data_type())).transpose()?)
}

fn row_of(
    schema: &SchemaRef,
    text: Option<&str>,
    time_of: impl Fn(usize, &Field) -> PlannerResult<Option<ArrayRef>>,
) -> PlannerResult<RecordBatch> {
    let text: ArrayRef = Arc::new(StringViewArray::from(vec![text]));
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        if let Some(time) = time_of(index, field)? {
            return Ok(time);
        }
        Ok(match can_cast_types(text.data_type(), field.data_type()) {
            // What is no such value becomes NULL.
            true => cast(&text, field.data_type())?,
            false => new_null_array(field.data_type(), 1),
        })
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<PlannerResult<_>>()?)?)
}

/// As workers and the coordinator do it: in two micro-batches for each leg, merged, and finished. Says why a row failed.
pub(super) async fn run_once(
    shape: &ViewShape,
    batches: &[RecordBatch],
) -> thalweg_engine::Result<Option<Fault>> {
    let mut parts = vec![];
    for (leg, batch) in batches.iter().enumerate() {
        let mut half = LowerHalf::new(shape, leg)?;
        let arrived = Arrived { batch: batch.clone(), observed: None };
        for _ in 0..2 {
            let lowered = half.take_in(&arrived).await?;
            if let Some(FailedRow { fault, .. }) = lowered.failed.into_iter().next() {
                return Ok(Some(fault));
            }
            parts.extend(lowered.parts);
        }
    }
    match finished(shape, &parts).await {
        Err(thalweg_engine::Error::Plan(error)) => Ok(Some(Fault::of_expression(&error))),
        outcome => outcome.map(|()| None),
    }
}

async fn finished(shape: &ViewShape, parts: &[Part]) -> thalweg_engine::Result<()> {
    let ViewShape::Units { unit, cuts, upper, .. } = shape else { return Ok(()) };
    let room = Room::unbounded();
    let reduced = reduce(cuts, *unit, parts, &room).await?;
    let whole = |part: Part| WindowPart { cut: part.cut, batch: part.batch, bounds: None };
    let reduced: Vec<WindowPart> = reduced.into_iter().map(whole).collect();
    for plan in [Some(&upper.plan), upper.each.as_ref()].into_iter().flatten() {
        finish(cuts, plan, &reduced, &room).await?;
    }
    Ok(())
}

fn schema_of(shape: &ViewShape) -> Result<SchemaRef> {
    let with_time = match shape {
        ViewShape::Copy { lowers } => lowers[0].schema(),
        ViewShape::Units { upper, .. } => upper.plan.schema(),
    };
    match with_time.fields().split_last() {
        Some((time, fields)) if time.name() == TIME_COLUMN => Ok(Arc::new(Schema::new(fields.to_vec()))),
        _ => Err(Error::internal("the last column of a view's plan is not its time")),
    }
}
