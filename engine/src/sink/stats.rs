//! Delta's statistics of a data file: rows, nulls, and the bounds by which readers skip it.
//!
//! Bounds are given where they are exact and cheap: integers, finite floats, dates, timestamps and short strings. A
//! missing bound only means that a file is read.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value, json};

use super::Instants;

/// Longer strings have no bounds: a shortened upper bound must be rounded up, and few readers skip by them.
const STRING_BYTES_MAX: usize = 64;

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
            let short = least.len() <= STRING_BYTES_MAX && most.len() <= STRING_BYTES_MAX;
            short.then(|| (json!(least), json!(most)))
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
        ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
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
    fn bounds_are_exact_or_absent() {
        check(Arc::new(Int64Array::from(vec![Some(3), None, Some(-1)])), json!([3, 1, -1, 3]));
        check(Arc::new(Int64Array::from(vec![None, None])), json!([2, 2, null, null]));
        check(Arc::new(Float64Array::from(vec![0.5, -0.0])), json!([2, 0, 0.0, 0.5]));
        check(Arc::new(Float64Array::from(vec![0.5, f64::NAN])), json!([2, 0, null, null]));
        check(Arc::new(StringArray::from(vec!["b", "a"])), json!([2, 0, "a", "b"]));
        check(Arc::new(StringArray::from(vec!["x".repeat(65)])), json!([1, 0, null, null]));
        check(Arc::new(Date32Array::from(vec![0, 20_000])), json!([2, 0, "1970-01-01", "2024-10-04"]));
        let times = TimestampMicrosecondArray::from(vec![1_748_736_000_000_001, -1]);
        let (least, most) = ("1969-12-31T23:59:59.999999Z", "2025-06-01T00:00:00.000001Z");
        check(Arc::new(times.with_timezone("UTC")), json!([2, 0, least, most]));
        check(Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])), json!([1, 0, null, null]));
    }
}
