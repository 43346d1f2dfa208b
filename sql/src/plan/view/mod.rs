//! `CREATE MATERIALIZED VIEW` to [`ViewSpec`]: the query is checked (`syntax`, `shape`, `output`), cut at its aggregate
//! (`cut`, `distinct`), and the half above carries the time of each row along (`carry`).
//!
//! The logical plan is cut and each half planned for itself: what the physical planner learns below the aggregate, such
//! as an order of rows, does not hold above it.

mod carry;
mod cut;
mod distinct;
mod dry_run;
mod output;
mod replay;
mod shape;
mod stream_table;
mod syntax;

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::Statement as AstStatement;
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{
    ColumnOrigin, RecordColumn, StreamSpec, TIME_COLUMN, ViewShape, ViewSpec, Window,
};
use thalweg_engine::view::lower::partial_of;
use thalweg_engine::view::{fingerprint, plain_planning_state, planning_state, upper};
use uuid::Uuid;

use self::cut::Direction;
use self::shape::{BoundKeys, Shape};
use super::checked::{CheckedArithmetic, widens};
use super::executed;
use super::functions::offer;
use super::values::{self, Options};
use super::window::{WindowFunctions, WindowLength, pane_length, resolve, shift};
use crate::error::{Error, Result};
use crate::parse::CreateView;

const OPTIONS: [&str; 1] = ["allowed_lateness"];
/// More panes than this would be merged for every window that closes, or more rows made of each.
const PANES_PER_WINDOW_MAX: Micros = 10_000;

/// Plans a view over one of `streams`, and runs its plans once on next to nothing.
pub async fn plan_view(create: &CreateView, id: Uuid, streams: &[Arc<StreamSpec>]) -> Result<ViewSpec> {
    plan(create, id, streams, |refusal| refusal).await
}

/// Plans a view that was accepted once. What CREATE has learnt to refuse since then must not keep its engine from
/// starting: the view is as it was.
pub async fn plan_known_view(create: &CreateView, id: Uuid, streams: &[Arc<StreamSpec>]) -> Result<ViewSpec> {
    let warned = |refusal: Result<()>| {
        if let Err(error) = refusal {
            tracing::warn!(view = create.name.value, %error, "CREATE would refuse this view now: replace it");
        }
        Ok(())
    };
    plan(create, id, streams, warned).await
}

/// `judge` says what becomes of a refusal that an older release did not know.
async fn plan(
    create: &CreateView,
    id: Uuid,
    streams: &[Arc<StreamSpec>],
    judge: impl Fn(Result<()>) -> Result<()>,
) -> Result<ViewSpec> {
    let state = planner();
    let stream = syntax::check(&create.query, streams)?;
    judge(executed::check(&create.query, &state))?;
    let allowed_lateness = options(create)?;
    let state = with_stream(state, stream)?;
    let query = AstStatement::Query(create.query.clone());
    let plan = state.statement_to_plan(PlannerStatement::Statement(Box::new(query))).await?;
    judge(replay::check(&plan, &create.query))?;
    let shape = shape::check(&plan, &create.query, stream)?;
    output::check(&plan, &create.query)?;
    let window = shape.window.map(|length| window(length, expands(&shape), create)).transpose()?;
    let window = window.filter(|_| shape.aggregated);
    if window.is_none() && allowed_lateness.is_some() {
        return Err(Error::invalid("nothing is late for a view without a window")
            .at(create.options.first().and_then(|option| option.position))
            .hint("leave out allowed_lateness"));
    }
    let query = Resolved {
        plan: resolve(plan, expands(&shape))?,
        window,
        keys: shape.keys,
        allowed_lateness: allowed_lateness.unwrap_or(0),
        time: if window.is_none() { Some(time_of_copy(stream, create)?) } else { None },
    };
    let planned = query.planned(&state, Direction::Heeded).await?;
    let columns = columns_read(&planned, stream)?;
    let schema = dry_run::dry_run(&planned, stream).await.map_err(|error| {
        let text = "DataFusion can't run this query in two halves";
        Error::invalid(text).at(create.name.position).detail(error.to_string())
    })?;
    let fingerprint = query.fingerprint(&planned).await?;
    Ok(ViewSpec {
        id,
        name: create.name.value.clone(),
        sql: create.text.clone(),
        stream: stream.name.clone(),
        columns,
        schema,
        shape: planned,
        fingerprint,
    })
}

