//! `minutes * INTERVAL '1 minute'`: DataFusion has no product of a number and an interval, so it is planned as the interval
//! that the product's text says. The interval is a literal, and the number a whole one.

use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, cast, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct IntervalTimes;

impl ExprPlanner for IntervalTimes {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::Multiply {
            return Ok(PlannerResult::Original(expr));
        }
        let (number, interval) = match (literal(&expr.left), literal(&expr.right)) {
            (None, Some(interval)) => (&expr.left, interval),
            (Some(interval), None) => (&expr.right, interval),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        if !number.get_type(schema)?.is_integer() || interval.nanoseconds % NANOS_PER_SECOND != 0 {
            return Ok(PlannerResult::Original(expr));
        }
        let number = || cast(number.clone(), DataType::Int64);
        let parts = [
            (i64::from(interval.months), " months"),
            (i64::from(interval.days), " days"),
            (interval.nanoseconds / NANOS_PER_SECOND, " seconds"),
        ];
        // `||`, unlike concat, is NULL where the number is.
        let joined = |left, right| binary_expr(left, Operator::StringConcat, right);
        let told = |(count, unit)| joined(cast(number() * lit(count), DataType::Utf8), lit(unit));
        let told = parts.into_iter().filter(|(count, _)| *count != 0).map(told);
        // The reader of intervals takes no blanks at an end.
        let text = told.reduce(|before, next| joined(joined(before, lit(" ")), next));
        let Some(text) = text else { return Ok(PlannerResult::Original(expr)) };
        Ok(PlannerResult::Planned(cast(text, DataType::Interval(IntervalUnit::MonthDayNano))))
    }
}

/// The interval that the text says; none of nothing.
fn literal(expr: &Expr) -> Option<IntervalMonthDayNano> {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            Some(*interval).filter(|it| (it.months, it.days, it.nanoseconds) != (0, 0, 0))
        }
        _ => None,
    }
}
