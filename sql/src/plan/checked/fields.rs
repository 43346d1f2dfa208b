//! A field of what is NULL is NULL. It is taken as its column lies in the struct, where a struct of which a CASE made NULL (as for
//! a row that meets nothing in a table) still has the fields of what it was.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

/// A struct whose NULLs are those of its fields too, if the expression makes others.
pub(super) fn whole(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let makes_nulls = match expr {
        Expr::Case(_) => true,
        Expr::ScalarFunction(call) if is_whole(call) => {
            // A plan may be looked at again.
            let inner = call.args.first().filter(|it| matches!(it, Expr::ScalarFunction(it) if is_whole(it)));
            return Ok(inner.cloned());
        }
        Expr::ScalarFunction(call) => call.name() == "nullif",
        _ => false,
    };
    if !makes_nulls || !matches!(expr.get_type(schema)?, DataType::Struct(_)) {
        return Ok(None);
    }
    let whole = ScalarUDF::from(Whole { signature: Signature::any(1, Volatility::Immutable) });
    Ok(Some(whole.call(vec![expr.clone()])))
}

fn is_whole(call: &ScalarFunction) -> bool {
    (call.func.inner().as_ref() as &dyn Any).is::<Whole>()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    signature: Signature,
}

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &str {
        "whole"
    }

    /// As the value's: columns are found by it.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.human_display().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) if array.null_count() > 0 => {
                ColumnarValue::Array(pushed_down(array, None)?)
            }
            other => other.clone(),
        })
    }
}

fn pushed_down(array: &ArrayRef, above: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let nulls = NullBuffer::union(array.nulls(), above);
    if !matches!(array.data_type(), DataType::Struct(_)) {
        return Ok(make_array(array.to_data().into_builder().nulls(nulls).build()?));
    }
    let (fields, columns, _) = array.as_struct().clone().into_parts();
    let columns = columns.iter().map(|column| pushed_down(column, nulls.as_ref()));
    let columns = columns.collect::<Result<_, ArrowError>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn what_lies_in_a_null_is_null() {
        let field = Field::new("x", DataType::Int32, true);
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
        let nulls = NullBuffer::from(vec![true, false, true]);
        let array: ArrayRef = Arc::new(StructArray::new(vec![field].into(), vec![values], Some(nulls)));
        let whole = pushed_down(&array, None).unwrap();
        assert_eq!(**whole.as_struct().column(0), Int32Array::from(vec![Some(1), None, None]));
    }
}