fn planner() -> SessionState {
    let mut state = offer(planning_state())
        .with_relation_planners(vec![Arc::new(WindowFunctions)])
        .with_analyzer_rule(Arc::new(CheckedArithmetic))
        .build();
    state.config_mut().options_mut().sql_parser.collect_spans = true;
    state
}

/// A query that can be a view, with rows of panes or windows in place of its window.
struct Resolved {
    plan: LogicalPlan,
    window: Option<Window>,
    keys: BoundKeys,
    allowed_lateness: Micros,
    /// Of a view without a window: which column of the stream tells the time of a row.
    time: Option<usize>,
}

impl Resolved {
    async fn planned(&self, state: &SessionState, direction: Direction) -> Result<ViewShape> {
        let plan = analyzed(self.plan.clone(), state)?;
        match (self.window, self.time) {
            (Some(window), _) => self.windowed(plan, window, direction, state).await,
            (None, Some(time)) => copy(plan, time, state).await,
            (None, None) => Err(Error::internal("a view has neither a window nor a time")),
        }
    }

    async fn windowed(
        &self,
        plan: LogicalPlan,
        window: Window,
        direction: Direction,
        state: &SessionState,
    ) -> Result<ViewShape> {
        let aggregate = innermost(&plan)?;
        let split = distinct::split(&cut::without_idle_order(aggregate, direction)?)?;
        let mut cuts = vec![];
        for aggregate in &split.cuts {
            cuts.push(cut::plan(aggregate, self.keys, state).await?);
        }
        let time = time_of_window(&split.upper, self.keys, window.size)?;
        let upper = carry::carry_time(&plan, &LogicalPlan::Aggregate(aggregate.clone()), &time)?;
        let logical = output::project(upper)?;
        let upper = upper::planned(&cuts, logical).await?;
        Ok(ViewShape::Windowed { window, allowed_lateness: self.allowed_lateness, cuts, upper })
    }

    /// That of the plan without checks of arithmetic, which change no state but make that of a sum wider, and without the
    /// direction of percentiles, which is asked for when they are finished; so what was kept before there were any is
    /// read on.
    async fn fingerprint(&self, planned: &ViewShape) -> Result<String> {
        match self.planned(&plain_planning_state(), Direction::Dropped).await {
            Ok(plain) if same_states(&plain, planned)? => Ok(fingerprint(&plain)),
            _ => Ok(fingerprint(planned)),
        }
    }
}

fn same_states(plain: &ViewShape, checked: &ViewShape) -> Result<bool> {
    let (ViewShape::Windowed { cuts: plain, .. }, ViewShape::Windowed { cuts: checked, .. }) =
        (plain, checked)
    else {
        return Ok(true);
    };
    let mut same = plain.len() == checked.len();
    for (plain, checked) in plain.iter().zip(checked) {
        let (plain, checked) = (partial_of(&plain.aggregate)?, partial_of(&checked.aggregate)?);
        same &= widens(&plain.schema(), &checked.schema());
    }
    Ok(same)
}

fn with_stream(state: SessionState, stream: &StreamSpec) -> Result<SessionState> {
    let context = SessionContext::new_with_state(state);
    let table = stream_table::StreamTable { schema: Arc::clone(&stream.schema) };
    context.register_table(stream.name.as_str(), Arc::new(table))?;
    Ok(context.state())
}

fn options(create: &CreateView) -> Result<Option<Micros>> {
    let mut given = Options::new(&create.options);
    given.refuse_unknown(&OPTIONS)?;
    Ok(given.parsed("allowed_lateness", values::duration)?.map(|length| length.as_micros() as Micros))
}

