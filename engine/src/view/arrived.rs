//! Rows that have been decoded and have not been through a lower half: what a worker adds to with each micro-batch, and
//! what a reader puts through the lower half of the one view it reads (docs/decisions/rows-wait-decoded.md).

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::Result;
use crate::view::watermark::Observed;

/// Decoded rows of one stream, in the order of each of their partitions.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub batch: RecordBatch,
    /// Absent if nothing of them can be late: they are a view's, or of a stream without an event time.
    pub observed: Option<Observed>,
}

impl Arrived {
    /// Rows of another view, which come in the order in which they close: none of them is late.
    pub fn of_view(batch: RecordBatch) -> Arrived {
        Arrived { batch, observed: None }
    }

    /// All of them as one, if there are any.
    pub fn concat(pieces: &[Arc<Arrived>]) -> Result<Option<Arc<Arrived>>> {
        let [first, more @ ..] = pieces else { return Ok(None) };
        if more.is_empty() {
            return Ok(Some(Arc::clone(first)));
        }
        // By position, so others would be mixed up in silence.
        let same = |piece: &Arc<Arrived>| piece.batch.schema_ref() == first.batch.schema_ref();
        assert!(more.iter().all(same), "rows that arrived under one plan have the same columns");
        let batch = concat_batches(first.batch.schema_ref(), pieces.iter().map(|piece| &piece.batch))?;
        let observed = first
            .observed
            .as_ref()
            .map(|_| Observed::concat(pieces.iter().filter_map(|p| p.observed.as_ref())));
        Ok(Some(Arc::new(Arrived { batch, observed })))
    }
}

/// Arrived rows that no lower half has seen yet.
#[derive(Debug, Default)]
pub struct Waiting {
    pieces: Vec<Arc<Arrived>>,
    rows: usize,
    bytes: usize,
}

impl Waiting {
    pub fn push(&mut self, arrived: Arc<Arrived>) {
        self.rows += arrived.batch.num_rows();
        self.bytes += arrived.batch.get_array_memory_size();
        self.pieces.push(arrived);
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of them as one; nothing waits any more.
    pub fn take(&mut self) -> Result<Option<Arc<Arrived>>> {
        Arrived::concat(&std::mem::take(self).pieces)
    }
}
