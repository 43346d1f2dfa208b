//! Comparisons that DataFusion plans without heed of NULLs, written as those of which each is planned right: of rows,
//! `(a, b) < (c, d)` as `a < c OR a = c AND b < d`, and of an element of a list, `x = ANY (list)` as `NOT x <> ALL (list)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Query, Spanned, UnaryOperator, VisitorMut};

use crate::error::{Error, Position, Result};
use crate::parse::walk_mut;

/// What is written of a wider one would be a tree too deep to plan.
const COLUMNS_MAX: usize = 100;

pub(crate) fn heed_nulls_of_rows(query: &mut Query) -> Result<()> {
    match walk_mut(query, &mut Rewriting) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriting;

impl VisitorMut for Rewriting {
    type Break = Error;

    /// From the outside in: rows within rows come next.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Tuple(columns) = &*expr
            && columns.len() > COLUMNS_MAX
        {
            let error = Error::invalid(format!("a row of {} columns is too wide to compare", columns.len()));
            let hint = format!("compare rows of {COLUMNS_MAX} columns at most");
            return ControlFlow::Break(error.at(Position::of(expr.span().start)).hint(hint));
        }
        if let Some(written) = written(expr) {
            *expr = Expr::Nested(Box::new(written));
        }
        ControlFlow::Continue(())
    }
}

fn written(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::BinaryOp { left, op, right } => compared(row(left)?, op, row(right)?),
        Expr::Between { expr, negated, low, high } => {
            let (row, low, high) = (row(expr)?, row(low)?, row(high)?);
            let not_below = compared(row, &BinaryOperator::GtEq, low)?;
            let not_above = compared(row, &BinaryOperator::LtEq, high)?;
            Some(not_if(*negated, both(BinaryOperator::And, not_below, not_above)))
        }
        Expr::InList { expr, list, negated } => {
            let row_of = row(expr)?;
            let equal = |each| compared(row_of, &BinaryOperator::Eq, row(each)?);
            let equals = list.iter().map(equal).collect::<Option<Vec<_>>>()?;
            Some(not_if(*negated, any_of(equals)?))
        }
        Expr::AnyOp { left, compare_op, right, is_some: _ } => {
            if is_query(right) {
                return None;
            }
            let otherwise = match compare_op {
                BinaryOperator::Eq => BinaryOperator::NotEq,
                BinaryOperator::NotEq => BinaryOperator::Eq,
                BinaryOperator::Lt => BinaryOperator::GtEq,
                BinaryOperator::LtEq => BinaryOperator::Gt,
                BinaryOperator::Gt => BinaryOperator::LtEq,
                BinaryOperator::GtEq => BinaryOperator::Lt,
                _ => return None,
            };
            let (left, right) = (left.clone(), right.clone());
            Some(not_if(true, Expr::AllOp { left, compare_op: otherwise, right }))
        }
        _ => None,
    }
}

fn row(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(columns) => Some(columns),
        Expr::Nested(inner) => row(inner),
        _ => None,
    }
}

fn is_query(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) => true,
        Expr::Nested(inner) => is_query(inner),
        _ => false,
    }
}

/// As the first columns that differ are; nothing, of rows that are not as wide as each other.
fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    let strict = match op {
        BinaryOperator::Eq | BinaryOperator::NotEq => op.clone(),
        BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
        BinaryOperator::Gt | BinaryOperator::GtEq => BinaryOperator::Gt,
        _ => return None,
    };
    if left.len() != right.len() {
        return None;
    }
    let pair =
        |op: &BinaryOperator, (left, right): (&Expr, &Expr)| both(op.clone(), left.clone(), right.clone());
    let mut pairs = left.iter().zip(right).rev();
    let last = pair(op, pairs.next()?);
    Some(pairs.fold(last, |rest, columns| match op {
        BinaryOperator::Eq => both(BinaryOperator::And, pair(op, columns), rest),
        BinaryOperator::NotEq => both(BinaryOperator::Or, pair(op, columns), rest),
        _ => {
            let equal = pair(&BinaryOperator::Eq, columns);
            let rest = both(BinaryOperator::And, equal, rest);
            both(BinaryOperator::Or, pair(&strict, columns), rest)
        }
    }))
}

/// As a tree that is no deeper than it must be.
fn any_of(mut conditions: Vec<Expr>) -> Option<Expr> {
    while conditions.len() > 1 {
        let mut rest = conditions.into_iter();
        conditions = vec![];
        while let Some(left) = rest.next() {
            conditions.push(match rest.next() {
                Some(right) => both(BinaryOperator::Or, left, right),
                None => left,
            });
        }
    }
    conditions.pop()
}

fn both(op: BinaryOperator, left: Expr, right: Expr) -> Expr {
    let nested = |expr| Box::new(Expr::Nested(Box::new(expr)));
    Expr::BinaryOp { left: nested(left), op, right: nested(right) }
}

fn not_if(negated: bool, expr: Expr) -> Expr {
    let expr = Box::new(Expr::Nested(Box::new(expr)));
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr } } else { *expr }
}
