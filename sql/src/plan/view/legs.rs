//! Cuts a plan where rows of inputs come together: below is a lower half for each place that reads an input, above is
//! what is left of the plan, over what the cuts keep. An aggregate over rows of one input is cut through (`cut`,
//! `distinct`); where rows meet otherwise, in a join or an OVER, the rows themselves are kept.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, LogicalPlan, LogicalPlanBuilder, Union, col, lit,
};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;
use thalweg_engine::ids::Micros;
use thalweg_engine::lookup::LookupNode;
use thalweg_engine::spec::{
    Cut, Ever, Input, Leg, Lower, Reach, RowTime, State, TIME_COLUMN, Unit, ViewInput, ViewSpec,
};
use thalweg_engine::view::{LeafExec, StateScan};

use super::carry;
use super::cut::{self, Direction};
use super::distinct;
use super::inputs::{InputTable, Known};
use super::keep;
use super::shape::{BoundKeys, Checker, Look, RowsOf};
use crate::error::{Error, Result};
use crate::plan::window::{WindowNode, resolve, start_of_end};

/// A plan that was cut.
pub(super) struct Cutting {
    pub legs: Vec<Leg>,
    pub cuts: Vec<Cut>,
    /// What stands above the cuts, with the hidden time as its last column.
    pub upper: LogicalPlan,
}

pub(super) async fn cut(
    plan: &LogicalPlan,
    unit: Unit,
    checker: &Checker<'_>,
    direction: Direction,
    state: &SessionState,
) -> Result<Cutting> {
    let mut cutter = Cutter { checker, unit, direction, legs: vec![], pending: vec![] };
    let lifted = cutter.lift(plan, Look::default())?;
    let upper = cutter.pruned(lifted, state)?;
    let mut cuts = vec![];
    for pending in &cutter.pending {
        cuts.push(pending.planned(state).await?);
    }
    let mut legs = cutter.legs;
    for (number, leg) in legs.iter_mut().enumerate() {
        let lowers = cuts.iter().flat_map(|cut| &cut.lowers).filter(|lower| lower.leg == number);
        leg.columns = columns_read(lowers.map(|lower| &lower.plan), leg, checker)?;
    }
    Ok(Cutting { legs, cuts, upper })
}

struct Cutter<'a> {
    checker: &'a Checker<'a>,
    unit: Unit,
    direction: Direction,
    legs: Vec<Leg>,
    pending: Vec<Pending>,
}

/// A cut that is not planned yet.
struct Pending {
    bounds: BoundKeys,
    reach: Reach,
    /// Whether rows are of whole windows, and not of a time of their own.
    whole: bool,
    what: Kept,
}

enum Kept {
    /// For each leg the same aggregate over its rows.
    Aggregates(Vec<(usize, Aggregate)>),
    /// The columns that are read above, once that is known.
    Rows { legs: Vec<(usize, LogicalPlan)>, schema: Arc<Schema> },
}

