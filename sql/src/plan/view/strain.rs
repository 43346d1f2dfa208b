//! Runs a view's plans as ingest will in its worst moment: over a whole micro-batch of large values. To be done where it may end
//! the process, for what it takes can't be told beforehand; ingest, which has no such place, does not come to it then.
//!
//! The values are made up: an expression that fails on them may be right for real ones, so errors tell nothing here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, ListArray, RecordBatch, StringArray, StructArray, UInt32Array, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{can_cast_types, cast, take};
use arrow::datatypes::DataType;
use datafusion::common::Result as PlannerResult;
use datafusion::physical_plan::{ExecutionPlan, collect, execution_plan::reset_plan_states};
use thalweg_engine::spec::{Layout, Unit, ViewShape, ViewSpec};
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::lower::LowerHalf;
use thalweg_engine::view::{MicroBatch, Room};

use super::dry_run::{looked_up, run_once, time_of};
use super::inputs::{Inputs, Known};
use crate::error::Result;

/// What a worker decodes at once, at most.
const ROWS: usize = 16_384;
const BYTES: usize = 8 << 20;
/// Where each fails they cost more than where none does.
const ROWS_FAILING: usize = 4096;
/// Four times as many rows are not tried, where these took so long.
const LONG: Duration = Duration::from_secs(1);
/// In the upper half rows meet each other.
const ROWS_MEETING: usize = 16;
/// Of a list, with those of lists within it.
const ELEMENTS: usize = 100;
/// An element takes so many bytes of an event, at least: itself, and what follows it.
const ELEMENT_BYTES: usize = 2;
/// Of a number, where times and lengths of lists are still what they may well be.
const NUMBER: &str = "1000000";

/// It returns if the view's plans can be run.
pub(crate) async fn strain(spec: &ViewSpec, inputs: Inputs<'_>) -> Result<()> {
    let known: Vec<Known<'_>> = spec.legs.iter().filter_map(|leg| inputs.find(leg.input.name())).collect();
    let shape = looked_up(&spec.shape, inputs, Some("1"))?;
    for (leg, known) in known.iter().enumerate() {
        let batch = rows(*known, (ROWS / windows_of_a_row(&shape)).max(1))?;
        let mut fails = false;
        for plan in lowers(&shape, leg) {
            // As ingest does, over fewer and fewer where they fail.
            let mut count = batch.num_rows();
            while let Err(error) = run(&plan, batch.slice(0, count)).await {
                tracing::debug!(view = spec.name, rows = count, %error, "made-up rows fail");
                fails = true;
                count /= 2;
                if count == 0 {
                    break;
                }
            }
        }
        // What is kept has its own memory: a constant that all rows share is one in each. And which rows fail is found out by
        // running them one by one: of few, and of more as long as that takes no time.
        let all = if fails { ROWS_FAILING.min(batch.num_rows()) } else { batch.num_rows() };
        let mut count = if fails { ROWS_MEETING.min(all) } else { all };
        loop {
            let (begun, arrived) = (Instant::now(), Arrived { batch: batch.slice(0, count), observed: None });
            if let Err(error) = LowerHalf::new(&shape, leg)?.take_in(&arrived).await {
                tracing::debug!(view = spec.name, %error, "made-up rows fail");
            }
            if count == all || begun.elapsed() > LONG {
                break;
            }
            count = (count * 4).min(all);
        }
    }
    let few = known.iter().map(|known| rows(*known, ROWS_MEETING)).collect::<Result<Vec<_>>>()?;
    if let Err(error) = run_once(&shape, &few).await {
        tracing::debug!(view = spec.name, %error, "made-up rows fail");
    }
    Ok(())
}

async fn run(plan: &Arc<dyn ExecutionPlan>, rows: RecordBatch) -> PlannerResult<()> {
    let context = Room::unbounded().context(MicroBatch(rows));
    collect(reset_plan_states(Arc::clone(plan))?, context).await.map(drop)
}

fn lowers(shape: &ViewShape, leg: usize) -> Vec<Arc<dyn ExecutionPlan>> {
    match shape {
        ViewShape::Copy { lowers } => lowers.get(leg).cloned().into_iter().collect(),
        ViewShape::Units { cuts, .. } => {
            let lowers = cuts.iter().flat_map(|cut| &cut.lowers).filter(|lower| lower.leg == leg);
            lowers.map(|lower| Arc::clone(&lower.plan)).collect()
        }
    }
}

