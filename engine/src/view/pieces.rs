//! Cuts what is to be merged or finished into pieces, so that it takes little memory beside what it is of. All partial rows of
//! one group are in one piece, so a piece comes out as the whole would (INV-33).
//!
//! What has been cut once need not be cut again: a batch knows the share of all groups that it is of, and shares of more
//! pieces lie within those of fewer.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use datafusion::common::hash_utils::{QualityRandomState, create_hashes};

use crate::Result;
use crate::spec::{Cut, State};
use crate::view::tally::as_aggregate;

/// Of all groups of a cut those whose hash ends in some bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// A power of two.
    of: u64,
    index: u64,
}

impl Share {
    pub const ALL: Share = Share { of: 1, index: 0 };

    /// The least share that rows are of, from what they are.
    pub fn of_rows(cut: &Cut, batch: &RecordBatch) -> Result<Share> {
        let Some(hashes) = groups_of(cut).map(|keys| hashes_of(keys, batch)).transpose()? else {
            return Ok(Share::ALL);
        };
        let Some(first) = hashes.first() else { return Ok(Share::ALL) };
        let differ = hashes.iter().fold(0, |differ, hash| differ | hash ^ first);
        let of = 1 << differ.trailing_zeros().min(32);
        Ok(Share { of, index: first & (of - 1) })
    }

    fn is_within(self, other: Share) -> bool {
        self.of >= other.of && other.has(self.index)
    }

    fn has(self, hash: u64) -> bool {
        hash & (self.of - 1) == self.index
    }
}

/// Rows of one cut, with what is known of them.
#[derive(Debug, Clone)]
pub struct Weighed {
    pub batch: RecordBatch,
    /// Less than the batch by itself where it shares buffers with others.
    pub bytes: usize,
    pub share: Share,
}

impl Weighed {
    pub fn of(batch: RecordBatch) -> Weighed {
        Weighed { bytes: batch.get_array_memory_size(), batch, share: Share::ALL }
    }
}

/// Of one cut.
pub enum Pieces {
    /// Kept rows have no groups: what comes one after the other stays so.
    InOrder(std::vec::IntoIter<Vec<RecordBatch>>),
    ByGroup(ByGroup),
}

pub struct ByGroup {
    /// With the hashes of its groups, as long as pieces take some of its rows.
    batches: Vec<(Weighed, Option<Vec<u64>>)>,
    /// How many columns tell groups apart.
    keys: usize,
    count: u64,
    next: u64,
}

impl Pieces {
    /// Of about so many bytes at most.
    pub fn of(cut: &Cut, batches: Vec<Weighed>, bytes: usize) -> Pieces {
        let all: usize = batches.iter().map(|batch| batch.bytes).sum();
        let whole = |batches: Vec<Weighed>| batches.into_iter().map(|it| it.batch).collect::<Vec<_>>();
        if all <= bytes || batches.is_empty() {
            let whole = Vec::from_iter((!batches.is_empty()).then(|| whole(batches)));
            return Pieces::InOrder(whole.into_iter());
        }
        let Some(keys) = groups_of(cut) else {
            let pieces = match cut.state {
                State::Rows(_) => in_order(batches, |batch| batch.bytes, bytes),
                State::Aggregate(_) => vec![batches],
            };
            return Pieces::InOrder(pieces.into_iter().map(whole).collect::<Vec<_>>().into_iter());
        };
        let count = (all.div_ceil(bytes) as u64).next_power_of_two();
        let batches = batches.into_iter().map(|batch| (batch, None)).collect();
        Pieces::ByGroup(ByGroup { batches, keys, count, next: 0 })
    }
}

impl Iterator for Pieces {
    type Item = Result<(Vec<RecordBatch>, Share)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Pieces::InOrder(pieces) => pieces.next().map(|piece| Ok((piece, Share::ALL))),
            Pieces::ByGroup(pieces) => pieces.next(),
        }
    }
}

impl Iterator for ByGroup {
    type Item = Result<(Vec<RecordBatch>, Share)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        // In such an order that those pieces follow each other that a share takes part in.
        let bits = self.count.trailing_zeros();
        let index = if bits == 0 { 0 } else { self.next.reverse_bits() >> (u64::BITS - bits) };
        self.next += 1;
        let share = Share { of: self.count, index };
        let keys = self.keys;
        let rows = self.batches.iter_mut().filter_map(|(batch, hashes)| {
            if batch.share.is_within(share) {
                return Some(Ok(batch.batch.clone()));
            }
            if !share.is_within(batch.share) {
                *hashes = None;
                return None;
            }
            Some(rows_of(share, keys, &batch.batch, hashes))
        });
        Some(rows.collect::<Result<_>>().map(|rows| (rows, share)))
    }
}

fn rows_of(
    share: Share,
    keys: usize,
    batch: &RecordBatch,
    hashes: &mut Option<Vec<u64>>,
) -> Result<RecordBatch> {
    if hashes.is_none() {
        *hashes = Some(hashes_of(keys, batch)?);
    }
    let of_share = (0..).zip(hashes.iter().flatten()).filter(|(_, hash)| share.has(**hash));
    Ok(take_record_batch(batch, &UInt32Array::from_iter_values(of_share.map(|(row, _)| row)))?)
}

/// How many columns tell the groups of a cut apart; none of one that has no groups.
pub fn groups_of(cut: &Cut) -> Option<usize> {
    let State::Aggregate(last) = &cut.state else { return None };
    as_aggregate(last).map(|last| last.group_expr().expr().len()).filter(|keys| *keys > 0)
}

pub fn hashes_of(keys: usize, batch: &RecordBatch) -> Result<Vec<u64>> {
    // The same hash as a table of the merging plan's own would put a piece into few of its buckets.
    let state = QualityRandomState::with_seed(0x7468_616c_7765_6721);
    let mut hashes = vec![0; batch.num_rows()];
    create_hashes(&batch.columns()[..keys], &state, &mut hashes)?;
    Ok(hashes)
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