impl Cutter<'_> {
    /// The plan with what the cuts keep in place of its inputs, and the time as its last column.
    ///
    /// `look` says how the step above looks at it.
    fn lift(&mut self, plan: &LogicalPlan, look: Look) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::Aggregate(aggregate) if is_rows(&aggregate.input) => {
                self.aggregate(aggregate, look.reach)
            }
            rows if is_rows(rows) => self.keep(rows, look),
            other => {
                let looks = self.checker.looks(other)?;
                let inputs = other.inputs().into_iter().zip(looks);
                let inputs = inputs.map(|(input, further)| self.lift(input, look.then(further)));
                Ok(carry::above(other, inputs.collect::<Result<_>>()?)?)
            }
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, reach: Reach) -> Result<LogicalPlan> {
        let mut keys = self.checker.shape(&LogicalPlan::Aggregate(aggregate.clone()))?.keys;
        if let Unit::Ever(Ever { keep: Some(_), .. }) = self.unit {
            keys = keep::bounds_of(aggregate);
        }
        let first = self.pending.len();
        let mut upper = None;
        for (leg, rows) in self.legs_of(&aggregate.input, None)? {
            let of_leg = Aggregate::try_new(
                Arc::new(rows),
                aggregate.group_expr.clone(),
                aggregate.aggr_expr.clone(),
            )?;
            let split = distinct::split(&cut::without_idle_order(&of_leg, self.direction)?, first)?;
            for (number, cut) in (first..).zip(split.cuts) {
                match self.pending.get_mut(number) {
                    Some(Pending { what: Kept::Aggregates(legs), .. }) => legs.push((leg, cut)),
                    _ => {
                        let what = Kept::Aggregates(vec![(leg, cut)]);
                        let reach = self.whole_panes(reach);
                        self.pending.push(Pending { bounds: keys.clone(), reach, whole: true, what });
                    }
                }
            }
            upper.get_or_insert(split.upper);
        }
        let upper = upper.ok_or_else(|| Error::internal("an aggregate over nothing"))?;
        self.with_time(upper, &keys)
    }

    /// Rows that are kept as they are, of which so far nobody knows which columns are read.
    fn keep(&mut self, rows: &LogicalPlan, look: Look) -> Result<LogicalPlan> {
        let bounds = match look.time {
            Some(time) => BoundKeys { start: Some(time), ..BoundKeys::default() },
            None => self.checker.shape(rows)?.bounds(),
        };
        let number = self.pending.len();
        let fields = rows.schema().fields().iter().enumerate();
        let fields =
            fields.map(|(index, field)| Field::new(kept_name(index), field.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let legs = self.legs_of(rows, look.time)?;
        let what = Kept::Rows { legs, schema: Arc::clone(&schema) };
        let reach = self.whole_panes(look.reach);
        let whole = look.time.is_none();
        self.pending.push(Pending { bounds: bounds.clone(), reach, whole, what });
        let table = provider_as_source(Arc::new(InputTable { schema }));
        let columns = rows.schema().iter().enumerate().map(|(index, (qualifier, field))| {
            col(kept_name(index)).alias_qualified(qualifier.cloned(), field.name())
        });
        let scan = LogicalPlanBuilder::scan(rows_name(number), table, None)?;
        let named = scan.project(columns.collect::<Vec<_>>())?.build()?;
        self.with_time(named, &bounds)
    }

    fn with_time(&self, upper: LogicalPlan, keys: &BoundKeys) -> Result<LogicalPlan> {
        let columns = upper.schema().columns();
        let column = |index: usize| Expr::Column(columns[index].clone());
        let time = match (self.unit, keys.start, keys.end) {
            (Unit::Ever(_), ..) => lit(ScalarValue::TimestampMicrosecond(Some(0), Some("UTC".into()))),
            (Unit::Window(_) | Unit::Session(_), Some(start), _) => column(start),
            (Unit::Window(window), None, Some(end)) => start_of_end(column(end), window.layout),
            (Unit::Window(_) | Unit::Session(_), None, _) => {
                return Err(Error::internal("the window is none of the columns that are kept"));
            }
        };
        let all = (0..columns.len()).map(column).chain([time.alias(TIME_COLUMN)]).collect::<Vec<_>>();
        Ok(LogicalPlanBuilder::from(upper).project(all)?.build()?)
    }

    /// The reach in units.
    fn whole_panes(&self, Reach { before, after }: Reach) -> Reach {
        let Unit::Window(window) = self.unit else { return Reach::default() };
        if (before, after) == (0, 0) {
            return Reach::default();
        }
        let size = window.layout.longest();
        let up = |length: Micros| -(-length).div_euclid(size) * size;
        Reach { before: up(before), after: up(after) }
    }

    /// For each input of the rows a leg, with the rows that come of it. `time` is their column of time, where that is not
    /// their window's.
    fn legs_of(&mut self, rows: &LogicalPlan, time: Option<usize>) -> Result<Vec<(usize, LogicalPlan)>> {
        let expanded = matches!(self.unit, Unit::Window(window) if window.expanded);
        let mut legs = vec![];
        for branch in branches(rows)? {
            legs.push((self.legs.len(), resolve(branch.clone(), expanded)?));
            let input = match time {
                Some(time) => timed_input_of(&branch, time, self.checker)?,
                None => input_of(&branch, self.checker)?,
            };
            self.legs.push(Leg { input, columns: vec![] });
        }
        Ok(legs)
    }

    /// Of rows that are kept, the columns stay that are read above.
    fn pruned(&mut self, upper: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
        if !self.pending.iter().any(|pending| matches!(pending.what, Kept::Rows { .. })) {
            return Ok(upper);
        }
        let rules = Optimizer::new().rules.into_iter().filter(|rule| rule.name() == "optimize_projections");
        let upper = Optimizer::with_rules(rules.collect()).optimize(upper, state, |_, _| {})?;
        let pending = &mut self.pending;
        let replaced = upper.transform_up(|node| {
            let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
            let number = (0..pending.len()).find(|number| scan.table_name.table() == rows_name(*number));
            let Some(number) = number else { return Ok(Transformed::no(node)) };
            let schema = pending[number].prune(scan.projection.as_deref())?;
            let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)?;
            let node = Arc::new(StateScan { cut: number, schema: Arc::new(schema) });
            let read = scan.projected_schema.columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
            let states = LogicalPlan::Extension(Extension { node });
            Ok(Transformed::yes(LogicalPlanBuilder::from(states).project(read)?.build()?))
        })?;
        Ok(replaced.data)
    }
}

