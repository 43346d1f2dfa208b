//! Delta's statistics of a data file: rows, nulls, and the bounds by which readers skip it.
//!
//! Bounds hold all values, and are given wherever they can be: a missing one should only mean that a file is read, but there
//! are readers that take it for a NULL, and skip the file. Of long texts and long decimals they are shortened outwards.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, max_boolean, max_string, min, min_boolean, min_string};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value, json};

use super::Instants;

/// Longer strings are cut in bounds.
const STRING_BYTES_MAX: usize = 64;
/// A number of so many digits is the same whether it is read as a float or as a decimal.
const DIGITS_MAX: u32 = 15;

/// `batch` is all of the file's rows, with the lake's types.
pub(super) fn file_stats(batch: &RecordBatch) -> String {
    let (mut min_values, mut max_values, mut null_count) = (Map::new(), Map::new(), Map::new());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            continue;
        }
        null_count.insert(field.name().clone(), json!(column.null_count()));
        if let Some((least, most)) = bounds(column.as_ref()) {
            min_values.insert(field.name().clone(), least);
            max_values.insert(field.name().clone(), most);
        }
    }
    json!({
        "numRecords": batch.num_rows(),
        "minValues": min_values,
        "maxValues": max_values,
        "nullCount": null_count,
    })
    .to_string()
}

fn bounds(column: &dyn Array) -> Option<(Value, Value)> {
    match column.data_type() {
        DataType::Int8 => primitive::<Int8Type>(column, |n| Some(json!(n))),
        DataType::Int16 => primitive::<Int16Type>(column, |n| Some(json!(n))),
        DataType::Int32 => primitive::<Int32Type>(column, |n| Some(json!(n))),
        DataType::Int64 => primitive::<Int64Type>(column, |n| Some(json!(n))),
        DataType::Float32 => floats::<Float32Type>(column, f64::from),
        DataType::Float64 => floats::<Float64Type>(column, |x| x),
        DataType::Date32 => primitive::<Date32Type>(column, date),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let suffix = if zone.is_some() { "Z" } else { "" };
            primitive::<TimestampMicrosecondType>(column, |micros| timestamp(micros, suffix))
        }
        DataType::Utf8 => {
            let strings = column.as_string::<i32>();
            let (least, most) = (min_string(strings)?, max_string(strings)?);
            Some((json!(start_of(least)), json!(not_below(most)?)))
        }
        DataType::Boolean => {
            let values = column.as_boolean();
            Some((json!(min_boolean(values)?), json!(max_boolean(values)?)))
        }
        DataType::Decimal128(_, scale) => {
            let values = column.as_primitive::<Decimal128Type>();
            let (least, most) = (min(values)?, max(values)?);
            Some((decimal(least, *scale, i128::div_euclid)?, decimal(most, *scale, div_up)?))
        }
        _ => None,
    }
}

fn primitive<T: ArrowPrimitiveType>(
    column: &dyn Array,
    text: impl Fn(T::Native) -> Option<Value>,
) -> Option<(Value, Value)>
where
    T::Native: arrow::datatypes::ArrowNativeTypeOp,
{
    let column = column.as_primitive::<T>();
    Some((text(min(column)?)?, text(max(column)?)?))
}

/// NaN is above all numbers for some readers and nothing for others: a column with one has no bounds.
fn floats<T: ArrowPrimitiveType>(
    column: &dyn Array,
    wide: impl Fn(T::Native) -> f64,
) -> Option<(Value, Value)> {
    let column = column.as_primitive::<T>();
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in column.iter().flatten().map(wide) {
        if !value.is_finite() {
            return None;
        }
        least = least.min(value);
        most = most.max(value);
    }
    // Zeros of either sign are one bound.
    (least <= most).then(|| (json!(least + 0.0), json!(most + 0.0)))
}

fn start_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(STRING_BYTES_MAX)]
}

/// The text, or a short one above all that begin as it does.
fn not_below(text: &str) -> Option<String> {
    let start = start_of(text);
    if start.len() == text.len() {
        return Some(text.to_owned());
    }
    let mut letters: Vec<char> = start.chars().collect();
    while let Some(last) = letters.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

fn div_up(value: i128, by: i128) -> i128 {
    -(-value).div_euclid(by)
}

/// With no more digits than all readers understand, rounded as `divide` does.
fn decimal(value: i128, scale: i8, divide: fn(i128, i128) -> i128) -> Option<Value> {
    let digits = value.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
    let short = match digits.saturating_sub(DIGITS_MAX) {
        0 => value,
        more => divide(value, 10_i128.pow(more)).checked_mul(10_i128.pow(more))?,
    };
    let number: f64 = format!("{short}e{}", -i32::from(scale)).parse().ok()?;
    // Beyond these JSON has exponents, which not all of them take in a decimal.
    let is_plain = number == 0.0 || (1e-5..1e15).contains(&number.abs());
    is_plain.then(|| json!(number))
}

fn date(days: i32) -> Option<Value> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let date = epoch.checked_add_signed(chrono::Duration::try_days(i64::from(days))?)?;
    four_digit_year(date).then(|| json!(date.to_string()))
}

