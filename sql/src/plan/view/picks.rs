//! An aggregate that gives some value of a key is that key, and nothing is ordered by a key: of one group it has one value.
//! `DISTINCT ON` asks so for all that it selects, and a window's bounds would have to be known of each row before they are.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};

pub(super) fn are_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up(as_key)?.data)
}

fn as_key(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let key = |expr: &Expr| {
        let picked = picked(expr)?;
        group_expr.iter().position(|key| key == picked)
    };
    if !aggr_expr.iter().any(|expr| key(expr).is_some()) {
        return Ok(Transformed::no(node));
    }
    let left = aggr_expr.iter().filter(|expr| key(expr).is_none());
    let left = left.map(|expr| not_ordered_by(expr.clone(), group_expr)).collect();
    let less = Aggregate::try_new(Arc::clone(input), group_expr.clone(), left)?;
    let columns = less.schema.columns();
    let mut computed = group_expr.len()..;
    let values = aggr_expr.iter().map(|expr| key(expr).or_else(|| computed.next()));
    let places = (0..group_expr.len()).map(Some).chain(values).flatten();
    let named = schema.iter().zip(places).map(|((qualifier, field), place)| {
        Expr::Column(columns[place].clone()).alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect::<Vec<_>>();
    Ok(Transformed::yes(LogicalPlanBuilder::from(LogicalPlan::Aggregate(less)).project(named)?.build()?))
}

fn not_ordered_by(expr: Expr, keys: &[Expr]) -> Expr {
    match expr {
        Expr::Alias(mut alias) => {
            *alias.expr = not_ordered_by(*alias.expr, keys);
            Expr::Alias(alias)
        }
        Expr::AggregateFunction(mut call) => {
            let order = call.params.order_by.iter().filter(|by| !keys.contains(&by.expr)).cloned();
            let order: Vec<_> = order.collect();
            if !order.is_empty() {
                call.params.order_by = order;
            }
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}

/// The column of which an aggregate gives some value that it has, whichever rows there are.
fn picked(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Alias(alias) => picked(&alias.expr),
        Expr::AggregateFunction(call) if call.params.filter.is_none() => {
            match (call.func.name(), call.params.args.as_slice()) {
                ("first_value" | "last_value" | "min" | "max", [column @ Expr::Column(_)]) => Some(column),
                _ => None,
            }
        }
        _ => None,
    }
}