/// A copy has a row for each window of an event; an aggregate does only where it must.
fn expands(shape: &Shape) -> bool {
    let hops = shape.window.is_some_and(|length| length.slide != length.size);
    hops && (shape.looks_at_window || !shape.aggregated)
}

fn window(length: WindowLength, expanded: bool, create: &CreateView) -> Result<Window> {
    let WindowLength { size, slide } = length;
    let (pieces, what) = match expanded {
        true => ((size + slide - 1) / slide, "each row would be one of"),
        false => (size / pane_length(length), "each window would be made of"),
    };
    if pieces > PANES_PER_WINDOW_MAX {
        let of = if expanded { "windows" } else { "panes" };
        let place = syntax::place_of_window(&create.query);
        return Err(Error::invalid(format!("{what} {pieces} {of}, more than {PANES_PER_WINDOW_MAX}"))
            .at(place)
            .hint("take a longer slide, one that divides the size"));
    }
    Ok(Window { size, slide, expanded })
}

/// Types are coerced, and SELECT DISTINCT is an aggregate.
fn analyzed(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let early = Optimizer::new().rules.into_iter().filter(|rule| rule.name() == "replace_distinct_aggregate");
    Ok(Optimizer::with_rules(early.collect()).optimize(plan, state, |_, _| {})?)
}

/// The aggregate over the stream.
fn innermost(plan: &LogicalPlan) -> Result<&Aggregate> {
    let mut found = None;
    let mut node = plan;
    loop {
        if let LogicalPlan::Aggregate(aggregate) = node {
            found = Some(aggregate);
        }
        match node.inputs().as_slice() {
            [input] => node = input,
            _ => return found.ok_or_else(|| Error::internal("the plan of a windowed view has no aggregate")),
        }
    }
}

/// The finished rows of the aggregate, and when their window starts.
fn time_of_window(upper: &LogicalPlan, keys: BoundKeys, size: Micros) -> Result<LogicalPlan> {
    let columns = upper.schema().columns();
    let column = |index: usize| Expr::Column(columns[index].clone());
    let time = match (keys.start, keys.end) {
        (Some(start), _) => column(start),
        (None, Some(end)) => shift(column(end), -size),
        (None, None) => return Err(Error::internal("the window is none of the aggregate's keys")),
    };
    let all = (0..columns.len()).map(column).chain([time.alias(TIME_COLUMN)]).collect::<Vec<_>>();
    Ok(LogicalPlanBuilder::from(upper.clone()).project(all)?.build()?)
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

async fn copy(plan: LogicalPlan, time: usize, state: &SessionState) -> Result<ViewShape> {
    let mut scan = &plan;
    while let [input] = scan.inputs().as_slice() {
        scan = input;
    }
    let columns = scan.schema().columns();
    let time = Expr::Column(columns[time].clone()).alias(TIME_COLUMN);
    let columns = columns.into_iter().map(Expr::Column).chain([time]).collect::<Vec<_>>();
    let with_time = LogicalPlanBuilder::from(scan.clone()).project(columns)?.build()?;
    let logical = output::project(carry::carry_time(&plan, scan, &with_time)?)?;
    let optimized = state.optimize(&logical)?;
    let lower = state.query_planner().create_physical_plan(&optimized, state).await?;
    Ok(ViewShape::Copy { lower })
}

/// What the leaves of the lower halves read.
fn columns_read(shape: &ViewShape, stream: &StreamSpec) -> Result<Vec<usize>> {
    let plans: Vec<&Arc<dyn ExecutionPlan>> = match shape {
        ViewShape::Copy { lower } => vec![lower],
        ViewShape::Windowed { cuts, .. } => cuts.iter().map(|cut| &cut.aggregate).collect(),
    };
    let mut columns: Vec<usize> = stream.event_time.map(|it| it.column).into_iter().collect();
    for plan in plans {
        plan.apply(|node| {
            if node.children().is_empty() {
                for field in node.schema().fields() {
                    columns.push(stream.schema.index_of(field.name())?);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    columns.sort_unstable();
    columns.dedup();
    Ok(columns)
}
