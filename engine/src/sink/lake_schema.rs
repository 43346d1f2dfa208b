//! The types that a Delta table can hold. A view's other types are widened without loss, or refused by name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::PARTITION_COLUMN;
use crate::spec::TIME_COLUMN;
use crate::{Error, Result};

/// The columns of the Parquet files of a view with this schema: same names, same order, every column nullable.
/// Timestamps are microseconds; UInt64 becomes `Decimal(20, 0)`, the smaller ones the next signed type.
pub fn lake_schema(schema: &Schema) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        if name == PARTITION_COLUMN || name == TIME_COLUMN {
            return Err(Error::Invalid(format!(
                "the column's name is taken by Thalweg; give it another with AS. column=\"{name}\""
            )));
        }
        // Delta compares names without regard to case.
        if let Some(same) = fields.iter().find(|known| known.name().eq_ignore_ascii_case(name)) {
            return Err(Error::Invalid(format!(
                "two columns of a Delta table cannot have one name; give one another with AS. column=\"{name}\", \
                 other=\"{}\"",
                same.name()
            )));
        }
        let stored = lake_type(field.data_type()).map_err(|refused| {
            Error::Invalid(format!(
                "a Delta table cannot hold this type; CAST it. column=\"{name}\", type=\"{refused}\""
            ))
        })?;
        fields.push(Field::new(name, stored, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The error is the innermost type that cannot be stored.
fn lake_type(data_type: &DataType) -> Result<DataType, DataType> {
    use DataType::*;
    Ok(match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Date32 | Utf8 | Binary => {
            data_type.clone()
        }
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 => Int64,
        UInt64 => Decimal128(20, 0),
        Float16 => Float32,
        Utf8View | LargeUtf8 => Utf8,
        BinaryView | LargeBinary | FixedSizeBinary(_) => Binary,
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Decimal32(precision, scale) | Decimal64(precision, scale) | Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            Decimal128(*precision, *scale)
        }
        Decimal256(precision, scale) if *precision <= 38 && *scale >= 0 => Decimal128(*precision, *scale),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => {
            List(lake_field(item, "element")?)
        }
        Struct(fields) => {
            let fields: Result<Vec<FieldRef>, DataType> =
                fields.iter().map(|field| lake_field(field, field.name())).collect();
            Struct(Fields::from(fields?))
        }
        Map(entries, sorted) => {
            let Struct(pair) = entries.data_type() else { return Err(data_type.clone()) };
            let key = Field::new("key", lake_type(pair[0].data_type())?, false);
            let pair = Fields::from(vec![Arc::new(key), lake_field(&pair[1], "value")?]);
            Map(Arc::new(Field::new("key_value", Struct(pair), false)), *sorted)
        }
        Dictionary(_, value) => lake_type(value)?,
        _ => return Err(data_type.clone()),
    })
}

fn lake_field(field: &Field, name: &str) -> Result<FieldRef, DataType> {
    Ok(Arc::new(Field::new(name, lake_type(field.data_type())?, true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data_type: DataType, expected: Result<DataType, &str>) {
        let schema = Schema::new(vec![Field::new("c", data_type, false)]);
        match (lake_schema(&schema), expected) {
            (Ok(lake), Ok(expected)) => assert_eq!(*lake.field(0).data_type(), expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn types_are_kept_widened_or_refused() {
        use DataType::*;
        check(Int64, Ok(Int64));
        check(UInt64, Ok(Decimal128(20, 0)));
        check(Utf8View, Ok(Utf8));
        check(Timestamp(TimeUnit::Nanosecond, None), Ok(Timestamp(TimeUnit::Microsecond, None)));
        check(Duration(TimeUnit::Second), Err("column=\"c\", type=\"Duration(s)\""));
        let of = |name: &str, item| List(Arc::new(Field::new(name, item, true)));
        check(of("item", Utf8View), Ok(of("element", Utf8)));
        check(of("item", Null), Err("type=\"Null\""));
    }

    #[test]
    fn names_of_our_own_and_names_that_differ_in_case_are_refused() {
        let int = |name: &str| Field::new(name, DataType::Int64, true);
        let error = lake_schema(&Schema::new(vec![int("window_date")])).unwrap_err();
        assert!(error.to_string().contains("window_date"), "{error}");
        let error = lake_schema(&Schema::new(vec![int("Total"), int("total")])).unwrap_err();
        assert!(error.to_string().contains("other=\"Total\""), "{error}");
    }
}
