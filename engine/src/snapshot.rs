//! What a reader pins: every table at one instant, as immutable parts. Nothing here changes after it was published.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Epoch, Micros};
use crate::lookup::Content;
use crate::sink::{ClosedRows, HistoryFiles};
use crate::status::Failure;
use crate::view::OpenPanes;

/// All tables at one instant. At any instant a row is in exactly one of its table's three parts.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The newest epoch that is durable.
    pub epoch: Epoch,
    /// Views by name.
    pub views: BTreeMap<String, Arc<TableSnapshot>>,
    /// `rejected_records` and `late_rows`: ordinary tables, under `system`.
    pub system: BTreeMap<String, Arc<TableSnapshot>>,
    /// What tables hold that views look up, by name.
    pub lookups: BTreeMap<String, Arc<Content>>,
}

/// What a view's rows come from: as long as it stays the same, so do they, in each of the three parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Version {
    pub view: Uuid,
    /// Of its stream, those that no manifest holds yet included.
    pub records: u64,
    pub closed_through: Option<Micros>,
    pub tail_rows: usize,
    pub history_files: usize,
    pub failed: bool,
    /// Since when it meets what its tables hold.
    pub bound: Epoch,
}

#[derive(Debug, Clone)]
pub struct TableSnapshot {
    pub schema: SchemaRef,
    pub version: Version,
    /// Windows still open, as partial aggregates (or rows not yet committed, for a view without a window): its provisional
    /// rows are those of `live.<view>`.
    pub open: Arc<OpenPanes>,
    /// Closed, durable, and not yet in Parquet; the rows have `schema` and no hidden column.
    pub tail: Arc<Vec<ClosedRows>>,
    /// Closed and in Parquet.
    pub history: Arc<HistoryFiles>,
    /// The view stands still, and has nothing open.
    pub failure: Option<Failure>,
    /// A view that this one reads stands still, by itself or through others: what would be open is not known.
    pub behind: Option<Behind>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    pub view: String,
    pub reason: String,
}
