//! What happens to parts above the cut: merging them (`PartialReduce`), and finishing them into rows (`Final`, and the
//! query above it). Pure functions of their parts; the panes stay as they are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches, filter_record_batch, not};
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{replace_children_if_necessary, reset_plan_states};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use crate::ids::Micros;
use crate::lookup::LookupPlanner;
use crate::spec::{Cut, State, Unit, Upper};
use crate::view::alone::each;
use crate::view::dates::beyond_calendar;
use crate::view::leaf::{LeafExec, States};
use crate::view::part::Part;
use crate::view::pieces::{Pieces, Share, Weighed, groups_of};
use crate::view::plain_planning_state;
use crate::view::running::Room;
use crate::view::session::{self, Labelled};
use crate::view::state_scan::{StateScan, StateScanPlanner};
use crate::view::tally::as_aggregate;
use crate::{Error, Result};

/// Merges the parts of each cut that count in the same windows, into one or, where they weigh much, into a few. A cut groups
/// by its pane, or its session, so one plan merges all and mixes none. Rows that are kept as they are only move together.
pub async fn reduce(cuts: &[Cut], unit: Unit, parts: &[Part], room: &Room) -> Result<Vec<Part>> {
    let mut reducing = Reducing::of(cuts, unit, parts, room)?;
    let mut reduced = Vec::with_capacity(cuts.len());
    while let Some(part) = reducing.next().await? {
        reduced.push(part);
    }
    Ok(reduced)
}

/// Parts on their way to fewer, of which each is made when it is asked for: all of them may be more than there is room for.
pub struct Reducing<'a> {
    cuts: &'a [Cut],
    unit: Unit,
    room: &'a Room,
    todo: VecDeque<Todo>,
}

enum Todo {
    /// It merges with nothing.
    Alone(Part),
    Merge {
        cut: u32,
        after: Micros,
        pieces: Pieces,
    },
}

impl<'a> Reducing<'a> {
    pub fn of(cuts: &'a [Cut], unit: Unit, parts: &[Part], room: &'a Room) -> Result<Reducing<'a>> {
        let mut groups: BTreeMap<(u32, Micros), Vec<&Part>> = BTreeMap::new();
        for part in parts {
            groups.entry((part.cut, part.after)).or_default().push(part);
        }
        let mut todo = VecDeque::new();
        for ((number, after), parts) in groups {
            let session = unit.session();
            if let ([only], None) = (&parts[..], session) {
                todo.push_back(Todo::Alone((*only).clone()));
                continue;
            }
            let cut = &cuts[number as usize];
            let labelled = match session {
                Some(session) => {
                    let batches: Vec<_> = parts.iter().map(|part| part.batch.clone()).collect();
                    session::mergeable(session, cut, &batches)?
                }
                None => None,
            };
            let merging = match labelled {
                Some(Labelled { batch, together, newest: _ }) => {
                    // What merges with nothing stays as it is.
                    let alone = in_schema_of(cut, vec![filter_record_batch(&batch, &not(&together)?)?])?;
                    let alone = Part::of_batches(number, &alone, cut, unit)?;
                    todo.extend(alone.map(|part| Todo::Alone(part.taken_in_after(after))));
                    vec![Weighed::of(filter_record_batch(&batch, &together)?)]
                }
                None => parts.iter().map(|part| part.weighed()).collect(),
            };
            todo.push_back(Todo::Merge {
                cut: number,
                after,
                pieces: Pieces::of(cut, merging, room.piece_bytes),
            });
        }
        Ok(Reducing { cuts, unit, room, todo })
    }

    pub async fn next(&mut self) -> Result<Option<Part>> {
        while let Some(todo) = self.todo.front_mut() {
            let Todo::Merge { cut: number, after, pieces } = todo else {
                let Some(Todo::Alone(part)) = self.todo.pop_front() else { continue };
                return Ok(Some(part));
            };
            let Some(piece) = pieces.next() else {
                self.todo.pop_front();
                continue;
            };
            let (number, after, (batches, share)) = (*number, *after, piece?);
            let cut = &self.cuts[number as usize];
            let merged = reduce_batches(cut, batches, self.room).await?;
            if let Some(part) = Part::of_batches(number, &merged, cut, self.unit)? {
                return Ok(Some(part.taken_in_after(after).of_share(share)));
            }
        }
        Ok(None)
    }
}

/// Merges what is alike in bounds and keys, of batches that weigh so much together.
pub async fn merged(
    cut: &Cut,
    batches: Vec<RecordBatch>,
    bytes: usize,
    room: &Room,
) -> Result<Vec<RecordBatch>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let weighed = |batch: RecordBatch| {
        let bytes = batch.num_rows() * bytes / rows.max(1);
        Weighed { batch, bytes, share: Share::ALL }
    };
    let mut merged = vec![];
    for piece in Pieces::of(cut, batches.into_iter().map(weighed).collect(), room.piece_bytes) {
        merged.extend(reduce_batches(cut, piece?.0, room).await?);
    }
    Ok(merged)
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
    let by_group = cuts.len() == 1 && asks_row_by_row(&logical);
    let keys = match cuts {
        [cut] => keys_of(&logical, cut),
        _ => vec![],
    };
    let each = if by_group { Some(each(&plan)?) } else { None };
    Ok(Upper { logical, plan, each, by_group, keys })
}

