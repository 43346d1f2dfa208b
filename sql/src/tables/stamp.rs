//! Gives batches exactly the schema that was promised: same names, types, nullability, metadata.
//!
//! Plans lose bits of a schema on the way (a `min` answered from Parquet statistics is the classic), and Arrow clients
//! compare the schema they were promised with the one that arrives byte for byte.

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, internal_err};

pub(crate) fn batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    if batch.num_columns() != schema.fields().len() {
        return internal_err!(
            "a batch has {} columns where {} were promised",
            batch.num_columns(),
            schema.fields().len()
        );
    }
    // Types differ only in what a plan may lose (nullability within a struct or list, a view type); `cast` then
    // rebuilds the type around the same values.
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => cast(column, field.data_type()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
