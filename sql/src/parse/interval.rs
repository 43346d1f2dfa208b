//! `INTERVAL '5' SECOND`, `INTERVAL '1 minute'`: a length of time, fixed in microseconds, or of whole months.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::sql::sqlparser::ast::{Expr, Interval, Spanned, Value};
use thalweg_engine::ids::{LENGTH_MAX, Micros};

use crate::error::{Error, Position, Result};

const DAY: i64 = 86_400_000_000;
const TOO_LONG: &str = "is longer than a hundred years";

/// What an interval's expression writes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Fixed(Micros),
    Months(i32),
}

/// A fixed length. Months and years have none.
pub fn interval_micros(expr: &Expr) -> Result<Micros> {
    match interval(expr)? {
        Length::Fixed(micros) => Ok(micros),
        Length::Months(_) => Err(refusal(expr, "has no fixed length: months differ")),
    }
}

/// Whether it has months, whose lengths differ.
pub fn has_months(expr: &Expr) -> bool {
    matches!(written(expr), Ok(interval) if interval.months != 0)
}

pub fn interval(expr: &Expr) -> Result<Length> {
    let refuse = |reason: &str| refusal(expr, reason);
    let parsed = written(expr)?;
    match parsed.months {
        0 => {}
        months if parsed.days == 0 && parsed.nanoseconds == 0 => {
            let days = i64::from(months).saturating_mul(30);
            return if is_too_long(days.saturating_mul(DAY)) {
                Err(refuse(TOO_LONG))
            } else {
                Ok(Length::Months(months))
            };
        }
        _ => return Err(refuse("has no fixed length: months differ")),
    }
    if parsed.nanoseconds % 1000 != 0 {
        return Err(refuse("is finer than a microsecond"));
    }
    let micros = i64::from(parsed.days)
        .checked_mul(DAY)
        .and_then(|days| days.checked_add(parsed.nanoseconds / 1000))
        .filter(|micros| !is_too_long(*micros))
        .ok_or_else(|| refuse(TOO_LONG))?;
    Ok(Length::Fixed(micros))
}

/// What the text of an interval says.
fn written(expr: &Expr) -> Result<IntervalMonthDayNano> {
    let refuse = |reason: &str| refusal(expr, reason);
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
    parse_interval_month_day_nano(&text).map_err(|_| refuse("is not an interval"))
}

/// Beyond what is added to moments, one way or the other.
fn is_too_long(micros: Micros) -> bool {
    micros.unsigned_abs() > LENGTH_MAX.unsigned_abs()
}

fn refusal(expr: &Expr, reason: &str) -> Error {
    Error::invalid(format!("{expr} {reason}"))
        .at(Position::of(expr.span().start))
        .hint("write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'")
}
