//! `CREATE MATERIALIZED VIEW` to [`ViewSpec`]: the query is checked (`syntax`, `shape`, `output`), cut where rows come
//! together (`legs`, `cut`, `distinct`), and the half above carries the time of each row along (`carry`).
//!
//! The logical plan is cut and each half planned for itself: what the physical planner learns below the aggregate, such
//! as an order of rows, does not hold above it.

mod below;
mod carry;
mod comma;
mod cut;
mod distinct;
mod dry_run;
mod inputs;
mod keep;
mod legs;
mod lookup;
mod options;
mod output;
mod picks;
mod replay;
mod shape;
mod strain;
mod syntax;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement as AstStatement};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{
    ColumnOrigin, Cut, Ever, Layout, Leg, RecordColumn, StreamSpec, TIME_COLUMN, Unit, ViewShape, ViewSpec,
    Window,
};
use thalweg_engine::view::{fingerprint, plain_planning_state, planning_state, upper};
use uuid::Uuid;

use self::cut::Direction;
pub(super) use self::inputs::InputTable;
pub use self::inputs::Inputs;
use self::inputs::Known;
use self::options::ViewOptions;
pub(super) use self::shape::length_of_time;
use self::shape::{Checker, Shape};
pub(crate) use self::strain::strain;
pub(crate) use self::syntax::{place_of_query, place_of_relation};
use super::checked::{CheckedArithmetic, widens};
use super::executed;
use super::functions::offer;
use super::named::at_name;
use super::window::{WINDOW_TIME, WindowFunctions, resolve};
use super::{compared, correlated, dated, nearby, not_in};
use crate::error::{Error, Result, told_plainly};
use crate::parse::CreateView;

/// More panes than this would be merged for every window that closes, or more rows made of each.
const PANES_PER_WINDOW_MAX: Micros = 10_000;

/// Plans a view, and runs its plans once on next to nothing.
pub async fn plan_view(create: &CreateView, id: Uuid, inputs: Inputs<'_>) -> Result<ViewSpec> {
    plan(create, id, inputs, |refusal| refusal).await
}

/// Plans a view that was accepted once. What CREATE has learnt to refuse since then must not keep its engine from
/// starting: the view is as it was.
pub async fn plan_known_view(create: &CreateView, id: Uuid, inputs: Inputs<'_>) -> Result<ViewSpec> {
    let warned = |refusal: Result<()>| {
        if let Err(error) = refusal {
            tracing::warn!(view = create.name.value, %error, "CREATE would refuse this view now: replace it");
        }
        Ok(())
    };
    plan(create, id, inputs, warned).await
}

