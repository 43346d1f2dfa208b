//! A replay must give the same rows, so a view calls no function that answers otherwise at another time. What a function
//! is, is looked up in the plan as SQL was read (later `now()` is a literal), whatever name it was called by.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, Volatility};
use datafusion::sql::sqlparser::ast::Query;

use super::syntax;
use crate::error::{Error, Result};
use crate::plan::executed::name_of;

pub(super) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|each| match each {
                Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                    found.get_or_insert(call.func.clone());
                    Ok(TreeNodeRecursion::Stop)
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    found.map_or(Ok(()), |function| Err(refusal(&function, query)))
}

fn refusal(function: &ScalarUDF, query: &Query) -> Error {
    let place = syntax::place_of_function(query, |call| {
        name_of(&call.name).is_some_and(|name| name == function.name() || function.aliases().contains(&name))
    });
    Error::invalid(format!("{}() answers otherwise in a replay, so a view can't use it", function.name()))
        .at(place)
        .hint("use the event time, window_start or window_end; or call it in the query that reads the view")
}
