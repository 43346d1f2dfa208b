//! How long an INTERVAL is, for comparisons: Arrow compares months, then days, then nanoseconds, by which 25 hours are
//! shorter than a day, and what lies between two moments (`now() - window_start`) is always shorter than one.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Decimal128Type, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

const DAY_NANOS: i128 = 86_400_000_000_000;
/// As PostgreSQL and DuckDB compare them.
const DAYS_OF_MONTH: i128 = 30;
const NANOS: DataType = DataType::Decimal128(38, 0);

pub(super) fn is_interval(kind: &DataType) -> bool {
    *kind == DataType::Interval(IntervalUnit::MonthDayNano)
}

pub(super) fn length(interval: Expr) -> Expr {
    let signature =
        Signature::exact(vec![DataType::Interval(IntervalUnit::MonthDayNano)], Volatility::Immutable);
    ScalarUDF::from(IntervalLength { signature }).call(vec![interval])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalLength {
    signature: Signature,
}

impl ScalarUDFImpl for IntervalLength {
    fn name(&self) -> &str {
        "interval_length"
    }

    /// As the interval's: columns are found by it.
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
        Ok(NANOS)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let intervals = args.args[0].to_array(args.number_rows)?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let lengths = intervals.unary::<_, Decimal128Type>(|it| {
            let days = i128::from(it.months) * DAYS_OF_MONTH + i128::from(it.days);
            days * DAY_NANOS + i128::from(it.nanoseconds)
        });
        Ok(ColumnarValue::Array(Arc::new(lengths.with_data_type(NANOS))))
    }
}
