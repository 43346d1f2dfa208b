//! Whether the times that a view computes are of the years 1 to 9999, as a date can hold wherever rows are read.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};

use crate::ids::CALENDAR;
use crate::spec::TIME_COLUMN;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The name of the first column that has another; what is within lists and structs is not looked at.
pub fn beyond_calendar(batch: &RecordBatch) -> Option<&str> {
    let schema = batch.schema_ref();
    let mut columns = schema.fields().iter().zip(batch.columns());
    let found = columns.find(|(field, column)| field.name() != TIME_COLUMN && is_beyond(column));
    found.map(|(field, _)| field.name().as_str())
}

fn is_beyond(column: &ArrayRef) -> bool {
    let (ends, unit) = match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => (ends::<TimestampSecondType>(column), MICROS_PER_SECOND),
        DataType::Timestamp(TimeUnit::Millisecond, _) => (ends::<TimestampMillisecondType>(column), 1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => (ends::<TimestampMicrosecondType>(column), 1),
        DataType::Date32 => (ends::<Date32Type>(column), MICROS_PER_DAY),
        // Nanoseconds in 64 bits reach no further than the year 2262.
        _ => return false,
    };
    let (least, most) = (CALENDAR.start().div_euclid(unit), CALENDAR.end().div_euclid(unit));
    ends.is_some_and(|(first, last)| first < least || last > most)
}

fn ends<T: ArrowPrimitiveType<Native: Into<i64>>>(column: &dyn Array) -> Option<(i64, i64)> {
    let values = column.as_primitive::<T>();
    min(values).zip(max(values)).map(|(first, last)| (first.into(), last.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, TimestampMicrosecondArray, TimestampSecondArray};

    use super::*;

    #[test]
    fn the_ends_of_the_calendar_are_of_it() {
        let (first, last) = CALENDAR.into_inner();
        let check = |column: ArrayRef, beyond: bool| assert_eq!(is_beyond(&column), beyond, "{column:?}");
        check(Arc::new(TimestampMicrosecondArray::from(vec![Some(first), None, Some(last)])), false);
        check(Arc::new(TimestampMicrosecondArray::from(vec![0, last + 1])), true);
        check(Arc::new(TimestampMicrosecondArray::from(vec![first - 1])), true);
        check(Arc::new(TimestampMicrosecondArray::from(vec![None])), false);
        check(Arc::new(TimestampSecondArray::from(vec![last / MICROS_PER_SECOND])), false);
        check(Arc::new(TimestampSecondArray::from(vec![last / MICROS_PER_SECOND + 1])), true);
        check(Arc::new(Date32Array::from(vec![-719_162, 2_932_896])), false);
        check(Arc::new(Date32Array::from(vec![2_932_897])), true);
        check(Arc::new(Date32Array::from(vec![-719_163])), true);
    }
}