/// Where each row is made one for each window that it lies in.
fn windows_of_a_row(shape: &ViewShape) -> usize {
    match shape {
        ViewShape::Units { unit: Unit::Window(window), .. } if window.expanded => match window.layout {
            Layout::Hop { size, slide, .. } => ((size + slide - 1) / slide).max(1) as usize,
            Layout::Cumulate { size, step, .. } => (size / step).max(1) as usize,
            _ => 1,
        },
        _ => 1,
    }
}

/// All alike, and as large as a micro-batch may be.
fn rows(known: Known<'_>, rows: usize) -> Result<RecordBatch> {
    let schema = known.schema();
    let kinds = || schema.fields().iter().map(|field| field.data_type());
    let in_lists = kinds().map(in_lists).sum::<usize>().max(1);
    let elements = (BYTES / rows / ELEMENT_BYTES / in_lists).clamp(1, ELEMENTS);
    let texts = kinds().map(|kind| texts_in(kind, each(kind, elements))).sum::<usize>();
    let text = "x".repeat((BYTES / rows / texts.max(1)).max(1));
    let all = UInt32Array::from_value(0, rows);
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let value = match time_of(known, index, field)? {
            Some(time) => time,
            None => value(field.data_type(), &text, each(field.data_type(), elements))?,
        };
        Ok(take(&value, &all, None)?)
    });
    let columns = columns.collect::<PlannerResult<Vec<_>>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Values that are elements of lists, of whatever depth.
fn in_lists(kind: &DataType) -> usize {
    match kind {
        DataType::List(element) => values_in(element.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| in_lists(field.data_type())).sum(),
        _ => 0,
    }
}

fn values_in(kind: &DataType) -> usize {
    match kind {
        DataType::List(element) => values_in(element.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| values_in(field.data_type())).sum(),
        _ => 1,
    }
}

/// How long each list of a type is, so that those within each other have so many elements together.
fn each(kind: &DataType, elements: usize) -> usize {
    match depth(kind) {
        0 | 1 => elements,
        depth => (1..elements).take_while(|each| each.saturating_pow(depth) <= elements).last().unwrap_or(1),
    }
}

fn depth(kind: &DataType) -> u32 {
    match kind {
        DataType::List(element) => 1 + depth(element.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| depth(field.data_type())).max().unwrap_or(0),
        _ => 0,
    }
}

fn texts_in(kind: &DataType, each: usize) -> usize {
    match kind {
        kind if is_text(kind) => 1,
        DataType::List(element) => each * texts_in(element.data_type(), each),
        DataType::Struct(fields) => fields.iter().map(|field| texts_in(field.data_type(), each)).sum(),
        _ => 0,
    }
}

/// One of a type, with lists that are so long.
fn value(kind: &DataType, text: &str, each: usize) -> PlannerResult<ArrayRef> {
    Ok(match kind {
        kind if is_text(kind) => cast(&StringArray::from(vec![text]), kind)?,
        DataType::List(element) => {
            let one = value(element.data_type(), text, each)?;
            let values = take(&one, &UInt32Array::from_value(0, each), None)?;
            let offsets = OffsetBuffer::from_lengths([each]);
            Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, None)?)
        }
        DataType::Struct(fields) => {
            let values = fields.iter().map(|field| value(field.data_type(), text, each));
            let values = values.collect::<PlannerResult<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), values, None, 1)?)
        }
        // What is no such value becomes NULL.
        kind if can_cast_types(&DataType::Utf8, kind) => cast(&StringArray::from(vec![NUMBER]), kind)?,
        kind => new_null_array(kind, 1),
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn lists_within_each_other_have_as_many_elements_as_one() {
        let list = |kind: DataType| DataType::List(Arc::new(Field::new_list_field(kind, true)));
        let texts = list(DataType::Utf8);
        let tags = DataType::Struct(
            vec![Field::new("sku", DataType::Utf8, true), Field::new("tags", texts.clone(), true)].into(),
        );
        let deep = (0..31).fold(DataType::Int32, |kind, _| list(kind));
        for (kind, most, is_each) in [(texts, 100, 100), (list(tags), 110, 10), (deep, 1, 1)] {
            assert_eq!(each(&kind, ELEMENTS), is_each);
            let made = value(&kind, "x", is_each).unwrap();
            assert!(texts_in(&kind, is_each) <= most && made.get_array_memory_size() < 16 << 10, "{kind}");
        }
    }
}
