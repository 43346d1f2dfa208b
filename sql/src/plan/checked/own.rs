//! A list or a struct with nothing below it that is not of it. Arrow casts all elements that lie below a list: those of
//! lists that a LIMIT has left out, and of lists that are NULL, fail as if they were among the rows.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
};
use arrow::array::{StructArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) fn own(nested: Expr) -> Expr {
    ScalarUDF::from(Own { signature: Signature::any(1, Volatility::Immutable) }).call(vec![nested])
}

pub(super) fn is_own(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if (call.func.inner().as_ref() as &dyn Any).is::<Own>())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Own {
    signature: Signature,
}

impl ScalarUDFImpl for Own {
    fn name(&self) -> &str {
        "own"
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
            ColumnarValue::Array(array) => ColumnarValue::Array(own_of(array)?),
            scalar => scalar.clone(),
        })
    }
}

fn own_of(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !array.data_type().is_nested() {
        return Ok(Arc::clone(array));
    }
    // Of a NULL nothing is taken, whatever lies below it.
    let rows = (0..array.len()).map(|row| array.is_valid(row).then_some(row as u64));
    let array = take(array, &rows.collect::<UInt64Array>(), None)?;
    Ok(match array.data_type() {
        DataType::List(_) => Arc::new(own_list::<i32>(&array)?),
        DataType::LargeList(_) => Arc::new(own_list::<i64>(&array)?),
        DataType::FixedSizeList(element, size) => {
            let list = array.as_fixed_size_list();
            let (values, nulls) = (own_of(list.values())?, list.nulls().cloned());
            Arc::new(FixedSizeListArray::try_new(Arc::clone(element), *size, values, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let own = own_of(&(Arc::new(map.entries().clone()) as ArrayRef))?.as_struct().clone();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, own, nulls, *sorted)?)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(own_of).collect::<Result<_, _>>()?;
            let nulls = array.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?)
        }
        _ => array,
    })
}

fn own_list<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<GenericListArray<O>, ArrowError> {
    let (element, offsets, values, nulls) = array.as_list::<O>().clone().into_parts();
    GenericListArray::try_new(element, offsets, own_of(&values)?, nulls)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, ListArray, StringArray};
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::compute::{CastOptions, cast_with_options};
    use arrow::datatypes::Field;

    use super::*;

    fn list(lengths: [usize; 3], elements: ArrayRef, valid: [bool; 3]) -> ArrayRef {
        let element = Arc::new(Field::new_list_field(elements.data_type().clone(), true));
        let (offsets, nulls) = (OffsetBuffer::from_lengths(lengths), NullBuffer::from(valid.to_vec()));
        Arc::new(ListArray::new(element, offsets, elements, Some(nulls)))
    }

    fn numbers(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        fn of_numbers(kind: &DataType) -> DataType {
            match kind {
                DataType::List(element) => {
                    let kind = of_numbers(element.data_type());
                    DataType::List(Arc::new(element.as_ref().clone().with_data_type(kind)))
                }
                DataType::Struct(fields) => {
                    let field =
                        |it: &FieldRef| it.as_ref().clone().with_data_type(of_numbers(it.data_type()));
                    DataType::Struct(fields.iter().map(field).collect())
                }
                _ => DataType::Int32,
            }
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, &of_numbers(array.data_type()), &options)
    }

    #[test]
    fn what_lies_in_a_null_is_null() {
        let field = Field::new("x", DataType::Int32, true);
        let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
        let nulls = NullBuffer::from(vec![true, false, true]);
        let array: ArrayRef = Arc::new(StructArray::new(vec![field].into(), vec![values], Some(nulls)));
        let whole = own_of(&array).unwrap();
        assert_eq!(**whole.as_struct().column(0), Int32Array::from(vec![Some(1), None, None]));
    }

    #[test]
    fn what_is_not_of_a_list_is_not_cast() {
        let texts = || Arc::new(StringArray::from(vec!["1", "x", "y", "2"])) as ArrayRef;
        let lists = [
            // Of a slice, of a NULL, and within each other.
            list([2, 1, 1], texts(), [true; 3]).slice(2, 1),
            list([1, 2, 1], texts(), [true, false, true]),
            list([1, 0, 1], list([1, 2, 1], texts(), [true; 3]).slice(1, 2), [true, true, false]).slice(1, 1),
        ];
        for it in lists {
            assert!(numbers(&it).is_err(), "{it:?}");
            let own = own_of(&it).unwrap();
            assert_eq!(&own, &it);
            numbers(&own).unwrap();
        }
        let structs = |valid: [bool; 4]| {
            let fields = vec![Field::new("a", DataType::Utf8, true)].into();
            let nulls = Some(NullBuffer::from(valid.to_vec()));
            Arc::new(StructArray::new(fields, vec![texts()], nulls)) as ArrayRef
        };
        let own = own_of(&structs([true, false, false, true])).unwrap();
        let own = numbers(&own).unwrap();
        assert_eq!(own.as_struct().column(0).as_ref(), &Int32Array::from(vec![Some(1), None, None, Some(2)]));
        // What is of it fails as before.
        assert!(numbers(&own_of(&list([2, 1, 1], texts(), [true; 3])).unwrap()).is_err());
        assert!(numbers(&own_of(&structs([true; 4])).unwrap()).is_err());
    }
}
