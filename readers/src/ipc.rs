//! Batches, schemas and values as bytes, in Arrow's stream format.

use std::io;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::common::ScalarValue;

pub fn of_batch(batch: &RecordBatch) -> io::Result<Bytes> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(io::Error::other)?;
    writer.write(batch).map_err(io::Error::other)?;
    Ok(writer.into_inner().map_err(io::Error::other)?.into())
}

/// It shares the memory of the bytes.
pub fn batch(bytes: &Bytes) -> io::Result<RecordBatch> {
    let (schema, batch) = decoded(bytes)?;
    Ok(batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

pub fn of_schema(schema: &Schema) -> io::Result<Bytes> {
    let writer = StreamWriter::try_new(Vec::new(), schema).map_err(io::Error::other)?;
    Ok(writer.into_inner().map_err(io::Error::other)?.into())
}

pub fn schema(bytes: &Bytes) -> io::Result<SchemaRef> {
    decoded(bytes).map(|(schema, _)| schema)
}

fn decoded(bytes: &Bytes) -> io::Result<(SchemaRef, Option<RecordBatch>)> {
    let mut decoder = StreamDecoder::new();
    let mut buffer = Buffer::from(bytes.clone());
    let mut batch = None;
    while !buffer.is_empty() && batch.is_none() {
        batch = decoder.decode(&mut buffer).map_err(io::Error::other)?;
    }
    let schema = decoder.schema().ok_or_else(|| io::Error::other("a schema is missing"))?;
    Ok((schema, batch))
}

/// As one row.
pub fn of_values(values: &[ScalarValue]) -> io::Result<Bytes> {
    let columns = values.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>();
    let columns = columns.map_err(io::Error::other)?;
    let fields: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| Field::new(at.to_string(), column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
    of_batch(&batch.map_err(io::Error::other)?)
}

pub fn values(bytes: &Bytes) -> io::Result<Vec<ScalarValue>> {
    let batch = batch(bytes)?;
    let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    values.collect::<Result<_, _>>().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_kinds_are_what_they_were() {
        let list = ScalarValue::new_list_nullable(
            &[ScalarValue::Int64(Some(1)), ScalarValue::Int64(None)],
            &arrow::datatypes::DataType::Int64,
        );
        let all = vec![
            ScalarValue::Utf8View(Some("a".repeat(40))),
            ScalarValue::Null,
            ScalarValue::Decimal128(Some(-12), 38, 3),
            ScalarValue::TimestampMicrosecond(Some(7), Some("UTC".into())),
            ScalarValue::Boolean(None),
            ScalarValue::List(list),
        ];
        assert_eq!(values(&of_values(&all).unwrap()).unwrap(), all);
        assert!(values(&of_values(&[]).unwrap()).unwrap().is_empty());
    }
}
