//! Closed rows on their way to Parquet in Delta tables, and the list of files that readers scan.
//!
//! A table is at `tables/<name>/`, partitioned by `window_date`. Parquet files are written before the manifest that
//! makes them real; Delta is told afterwards, as often as it takes.

mod closed;
mod compact;
mod delta;
mod lake_schema;
mod log;
mod opened;
mod parquet;
mod stats;
mod stored;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use chrono::NaiveDate;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::ids::Micros;

pub use closed::{ClosedRows, FileRows, Runs, in_order_of_key, in_order_of_time};
pub use compact::{Compaction, due as compaction_due, write as write_compacted};
pub use delta::{DeltaSink, LakeTable, look_at};
pub use lake_schema::lake_schema;
pub use opened::OpenedFiles;
pub use parquet::{EncodedFile, encode_parts, first_dates, put_parts};
pub use stats::instants;

/// Every table's partition column, the UTC date of the window's start; not a column of the files.
pub const PARTITION_COLUMN: &str = "window_date";

/// The Parquet files of one table at one Delta version (and those that the manifest made real and Delta has not
/// confirmed yet). The partition's date is not a column of the file.
#[derive(Debug, Clone)]
pub struct HistoryFiles {
    pub store: Arc<dyn ObjectStore>,
    pub files: Arc<Vec<HistoryFile>>,
    /// The table's log can't be read, so what its files are is not known: nobody may take it for empty.
    pub is_lost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// Within `HistoryFiles::store`.
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
    /// The UTC date of the window's start.
    pub date: NaiveDate,
    /// The least and the most of each column of instants, by which a file need not be opened.
    pub instants: Vec<Instants>,
}

/// Of one column of a file; what is NULL does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instants {
    pub column: Arc<str>,
    pub least: Micros,
    pub most: Micros,
}
