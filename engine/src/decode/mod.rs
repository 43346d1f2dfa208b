//! Many record values in, one batch plus the refused records out. Pure: no I/O, no clock.
//!
//! `docs/JSON.md` says what each value means. There are two ways to the same answer: `fast` follows the shapes of the
//! records before, accepts or passes on, and never refuses; `general` reads every legal JSON and has the last word. So
//! what becomes of a record depends on its bytes alone, not on its neighbours, nor on the records before it (INV-8).

mod column;
mod digits;
mod fast;
mod general;
mod keys;
mod number;
mod scan;
mod shape;
mod text;
mod time;
mod tree;
mod wide;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::source::Records;
use fast::Fast;
use general::Refusal;
use tree::Tree;

/// Decodes JSON values of one declared schema. What becomes of a record depends on its bytes alone.
#[derive(Debug)]
pub struct Decoder {
    tree: Tree,
    /// Absent if only the general path is wanted.
    fast: Option<Fast>,
}

/// What became of a batch of records.
#[derive(Debug)]
pub struct Decoded {
    /// One row per accepted record, in order.
    pub batch: RecordBatch,
    /// One entry per refused record, ascending by index.
    pub refused: Vec<Refused>,
    /// How many records were read. Fewer than there are if the elements of their arrays fill the memory that a batch
    /// may take; never none. The others want another batch.
    pub read: usize,
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
        let tree = Tree::new(&declared, wanted)?;
        let fast = Some(Fast::new(&tree));
        Ok(Decoder { tree, fast })
    }

    /// The schema of every batch that comes out.
    pub fn schema(&self) -> &SchemaRef {
        self.tree.schema()
    }

    /// Every record goes the general way: for whoever wants to compare the two.
    pub fn without_fast_path(self) -> Decoder {
        Decoder { fast: None, ..self }
    }

    pub fn decode(&mut self, records: &Records) -> Result<Decoded> {
        // Validating the whole buffer at once is cheap. It says nothing of a record that cuts a character in two, but
        // such a record has bytes outside of any string, which neither path accepts.
        let all_utf8 = simdutf8::basic::from_utf8(&records.bytes).is_ok();
        let mut refused = Vec::new();
        let mut read = 0;
        self.tree.begin(records.spans.len());
        for (index, span) in records.spans.iter().enumerate() {
            if self.tree.is_full() {
                break;
            }
            read += 1;
            let Some(record) = records.value(index) else {
                refused.push(Refused { index, reason: "the value is a tombstone".to_owned(), at: 0 });
                continue;
            };
            let fast = self.fast.as_mut().filter(|_| all_utf8 || simdutf8::basic::from_utf8(record).is_ok());
            let start = span.start as usize;
            if fast.is_some_and(|fast| fast.read(&mut self.tree, &records.bytes, start, record.len())) {
                self.tree.keep();
                continue;
            }
            self.tree.take_back();
            match general::read(&mut self.tree, record) {
                Ok(()) => self.tree.keep(),
                Err(Refusal { reason, at }) => {
                    self.tree.take_back();
                    refused.push(Refused { index, reason, at });
                }
            }
        }
        Ok(Decoded { batch: self.tree.finish()?, refused, read })
    }
}
