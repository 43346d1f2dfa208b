//! Closed rows on their way to Parquet in Delta tables, and the list of files that readers scan.

use std::sync::Arc;

use chrono::NaiveDate;
use object_store::ObjectStore;
use object_store::path::Path;

/// The Parquet files of one table at one Delta version (and those that the manifest made real and Delta has not
/// confirmed yet). The partition's date is not a column of the file.
#[derive(Debug, Clone)]
pub struct HistoryFiles {
    pub store: Arc<dyn ObjectStore>,
    pub files: Arc<Vec<HistoryFile>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    /// Within `HistoryFiles::store`.
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
    /// The UTC date of the window's start.
    pub date: NaiveDate,
}
