//! Carries the time of each row, as a hidden last column, from where it is known up to the end of a plan.

use std::sync::Arc;

use datafusion::common::{Column, Result, internal_err};
use datafusion::logical_expr::expr::GroupingSet;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_engine::spec::TIME_COLUMN;

/// `plan` with the node `bottom` replaced by `replacement`, whose last column is the time, which all nodes above pass on.
pub(super) fn carry_time(
    plan: &LogicalPlan,
    bottom: &LogicalPlan,
    replacement: &LogicalPlan,
) -> Result<LogicalPlan> {
    if plan == bottom {
        return Ok(replacement.clone());
    }
    let inputs = plan.inputs();
    let [input] = inputs.as_slice() else {
        return internal_err!("a view's plan forks at {}", plan.display());
    };
    let input = carry_time(input, bottom, replacement)?;
    let time = Expr::Column(time_of(&input)?);
    match plan {
        LogicalPlan::Projection(projection) => {
            let columns = projection.expr.iter().cloned().chain([time]).collect::<Vec<_>>();
            LogicalPlanBuilder::from(input).project(columns)?.build()
        }
        LogicalPlan::Aggregate(aggregate) => {
            let keys = keys_with(&aggregate.group_expr, time);
            Ok(LogicalPlan::Aggregate(Aggregate::try_new(
                Arc::new(input),
                keys,
                aggregate.aggr_expr.clone(),
            )?))
            .and_then(time_last)
        }
        LogicalPlan::Window(window) => {
            let above = LogicalPlanBuilder::from(input).window(window.window_expr.clone())?.build()?;
            time_last(above)
        }
        other => other.with_new_exprs(other.expressions(), vec![input]).and_then(time_last),
    }
}

/// The hidden column, which whatever is above a subquery's name sees under that name.
pub(super) fn time_of(plan: &LogicalPlan) -> Result<Column> {
    let columns = plan.schema().columns();
    match columns.into_iter().rfind(|column| column.name == TIME_COLUMN) {
        Some(column) => Ok(column),
        None => internal_err!("the time of rows was lost at {}", plan.display()),
    }
}

fn keys_with(keys: &[Expr], time: Expr) -> Vec<Expr> {
    match keys {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => {
            let sets = sets.iter().map(|set| set.iter().cloned().chain([time.clone()]).collect()).collect();
            vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))]
        }
        plain => plain.iter().cloned().chain([time]).collect(),
    }
}

/// Nodes that add columns put them after the time.
fn time_last(plan: LogicalPlan) -> Result<LogicalPlan> {
    let time = time_of(&plan)?;
    let columns = plan.schema().columns();
    if columns.last() == Some(&time) {
        return Ok(plan);
    }
    let others = columns.into_iter().filter(|column| *column != time);
    let columns = others.chain([time.clone()]).map(Expr::Column).collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
