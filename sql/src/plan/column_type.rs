//! The types of declared columns.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as Declared, ExactNumberInfo, StructField, TimezoneInfo,
};

/// The one type of event time, and of every other moment.
pub(super) fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of a column declared as `declared`, or why there is none.
pub(super) fn column_type(declared: &Declared) -> Result<DataType, String> {
    Ok(match declared {
        Declared::String(_)
        | Declared::Text
        | Declared::Varchar(_)
        | Declared::CharacterVarying(_)
        | Declared::CharVarying(_)
        | Declared::Char(_)
        | Declared::Character(_)
        | Declared::Uuid => DataType::Utf8View,
        Declared::Bytes(_)
        | Declared::Bytea
        | Declared::Binary(_)
        | Declared::Varbinary(_)
        | Declared::Blob(_) => DataType::BinaryView,
        Declared::Boolean | Declared::Bool => DataType::Boolean,
        Declared::TinyInt(_) => DataType::Int8,
        Declared::SmallInt(_) | Declared::Int2(_) => DataType::Int16,
        Declared::Int(_) | Declared::Integer(_) | Declared::Int4(_) => DataType::Int32,
        Declared::BigInt(_) | Declared::Int8(_) => DataType::Int64,
        Declared::Real | Declared::Float4 | Declared::Float(_) => DataType::Float32,
        Declared::Double(_) | Declared::DoublePrecision | Declared::Float8 => DataType::Float64,
        Declared::Decimal(size) | Declared::Numeric(size) | Declared::Dec(size) => decimal(size)?,
        Declared::Date => DataType::Date32,
        Declared::Timestamp(precision, _) if precision.is_some_and(|digits| digits > 9) => {
            return Err("a TIMESTAMP has at most 9 digits, of which 6 are kept".into());
        }
        Declared::Timestamp(
            _,
            TimezoneInfo::None
            | TimezoneInfo::WithTimeZone
            | TimezoneInfo::WithoutTimeZone
            | TimezoneInfo::Tz,
        ) => moment(),
        Declared::Struct(fields, _) if !fields.is_empty() => DataType::Struct(struct_fields(fields)?),
        Declared::Array(
            ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::SquareBracket(inner, None)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => DataType::List(Arc::new(Field::new_list_field(column_type(inner)?, true))),
        other => {
            return Err(format!(
                "{other} is no type of a column; types are STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, \
                 DOUBLE, DECIMAL(p, s), DATE, TIMESTAMP, BYTES, STRUCT<name type, …> and ARRAY<type>"
            ));
        }
    })
}

/// The type of a value that a text can stand for.
pub(crate) fn scalar_type(declared: &Declared) -> Result<DataType, String> {
    match column_type(declared)? {
        nested @ (DataType::Struct(_) | DataType::List(_) | DataType::BinaryView) => {
            Err(format!("{} is no type of a parameter: it is one value, of one line", type_text(&nested)))
        }
        kind => Ok(kind),
    }
}

/// A type as SQL writes it, where SQL can.
pub(crate) fn type_text(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => "TIMESTAMP".to_owned(),
        DataType::List(item) | DataType::LargeList(item) => format!("ARRAY<{}>", type_text(item.data_type())),
        DataType::Struct(fields) => {
            let fields =
                fields.iter().map(|field| format!("{} {}", field.name(), type_text(field.data_type())));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn decimal(size: &ExactNumberInfo) -> Result<DataType, String> {
    let (precision, scale) = match size {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let most = u64::from(DECIMAL128_MAX_PRECISION);
    if precision == 0 || precision > most || scale < 0 || scale as u64 > precision {
        return Err(format!("DECIMAL(p, s) has p from 1 to {most} and s from 0 to p"));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

/// The names of fields keep their case: `geo['City']` is the record's `City`.
fn struct_fields(declared: &[StructField]) -> Result<Fields, String> {
    let mut fields: Vec<Field> = vec![];
    for field in declared {
        let name = field.field_name.as_ref().ok_or("each field of a STRUCT has a name")?;
        if field.options.is_some() {
            return Err(format!("field {} of the STRUCT has options, which none takes", name.value));
        }
        if fields.iter().any(|known| known.name() == &name.value) {
            return Err(format!("the STRUCT has two fields called {}", name.value));
        }
        fields.push(Field::new(&name.value, column_type(&field.field_type)?, true));
    }
    Ok(fields.into())
}