/// For each column of the output the key of the cut that it is.
fn keys_of(plan: &LogicalPlan, cut: &Cut) -> Vec<Option<usize>> {
    let (groups, state) = (groups_of(cut).unwrap_or(0), cut.state_schema());
    let is_key = |of_state: &usize| {
        *of_state < groups && ![cut.window_start, cut.window_end].contains(&Some(*of_state))
    };
    let columns = columns_of_state(plan).into_iter().zip(plan.schema().fields());
    columns
        .map(|(of_state, field)| {
            of_state.filter(is_key).filter(|key| state.field(*key).data_type() == field.data_type())
        })
        .collect()
}

/// For each column of the output that of the finished rows which it is, unchanged.
fn columns_of_state(plan: &LogicalPlan) -> Vec<Option<usize>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = columns_of_state(&projection.input);
            let of_state = |expr: &Expr| match expr.clone().unalias() {
                Expr::Column(column) => below[projection.input.schema().maybe_index_of_column(&column)?],
                _ => None,
            };
            projection.expr.iter().map(of_state).collect()
        }
        LogicalPlan::Filter(filter) => columns_of_state(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => columns_of_state(&alias.input),
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<StateScan>() => {
            (0..plan.schema().fields().len()).map(Some).collect()
        }
        other => vec![None; other.schema().fields().len()],
    }
}

/// Whether what stands above the finished groups makes of each what it makes of it alone.
fn asks_row_by_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            let nested = plan.expressions().iter().any(has_subquery);
            !nested && plan.inputs().into_iter().all(asks_row_by_row)
        }
        LogicalPlan::Extension(extension) => extension.node.as_any().is::<StateScan>(),
        _ => false,
    }
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
        ))
    })
    .unwrap_or(true)
}

/// Finishes the windows that `parts` are of, by the plan of what stands above them.
pub async fn finish(
    cuts: &[Cut],
    plan: &Arc<dyn ExecutionPlan>,
    parts: &[WindowPart],
    room: &Room,
) -> Result<Vec<RecordBatch>> {
    let states = cuts.iter().enumerate().map(|(number, cut)| {
        let of_cut = parts.iter().filter(|part| part.cut as usize == number);
        rebound(cut, of_cut.map(|part| (part.batch.clone(), part.bounds)))
    });
    let context = room.context(States(states.collect::<Result<_>>()?));
    let rows = collect(reset_plan_states(Arc::clone(plan))?, context).await?;
    match rows.iter().find_map(beyond_calendar) {
        None => Ok(rows),
        Some(column) => Err(Error::BadData(format!(
            "a time that the view computes is beyond the years 1 to 9999. column={column:?}"
        ))),
    }
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
}

/// What one run reads at a time: shares of a few rows each would cost it more than their rows.
const ROWS_TOGETHER: usize = 16 << 10;

type Bounds = Option<(Micros, Micros)>;

/// Rows in the schema of their cut and with the bounds that count, those of small shares together.
pub fn rebound(cut: &Cut, shares: impl Iterator<Item = (RecordBatch, Bounds)>) -> Result<Vec<RecordBatch>> {
    let (batches, bounds): (Vec<_>, Vec<_>) = shares.unzip();
    let batches = in_schema_of(cut, batches)?;
    let (mut rebound, mut next) = (vec![], 0);
    while next < batches.len() {
        let mut rows = 0;
        let fitting = batches[next..].iter().zip(&bounds[next..]).take_while(|(batch, bounds)| {
            rows += batch.num_rows();
            bounds.is_some() && rows <= ROWS_TOGETHER
        });
        let together = next..next + fitting.count().max(1);
        next = together.end;
        let (batches, bounds) = (&batches[together.clone()], &bounds[together]);
        let whole = match batches {
            [only] => only.clone(),
            _ => concat_batches(&cut.state_schema(), batches)?,
        };
        let of_rows = |bound: fn((Micros, Micros)) -> Micros| -> ArrayRef {
            let of_batch = batches.iter().zip(bounds.iter().flatten());
            let bounds = of_batch.flat_map(|(batch, it)| std::iter::repeat_n(bound(*it), batch.num_rows()));
            Arc::new(TimestampMicrosecondArray::from_iter_values(bounds).with_timezone("UTC"))
        };
        rebound.push(match bounds[0] {
            Some(_) => with_bounds(&whole, cut, of_rows(|(start, _)| start), of_rows(|(_, end)| end))?,
            None => whole,
        });
    }
    Ok(rebound)
}

/// A batch whose rows have other bounds.
pub fn with_bounds(batch: &RecordBatch, cut: &Cut, starts: ArrayRef, ends: ArrayRef) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    for (position, bounds) in [(cut.window_start, starts), (cut.window_end, ends)] {
        if let Some(position) = position {
            columns[position] = bounds;
        }
    }
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
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
