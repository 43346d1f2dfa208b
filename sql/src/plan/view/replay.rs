//! A replay must give the same rows, so a view calls no function that answers otherwise at another time, or that looks at
//! rows in the order in which they come: those of several partitions have none of their own. What a function is, is looked
//! up in the plan as SQL was read (later `now()` is a literal), whatever name it was called by.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction};
use datafusion::logical_expr::{
    Expr, LogicalPlan, ScalarUDF, Volatility, WindowFrameUnits, WindowFunctionDefinition,
};
use datafusion::sql::sqlparser::ast::{Function, Query};

use super::syntax;
use crate::error::{Error, Position, Result};
use crate::plan::executed::name_of;

pub(super) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|each| {
                let refusal = match each {
                    Expr::ScalarFunction(call) => scalar(&call.func, query),
                    Expr::AggregateFunction(function) => aggregate(function, query),
                    Expr::WindowFunction(function) => window(function, query),
                    _ => None,
                };
                found = found.take().or(refusal);
                Ok(match found {
                    Some(_) => TreeNodeRecursion::Stop,
                    None => TreeNodeRecursion::Continue,
                })
            })
        })
    })?;
    found.map_or(Ok(()), Err)
}

fn scalar(function: &ScalarUDF, query: &Query) -> Option<Error> {
    let place = || {
        place_of(
            query,
            |_| true,
            |name| name == function.name() || function.aliases().iter().any(|alias| alias == name),
        )
    };
    let name = function.name();
    if name == "version" {
        let text = "version() answers otherwise after an upgrade, so a view can't use it";
        return Some(Error::invalid(text).at(place()).hint("call it in the query that reads the view"));
    }
    (function.signature().volatility != Volatility::Immutable).then(|| {
        Error::invalid(format!("{name}() answers otherwise in a replay, so a view can't use it"))
            .at(place())
            .hint(
                "use the event time, window_start or window_end; or call it in the query that reads the view",
            )
    })
}

fn aggregate(function: &AggregateFunction, query: &Query) -> Option<Error> {
    let name = function.func.name();
    let refused = |text: String, hint: &str| {
        let place = place_of(query, |call| call.over.is_none(), |written| written == name);
        Some(Error::invalid(text).at(place).hint(hint))
    };
    if name == "any_value" {
        return refused(
            "any_value takes whichever row comes first, which is not the same in a replay".into(),
            "write min(…) or max(…), or first_value(… ORDER BY …)",
        );
    }
    let heeds = matches!(name, "array_agg" | "string_agg" | "first_value" | "last_value" | "nth_value");
    if heeds && !function.params.order_by.is_empty() && no_order(&function.params.order_by) {
        return refused(
            format!("{name} is ordered by a constant, so rows stay in the order in which they come"),
            "write ORDER BY a column: a number is no column's place here",
        );
    }
    None
}

fn window(function: &WindowFunction, query: &Query) -> Option<Error> {
    let params = &function.params;
    let frame = &params.window_frame;
    let whole = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
    let (name, looks) = match &function.fun {
        WindowFunctionDefinition::WindowUDF(known) => {
            let looks = ["row_number", "ntile", "lag", "lead", "first_value", "last_value", "nth_value"];
            (known.name(), looks.contains(&known.name()))
        }
        WindowFunctionDefinition::AggregateUDF(known) => {
            (known.name(), frame.units == WindowFrameUnits::Rows && !whole)
        }
    };
    if !looks || !no_order(&params.order_by) {
        return None;
    }
    let place = place_of(query, |call| call.over.is_some(), |written| written.eq_ignore_ascii_case(name));
    let text = format!(
        "{name}() OVER without an order looks at rows as they come, which is not the same in a replay"
    );
    Some(
        Error::invalid(text)
            .at(place)
            .hint("write OVER (PARTITION BY … ORDER BY …), by columns that tell the rows apart"),
    )
}

/// A constant orders nothing.
fn no_order(order: &[Sort]) -> bool {
    order.iter().all(|sort| sort.expr.column_refs().is_empty())
}

fn place_of(
    query: &Query,
    kind: impl Fn(&Function) -> bool,
    named: impl Fn(&str) -> bool,
) -> Option<Position> {
    syntax::place_of_function(query, |call| {
        kind(call) && name_of(&call.name).is_some_and(|name| named(&name))
    })
}