/// `judge` says what becomes of a refusal that an older release did not know.
async fn plan(
    create: &CreateView,
    id: Uuid,
    inputs: Inputs<'_>,
    judge: impl Fn(Result<()>) -> Result<()>,
) -> Result<ViewSpec> {
    let mut query = create.query.clone();
    inputs.plain.inline(&mut query)?;
    let create = &CreateView { query, ..create.clone() };
    let state = planner(&create.query);
    syntax::check(&create.query, inputs)?;
    judge(executed::check(&create.query, &state))?;
    let options = ViewOptions::of(create)?;
    let context = SessionContext::new_with_state(state);
    inputs.register(&create.query, &context).await?;
    let state = context.state();
    let mut written = create.query.clone();
    compared::heed_nulls_of_rows(&mut written)?;
    let query = AstStatement::Query(written);
    let plan = state.statement_to_plan(PlannerStatement::Statement(Box::new(query))).await;
    let plan = plan.map_err(|error| at_name(error.into(), &create.query, &state))?;
    judge(replay::check(&plan, &create.query))?;
    judge(not_in::check(&plan, &create.query))?;
    judge(correlated::check(&plan, &create.query))?;
    judge(dated::check(&plan, &create.query))?;
    let plan = without_subqueries(plan, &state)?;
    if asks_subqueries(&plan)? {
        return Err(Error::invalid("whether a query has a row is no value in a view")
            .at(syntax::place_of_query(&create.query))
            .hint("ask it in WHERE, or LEFT JOIN the query and look whether a column of it IS NOT NULL"));
    }
    let plan = comma::joined_by_where(plan)?;
    let plan = nearby::heed_ranges(plan).map_err(|error| at_name(error.into(), &create.query, &state))?;
    let (plan, lookups) = lookup::looked_up(plan, inputs, &create.query)?;
    let checker = Checker { query: &create.query, inputs };
    let shape = checker.shape(&plan)?;
    output::check(&plan, &create.query)?;
    let query = Checked { plan, create, checker, options };
    let planned = query.planned(&state, Direction::Heeded).await;
    let (planned, legs) = planned
        .map_err(|error| at_name(error, &create.query, &state).at(syntax::place_of_query(&create.query)))?;
    query.options.suit(&planned, &legs)?;
    let schema = dry_run::dry_run(&planned, &legs, inputs).await.map_err(|error| {
        let told = error.to_string();
        let of_expression = told.split_once("the view's plan can't run: an expression fails: ");
        match (told_plainly(&told), of_expression) {
            (Some(plain), _) => at_name(plain, &create.query, &state),
            (None, Some((_, reason))) => at_name(Error::invalid(reason), &create.query, &state),
            (None, None) => Error::invalid("DataFusion can't run this query in two halves").detail(told),
        }
        .at(create.name.position)
    })?;
    let fingerprint = query.fingerprint(&planned).await?;
    Ok(ViewSpec {
        id,
        name: create.name.value.clone(),
        sql: create.text.clone(),
        legs,
        lookups,
        retention: query.options.retention,
        times: shape.row_times(),
        schema,
        shape: planned,
        fingerprint,
    })
}

/// The columns of a query over streams and views, which is no view yet.
pub async fn columns_of(query: &Query, inputs: Inputs<'_>) -> Result<SchemaRef> {
    let state = planner(query);
    executed::check(query, &state)?;
    let context = SessionContext::new_with_state(state);
    inputs.register(query, &context).await?;
    let statement = AstStatement::Query(Box::new(query.clone()));
    let plan = context.state().statement_to_plan(PlannerStatement::Statement(Box::new(statement))).await?;
    Ok(Arc::new(plan.schema().as_arrow().clone()))
}

/// The relations that a query names and does not define itself.
pub fn relations(query: &Query) -> Vec<String> {
    syntax::relations(query).into_iter().map(|(name, _)| name).collect()
}

fn planner(query: &Query) -> SessionState {
    let windows = WindowFunctions { with_last: syntax::names_column(query, WINDOW_TIME) };
    let mut state = offer(planning_state())
        .with_relation_planners(vec![Arc::new(windows)])
        .with_analyzer_rule(Arc::new(CheckedArithmetic))
        .build();
    state.config_mut().options_mut().sql_parser.collect_spans = true;
    state
}

/// `IN (SELECT …)` and `EXISTS (…)` are joins.
fn without_subqueries(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    if !asks_subqueries(&plan)? {
        return Ok(plan);
    }
    run_rules(plan, &["decorrelate_predicate_subquery"], state)
}

