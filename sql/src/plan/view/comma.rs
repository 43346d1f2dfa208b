//! What a WHERE says of the relations of `FROM a, b` is said where they are joined, as ON says it: only there is it known how
//! far apart rows are.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan};

pub(super) fn joined_by_where(plan: LogicalPlan) -> Result<LogicalPlan> {
    let joined = plan.transform_down(|node| {
        let LogicalPlan::Filter(Filter { predicate, input, .. }) = &node else {
            return Ok(Transformed::no(node));
        };
        match input.as_ref() {
            LogicalPlan::Join(join) if is_bare(join) => by(predicate, join).map(Transformed::yes),
            _ => Ok(Transformed::no(node)),
        }
    })?;
    Ok(joined.data)
}

fn is_bare(join: &Join) -> bool {
    join.join_type == JoinType::Inner && join.on.is_empty() && join.filter.is_none()
}

/// Each condition where it is known: at a side, or at the join.
fn by(predicate: &Expr, join: &Join) -> Result<LogicalPlan> {
    let (mut of_left, mut of_right, mut of_both, mut of_none) = (vec![], vec![], vec![], vec![]);
    for condition in split_conjunction_owned(predicate.clone()) {
        let refs = condition.column_refs();
        let within =
            |schema: &DFSchema| refs.iter().all(|column| schema.maybe_index_of_column(column).is_some());
        let place = if refs.is_empty() {
            &mut of_none
        } else if within(join.left.schema()) {
            &mut of_left
        } else if within(join.right.schema()) {
            &mut of_right
        } else {
            &mut of_both
        };
        drop(refs);
        place.push(condition);
    }
    let joined = LogicalPlan::Join(Join {
        left: filtered(Arc::clone(&join.left), of_left)?,
        right: filtered(Arc::clone(&join.right), of_right)?,
        filter: conjunction(of_both),
        ..join.clone()
    });
    Ok(Arc::unwrap_or_clone(filtered(Arc::new(joined), of_none)?))
}

fn filtered(input: Arc<LogicalPlan>, conditions: Vec<Expr>) -> Result<Arc<LogicalPlan>> {
    Ok(match conjunction(conditions) {
        Some(condition) => Arc::new(LogicalPlan::Filter(Filter::try_new(condition, input)?)),
        None => input,
    })
}
