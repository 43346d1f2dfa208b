//! `x IN (SELECT …)` is NULL where `x` is NULL or not found beside a NULL. The planner makes a join of it that says true
//! or false, so it stands only where NULL counts as false: as a condition, alone or within AND and OR. `NOT IN` is right
//! only as a condition of its own, and of a column.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, CaseWhen, Expr, Spanned, UnaryOperator, Visitor};

use super::refused;
use crate::error::Result;
use crate::parse::walk;

/// Those (by address) that stand where they are right.
#[derive(Default)]
pub(super) struct Memberships(HashSet<*const Expr>);

impl Memberships {
    /// Takes in those within a condition; `alone` while nothing but AND has been above them.
    pub fn allow(&mut self, condition: &Expr, alone: bool) {
        match condition {
            Expr::Nested(inner) => self.allow(inner, alone),
            Expr::BinaryOp { left, op, right } => {
                let alone = alone && *op == BinaryOperator::And;
                if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
                    self.allow(left, alone);
                    self.allow(right, alone);
                }
            }
            Expr::InSubquery { expr, subquery: _, negated } if !negated || (alone && has_column(expr)) => {
                self.0.insert(&raw const *condition);
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let mut inner = expr.as_ref();
                while let Expr::Nested(within) = inner {
                    inner = within;
                }
                if let Expr::InSubquery { expr, subquery: _, negated: false } = inner
                    && alone
                    && has_column(expr)
                {
                    self.0.insert(&raw const *inner);
                }
            }
            Expr::Case { operand: None, conditions, .. } => {
                for CaseWhen { condition, result: _ } in conditions {
                    self.allow(condition, false);
                }
            }
            _ => {}
        }
    }

    pub fn check(&self, expr: &Expr) -> Result<()> {
        let Expr::InSubquery { expr: value, subquery: _, negated } = expr else { return Ok(()) };
        if self.0.contains(&(&raw const *expr)) {
            return Ok(());
        }
        let (written, instead) = if *negated { ("NOT IN", "<> ALL") } else { ("IN", "= ANY") };
        refused(
            format!("{written} (SELECT …) would be wrong here where there are NULLs"),
            &[value.span(), expr.span()],
            format!(
                "in WHERE of a query write {value} {instead} (SELECT …); elsewhere LEFT JOIN it, and ask whether its key IS NOT NULL"
            ),
        )
    }
}

fn has_column(expr: &Expr) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    walk(expr, &mut Find).is_break()
}
