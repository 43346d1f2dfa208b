//! Many record values in, one batch plus the refused records out. Pure: no I/O, no clock.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::source::Records;

/// Decodes JSON values of one declared schema. What becomes of a record depends on its bytes alone.
pub struct Decoder {
    schema: SchemaRef,
}

/// What became of a batch of records.
#[derive(Debug)]
pub struct Decoded {
    /// One row per accepted record, in order.
    pub batch: RecordBatch,
    /// One entry per refused record, ascending by index.
    pub refused: Vec<Refused>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Index of the record in [`Records::spans`].
    pub index: usize,
    /// What is wrong, with the column's name; made for a person.
    pub reason: String,
    /// Where in the record's bytes.
    pub at: usize,
}

impl Decoder {
    /// `declared` has every declared column (each record is checked against all of them); `wanted` are the indices of
    /// those that are materialized, ascending. The batch's schema is `declared` projected to `wanted`.
    pub fn new(declared: SchemaRef, wanted: &[usize]) -> Result<Decoder> {
        let schema = std::sync::Arc::new(declared.project(wanted)?);
        Ok(Decoder { schema })
    }

    /// The schema of every batch that comes out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn decode(&mut self, records: &Records) -> Result<Decoded> {
        let _ = records;
        Err(crate::Error::Internal("the JSON decoder is absent".into()))
    }
}
