//! Runs a view's plans by hand: once on no rows and once on one when it is created, since some aggregates fail, or
//! panic, only when they run in two phases.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result as PlannerResult, internal_datafusion_err, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{
    ChildrenPropertiesMode, ReplaceChildrenOptions, reset_plan_states,
};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;
use futures::FutureExt;
use thalweg_engine::spec::{Cut, StreamSpec, TIME_COLUMN, Upper, ViewShape};
use thalweg_engine::view::{MicroBatch, StateScanPlanner};

use crate::error::{Error, Result};

/// The schema of the view's rows.
pub(super) async fn dry_run(shape: &ViewShape, stream: &StreamSpec) -> Result<SchemaRef> {
    let run = async {
        let nothing = RecordBatch::new_empty(Arc::clone(&stream.schema));
        let one = one_row(stream)?;
        for batch in [nothing, one] {
            run_once(shape, &batch).await?;
        }
        schema_of(shape).await
    };
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(schema) => Ok(schema?),
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

async fn run_once(shape: &ViewShape, batch: &RecordBatch) -> PlannerResult<()> {
    match shape {
        ViewShape::Copy { lower } => {
            collect(reset_plan_states(Arc::clone(lower))?, context_of(batch)).await?;
        }
        ViewShape::Windowed { cuts, upper, .. } => {
            let mut states = vec![];
            for cut in cuts {
                let partials = [partial(cut, batch).await?, partial(cut, batch).await?].concat();
                states.push(reduce(cut, partials).await?);
            }
            finish(cuts, states, upper).await?;
        }
    }
    Ok(())
}

async fn schema_of(shape: &ViewShape) -> PlannerResult<SchemaRef> {
    let with_time = match shape {
        ViewShape::Copy { lower } => lower.schema(),
        ViewShape::Windowed { cuts, upper, .. } => {
            let finals = cuts.iter().map(|cut| Arc::clone(&cut.aggregate)).collect();
            upper_plan(finals, upper).await?.schema()
        }
    };
    match with_time.fields().split_last() {
        Some((time, fields)) if time.name() == TIME_COLUMN => Ok(Arc::new(Schema::new(fields.to_vec()))),
        _ => internal_err!("the last column of a view's plan is not its time"),
    }
}

fn context_of(batch: &RecordBatch) -> Arc<TaskContext> {
    let config = SessionConfig::new().with_extension(Arc::new(MicroBatch(batch.clone())));
    Arc::new(TaskContext::default().with_session_config(config))
}

/// The partial aggregates of one micro-batch.
pub(in crate::plan) async fn partial(cut: &Cut, batch: &RecordBatch) -> PlannerResult<Vec<RecordBatch>> {
    let lower = Arc::clone(final_of(cut)?.input());
    collect(reset_plan_states(lower)?, context_of(batch)).await
}

/// Partial aggregates merged into fewer.
pub(in crate::plan) async fn reduce(
    cut: &Cut,
    partials: Vec<RecordBatch>,
) -> PlannerResult<Vec<RecordBatch>> {
    let last = final_of(cut)?;
    let functions = last.aggr_expr().to_vec();
    let filters = vec![None; functions.len()];
    let source = source_of(partials, last.input().schema())?;
    let keys = last.group_expr().clone();
    let merge = AggregateExec::try_new(
        AggregateMode::PartialReduce,
        keys,
        functions,
        filters,
        source,
        last.input_schema(),
    )?;
    collect(Arc::new(merge), Arc::new(TaskContext::default())).await
}

/// The view's rows, with their time, of the partial aggregates of each cut.
pub(in crate::plan) async fn finish(
    cuts: &[Cut],
    states: Vec<Vec<RecordBatch>>,
    upper: &Upper,
) -> PlannerResult<Vec<RecordBatch>> {
    let mut finals = vec![];
    for (cut, state) in cuts.iter().zip(states) {
        let source = source_of(state, final_of(cut)?.input().schema())?;
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        finals.push(Arc::clone(&cut.aggregate).replace_children(vec![source], options)?);
    }
    collect(upper_plan(finals, upper).await?, Arc::new(TaskContext::default())).await
}

async fn upper_plan(
    finals: Vec<Arc<dyn ExecutionPlan>>,
    upper: &Upper,
) -> PlannerResult<Arc<dyn ExecutionPlan>> {
    let optimized = upper.session.optimize(&upper.logical)?;
    let planner =
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(StateScanPlanner { finals })]);
    planner.create_physical_plan(&optimized, upper.session.as_ref()).await
}

fn final_of(cut: &Cut) -> PlannerResult<&AggregateExec> {
    (cut.aggregate.as_ref() as &dyn Any)
        .downcast_ref::<AggregateExec>()
        .ok_or_else(|| internal_datafusion_err!("a cut is not an aggregate"))
}

fn source_of(batches: Vec<RecordBatch>, schema: SchemaRef) -> PlannerResult<Arc<dyn ExecutionPlan>> {
    let batch = concat_batches(&schema, &batches)?;
    Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?)
}
