//! A DATE and a number of days: DataFusion multiplies the days to seconds and these to nanoseconds, which ends after 292
//! years, and says so of an interval that nobody wrote.

use std::sync::Arc;

use arrow::array::{Array, AsArray, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

const DAYS: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const SECONDS: DataType = DataType::Duration(TimeUnit::Second);
const SECONDS_PER_DAY: ScalarValue = ScalarValue::Int64(Some(86_400));
/// No two dates of the calendar lie so far apart, and none is left when it is moved so far twice.
const DAYS_MAX: u64 = 3_660_000;

/// The number of days that the planner has written as an interval, as one of days.
pub(super) fn of_interval(expr: &Expr) -> Option<Expr> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let Expr::Cast(Cast { expr, field: seconds }) = expr.as_ref() else { return None };
    if *field.data_type() != DAYS || *seconds.data_type() != SECONDS {
        return None;
    }
    let is_factor = |expr: &Expr| matches!(expr, Expr::Literal(factor, _) if *factor == SECONDS_PER_DAY);
    let days = match expr.as_ref() {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Multiply, right }) if is_factor(right) => left,
        // The same, checked.
        Expr::ScalarFunction(call) if call.name() == "checked_multiply" => match &call.args[..] {
            [days, factor] if is_factor(factor) => days,
            _ => return None,
        },
        _ => return None,
    };
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    Some(ScalarUDF::from(IntervalOfDays { signature }).call(vec![days.clone()]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalOfDays {
    signature: Signature,
}

impl ScalarUDFImpl for IntervalOfDays {
    fn name(&self) -> &str {
        "interval_of_days"
    }

    /// As that of the number: columns are found by it.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DAYS)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let days = args.args[0].to_array(args.number_rows)?;
        let days = days.as_primitive::<Int64Type>();
        let there = |row: &usize| days.is_valid(*row);
        if let Some(far) = (0..days.len())
            .filter(there)
            .map(|row| days.value(row))
            .find(|days| days.unsigned_abs() > DAYS_MAX)
        {
            return exec_err!(
                "a DATE moved by {far} days is beyond the years 1 to 9999\nhint: a number beside a DATE is one of days"
            );
        }
        let interval = |days: i64| IntervalMonthDayNano::new(0, days as i32, 0);
        let intervals: IntervalMonthDayNanoArray = days.iter().map(|days| days.map(interval)).collect();
        Ok(ColumnarValue::Array(Arc::new(intervals)))
    }
}
