//! Integer arithmetic on moments, in microseconds: `date_bin` would go through nanoseconds and lose four centuries.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    lit,
};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::Layout;

use super::node::layout_text;
use crate::plan::column_type::moment;

/// The start of the pane that a moment lies in.
pub(super) fn pane_start(time: Expr, layout: Layout) -> Expr {
    let pane = layout.panes();
    match pane {
        Layout::Hop { size, offset: 0, .. } => call(Operation::PaneStart(pane), [time, lit(size)]),
        _ => call(Operation::PaneStart(pane), [time, told(pane)]),
    }
}

/// Its end, from its start.
pub(super) fn pane_end(start: Expr, layout: Layout) -> Expr {
    match layout {
        Layout::Calendar(_) => call(Operation::EndOfStart(layout), [start, told(layout)]),
        Layout::Hop { size, slide, .. } if size == slide => shift(start, size),
        _ => shift(start, layout.shared_pane().0),
    }
}

/// A moment, moved.
pub(crate) fn shift(time: Expr, by: Micros) -> Expr {
    call(Operation::Shift, [time, lit(by)])
}

/// The marks of all windows that a moment lies in, ascending.
pub(super) fn window_marks(time: Expr, layout: Layout) -> Expr {
    match layout {
        Layout::Hop { size, slide, offset: 0 } => {
            call(Operation::WindowMarks(layout), [time, lit(size), lit(slide)])
        }
        _ => call(Operation::WindowMarks(layout), [time, told(layout)]),
    }
}

/// The bounds of the window that has a mark.
pub(super) fn bounds_of_mark(mark: Expr, layout: Layout) -> (Expr, Expr) {
    let end = shift(mark.clone(), layout.longest());
    match layout {
        Layout::Hop { .. } | Layout::Calendar(_) => (mark, end),
        Layout::Cumulate { .. } => (start_of_end(end.clone(), layout), end),
    }
}

/// The start of a window, from its end.
pub(crate) fn start_of_end(end: Expr, layout: Layout) -> Expr {
    match layout {
        Layout::Hop { size, .. } => shift(end, -size),
        _ => call(Operation::StartOfEnd(layout), [end, told(layout)]),
    }
}

fn call<const N: usize>(operation: Operation, arguments: [Expr; N]) -> Expr {
    ScalarUDF::from(MomentFunction::new(operation)).call(arguments.to_vec())
}

/// For people who read a plan.
fn told(layout: Layout) -> Expr {
    lit(layout_text(layout))
}

/// A float as a key: one zero, one NaN. The engine's hashes and comparisons keep NaNs of other bits apart.
pub(crate) fn canonical_float(value: Expr) -> Expr {
    ScalarUDF::from(CanonicalFloat::new()).call(vec![value])
}

pub(crate) fn is_canonical_float(call: &ScalarFunction) -> bool {
    (call.func.inner().as_ref() as &dyn Any).is::<CanonicalFloat>()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    PaneStart(Layout),
    Shift,
    WindowMarks(Layout),
    EndOfStart(Layout),
    StartOfEnd(Layout),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MomentFunction {
    operation: Operation,
    signature: Signature,
}

impl MomentFunction {
    /// What it computes with is of the operation; the arguments behind the moment say it to people.
    fn new(operation: Operation) -> MomentFunction {
        let arguments = match operation {
            Operation::WindowMarks(Layout::Hop { offset: 0, .. }) => vec![DataType::Int64; 2],
            Operation::PaneStart(Layout::Hop { offset: 0, .. }) | Operation::Shift => vec![DataType::Int64],
            _ => vec![DataType::Utf8],
        };
        let arguments = std::iter::once(moment()).chain(arguments).collect();
        MomentFunction { operation, signature: Signature::exact(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MomentFunction {
    fn name(&self) -> &str {
        match self.operation {
            Operation::PaneStart(_) => "pane_start",
            Operation::Shift => "shift_micros",
            Operation::WindowMarks(_) => "window_starts",
            Operation::EndOfStart(_) => "window_end_from",
            Operation::StartOfEnd(_) => "window_start_until",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.operation {
            Operation::WindowMarks(_) => DataType::List(Arc::new(Field::new_list_field(moment(), true))),
            _ => moment(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times: &TimestampMicrosecondArray = times.as_primitive();
        let result = match self.operation {
            Operation::PaneStart(layout) => {
                in_order(times, |time| window_around(layout, time), |(start, _)| start)
            }
            Operation::EndOfStart(layout) => {
                in_order(times, |time| window_around(layout, time), |(_, end)| end)
            }
            Operation::Shift => {
                let by = constant(&args.args[1])?;
                times.unary(|time| time.saturating_add(by))
            }
            Operation::StartOfEnd(layout) => times.unary(|end| layout.start_of_end(end)),
            Operation::WindowMarks(layout) => {
                return Ok(ColumnarValue::Array(Arc::new(marks_of_all(times, layout))));
            }
        };
        Ok(ColumnarValue::Array(Arc::new(result.with_timezone("UTC"))))
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

/// The bounds of the one window that a moment lies in.
fn window_around(layout: Layout, time: Micros) -> (Micros, Micros) {
    let end = layout.next_end(time);
    (layout.start_of_end(end), end)
}

/// Neighbours mostly lie in the same window, so it is mostly known.
fn in_order(
    times: &TimestampMicrosecondArray,
    around: impl Fn(Micros) -> (Micros, Micros),
    which: impl Fn((Micros, Micros)) -> Micros,
) -> TimestampMicrosecondArray {
    let mut window = (0, 0);
    let of_time = times.values().iter().map(|&time| {
        if time < window.0 || time >= window.1 {
            window = around(time);
        }
        which(window)
    });
    TimestampMicrosecondArray::new(of_time.collect(), times.nulls().cloned())
}

fn marks_of_all(times: &TimestampMicrosecondArray, layout: Layout) -> ListArray {
    let mut values: Vec<Micros> = Vec::with_capacity(times.len() * 2);
    let mut lengths = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        let before = values.len();
        if times.is_valid(row) {
            values.extend(layout.marks_of_row(times.value(row)));
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

    /// As the value's: columns are found by it.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.human_display().to_string()).collect())
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(values) => ColumnarValue::Array(canonical(values)),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&canonical(&value.to_array()?), 0)?)
            }
        })
    }
}

fn canonical(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float32 => {
            let values: &PrimitiveArray<Float32Type> = values.as_primitive();
            Arc::new(values.unary::<_, Float32Type>(|each| if each.is_nan() { f32::NAN } else { each + 0.0 }))
        }
        _ => {
            let values: &PrimitiveArray<Float64Type> = values.as_primitive();
            Arc::new(values.unary::<_, Float64Type>(|each| if each.is_nan() { f64::NAN } else { each + 0.0 }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_are_floors_also_before_the_epoch() {
        let times =
            TimestampMicrosecondArray::from(vec![Some(0), Some(59), Some(60), None, Some(-1), Some(-61)]);
        let minutes = Layout::hop(60, 60);
        let starts = in_order(&times, |time| window_around(minutes, time), |(start, _)| start);
        let expected = [Some(0), Some(0), Some(60), None, Some(-60), Some(-120)];
        assert_eq!(starts.iter().collect::<Vec<_>>(), expected);
    }
}
