//! Integer arithmetic on moments, in microseconds: `date_bin` would go through nanoseconds and lose four centuries.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    lit,
};
use thalweg_engine::ids::Micros;

use crate::plan::column_type::moment;

/// The start of the pane that a moment lies in.
pub(super) fn pane_start(time: Expr, pane: Micros) -> Expr {
    ScalarUDF::from(MomentFunction::new(Operation::PaneStart)).call(vec![time, lit(pane)])
}

/// A moment, moved.
pub(crate) fn shift(time: Expr, by: Micros) -> Expr {
    ScalarUDF::from(MomentFunction::new(Operation::Shift)).call(vec![time, lit(by)])
}

/// The starts of all windows that a moment lies in, ascending.
pub(super) fn window_starts(time: Expr, size: Micros, slide: Micros) -> Expr {
    ScalarUDF::from(MomentFunction::new(Operation::WindowStarts)).call(vec![time, lit(size), lit(slide)])
}

/// A float as a key: one zero, one NaN. The engine's hashes and comparisons keep NaNs of other bits apart.
pub(crate) fn canonical_float(value: Expr) -> Expr {
    ScalarUDF::from(CanonicalFloat::new()).call(vec![value])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    PaneStart,
    Shift,
    WindowStarts,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MomentFunction {
    operation: Operation,
    signature: Signature,
}

impl MomentFunction {
    fn new(operation: Operation) -> MomentFunction {
        let lengths = if operation == Operation::WindowStarts { 2 } else { 1 };
        let arguments = std::iter::once(moment()).chain(vec![DataType::Int64; lengths]).collect();
        MomentFunction { operation, signature: Signature::exact(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MomentFunction {
    fn name(&self) -> &str {
        match self.operation {
            Operation::PaneStart => "pane_start",
            Operation::Shift => "shift_micros",
            Operation::WindowStarts => "window_starts",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.operation {
            Operation::WindowStarts => DataType::List(Arc::new(Field::new_list_field(moment(), true))),
            Operation::PaneStart | Operation::Shift => moment(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times: &TimestampMicrosecondArray = times.as_primitive();
        let lengths = args.args[1..].iter().map(constant).collect::<Result<Vec<_>>>()?;
        let result: ArrayRef = match self.operation {
            Operation::PaneStart => Arc::new(pane_starts(times, lengths[0])),
            Operation::Shift => {
                Arc::new(times.unary::<_, TimestampMicrosecondType>(|time| time.saturating_add(lengths[0])))
            }
            Operation::WindowStarts => Arc::new(starts_of_all(times, lengths[0], lengths[1])),
        };
        match result.data_type() {
            DataType::Timestamp(..) => {
                let zoned = result.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC");
                Ok(ColumnarValue::Array(Arc::new(zoned)))
            }
            _ => Ok(ColumnarValue::Array(result)),
        }
    }
}

fn constant(value: &ColumnarValue) -> Result<Micros> {
    match value {
        ColumnarValue::Scalar(scalar) => match scalar.to_array()?.as_primitive_opt::<Int64Type>() {
            Some(number) if number.is_valid(0) => Ok(number.value(0)),
            _ => exec_err!("a length of time is a number"),
        },
        ColumnarValue::Array(_) => exec_err!("a length of time is a constant"),
    }
}

fn floor_to(time: Micros, length: Micros) -> Micros {
    time.saturating_sub(time.rem_euclid(length))
}

/// Neighbours mostly lie in the same pane, so the division is mostly spared.
fn pane_starts(times: &TimestampMicrosecondArray, pane: Micros) -> TimestampMicrosecondArray {
    let mut start = 0;
    let mut end = pane;
    let starts = times.values().iter().map(|&time| {
        if time < start || time >= end {
            start = floor_to(time, pane);
            end = start.saturating_add(pane);
        }
        start
    });
    TimestampMicrosecondArray::new(starts.collect(), times.nulls().cloned())
}

fn starts_of_all(times: &TimestampMicrosecondArray, size: Micros, slide: Micros) -> ListArray {
    let mut values: Vec<Micros> = Vec::with_capacity(times.len() * (size / slide + 1) as usize);
    let mut lengths = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        let before = values.len();
        if times.is_valid(row) {
            let time = times.value(row);
            let last = floor_to(time, slide);
            let mut start = floor_to(time.saturating_sub(size), slide).saturating_add(slide);
            while start <= last {
                values.push(start);
                start = start.saturating_add(slide);
            }
        }
        lengths.push(values.len() - before);
    }
    let values = TimestampMicrosecondArray::from(values).with_timezone("UTC");
    ListArray::new(
        Arc::new(Field::new_list_field(moment(), true)),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(values),
        times.nulls().cloned(),
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CanonicalFloat {
    signature: Signature,
}

impl CanonicalFloat {
    fn new() -> CanonicalFloat {
        let floats = [DataType::Float32, DataType::Float64].map(|each| TypeSignature::Exact(vec![each]));
        CanonicalFloat { signature: Signature::one_of(floats.to_vec(), Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CanonicalFloat {
    fn name(&self) -> &str {
        "canonical_float"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let canonical: ArrayRef = match values.data_type() {
            DataType::Float32 => {
                let values: &PrimitiveArray<Float32Type> = values.as_primitive();
                Arc::new(
                    values.unary::<_, Float32Type>(|each| if each.is_nan() { f32::NAN } else { each + 0.0 }),
                )
            }
            _ => {
                let values: &PrimitiveArray<Float64Type> = values.as_primitive();
                Arc::new(
                    values.unary::<_, Float64Type>(|each| if each.is_nan() { f64::NAN } else { each + 0.0 }),
                )
            }
        };
        Ok(ColumnarValue::Array(canonical))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_are_floors_also_before_the_epoch() {
        let times = TimestampMicrosecondArray::from(vec![
            Some(0),
            Some(59),
            Some(60),
            None,
            Some(-1),
            Some(-61),
            Some(i64::MIN),
        ]);
        let starts = pane_starts(&times, 60);
        let expected = [Some(0), Some(0), Some(60), None, Some(-60), Some(-120), Some(i64::MIN)];
        assert_eq!(starts.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_window_that_holds_the_moment_is_named() {
        for (size, slide) in [(10, 3), (10, 5), (10, 10), (7, 2), (5, 1)] {
            for time in -40..40 {
                let lists = starts_of_all(&TimestampMicrosecondArray::from(vec![time]), size, slide);
                let found = lists.value(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
                let naive: Vec<i64> = (-100..100)
                    .map(|n| n * slide)
                    .filter(|start| (*start..start + size).contains(&time))
                    .collect();
                assert_eq!(found, naive, "time {time}, size {size}, slide {slide}");
            }
        }
    }
}