fn asks_subqueries(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|each| {
                found |= matches!(each, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn run_rules(plan: LogicalPlan, names: &[&str], state: &SessionState) -> Result<LogicalPlan> {
    let rules = Optimizer::new().rules.into_iter().filter(|rule| names.contains(&rule.name()));
    Ok(Optimizer::with_rules(rules.collect()).optimize(plan, state, |_, _| {})?)
}

/// A query that can be a view.
struct Checked<'a> {
    plan: LogicalPlan,
    create: &'a CreateView,
    checker: Checker<'a>,
    options: ViewOptions<'a>,
}

impl Checked<'_> {
    async fn planned(&self, state: &SessionState, direction: Direction) -> Result<(ViewShape, Vec<Leg>)> {
        let (plan, shape) = self.shaped(analyzed(self.plan.clone(), state)?)?;
        let unit = match shape.unit {
            shape::Unit::Session { gap, .. } => Unit::Session(self.options.session(gap)?),
            unit if !shape.aggregated() => {
                if let shape::Unit::Window(layout) = unit
                    && shape.is_windowed_here()
                {
                    window(layout, !layout.tumbles(), self.create)?;
                }
                return self.copy(plan, state).await;
            }
            shape::Unit::None => return Err(Error::internal("rows of many wait for nothing")),
            shape::Unit::Ever => Unit::Ever(self.options.ever()),
            shape::Unit::Slice(asked) => {
                let layout = asked.unwrap_or_else(|| shape::slices_for(shape.reach));
                Unit::Window(Window { layout, expanded: false })
            }
            shape::Unit::Window(layout) => {
                let expanded = !layout.tumbles() && shape.looks_at_window;
                Unit::Window(window(layout, expanded, self.create)?)
            }
        };
        let plan = match unit {
            Unit::Ever(Ever { keep: Some(keep), .. }) => {
                keep::by_session(plan, keep, self.create, &self.checker)?
            }
            _ => plan,
        };
        let plan = below::judged_below(&plan, &self.checker)?;
        let cutting = legs::cut(&plan, unit, &self.checker, direction, state).await?;
        let logical = output::project(cutting.upper)?;
        let upper = upper::planned(&cutting.cuts, logical).await?;
        let allowed_lateness = self.options.allowed_lateness.unwrap_or(0);
        Ok((ViewShape::Units { unit, allowed_lateness, cuts: cutting.cuts, upper }, cutting.legs))
    }

    /// The plan and what it is. What could be a view only if values of keys are keys is made so; a plan that is one without
    /// stays as it was, for so was its state.
    fn shaped(&self, plan: LogicalPlan) -> Result<(LogicalPlan, Shape)> {
        let refused = match self.shape(&plan) {
            Ok(shape) => return Ok((plan, shape)),
            Err(refused) => refused,
        };
        let plan = picks::are_keys(plan)?;
        let shape = self.shape(&plan).map_err(|_| refused)?;
        Ok((plan, shape))
    }

    fn shape(&self, plan: &LogicalPlan) -> Result<Shape> {
        let shape = self.checker.shape(plan)?;
        if matches!(shape.unit, shape::Unit::Session { .. }) && shape.looks_at_window {
            return Err(Error::invalid("what a session's bounds are is known only when it has ended")
                .at(syntax::place_of_window(&self.create.query))
                .hint("group by window_start, window_end and the keys, and look at them above that"));
        }
        Ok(shape)
    }

    /// For each input its rows, with the time by which the view's table is divided.
    async fn copy(&self, plan: LogicalPlan, state: &SessionState) -> Result<(ViewShape, Vec<Leg>)> {
        let (mut lowers, mut copied) = (vec![], vec![]);
        for rows in legs::branches(&plan)? {
            let input = legs::input_of(&rows, &self.checker)?;
            let known = legs::known_of(&rows, &self.checker)?;
            // A row for each window of an event.
            let rows = resolve(rows, true)?;
            let mut scan = &rows;
            while let [input] = scan.inputs().as_slice() {
                scan = input;
            }
            let columns = scan.schema().columns();
            let time = match known {
                Known::Stream(stream) => Expr::Column(columns[time_of_copy(stream, self.create)?].clone()),
                Known::View(view) => legs::start_of_row(view, &columns)
                    .ok_or_else(|| Error::internal("rows of a view without a window"))?,
            };
            let columns = columns.into_iter().map(Expr::Column).chain([time.alias(TIME_COLUMN)]);
            let with_time =
                LogicalPlanBuilder::from(scan.clone()).project(columns.collect::<Vec<_>>())?.build()?;
            let logical = output::project(carry::carry_time(&rows, scan, &with_time)?)?;
            let optimized = state.optimize(&logical)?;
            let lower = state.query_planner().create_physical_plan(&optimized, state).await?;
            let mut leg = Leg { input, columns: vec![] };
            leg.columns = legs::columns_read([&lower].into_iter(), &leg, &self.checker)?;
            lowers.push(lower);
            copied.push(leg);
        }
        Ok((ViewShape::Copy { lowers }, copied))
    }

    /// That of the plan without checks of arithmetic, which change no state but make that of a sum wider, and without the
    /// direction of percentiles, which is asked for when they are finished; so what was kept before there were any is
    /// read on.
    async fn fingerprint(&self, planned: &ViewShape) -> Result<String> {
        match self.planned(&plain_planning_state(), Direction::Dropped).await {
            Ok((plain, _)) if same_states(&plain, planned) => Ok(fingerprint(&plain)),
            _ => Ok(fingerprint(planned)),
        }
    }
}

fn same_states(plain: &ViewShape, checked: &ViewShape) -> bool {
    let (ViewShape::Units { cuts: plain, .. }, ViewShape::Units { cuts: checked, .. }) = (plain, checked)
    else {
        return true;
    };
    let same = |(plain, checked): (&Cut, &Cut)| widens(&plain.state_schema(), &checked.state_schema());
    plain.len() == checked.len() && plain.iter().zip(checked).all(same)
}

/// Rows are made one for each window only where they must.
fn window(layout: Layout, expanded: bool, create: &CreateView) -> Result<Window> {
    let pieces = match layout {
        _ if layout.tumbles() => 1,
        Layout::Calendar(_) => 1,
        Layout::Cumulate { size, step, .. } => size / step,
        Layout::Hop { size, slide, .. } if expanded => (size + slide - 1) / slide,
        Layout::Hop { size, .. } => size / layout.shared_pane().0,
    };
    let what = if expanded { "each row would be one of" } else { "each window would be made of" };
    if pieces > PANES_PER_WINDOW_MAX {
        let of = if expanded { "windows" } else { "panes" };
        let place = syntax::place_of_window(&create.query);
        return Err(Error::invalid(format!("{what} {pieces} {of}, more than {PANES_PER_WINDOW_MAX}"))
            .at(place)
            .hint("take a longer slide, one that divides the size"));
    }
    Ok(Window { layout, expanded })
}

/// Types are coerced, and SELECT DISTINCT is an aggregate. What a join can do without is left out below it, since it
/// would be kept.
fn analyzed(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let plan = run_rules(plan, &["replace_distinct_aggregate"], state)?;
    // DISTINCT ON sorts what it picked; the rows of a view have no order.
    let unsorted = plan.transform_up(|node| match node {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            Ok(Transformed::yes(Arc::unwrap_or_clone(sort.input)))
        }
        other => Ok(Transformed::no(other)),
    });
    let plan = unsorted?.data;
    let joins = plan.exists(|node| Ok(matches!(node, LogicalPlan::Join(_))))?;
    if joins { run_rules(plan, &["push_down_filter", "extract_equijoin_predicate"], state) } else { Ok(plan) }
}

/// Which column tells the time of a row where there is no window.
fn time_of_copy(stream: &StreamSpec, create: &CreateView) -> Result<usize> {
    match stream.event_time {
        Some(event_time) => Ok(event_time.column),
        None => stream
            .origins
            .iter()
            .position(|origin| *origin == ColumnOrigin::Record(RecordColumn::Timestamp))
            .ok_or_else(|| {
                Error::invalid(format!("stream {} has no time, by which the view's table is divided", stream.name))
                    .at(create.name.position)
                    .hint("declare a WATERMARK in its CREATE STREAM, or a column TIMESTAMP METADATA FROM 'timestamp'")
            }),
    }
}
