//! `lag` and `lead` over a RANGE of time look no further than that: what lies beyond is as if it were not there. DataFusion
//! lets them look through the whole partition, whatever the frame.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Case, NullTreatment, WindowFunction};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Window, WindowFrameBound, WindowFrameUnits, lit,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::view::length_of_time;

/// Has each such function tell the time of the row that it finds too, and takes what it finds if that is near enough.
pub(crate) fn heed_ranges(plan: LogicalPlan) -> Result<LogicalPlan> {
    let heeded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => {
            let mut functions = window.window_expr.iter();
            functions.try_for_each(|expr| check_frame(expr, window.input.schema()))?;
            match window.window_expr.iter().any(|expr| near(expr).is_some()) {
                true => heeding(&window).map(Transformed::yes),
                false => Ok(Transformed::no(LogicalPlan::Window(window))),
            }
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(heeded.data)
}

/// What leaves a frame DataFusion takes away from these again, and what is left may be noise. (Sums, means and variances are
/// ours: `checked::moving`.)
const TAKEN_AWAY: [&str; 13] = [
    "bit_xor",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
];

/// DataFusion takes bounds that it can't reckon with, and then takes all rows, or others, or panics.
fn check_frame(expr: &Expr, schema: &DFSchema) -> Result<()> {
    const MOST: u64 = u32::MAX as u64;
    let Expr::WindowFunction(function) = expr.clone().unalias() else { return Ok(()) };
    let (frame, order) = (&function.params.window_frame, &function.params.order_by);
    if let ("lag" | "lead", Some(rows)) = (function.fun.name(), function.params.args.get(1)) {
        match constant(rows, schema)? {
            Expr::Literal(rows, _) if !rows.is_null() => {}
            Expr::Placeholder(_) => {}
            _ => {
                let name = function.fun.name();
                return plan_err!("{name}() looks {rows} rows away; write how many, as a number");
            }
        }
    }
    let moves = !frame.start_bound.is_unbounded();
    if moves && TAKEN_AWAY.contains(&function.fun.name()) {
        return plan_err!(
            "{}() over a frame that moves would be wrong where what leaves the frame is much, or all; join the rows by how far \
             apart they are, and aggregate",
            function.fun.name()
        );
    }
    for bound in [&frame.start_bound, &frame.end_bound] {
        let (WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value)) = bound else {
            continue;
        };
        if value.is_null() {
            continue;
        }
        if frame.units != WindowFrameUnits::Range {
            if matches!(value, ScalarValue::UInt64(Some(rows)) if *rows > MOST) {
                return plan_err!("a frame reaches {MOST} rows or groups at most; write UNBOUNDED for all");
            }
            continue;
        }
        let [by] = order.as_slice() else { continue };
        let ordered = by.expr.get_type(schema)?;
        if !ordered.is_numeric() && !ordered.is_temporal() {
            return plan_err!(
                "a RANGE of {value} is of numbers or times, and {} is neither; take ROWS, or order by one of these",
                by.expr
            );
        }
    }
    Ok(())
}

/// What the planner makes of an expression without columns.
fn constant(expr: &Expr, schema: &DFSchema) -> Result<Expr> {
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    ExprSimplifier::new(context).simplify(expr.clone())
}

struct Near<'a> {
    function: &'a WindowFunction,
    /// The time that rows are ordered by.
    time: &'a Expr,
    is_lag: bool,
    distance: ScalarValue,
}

/// The function, if it is one that looks for a row and has a RANGE of time.
fn near(expr: &Expr) -> Option<Near<'_>> {
    let function = match expr {
        Expr::WindowFunction(function) => function,
        Expr::Alias(alias) => return near(&alias.expr),
        _ => return None,
    };
    let frame = &function.params.window_frame;
    let is_lag = match function.fun.name() {
        "lag" => true,
        "lead" => false,
        _ => return None,
    };
    let bound = if is_lag { &frame.start_bound } else { &frame.end_bound };
    let distance = match bound {
        WindowFrameBound::Preceding(value) if is_lag => length_of_time(value)?,
        WindowFrameBound::Following(value) if !is_lag => length_of_time(value)?,
        _ => return None,
    };
    let [order] = function.params.order_by.as_slice() else { return None };
    (frame.units == WindowFrameUnits::Range).then_some(Near { function, time: &order.expr, is_lag, distance })
}

fn heeding(window: &Window) -> Result<LogicalPlan> {
    let of_input = window.input.schema().fields().len();
    let mut functions: Vec<Expr> = vec![];
    let mut added = |function: WindowFunction| {
        let function = Expr::WindowFunction(Box::new(function));
        let name = Expr::Column(Column::new_unqualified(function.schema_name().to_string()));
        if !functions.contains(&function) {
            functions.push(function);
        }
        name
    };
    let mut columns: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut others = vec![];
    for (index, expr) in window.window_expr.iter().enumerate() {
        let (qualifier, field) = window.schema.qualified_field(of_input + index);
        let Some(Near { function, time, is_lag, distance }) = near(expr) else {
            others.push(expr.clone());
            columns.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
            continue;
        };
        if function.params.null_treatment == Some(NullTreatment::IgnoreNulls) {
            return plan_err!("IGNORE NULLS over a RANGE of time is not supported");
        }
        let frame = &function.params.window_frame;
        match (is_lag, &frame.start_bound, &frame.end_bound) {
            (true, _, WindowFrameBound::Preceding(_)) => {
                return plan_err!(
                    "lag() over a RANGE of time looks back from its row: the RANGE ends at CURRENT ROW"
                );
            }
            (false, WindowFrameBound::Following(_), _) => {
                return plan_err!(
                    "lead() over a RANGE of time looks on from its row: the RANGE begins at CURRENT ROW"
                );
            }
            _ => {}
        }
        // What there is to say where no row is found is said here.
        let otherwise = function.params.args.get(2).cloned().unwrap_or_else(|| lit(ScalarValue::Null));
        let mut value = function.clone();
        value.params.args.truncate(2);
        let mut found = value.clone();
        found.params.args[0] = time.clone();
        let (value, found) = (added(value), added(found));
        let distance = lit(distance);
        let is_near = match is_lag {
            true => found.gt_eq(time.clone() - distance),
            false => found.lt_eq(time.clone() + distance),
        };
        // Its types are made to fit later, as those of any CASE.
        let choice = vec![(Box::new(is_near), Box::new(value))];
        let value = Expr::Case(Case::new(None, choice, Some(Box::new(otherwise))));
        columns.push(value.alias_qualified(qualifier.cloned(), field.name()));
    }
    others.extend(functions);
    LogicalPlanBuilder::from(window.input.clone()).window(others)?.project(columns)?.build()
}
