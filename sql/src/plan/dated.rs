//! A DATE and an INTERVAL of hours: DataFusion gives a DATE again, from which the hours are gone.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as PlannerResult, ScalarValue, Spans};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::sql::sqlparser::ast::{Expr as AstExpr, Query, Spanned, Visitor};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::{Error, Position, Result};
use crate::parse::walk;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

pub(crate) fn check(plan: &LogicalPlan, query: &Query) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let mut schema = merge_schema(&node.inputs());
        if let LogicalPlan::TableScan(scan) = node {
            schema.merge(&scan.projected_schema);
        }
        node.apply_expressions(|expr| {
            expr.apply(|each| {
                if loses_hours(each, &schema)? {
                    found = Some(each.clone());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let Some(expr) = found else { return Ok(()) };
    let column = expr.column_refs().into_iter().filter_map(|column| place(column.spans())).min();
    Err(Error::invalid("a DATE and an INTERVAL of hours would be a DATE again, without the hours")
        .at(column.or_else(|| first_interval(query)))
        .hint("write CAST(d AS TIMESTAMP) + INTERVAL '…'; to have a DATE, CAST the sum AS DATE"))
}

fn loses_hours(expr: &Expr, schema: &DFSchema) -> PlannerResult<bool> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) = expr else {
        return Ok(false);
    };
    let is_length = |kind: &DataType| matches!(kind, DataType::Interval(_) | DataType::Duration(_));
    Ok(match (left.get_type(schema)?, right.get_type(schema)?) {
        (DataType::Date32, kind) if is_length(&kind) => !is_of_days(right),
        (kind, DataType::Date32) if is_length(&kind) => !is_of_days(left),
        _ => false,
    })
}

/// Whole days and months, for all that is known of it.
fn is_of_days(length: &Expr) -> bool {
    match length {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(interval), _) => {
            interval.is_none_or(|it| it.nanoseconds % NANOS_PER_DAY == 0)
        }
        Expr::Literal(ScalarValue::IntervalYearMonth(_), _) => true,
        Expr::Literal(value, _) => value.is_null(),
        Expr::Negative(inner) => is_of_days(inner),
        Expr::Alias(alias) => is_of_days(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => {
            is_of_days(left) && is_of_days(right)
        }
        Expr::Cast(Cast { expr, .. }) => is_told_in_days(expr),
        _ => false,
    }
}

/// A product of a number and an interval, as `interval_times` writes it.
fn is_told_in_days(text: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) = text else { return false };
    let unit = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Utf8(Some(unit)), _) => Some(unit.trim().to_owned()),
        _ => None,
    };
    match (unit(right), left.as_ref()) {
        (Some(unit), Expr::Cast(_)) => unit == "months" || unit == "days",
        (None, Expr::BinaryExpr(BinaryExpr { left: before, op: Operator::StringConcat, .. })) => {
            is_told_in_days(before) && is_told_in_days(right)
        }
        _ => false,
    }
}

fn place(spans: &Spans) -> Option<Position> {
    let span = spans.first()?;
    Position::of(Location { line: span.start.line, column: span.start.column })
}

fn first_interval(query: &Query) -> Option<Position> {
    struct Find;
    impl Visitor for Find {
        type Break = Option<Position>;
        fn pre_visit_expr(&mut self, expr: &AstExpr) -> ControlFlow<Option<Position>> {
            match expr {
                AstExpr::Interval(interval) => ControlFlow::Break(Position::of(interval.value.span().start)),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(query, &mut Find) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}
