//! Cuts what is to be merged into pieces, so that merging takes little memory beside what it merges. All partial rows of one
//! group are in one piece, so a piece merges as far as the whole would.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::hash_utils::{QualityRandomState, create_hashes};

use crate::Result;
use crate::spec::{Cut, State};
use crate::view::tally::as_aggregate;

/// Of one cut.
pub enum Pieces {
    /// Nothing is cut.
    Whole(Vec<RecordBatch>),
    /// Kept rows have no groups: what comes one after the other stays so.
    InOrder(std::vec::IntoIter<Vec<RecordBatch>>),
    ByGroup(ByGroup),
}

pub struct ByGroup {
    batches: Vec<(RecordBatch, Vec<u64>)>,
    count: u64,
    next: u64,
}

impl Pieces {
    /// Of about so many bytes at most.
    pub fn of(cut: &Cut, batches: Vec<RecordBatch>, bytes: usize) -> Result<Pieces> {
        let all = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        Pieces::of_all(cut, batches, all, bytes)
    }

    /// Likewise of batches that weigh so much together, less than each by itself where they share buffers.
    pub fn of_all(cut: &Cut, batches: Vec<RecordBatch>, all: usize, bytes: usize) -> Result<Pieces> {
        if all <= bytes {
            return Ok(Pieces::Whole(batches));
        }
        let State::Aggregate(last) = &cut.state else {
            return Ok(Pieces::InOrder(
                in_order(batches, RecordBatch::get_array_memory_size, bytes).into_iter(),
            ));
        };
        let keys = as_aggregate(last).map_or(0, |last| last.group_expr().expr().len());
        if keys == 0 {
            return Ok(Pieces::Whole(batches));
        }
        // The same hash as a table of the merging plan's own would put a piece into few of its buckets.
        let state = QualityRandomState::with_seed(0x7468_616c_7765_6721);
        let hashed = |batch: RecordBatch| {
            let mut hashes = vec![0; batch.num_rows()];
            create_hashes(&batch.columns()[..keys], &state, &mut hashes)?;
            Ok((batch, hashes))
        };
        let batches = batches.into_iter().map(hashed).collect::<Result<_>>()?;
        Ok(Pieces::ByGroup(ByGroup { batches, count: all.div_ceil(bytes) as u64, next: 0 }))
    }
}

impl Iterator for Pieces {
    type Item = Result<Vec<RecordBatch>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Pieces::Whole(batches) if batches.is_empty() => None,
            Pieces::Whole(batches) => Some(Ok(std::mem::take(batches))),
            Pieces::InOrder(pieces) => pieces.next().map(Ok),
            Pieces::ByGroup(pieces) => pieces.next(),
        }
    }
}

impl Iterator for ByGroup {
    type Item = Result<Vec<RecordBatch>>;

    fn next(&mut self) -> Option<Self::Item> {
        let ByGroup { batches, count, next } = self;
        if next == count {
            return None;
        }
        let of_piece = |(batch, hashes): &(RecordBatch, Vec<u64>)| {
            let rows = (0..).zip(hashes).filter(|(_, hash)| *hash % *count == *next).map(|(row, _)| row);
            Ok(take_record_batch(batch, &UInt32Array::from_iter_values(rows))?)
        };
        let piece = batches.iter().map(of_piece).collect();
        *next += 1;
        Some(piece)
    }
}

/// What comes one after the other stays so.
pub fn in_order<T>(all: Vec<T>, weigh: impl Fn(&T) -> usize, bytes: usize) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = vec![];
    let mut weight = 0;
    for one in all {
        let more = weigh(&one);
        match pieces.last_mut() {
            Some(piece) if weight + more <= bytes => piece.push(one),
            _ => {
                weight = 0;
                pieces.push(vec![one]);
            }
        }
        weight += more;
    }
    pieces
}
