//! Why a join is refused that neither compares a bound of windows nor says how far apart its rows are: what it says of time
//! instead.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, JoinType, Operator};

use super::{Shape, Unit};
use crate::error::Error;

pub(super) fn refusal(join: &Join, left: &Shape, right: &Shape) -> Error {
    if [left, right].iter().any(|side| matches!(side.unit, Unit::Session { .. })) {
        return Error::invalid("sessions are not joined before they have ended").hint(
            "make them a view, and join that: by window_end, which is the time of its rows, or in the query that reads both",
        );
    }
    let sides = [(join.left.schema().as_ref(), left), (join.right.schema().as_ref(), right)];
    let conditions: Vec<&Expr> = join.filter.iter().flat_map(split_conjunction).collect();
    if conditions.iter().any(|condition| subtracts(condition, &sides)) {
        return Error::invalid("a join in a view says how far apart its rows are by comparing their times, not by their difference")
            .hint("write b.ts BETWEEN a.ts - INTERVAL '30 minutes' AND a.ts + INTERVAL '30 minutes'");
    }
    if let Some(other) = conditions.iter().find_map(|condition| another_time(condition, &sides)) {
        return Error::invalid(format!(
            "the join is bound to {other}, which is not the time of the rows it stands in: that of a pair is the time of the \
             side that keeps all its rows, of an inner join the left one"
        ))
        .hint(match [left, right].iter().any(|side| side.is_of_sessions()) {
            true => {
                "of a session the time is window_end; bind that too, as far as a session goes: … AND b.ts BETWEEN \
                 s.window_end - INTERVAL '1 day' AND s.window_end"
            }
            false => {
                "bind it to that time too, as far as both steps go together: … AND c.ts BETWEEN a.ts AND a.ts + INTERVAL \
                 '1 hour'"
            }
        });
    }
    if conditions.iter().any(|condition| compares_times(condition, &sides)) {
        return Error::invalid(
            "a join in a view says how far apart its rows are at both ends, and this one is open at one",
        )
        .hint("bind the other end too: b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'");
    }
    let on = match join.join_type {
        JoinType::Left | JoinType::Right | JoinType::Full => ", in its ON, for a WHERE looks at pairs alone",
        _ => "",
    };
    Error::invalid(format!(
        "a join in a view says how far apart its rows are, or is between rows of windows{on}"
    ))
    .hint(
        "bind the times of both sides, such as ON … AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'; or window both, \
         and compare a bound: ON a.window_start = b.window_start AND …",
    )
}

type Sides<'a> = [(&'a DFSchema, &'a Shape); 2];

/// Which sides have a time of theirs in an expression.
fn times_in(expr: &Expr, sides: &Sides<'_>) -> [bool; 2] {
    sides.map(|(schema, shape)| {
        let is_time =
            |column: &&Column| schema.maybe_index_of_column(column).is_some_and(|index| shape.is_time(index));
        expr.column_refs().iter().any(is_time)
    })
}

/// A difference of the times of both sides.
fn subtracts(condition: &Expr, sides: &Sides<'_>) -> bool {
    let mut found = false;
    // The visitor has no errors of its own.
    let _ = condition.apply(|each| {
        if let Expr::BinaryExpr(it) = each
            && it.op == Operator::Minus
        {
            let (a, b) = (times_in(&it.left, sides), times_in(&it.right, sides));
            found |= (a[0] && b[1]) || (a[1] && b[0]);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// What each condition compares.
fn compared(condition: &Expr) -> Vec<(&Expr, &Expr)> {
    match condition {
        Expr::BinaryExpr(it) if it.op.supports_propagation() => vec![(it.left.as_ref(), it.right.as_ref())],
        Expr::Between(it) if !it.negated => {
            vec![(it.expr.as_ref(), it.low.as_ref()), (it.expr.as_ref(), it.high.as_ref())]
        }
        _ => vec![],
    }
}

fn compares_times(condition: &Expr, sides: &Sides<'_>) -> bool {
    compared(condition).into_iter().any(|(a, b)| {
        // A cast, to a day, is of another moment.
        let is_moved = |expr: &Expr| {
            !expr.exists(|it| Ok(matches!(it, Expr::Cast(_) | Expr::ScalarFunction(_)))).unwrap_or(true)
        };
        let both = is_moved(a) && is_moved(b);
        let (a, b) = (times_in(a, sides), times_in(b, sides));
        both && ((a[0] && b[1]) || (a[1] && b[0]))
    })
}

/// A moment of one side that is not its time, and is compared with the time of the other.
fn another_time(condition: &Expr, sides: &Sides<'_>) -> Option<String> {
    let moment_of = |expr: &Expr, side: usize| {
        let (schema, shape) = sides[side];
        let is_other = |column: &&&Column| {
            schema.maybe_index_of_column(column).is_some_and(|index| {
                matches!(schema.field(index).data_type(), DataType::Timestamp(..)) && !shape.is_time(index)
            })
        };
        expr.column_refs().iter().find(is_other).map(|column| column.flat_name())
    };
    compared(condition).into_iter().find_map(|(a, b)| {
        let (of_a, of_b) = (times_in(a, sides), times_in(b, sides));
        (0..2).find_map(|side| {
            let other = 1 - side;
            let found = if of_a[side] { moment_of(b, other) } else { None };
            found.or_else(|| if of_b[side] { moment_of(a, other) } else { None })
        })
    })
}