impl Pending {
    /// Keeps what is read above, and by what its unit is known. Gives the schema of that.
    fn prune(&mut self, read: Option<&[usize]>) -> datafusion::common::Result<Arc<Schema>> {
        let Kept::Rows { legs, schema } = &mut self.what else {
            return internal_err!("an aggregate was scanned for rows");
        };
        let Some(read) = read else { return Ok(Arc::clone(schema)) };
        let BoundKeys { start, end, keys } = &self.bounds;
        let mut kept = read.to_vec();
        for needed in start.iter().chain(end).chain(keys) {
            if !kept.contains(needed) {
                kept.push(*needed);
            }
        }
        *schema = Arc::new(schema.project(&kept)?);
        for (_, rows) in legs {
            let columns = rows.schema().columns();
            let columns = kept.iter().map(|index| Expr::Column(columns[*index].clone()));
            *rows = LogicalPlanBuilder::from(rows.clone()).project(columns.collect::<Vec<_>>())?.build()?;
        }
        let place = |column: usize| kept.iter().position(|index| *index == column);
        let keys = keys.iter().filter_map(|key| place(*key)).collect();
        self.bounds = BoundKeys { start: start.and_then(place), end: end.and_then(place), keys };
        Ok(Arc::clone(schema))
    }

    async fn planned(&self, state: &SessionState) -> Result<Cut> {
        let mut lowers = vec![];
        let mut last = None;
        match &self.what {
            Kept::Aggregates(legs) => {
                for (leg, aggregate) in legs {
                    let (logical, planned) = cut::plan(aggregate, state).await?;
                    let plan = Arc::clone(planned.children()[0]);
                    lowers.push(Lower { leg: *leg, logical, plan });
                    last.get_or_insert(planned);
                }
            }
            Kept::Rows { legs, .. } => {
                for (leg, rows) in legs {
                    let logical = state.optimize(rows)?;
                    let plan = state.query_planner().create_physical_plan(&logical, state).await?;
                    lowers.push(Lower { leg: *leg, logical, plan });
                }
            }
        }
        let state = match (&self.what, last) {
            (Kept::Rows { schema, .. }, _) => State::Rows(Arc::clone(schema)),
            (Kept::Aggregates(_), Some(last)) => State::Aggregate(last),
            (Kept::Aggregates(_), None) => return Err(Error::internal("a cut without a leg")),
        };
        let BoundKeys { start, end, keys } = self.bounds.clone();
        Ok(Cut {
            lowers,
            state,
            window_start: start,
            window_end: end,
            keys,
            reach: self.reach,
            whole: self.whole,
        })
    }
}

fn rows_name(cut: usize) -> String {
    format!("__rows_{cut}")
}

fn kept_name(column: usize) -> String {
    format!("c{column}")
}

/// Whether each of its rows is of one row of an input.
pub(super) fn is_rows(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Union(_) => plan.inputs().into_iter().all(is_rows),
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            (node.is::<WindowNode>() || node.is::<LookupNode>()) && plan.inputs().into_iter().all(is_rows)
        }
        _ => false,
    }
}

