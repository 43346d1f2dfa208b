//! The open part of a table at one instant.

use arrow::array::RecordBatch;

use crate::Result;

/// Partial aggregates of the windows still open (or uncommitted rows), pinned.
#[derive(Debug, Clone, Default)]
pub struct OpenPanes {
    rows: Vec<RecordBatch>,
}

impl OpenPanes {
    /// Rows that need no finishing, for views without a window and for tests of readers.
    pub fn of_rows(rows: Vec<RecordBatch>) -> OpenPanes {
        OpenPanes { rows }
    }

    /// The provisional rows, with the table's schema.
    pub async fn finish(&self) -> Result<Vec<RecordBatch>> {
        Ok(self.rows.clone())
    }
}
