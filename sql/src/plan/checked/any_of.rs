//! An IN list of which something is computed for each row. DataFusion takes for constants what it can evaluate over no rows,
//! and of a CASE over no rows comes a constant, which is NULL.

use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, or};

/// What is asked for anew in each comparison would be something else in each.
pub(super) fn has_computed(list: &InList) -> bool {
    !list.expr.is_volatile() && list.list.iter().any(|item| item.any_column_refs() || item.contains_outer())
}

/// `x = a OR x = b …`, which SQL says it is.
pub(super) fn compared(InList { expr, list, negated }: InList) -> Expr {
    let mut any: Vec<Expr> = list.into_iter().map(|item| expr.as_ref().clone().eq(item)).collect();
    // As a tree of little height: each step down a chain of thousands would take stack.
    while any.len() > 1 {
        let mut pairs = std::mem::take(&mut any).into_iter();
        while let Some(one) = pairs.next() {
            any.push(match pairs.next() {
                Some(other) => or(one, other),
                None => one,
            });
        }
    }
    let any = any.pop().unwrap_or(*expr);
    if negated { Expr::Not(Box::new(any)) } else { any }
}
