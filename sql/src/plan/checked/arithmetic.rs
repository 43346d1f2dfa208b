//! `+`, `-`, `*`, `/`, `%`, `<<`, `>>` and the sign of integers, decimals and lengths of time, each with the check that its result fits.
//! What fails says where: the text of the expression goes along.

use std::any::Any;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, Datum, Decimal128Array};
use arrow::compute::kernels::numeric;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
use arrow::datatypes::{Decimal128Type, Decimal256Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::plan::column_type::type_text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    /// Of decimals: what is divided is made larger first.
    Divide,
    Remainder,
    Negate,
    ShiftLeft,
    ShiftRight,
}

impl Operation {
    /// What to check where DataFusion does not: floats have their infinities, and moments are checked already.
    pub fn of(op: Operator, left: &DataType, right: &DataType) -> Option<Operation> {
        let lengths = |kind: &DataType| matches!(kind, DataType::Duration(_) | DataType::Interval(_));
        let decimals = left.is_decimal() && right.is_decimal();
        let numbers = (left.is_integer() && right.is_integer()) || decimals;
        match op {
            Operator::Plus if numbers || (lengths(left) && lengths(right)) => Some(Operation::Add),
            Operator::Minus if numbers || (lengths(left) && lengths(right)) => Some(Operation::Subtract),
            Operator::Multiply if numbers => Some(Operation::Multiply),
            Operator::Divide if numbers => Some(Operation::Divide),
            Operator::Modulo if numbers => Some(Operation::Remainder),
            Operator::BitwiseShiftLeft if numbers && !decimals => Some(Operation::ShiftLeft),
            Operator::BitwiseShiftRight if numbers && !decimals => Some(Operation::ShiftRight),
            _ => None,
        }
    }

    fn operator(self) -> Operator {
        match self {
            Operation::Add => Operator::Plus,
            Operation::Subtract | Operation::Negate => Operator::Minus,
            Operation::Multiply => Operator::Multiply,
            Operation::Divide => Operator::Divide,
            Operation::Remainder => Operator::Modulo,
            Operation::ShiftLeft => Operator::BitwiseShiftLeft,
            Operation::ShiftRight => Operator::BitwiseShiftRight,
        }
    }

    fn apply(self, values: &[&dyn Datum]) -> Result<ArrayRef, ArrowError> {
        match (self, values) {
            (Operation::Add, [left, right]) => numeric::add(*left, *right),
            (Operation::Subtract, [left, right]) => numeric::sub(*left, *right),
            (Operation::Multiply, [left, right]) => numeric::mul(*left, *right),
            (Operation::Divide, [left, right]) => numeric::div(*left, *right),
            (Operation::Remainder, [left, right]) => numeric::rem(*left, *right),
            (Operation::Negate, [value]) => numeric::neg(value.get().0),
            (Operation::ShiftLeft, [value, by]) => shift(*value, *by, shifted_left),
            (Operation::ShiftRight, [value, by]) => shift(*value, *by, shifted_right),
            _ => Err(ArrowError::ComputeError(format!("{self:?} has not {} arguments", values.len()))),
        }
    }
}

/// Integers, shifted as `one` says, in 128 bits.
fn shift(
    values: &dyn Datum,
    by: &dyn Datum,
    one: impl Fn(i128, u32) -> Option<i128>,
) -> Result<ArrayRef, ArrowError> {
    const WIDE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);
    let ((values, one_value), (by, one_length)) = (values.get(), by.get());
    let kind = values.data_type();
    let (values, by) = (cast(values, &WIDE)?, cast(by, &WIDE)?);
    let (values, by) = (values.as_primitive::<Decimal128Type>(), by.as_primitive::<Decimal128Type>());
    let at = |array: &Decimal128Array, is_one: bool, row: usize| {
        let row = if is_one { 0 } else { row };
        array.is_valid(row).then(|| array.value(row))
    };
    let rows = if one_value { by.len() } else { values.len() };
    let shifted = (0..rows).map(|row| {
        let (Some(value), Some(by)) = (at(values, one_value, row), at(by, one_length, row)) else {
            return Ok(None);
        };
        let bits = u32::try_from(by)
            .map_err(|_| ArrowError::ComputeError(format!("{by} is no number of bits to shift by")))?;
        // What has no room in 128 bits has none in any type.
        Ok(Some(one(value, bits).unwrap_or(i128::MAX)))
    });
    let shifted = shifted.collect::<Result<Decimal128Array, ArrowError>>()?;
    let shifted = shifted.with_precision_and_scale(DECIMAL128_MAX_PRECISION, 0)?;
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let narrow = cast_with_options(&shifted, kind, &options)?;
    match (0..rows).find(|row| narrow.is_null(*row) && shifted.is_valid(*row)) {
        None => Ok(narrow),
        Some(row) => {
            let value = at(values, one_value, row).unwrap_or_default();
            let by = at(by, one_length, row).unwrap_or_default();
            Err(ArrowError::ArithmeticOverflow(format!("Overflow happened on: {value} << {by}")))
        }
    }
}

fn shifted_left(value: i128, bits: u32) -> Option<i128> {
    if value == 0 { Some(0) } else { 1_i128.checked_shl(bits.min(126))?.checked_mul(value) }
}

fn shifted_right(value: i128, bits: u32) -> Option<i128> {
    Some(value >> bits.min(127))
}

#[derive(Debug)]
pub(super) struct Arithmetic {
    operation: Operation,
    signature: Signature,
    /// What was written, for errors alone: two that calculate the same are the same.
    text: String,
}

