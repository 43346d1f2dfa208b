//! Carries the time of each row, as a hidden last column, from where it is known up to the end of a plan.

use std::sync::Arc;

use datafusion::common::{Column, Result, internal_datafusion_err, internal_err};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::GroupingSet;
use datafusion::logical_expr::{Aggregate, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Union};
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
        return internal_err!("a copy's plan forks at {}", plan.display());
    };
    above(plan, vec![carry_time(input, bottom, replacement)?])
}

/// The node over inputs that carry the time, passing it on.
pub(super) fn above(plan: &LogicalPlan, mut inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(join) => return joined(join, inputs),
        LogicalPlan::Union(union) => return united(union, inputs),
        _ => {}
    }
    let (Some(input), true) = (inputs.pop(), inputs.is_empty()) else {
        return internal_err!("a view's plan forks at {}", plan.display());
    };
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

/// Both sides are of one window, so that the time of either is that of the pair.
fn joined(join: &Join, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    const OF_RIGHT: &str = "__time_of_right";
    let [left, right] =
        <[LogicalPlan; 2]>::try_from(inputs).map_err(|_| internal_datafusion_err!("a join has two sides"))?;
    let left_time = Expr::Column(time_of(&left)?);
    let time = Expr::Column(time_of(&right)?);
    let columns = right.schema().columns().into_iter().map(Expr::Column).filter(|column| *column != time);
    let columns = columns.chain([time.clone().alias(OF_RIGHT)]).collect::<Vec<_>>();
    let right = LogicalPlanBuilder::from(right).project(columns)?.build()?;
    let right_time = Expr::Column(Column::new_unqualified(OF_RIGHT));
    let time = match join.join_type {
        JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
            left_time
        }
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right_time,
        JoinType::Full => coalesce(vec![left_time, right_time]),
    };
    let above = LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on.clone(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?);
    let columns = join.schema.columns().into_iter().map(Expr::Column).chain([time.alias(TIME_COLUMN)]);
    LogicalPlanBuilder::from(above).project(columns.collect::<Vec<_>>())?.build()
}

/// The columns keep the names that the union gave them.
fn united(union: &Union, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    let mut named = inputs.into_iter().map(|input| {
        let columns = input.schema().columns();
        let time = Expr::Column(time_of(&input)?);
        let names = union.schema.iter().map(|(_, field)| field.name());
        let renamed = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
        LogicalPlanBuilder::from(input)
            .project(renamed.chain([time.alias(TIME_COLUMN)]).collect::<Vec<_>>())?
            .build()
    });
    let Some(first) = named.next() else { return internal_err!("a union of nothing") };
    let mut all = LogicalPlanBuilder::from(first?);
    for other in named {
        all = all.union(other?)?;
    }
    let all = all.build()?;
    let time = Expr::Column(time_of(&all)?);
    let columns = all.schema().columns().into_iter().zip(union.schema.iter());
    let columns = columns.map(|(column, (qualifier, field))| {
        Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
    });
    let columns = columns.chain([time.alias(TIME_COLUMN)]).collect::<Vec<_>>();
    LogicalPlanBuilder::from(all).project(columns)?.build()
}

/// The hidden column, which whatever is above a subquery's name sees under that name.
pub(super) fn time_of(plan: &LogicalPlan) -> Result<Column> {
    let columns = plan.schema().columns();
    match columns.into_iter().rfind(|column| column.name == TIME_COLUMN) {
        Some(column) => Ok(column),
        None => internal_err!("the time of rows was lost at {}", plan.display()),
    }
}

pub(super) fn keys_with(keys: &[Expr], time: Expr) -> Vec<Expr> {
    match keys {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => {
            // Before the others: by how many come behind it grouping() finds the bit of a key.
            let sets = sets.iter().map(|set| [std::slice::from_ref(&time), &set[..]].concat()).collect();
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
