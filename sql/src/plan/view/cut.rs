//! Plans one aggregate over an input for itself: `Final` over `Partial`, never combined.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, cast, lit};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};

use super::legs::never_true;
use crate::error::{Error, Result};

/// Rules that would put something above the aggregate, or another below it.
const LEFT_OUT: [&str; 2] = ["single_distinct_aggregation_to_group_by", "eliminate_group_by_constant"];
/// Left out too where the first attempt has put something above the aggregate.
const LEFT_OUT_THEN: [&str; 2] = ["common_sub_expression_eliminate", "eliminate_duplicated_expr"];

/// The aggregate as it is planned, and its plan.
pub(super) async fn plan(
    aggregate: &Aggregate,
    state: &SessionState,
) -> Result<(LogicalPlan, Arc<dyn ExecutionPlan>)> {
    let logical = LogicalPlan::Aggregate(aggregate.clone());
    let mut optimized = optimize(&logical, &LEFT_OUT, state)?;
    if !matches!(optimized, LogicalPlan::Aggregate(_)) {
        optimized = optimize(&logical, &[LEFT_OUT, LEFT_OUT_THEN].concat(), state)?;
    }
    let planned = state.query_planner().create_physical_plan(&optimized, state).await?;
    let is_pair = mode(&planned) == Some(AggregateMode::Final)
        && planned.children().first().and_then(|child| mode(child)) == Some(AggregateMode::Partial);
    if !is_pair {
        let is_empty = optimized.exists(|node| Ok(matches!(node, LogicalPlan::EmptyRelation(_))))?;
        return Err(match is_empty {
            true => never_true(),
            false => Error::internal("an aggregate was not planned as Final over Partial"),
        });
    }
    Ok((optimized, planned))
}

fn optimize(plan: &LogicalPlan, left_out: &[&str], state: &SessionState) -> Result<LogicalPlan> {
    let rules = Optimizer::new().rules.into_iter().filter(|rule| !left_out.contains(&rule.name()));
    Ok(Optimizer::with_rules(rules.collect()).optimize(plan.clone(), state, |_, _| {})?)
}

fn mode(plan: &Arc<dyn ExecutionPlan>) -> Option<AggregateMode> {
    (plan.as_ref() as &dyn Any).downcast_ref::<AggregateExec>().map(|it| *it.mode())
}

/// What becomes of the direction in which a percentile is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Heeded,
    /// As if all were ascending: the same state, of which the other tail is told.
    Dropped,
}

/// The aggregate without `ORDER BY` in functions to which order is nothing: in two phases those panic or fail. To a
/// percentile its direction is something, and is taken over into the fraction.
pub(super) fn without_idle_order(aggregate: &Aggregate, direction: Direction) -> Result<Aggregate> {
    let strip = |expr: Expr| {
        expr.transform_up(|each| match each {
            Expr::AggregateFunction(mut function)
                if !function.params.order_by.is_empty() && !heeds_order(function.func.name()) =>
            {
                let descending = function.params.order_by.first().is_some_and(|order| !order.asc);
                if direction == Direction::Heeded
                    && descending
                    && let Some(fraction) = fraction_of(&mut function)
                {
                    *fraction = lit(1.0) - cast(fraction.clone(), DataType::Float64);
                }
                function.params.order_by.clear();
                Ok(Transformed::yes(Expr::AggregateFunction(function)))
            }
            other => Ok(Transformed::no(other)),
        })
    };
    let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut stripped = vec![];
    for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
        let (qualifier, field) = aggregate.schema.qualified_field(keys + index);
        let changed = strip(expr.clone())?;
        stripped.push(match changed.transformed {
            // The name told of the order.
            true => changed.data.unalias().alias_qualified(qualifier.cloned(), field.name()),
            false => expr.clone(),
        });
    }
    Ok(Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), stripped)?)
}

/// Which share of the rows comes before the value that a percentile is.
fn fraction_of(function: &mut AggregateFunction) -> Option<&mut Expr> {
    match function.func.name() {
        "percentile_cont" | "approx_percentile_cont" => function.params.args.get_mut(1),
        "approx_percentile_cont_with_weight" => function.params.args.get_mut(2),
        _ => None,
    }
}

fn heeds_order(function: &str) -> bool {
    matches!(function, "array_agg" | "string_agg" | "first_value" | "last_value" | "nth_value")
}
