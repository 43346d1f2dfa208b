//! `+`, `-`, `*` and the sign of integers, decimals and lengths of time, each with the check that its result fits.

use arrow::array::{ArrayRef, AsArray, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
use arrow::datatypes::{Decimal128Type, Decimal256Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
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
    Negate,
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
            Operator::Divide if decimals => Some(Operation::Divide),
            _ => None,
        }
    }

    fn operator(self) -> Operator {
        match self {
            Operation::Add => Operator::Plus,
            Operation::Subtract | Operation::Negate => Operator::Minus,
            Operation::Multiply => Operator::Multiply,
            Operation::Divide => Operator::Divide,
        }
    }

    fn apply(self, values: &[&dyn Datum]) -> Result<ArrayRef, ArrowError> {
        match (self, values) {
            (Operation::Add, [left, right]) => numeric::add(*left, *right),
            (Operation::Subtract, [left, right]) => numeric::sub(*left, *right),
            (Operation::Multiply, [left, right]) => numeric::mul(*left, *right),
            (Operation::Divide, [left, right]) => numeric::div(*left, *right),
            (Operation::Negate, [value]) => numeric::neg(value.get().0),
            _ => Err(ArrowError::ComputeError(format!("{self:?} has not {} arguments", values.len()))),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Arithmetic {
    operation: Operation,
    signature: Signature,
}

impl Arithmetic {
    pub fn new(operation: Operation) -> Arithmetic {
        let arguments = if operation == Operation::Negate { 1 } else { 2 };
        Arithmetic { operation, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
            Operation::Divide => "checked_divide",
            Operation::Negate => "checked_negate",
        }
    }

    /// As the operator's: columns are found by it.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [value] => Ok(format!("(- {})", value.schema_name())),
            [left, right] => {
                Ok(format!("{} {} {}", left.schema_name(), self.operation.operator(), right.schema_name()))
            }
            _ => internal_err!("{} has {} arguments", self.name(), args.len()),
        }
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
            ArrowError::ArithmeticOverflow(text) => does_not_fit(kind, Some(&text)),
            other => Err(other.into()),
        })?;
        check_precision(&result, kind)?;
        match scalars.iter().all(Option::is_some) {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// The kernels of decimals check the bits alone: only where digits were cut off can a result have too many.
fn check_precision(result: &ArrayRef, kind: &DataType) -> Result<()> {
    let fits = match kind {
        DataType::Decimal128(precision @ DECIMAL128_MAX_PRECISION, _) => {
            result.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision)
        }
        DataType::Decimal256(precision @ DECIMAL256_MAX_PRECISION, _) => {
            result.as_primitive::<Decimal256Type>().validate_decimal_precision(*precision)
        }
        _ => Ok(()),
    };
    fits.or_else(|_| does_not_fit(kind, None))
}

/// Read as [`crate::Error`] is: a message, and below it what to do.
fn does_not_fit<T>(kind: &DataType, overflow: Option<&str>) -> Result<T> {
    let of_integers = overflow.filter(|_| kind.is_integer());
    let what = of_integers.and_then(|text| text.strip_prefix("Overflow happened on: "));
    let wider = if kind.is_integer() { "DECIMAL(38, 0)" } else { "DOUBLE" };
    exec_err!(
        "{} does not fit in {}\nhint: calculate in a wider type, such as CAST(… AS {wider})",
        what.unwrap_or("a result"),
        type_text(kind)
    )
}