/// The plan over each of the inputs that are united in it, with the union's names.
pub(super) fn branches(plan: &LogicalPlan) -> datafusion::common::Result<Vec<LogicalPlan>> {
    let mut found = vec![];
    match (plan, plan.inputs().as_slice()) {
        (LogicalPlan::Union(union), _) => {
            for input in &union.inputs {
                for branch in branches(input)? {
                    found.push(named_by(union, branch)?);
                }
            }
        }
        (_, [input]) => {
            let inputs = branches(input)?;
            if inputs.len() == 1 && !unites(plan) {
                return Ok(vec![plan.clone()]);
            }
            for branch in inputs {
                found.push(plan.with_new_exprs(plan.expressions(), vec![branch])?);
            }
        }
        _ => found.push(plan.clone()),
    }
    Ok(found)
}

fn unites(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Union(_)) || plan.inputs().into_iter().any(unites)
}

fn named_by(union: &Union, branch: LogicalPlan) -> datafusion::common::Result<LogicalPlan> {
    let columns = branch.schema().columns().into_iter().zip(union.schema.iter());
    let columns = columns.map(|(column, (qualifier, field))| {
        Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::from(branch).project(columns.collect::<Vec<_>>())?.build()
}

/// The input of rows that come of one.
pub(super) fn input_of(rows: &LogicalPlan, checker: &Checker<'_>) -> Result<Input> {
    let known = known_of(rows, checker)?;
    match (known, checker.shape(rows)?.inputs.as_slice()) {
        (Known::Stream(stream), _) => Ok(Input::Stream(stream.name.clone())),
        (Known::View(_), [RowsOf { view: Some(input), .. }]) => Ok(Input::View(input.clone())),
        (Known::View(view), _) => Err(Error::internal(format!("rows of {} were lost sight of", view.name))),
    }
}

/// Likewise of rows whose time is one of their columns.
fn timed_input_of(rows: &LogicalPlan, time: usize, checker: &Checker<'_>) -> Result<Input> {
    let Known::View(view) = known_of(rows, checker)? else { return input_of(rows, checker) };
    let time = checker.shape(rows)?.time_of_view(time);
    let time = time.ok_or_else(|| Error::internal(format!("rows of {} have no such time", view.name)))?;
    let window = Known::View(view).slices();
    Ok(Input::View(ViewInput { name: view.name.clone(), window, time }))
}

pub(super) fn known_of<'a>(rows: &LogicalPlan, checker: &Checker<'a>) -> Result<Known<'a>> {
    let mut scan = rows;
    while let [input] = scan.inputs().as_slice() {
        scan = input;
    }
    let name = match scan {
        LogicalPlan::TableScan(scan) => scan.table_name.table(),
        other => return Err(Error::internal(format!("rows of no input: {}", other.display()))),
    };
    checker.inputs.find(name).ok_or_else(|| Error::internal(format!("{name} is unknown")))
}

/// What the leaves of a leg's lower halves read.
pub(super) fn columns_read<'a>(
    plans: impl Iterator<Item = &'a Arc<dyn ExecutionPlan>>,
    leg: &Leg,
    checker: &Checker<'_>,
) -> Result<Vec<usize>> {
    let name = leg.input.name();
    let known = checker.inputs.find(name).ok_or_else(|| Error::internal(format!("{name} is unknown")))?;
    let schema = known.schema();
    let mut columns: Vec<usize> = known.event_time().into_iter().collect();
    for plan in plans {
        plan.apply(|node| {
            if node.children().is_empty() {
                if !(node.as_ref() as &dyn std::any::Any).is::<LeafExec>() {
                    return Err(never_true().into());
                }
                for field in node.schema().fields() {
                    columns.push(schema.index_of(field.name())?);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    columns.sort_unstable();
    columns.dedup();
    Ok(columns)
}

/// The planner leaves out what it reads where it knows that nothing comes of it.
pub(super) fn never_true() -> Error {
    Error::invalid("the view would have no rows: a condition of it is never true")
        .hint("leave the condition out")
}

/// When the window of a view's row starts, from whichever column tells it.
pub(super) fn start_of_row(view: &ViewSpec, columns: &[Column]) -> Option<Expr> {
    let column = |index: usize| Expr::Column(columns[index].clone());
    let find = |wanted| view.times.iter().position(|time| *time == Some(wanted));
    let start_of = |end: usize| match view.shape.window() {
        Some(window) => start_of_end(column(end), window.layout),
        None => column(end),
    };
    find(RowTime::Start)
        .map(column)
        .or_else(|| find(RowTime::End).map(start_of))
        .or_else(|| find(RowTime::Own).map(column))
        .or_else(|| find(RowTime::Last).map(column))
}
