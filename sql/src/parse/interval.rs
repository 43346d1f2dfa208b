//! `INTERVAL '5' SECOND`, `INTERVAL '1 minute'`: a fixed length of time, in microseconds.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast::{Expr, Interval, Spanned, Value};
use thalweg_engine::ids::Micros;

use crate::error::{Error, Position, Result};

const DAY: i64 = 86_400_000_000;

/// The length that an interval's expression writes out. Months and years have none.
pub fn interval_micros(expr: &Expr) -> Result<Micros> {
    let refuse = |reason: &str| {
        Error::invalid(format!("{expr} {reason}"))
            .at(Position::of(expr.span().start))
            .hint("write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'")
    };
    let Expr::Interval(Interval { value, leading_field, .. }) = expr else {
        return Err(refuse("is not an interval"));
    };
    let number = match value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(digits, _) => digits.clone(),
            _ => return Err(refuse("is not an interval")),
        },
        _ => return Err(refuse("is not a constant")),
    };
    let text = match leading_field {
        Some(unit) => format!("{number} {unit}"),
        None if number.trim().parse::<f64>().is_ok() => return Err(refuse("has no unit")),
        None => number,
    };
    let parsed = parse_interval_month_day_nano(&text).map_err(|_| refuse("is not an interval"))?;
    if parsed.months != 0 {
        return Err(refuse("has no fixed length: months differ"));
    }
    if parsed.nanoseconds % 1000 != 0 {
        return Err(refuse("is finer than a microsecond"));
    }
    i64::from(parsed.days)
        .checked_mul(DAY)
        .and_then(|days| days.checked_add(parsed.nanoseconds / 1000))
        .ok_or_else(|| refuse("is too long"))
}