/// The bounds of columns of instants, as a file's statistics have them: those that are exact.
pub fn instants(stats: &str) -> Vec<Instants> {
    let Ok(stats) = serde_json::from_str::<Value>(stats) else { return vec![] };
    let micros = |value: &Value| {
        let text = value.as_str()?;
        // Of others, or shortened ones, nothing is known.
        let exact = text.len() >= "2025-06-01T00:00:00.000000".len() && text.contains('T');
        let time = NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
        exact.then(|| time.and_utc().timestamp_micros())
    };
    let of_column = |(column, least): (&String, &Value)| {
        let (least, most) = (micros(least)?, micros(&stats["maxValues"][column])?);
        Some(Instants { column: column.as_str().into(), least, most })
    };
    stats["minValues"].as_object().into_iter().flatten().filter_map(of_column).collect()
}

fn timestamp(micros: i64, suffix: &str) -> Option<Value> {
    let instant = DateTime::from_timestamp_micros(micros)?;
    four_digit_year(instant.date_naive())
        .then(|| json!(format!("{}{suffix}", instant.format("%Y-%m-%dT%H:%M:%S%.6f"))))
}

/// Readers disagree on how to write other years.
fn four_digit_year(date: NaiveDate) -> bool {
    (1..=9999).contains(&chrono::Datelike::year(&date))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    fn check(column: ArrayRef, expected: Value) {
        let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
        let stats: Value = serde_json::from_str(&file_stats(&batch)).unwrap();
        let got = json!([
            stats["numRecords"],
            stats["nullCount"]["c"],
            stats["minValues"].get("c"),
            stats["maxValues"].get("c")
        ]);
        assert_eq!(got, expected);
    }

    #[test]
    fn bounds_hold_all_values_or_are_absent() {
        check(Arc::new(Int64Array::from(vec![Some(3), None, Some(-1)])), json!([3, 1, -1, 3]));
        check(Arc::new(Int64Array::from(vec![None, None])), json!([2, 2, null, null]));
        check(Arc::new(Float64Array::from(vec![0.5, -0.0])), json!([2, 0, 0.0, 0.5]));
        check(Arc::new(Float64Array::from(vec![0.5, f64::NAN])), json!([2, 0, null, null]));
        check(Arc::new(StringArray::from(vec!["b", "a"])), json!([2, 0, "a", "b"]));
        check(Arc::new(BooleanArray::from(vec![Some(true), None])), json!([2, 1, true, true]));
        check(Arc::new(BooleanArray::from(vec![true, false])), json!([2, 0, false, true]));
        check(Arc::new(Date32Array::from(vec![0, 20_000])), json!([2, 0, "1970-01-01", "2024-10-04"]));
        let times = TimestampMicrosecondArray::from(vec![1_748_736_000_000_001, -1]);
        let (least, most) = ("1969-12-31T23:59:59.999999Z", "2025-06-01T00:00:00.000001Z");
        check(Arc::new(times.with_timezone("UTC")), json!([2, 0, least, most]));
        check(Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])), json!([1, 0, null, null]));
    }

    #[test]
    fn bounds_of_long_texts_are_cut_outwards() {
        let strings = |all: &[&str]| Arc::new(StringArray::from(all.to_vec()));
        let (xs, zs) = ("x".repeat(70), format!("{}\u{10ffff}", "z".repeat(61)));
        let above = format!("{}y", "x".repeat(63));
        check(strings(&[&xs]), json!([1, 0, "x".repeat(64), above]));
        check(strings(&["a", &xs]), json!([2, 0, "a", above]));
        // No letter is cut in two, and above the last one there is none.
        let wide = format!("{}ü", "x".repeat(63));
        check(strings(&[&wide]), json!([1, 0, "x".repeat(63), format!("{}y", "x".repeat(62))]));
        let last = format!("{zs}{zs}");
        check(strings(&[&last]), json!([1, 0, "z".repeat(61), format!("{}{{", "z".repeat(60))]));
        let none = "\u{10ffff}".repeat(20);
        check(strings(&[&none]), json!([1, 0, null, null]));
    }

    #[test]
    fn bounds_of_long_decimals_are_cut_outwards() {
        let of = |values: Vec<i128>, scale| -> ArrayRef {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, scale).unwrap())
        };
        check(of(vec![1995, -5], 2), json!([2, 0, -0.05, 19.95]));
        check(of(vec![0, 700], 0), json!([2, 0, 0.0, 700.0]));
        let long = 1_234_567_890_123_456_789;
        check(of(vec![long], 9), json!([1, 0, 1234567890.12345, 1234567890.12346]));
        check(of(vec![-long], 9), json!([1, 0, -1234567890.12346, -1234567890.12345]));
        check(of(vec![i128::MAX], 0), json!([1, 0, null, null]));
        check(of(vec![1], 9), json!([1, 0, null, null]));
    }
}