impl PartialEq for Arithmetic {
    fn eq(&self, other: &Arithmetic) -> bool {
        self.operation == other.operation
    }
}

impl Eq for Arithmetic {}

impl Hash for Arithmetic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.operation.hash(state);
    }
}

impl Arithmetic {
    pub fn new(operation: Operation, args: &[Expr]) -> Arithmetic {
        let text = match args {
            [value] => format!("- {}", text_of(value)),
            [left, right] => format!("{} {} {}", text_of(left), operation.operator(), text_of(right)),
            _ => String::new(),
        };
        let signature = Signature::any(args.len(), Volatility::Immutable);
        Arithmetic { operation, signature, text }
    }

    /// Into one text, for names are asked for at every level of what is long: a text for each would be copied into the next.
    fn write_name(&self, name: &mut String, args: &[Expr]) -> Result<()> {
        let operand = |name: &mut String, operand: &Expr| match operand {
            Expr::ScalarFunction(call) => match (call.func.inner().as_ref() as &dyn Any).downcast_ref() {
                Some(inner @ Arithmetic { .. }) => inner.write_name(name, &call.args),
                None => Ok(write!(name, "{}", operand.schema_name())?),
            },
            _ => Ok(write!(name, "{}", operand.schema_name())?),
        };
        match args {
            [value] => {
                name.push_str("(- ");
                operand(name, value)?;
                name.push(')');
                Ok(())
            }
            [left, right] => {
                operand(name, left)?;
                write!(name, " {} ", self.operation.operator())?;
                operand(name, right)
            }
            _ => internal_err!("{} has {} arguments", self.name(), args.len()),
        }
    }

    /// Read as [`crate::Error`] is: a message, and below it what to do.
    fn does_not_fit<T>(&self, kind: &DataType, overflow: Option<&str>) -> Result<T> {
        let of_integers = overflow.filter(|_| kind.is_integer());
        let values = of_integers.and_then(|text| text.strip_prefix("Overflow happened on: "));
        let (text, kind_text) = (&self.text, type_text(kind));
        let wider = if kind.is_integer() { "DECIMAL(38, 0)" } else { "DOUBLE" };
        let what = match values {
            Some(values) if values == text => format!("{values} does not fit in {kind_text}"),
            Some(values) => format!("{values} does not fit in {kind_text}, in {text}"),
            None => format!("the result of {text} does not fit in {kind_text}"),
        };
        exec_err!("{what}\nhint: calculate in a wider type, such as CAST(… AS {wider})")
    }

    /// The kernels of decimals check the bits alone: only where digits were cut off can a result have too many.
    fn check_precision(&self, result: &ArrayRef, kind: &DataType) -> Result<()> {
        let fits = match kind {
            DataType::Decimal128(precision @ DECIMAL128_MAX_PRECISION, _) => {
                result.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision)
            }
            DataType::Decimal256(precision @ DECIMAL256_MAX_PRECISION, _) => {
                result.as_primitive::<Decimal256Type>().validate_decimal_precision(*precision)
            }
            _ => Ok(()),
        };
        fits.or_else(|_| self.does_not_fit(kind, None))
    }
}

/// About as it was written: what was calculated by a function of ours was an operator, and casts come from the planner.
fn text_of(expr: &Expr) -> String {
    match expr {
        Expr::Cast(Cast { expr, .. }) => text_of(expr),
        Expr::Column(column) => column.name.clone(),
        Expr::ScalarFunction(call) => match (call.func.inner().as_ref() as &dyn Any).downcast_ref() {
            Some(Arithmetic { text, .. }) => format!("({text})"),
            None => expr.human_display().to_string(),
        },
        other => other.human_display().to_string(),
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
            Operation::Divide => "checked_divide",
            Operation::Remainder => "checked_remainder",
            Operation::Negate => "checked_negate",
            Operation::ShiftLeft => "checked_shift_left",
            Operation::ShiftRight => "checked_shift_right",
        }
    }

    /// As the operator's: columns are found by it.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = String::new();
        self.write_name(&mut name, args)?;
        Ok(name)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [only] => Ok(only.clone()),
            [left, right] => {
                BinaryTypeCoercer::new(left, &self.operation.operator(), right).get_result_type()
            }
            _ => internal_err!("{} has {} arguments", self.name(), types.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().map(|value| match value {
            ColumnarValue::Scalar(value) => Ok(Some(value.to_scalar()?)),
            ColumnarValue::Array(_) => Ok(None),
        });
        let scalars = scalars.collect::<Result<Vec<_>>>()?;
        let values: Vec<&dyn Datum> = (args.args.iter().zip(&scalars))
            .map(|(value, scalar)| match (value, scalar) {
                (ColumnarValue::Array(array), _) => array as &dyn Datum,
                (ColumnarValue::Scalar(_), Some(scalar)) => scalar as &dyn Datum,
                (ColumnarValue::Scalar(_), None) => unreachable!("each scalar was made one above"),
            })
            .collect();
        let kind = args.return_field.data_type();
        let result = self.operation.apply(&values).or_else(|error| match error {
            ArrowError::ArithmeticOverflow(text) => self.does_not_fit(kind, Some(&text)),
            ArrowError::DivideByZero => exec_err!("division by zero, in {}", self.text),
            other => Err(other.into()),
        })?;
        self.check_precision(&result, kind)?;
        match scalars.iter().all(Option::is_some) {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}
