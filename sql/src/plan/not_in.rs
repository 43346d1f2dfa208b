//! `x NOT IN (SELECT y FROM … WHERE … = outer.…)` is NULL where a NULL is among the `y` of the row, or `x` is one. DataFusion
//! makes a join of it to which a NULL anywhere is one, or none.
//!
//! A query reads it as `x <> ALL (SELECT …)`, which is planned as SQL says; a view refuses it.
//!
//! Of `x = ANY (SELECT x FROM the_same)` DataFusion compares what the query has with itself, since both are called alike:
//! so what it has gets a name of its own.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as PlannerResult, plan_err};
use datafusion::logical_expr::expr::{InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, Subquery};
use datafusion::sql::sqlparser::ast::{Expr as AstExpr, Query, Spanned, UnaryOperator, Visitor};

use crate::error::{Error, Position, Result};
use crate::parse::walk;

const NO_VALUE: &str = "ANY and ALL of a query are conditions of WHERE and HAVING, and no values";

/// Has each of them be read so, and compared with what their queries have.
pub(crate) fn heed_nulls(plan: LogicalPlan) -> PlannerResult<LogicalPlan> {
    let mut names = (1..).map(|number| format!("__member_{number}"));
    let heeded = plan.transform_down_with_subqueries(|node| {
        let is_condition = matches!(node, LogicalPlan::Filter(_));
        node.map_expressions(|expr| {
            expr.transform_up(|each| {
                let comparison = match each {
                    Expr::SetComparison(comparison) => comparison,
                    each => match looks_outside(&each) {
                        Some(InSubquery { expr, subquery, .. }) => {
                            let (expr, subquery) = (expr.clone(), subquery.clone());
                            let (op, quantifier) = (Operator::NotEq, SetQuantifier::All);
                            SetComparison { expr, subquery, op, quantifier }
                        }
                        None => return Ok(Transformed::no(each)),
                    },
                };
                if !is_condition {
                    return plan_err!("{NO_VALUE}");
                }
                let name = names.next().unwrap_or_default();
                Ok(Transformed::yes(Expr::SetComparison(named(comparison, name)?)))
            })
        })
    })?;
    Ok(heeded.data)
}

/// Its query with its only column called otherwise.
fn named(comparison: SetComparison, name: String) -> PlannerResult<SetComparison> {
    let Subquery { subquery, outer_ref_columns, spans } = comparison.subquery;
    let [member] = &subquery.schema().columns()[..] else {
        return plan_err!("what is compared with ANY or ALL of a query is one column, and this has others");
    };
    let member = Expr::Column(member.clone()).alias(name);
    let query = LogicalPlanBuilder::from(subquery).project([member])?.build()?;
    let subquery = Subquery { subquery: Arc::new(query), outer_ref_columns, spans };
    Ok(SetComparison { subquery, ..comparison })
}

pub(super) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|each| {
                found |= looks_outside(each).is_some();
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if !found {
        return Ok(());
    }
    Err(Error::invalid(
        "NOT IN a query that looks at the row outside would be wrong here where there are NULLs",
    )
    .at(place(query))
    .hint("write NOT EXISTS (SELECT 1 FROM … WHERE … AND y = x), to which a NULL is equal to nothing"))
}

/// The NOT IN, if its query is another one for each row.
fn looks_outside(expr: &Expr) -> Option<&InSubquery> {
    let (membership, negated) = match expr {
        Expr::InSubquery(membership) => (membership, membership.negated),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(membership) => (membership, !membership.negated),
            _ => return None,
        },
        _ => return None,
    };
    (negated && !membership.subquery.outer_ref_columns.is_empty()).then_some(membership)
}

/// Where the first NOT IN stands.
fn place(query: &Query) -> Option<Position> {
    struct Find;
    impl Visitor for Find {
        type Break = Option<Position>;
        fn pre_visit_expr(&mut self, expr: &AstExpr) -> ControlFlow<Option<Position>> {
            match expr {
                AstExpr::InSubquery { negated: true, .. } => {
                    ControlFlow::Break(Position::of(expr.span().start))
                }
                AstExpr::UnaryOp { op: UnaryOperator::Not, expr }
                    if matches!(expr.as_ref(), AstExpr::InSubquery { .. }) =>
                {
                    ControlFlow::Break(Position::of(expr.span().start))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(query, &mut Find) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}
