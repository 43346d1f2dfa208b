//! The records that waiting rows came from, kept until the lower halves have run: a row that a view can't take is told
//! with its record.

use crate::ids::Micros;
use crate::job::refused::RefusedRow;
use crate::source::RawBatch;

#[derive(Default)]
pub struct Origins {
    pieces: Vec<Origin>,
    /// Buffers that are used again.
    spare: RawBatch,
}

struct Origin {
    raw: RawBatch,
    /// For each row, its index among the raw records.
    records: Vec<u32>,
}

impl Origins {
    /// An empty batch to read into.
    pub fn buffer(&mut self) -> RawBatch {
        std::mem::take(&mut self.spare)
    }

    pub fn push(&mut self, raw: RawBatch, records: Vec<u32>) {
        self.pieces.push(Origin { raw, records });
    }

    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.raw.bytes()).sum()
    }

    /// What is told of a row, counted over all that wait.
    pub fn told(&self, mut row: usize, event_time: Option<Micros>, reason: String) -> Option<RefusedRow> {
        for Origin { raw, records } in &self.pieces {
            match records.get(row) {
                Some(index) => {
                    let told = RefusedRow::of(raw, *index as usize, reason);
                    return Some(RefusedRow { event_time, ..told });
                }
                None => row -= records.len(),
            }
        }
        None
    }

    pub fn clear(&mut self) {
        if let Some(Origin { raw, .. }) = self.pieces.pop() {
            self.give_back(raw);
        }
        self.pieces.clear();
    }

    /// Takes a buffer back whose records are not needed.
    pub fn give_back(&mut self, mut raw: RawBatch) {
        raw.clear();
        self.spare = raw;
    }
}
