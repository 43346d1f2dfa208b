//! What happens to parts above the cut: merging them (`PartialReduce`), and finishing them into rows (`Final`, and the
//! query above it). Pure functions of their parts; the panes stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{cast, filter_record_batch, not};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{replace_children_if_necessary, reset_plan_states};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use crate::ids::Micros;
use crate::lookup::LookupPlanner;
use crate::spec::{Cut, State, Unit, Upper};
use crate::view::leaf::{LeafExec, States};
use crate::view::part::Part;
use crate::view::pieces::Pieces;
use crate::view::plain_planning_state;
use crate::view::running::Room;
use crate::view::session::{self, Labelled};
use crate::view::state_scan::StateScanPlanner;
use crate::view::tally::as_aggregate;
use crate::{Error, Result};

/// Merges the parts of each cut that count in the same windows, into one or, where they weigh much, into a few. A cut groups
/// by its pane, or its session, so one plan merges all and mixes none. Rows that are kept as they are only move together.
pub async fn reduce(cuts: &[Cut], unit: Unit, parts: &[Part], room: &Room) -> Result<Vec<Part>> {
    let mut groups: BTreeMap<(u32, Micros), Vec<&Part>> = BTreeMap::new();
    for part in parts {
        groups.entry((part.cut, part.after)).or_default().push(part);
    }
    let mut reduced = Vec::with_capacity(groups.len());
    for ((number, after), parts) in groups {
        let session = unit.session();
        if let ([only], None) = (&parts[..], session) {
            reduced.push((*only).clone());
            continue;
        }
        let cut = &cuts[number as usize];
        let batches: Vec<_> = parts.iter().map(|part| part.batch.clone()).collect();
        let labelled = match session {
            Some(session) => session::mergeable(session, cut, &batches)?,
            None => None,
        };
        let batches = match labelled {
            Some(Labelled { batch, together, newest: _ }) => {
                // What merges with nothing stays as it is.
                let alone = in_schema_of(cut, vec![filter_record_batch(&batch, &not(&together)?)?])?;
                reduced.extend(
                    Part::of_batches(number, &alone, cut, unit)?.map(|part| part.taken_in_after(after)),
                );
                vec![filter_record_batch(&batch, &together)?]
            }
            None => batches,
        };
        for piece in Pieces::of(cut, batches, room.piece_bytes)? {
            let merged = Part::of_batches(number, &reduce_batches(cut, piece?, room).await?, cut, unit)?;
            reduced.extend(merged.map(|part| part.taken_in_after(after)));
        }
    }
    Ok(reduced)
}

async fn reduce_batches(cut: &Cut, batches: Vec<RecordBatch>, room: &Room) -> Result<Vec<RecordBatch>> {
    let last = match &cut.state {
        State::Rows(_) => return in_schema_of(cut, batches),
        State::Aggregate(last) => {
            as_aggregate(last).ok_or_else(|| Error::Internal("a cut has no Final".into()))?
        }
    };
    let source = source(cut, batches)?;
    let aggregates = last.aggr_expr().to_vec();
    let filters = vec![None; aggregates.len()];
    let plan = AggregateExec::try_new(
        AggregateMode::PartialReduce,
        last.group_expr().clone(),
        aggregates,
        filters,
        source,
        last.input_schema(),
    )?;
    Ok(collect(Arc::new(plan), room.context(())).await?)
}

/// Plans the query above the cuts.
pub async fn planned(cuts: &[Cut], logical: LogicalPlan) -> Result<Upper> {
    let finished = cuts.iter().enumerate().map(|(number, cut)| {
        let states: Arc<dyn ExecutionPlan> = Arc::new(LeafExec::of_states(number, cut.state_schema()));
        match &cut.state {
            State::Rows(_) => Ok(states),
            State::Aggregate(last) => replace_children_if_necessary(Arc::clone(last), vec![states]),
        }
    });
    let finished = finished.collect::<Result<_, _>>()?;
    let session = plain_planning_state();
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![
        Arc::new(StateScanPlanner { finished }),
        Arc::new(LookupPlanner),
    ]);
    let plan = planner.create_physical_plan(&session.optimize(&logical)?, &session).await?;
    Ok(Upper { logical, plan })
}

/// Finishes the windows that `parts` are of. For windows that share panes, `bounds` says how the bounds of a part's
/// rows are overwritten with those of each window.
pub async fn finish(
    cuts: &[Cut],
    upper: &Upper,
    parts: &[WindowPart],
    room: &Room,
) -> Result<Vec<RecordBatch>> {
    let states = cuts.iter().enumerate().map(|(number, cut)| {
        let of_cut = parts.iter().filter(|part| part.cut as usize == number);
        in_schema_of(cut, of_cut.map(|part| part.rebound(cut)).collect::<Result<_>>()?)
    });
    let context = room.context(States(states.collect::<Result<_>>()?));
    Ok(collect(reset_plan_states(Arc::clone(&upper.plan))?, context).await?)
}

/// Rows of a part that stand for their shares of windows.
#[derive(Debug, Clone)]
pub struct WindowPart {
    pub cut: u32,
    pub batch: RecordBatch,
    /// The window's bounds, where they are not the rows' own.
    pub bounds: Option<(Micros, Micros)>,
}

impl WindowPart {
    /// A whole part, whose rows have the bounds that count.
    pub fn of_itself(part: &Part) -> WindowPart {
        WindowPart { cut: part.cut, batch: part.batch.clone(), bounds: None }
    }

    fn rebound(&self, cut: &Cut) -> Result<RecordBatch> {
        let Some((start, end)) = self.bounds else { return Ok(self.batch.clone()) };
        let mut columns = self.batch.columns().to_vec();
        let rows = self.batch.num_rows();
        for (position, bound) in [(cut.window_start, start), (cut.window_end, end)] {
            if let Some(position) = position {
                let bounds = TimestampMicrosecondArray::from_value(bound, rows).with_timezone("UTC");
                columns[position] = Arc::new(bounds) as ArrayRef;
            }
        }
        Ok(RecordBatch::try_new(self.batch.schema(), columns)?)
    }
}

fn source(cut: &Cut, batches: Vec<RecordBatch>) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = cut.state_schema();
    Ok(MemorySourceConfig::try_new_exec(&[in_schema_of(cut, batches)?], schema, None)?)
}

/// A batch read back from a file may lack the schema's metadata, and one of an older release holds sums in the narrower
/// type that they were added in then.
fn in_schema_of(cut: &Cut, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let schema = cut.state_schema();
    let batch = |batch: RecordBatch| {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        });
        Ok(RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)?)
    };
    batches.into_iter().map(batch).collect()
}
