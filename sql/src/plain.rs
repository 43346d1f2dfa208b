//! Types that every client can read, whichever way rows travel.
//!
//! Views, large and run-end encoded types, dictionaries and small decimals are cast to their plain relatives, and the
//! schema after the casts is the one that is told.

use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;

/// The schema in which rows of `schema` travel. With `nanoseconds` every timestamp has them.
pub fn schema(schema: &Schema, nanoseconds: bool) -> Schema {
    Schema::new(schema.fields().iter().map(|it| field(it, nanoseconds)).collect::<Fields>())
}

fn field(field: &FieldRef, nanoseconds: bool) -> FieldRef {
    Arc::new(
        Field::new(field.name(), data_type(field.data_type(), nanoseconds), field.is_nullable())
            .with_metadata(field.metadata().clone()),
    )
}

fn data_type(kind: &DataType, nanoseconds: bool) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Timestamp(_, zone) if nanoseconds => {
            DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(field(item, nanoseconds)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item, nanoseconds), *size),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|it| field(it, nanoseconds)).collect())
        }
        DataType::Map(entries, sorted) => DataType::Map(field(entries, nanoseconds), *sorted),
        DataType::Dictionary(_, value) => data_type(value, nanoseconds),
        DataType::RunEndEncoded(_, value) => data_type(value.data_type(), nanoseconds),
        other => other.clone(),
    }
}

/// Casts a batch to the schema that was told, by position.
pub fn batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}
