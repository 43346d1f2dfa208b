//! Many record values in, one batch plus the refused records out. Pure: no I/O, no clock.
//!
//! `docs/JSON.md` says what each value means. There are two ways to the same answer: `fast` follows the shapes of the
//! records before, accepts or passes on, and never refuses; `general` reads every legal JSON and has the last word. So
//! what becomes of a record depends on its bytes alone, not on its neighbours, nor on the records before it.

mod column;
mod general;
mod keys;
mod number;
mod text;
mod time;
mod tree;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::source::Records;
use general::Refusal;
use tree::Tree;

/// Decodes JSON values of one declared schema. What becomes of a record depends on its bytes alone.
#[derive(Debug)]
pub struct Decoder {
    tree: Tree,
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
        Ok(Decoder { tree: Tree::new(&declared, wanted)? })
    }

    /// The schema of every batch that comes out.
    pub fn schema(&self) -> &SchemaRef {
        self.tree.schema()
    }

    pub fn decode(&mut self, records: &Records) -> Result<Decoded> {
        let mut refused = Vec::new();
        self.tree.begin(records.spans.len());
        for index in 0..records.spans.len() {
            let verdict = match records.value(index) {
                Some(record) => general::read(&mut self.tree, record),
                None => Err(Refusal { reason: "the value is a tombstone".to_owned(), at: 0 }),
            };
            match verdict {
                Ok(()) => self.tree.keep(),
                Err(Refusal { reason, at }) => {
                    self.tree.take_back();
                    refused.push(Refused { index, reason, at });
                }
            }
        }
        Ok(Decoded { batch: self.tree.finish()?, refused })
    }
}
