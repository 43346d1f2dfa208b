//! What the job knows of itself, as plain rows: the ground of `system.*` and of the line of progress.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Micros, Offset, PartitionId};

#[derive(Debug, Clone, Default)]
pub struct Status {
    pub streams: Vec<StreamStatus>,
    pub partitions: Vec<PartitionStatus>,
    pub views: Vec<ViewStatus>,
    /// Tables that views look up.
    pub lookups: Vec<LookupStatus>,
    /// The newest checkpoints, newest last.
    pub checkpoints: Vec<CheckpointStatus>,
    /// The newest ones, newest last.
    pub compactions: Vec<CompactionStatus>,
    /// The newest epochs' terms of conservation, newest last.
    pub ledger: Vec<LedgerRow>,
    pub store: StoreStatus,
    /// What ingest holds in memory, by what it is for.
    pub memory: Vec<MemoryStatus>,
    /// What statements did to where streams read and to their time, newest last.
    pub interventions: Vec<Intervention>,
}

/// Whether what lies under the data answers.
#[derive(Debug, Clone, Default)]
pub struct StoreStatus {
    /// A folder or a URL.
    pub store: String,
    /// What was asked of it waits.
    pub away: bool,
    /// Wall time since which it is so.
    pub since: Micros,
    /// What was asked again since the engine started.
    pub retries: u64,
    pub last_error: Option<String>,
    pub last_error_at: Option<Micros>,
    pub requests: StoreRequests,
}

/// What ingest has asked of the store since the engine started, each once however often it was asked again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreRequests {
    pub puts: u64,
    pub gets: u64,
    pub lists: u64,
    /// Requests, of up to a thousand objects each.
    pub deletes: u64,
    pub bytes_put: u64,
    pub bytes_got: u64,
}

/// Files of a table that have become one.
#[derive(Debug, Clone)]
pub struct CompactionStatus {
    /// Wall time.
    pub at: Micros,
    pub table: String,
    pub date: chrono::NaiveDate,
    pub files: u64,
    pub bytes: u64,
    pub bytes_after: u64,
    pub rows: u64,
    pub micros: u64,
}

#[derive(Debug, Clone)]
pub struct MemoryStatus {
    /// `queues`, `waiting`, `open`, `closing`, `encoding`, `tails` or `tables`; and what lies on disk, `spilled`
    pub purpose: &'static str,
    pub bytes: u64,
    /// The most that it has been since the engine started.
    pub bytes_most: u64,
    /// For all purposes together; of `spilled` its own.
    pub budget: u64,
}

#[derive(Debug, Clone)]
pub struct StreamStatus {
    pub stream: String,
    /// `kafka`, `generator` or `files`
    pub connector: &'static str,
    pub records: u64,
    pub rejected: u64,
    pub bytes: u64,
    /// Event time before which nothing can come any more; `None` before the first.
    pub frontier: Option<Micros>,
    pub failure: Option<Failure>,
    /// Wall time when a failed one is tried again by itself.
    pub next_try: Option<Micros>,
    /// Of its workers, since the engine started.
    pub effort: Effort,
}

/// A table that views look up.
#[derive(Debug, Clone)]
pub struct LookupStatus {
    pub table: String,
    /// Files, or a topic.
    pub source: String,
    /// `csv`, `json`, `parquet` or `delta`
    pub format: &'static str,
    pub rows: u64,
    pub bytes: u64,
    /// Whether it has been read; a topic is read again at a start.
    pub is_read: bool,
    /// Wall time since which it holds what it holds.
    pub taken_at: Option<Micros>,
    /// Records of a topic that are no rows of it, since it was last opened, and why the last was not.
    pub refused: u64,
    pub refused_reason: Option<String>,
    /// Why it can't be read anew, and since when.
    pub failure: Option<Failure>,
}

/// Where the workers of a stream spend their time, added up. What is missing to the time that has passed, they waited.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// Taking records from the source.
    pub reading: Duration,
    /// Turning them into rows, and judging which are late.
    pub decoding: Duration,
    /// The lower halves of all views.
    pub aggregating: Duration,
}

impl AddAssign for Effort {
    fn add_assign(&mut self, more: Effort) {
        self.reading += more.reading;
        self.decoding += more.decoding;
        self.aggregating += more.aggregating;
    }
}

#[derive(Debug, Clone)]
pub struct PartitionStatus {
    pub stream: String,
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
    pub end_offset: Option<Offset>,
    pub watermark: Option<Micros>,
    /// Wall time since which the partition has been idle.
    pub idle_since: Option<Micros>,
    /// A bounded source has given its last record.
    pub ended: bool,
    /// This partition's watermark is the stream's frontier: it holds the others back.
    pub holds_frontier: bool,
}

/// Why a view or a stream stands still, until somebody has it go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub reason: String,
    /// Wall time.
    pub since: Micros,
}

/// What a statement did to one partition beside the ordinary course of things. Kept, so that a gap in the rows of a view can
/// be explained later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervention {
    /// Wall time.
    pub at: Micros,
    pub stream: String,
    pub partition: PartitionId,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// It goes on elsewhere than where it stood: at the offset `after` instead of `before`.
    Offset {
        before: Offset,
        after: Offset,
    },
    Watermark {
        before: Option<Micros>,
        after: Micros,
    },
}

#[derive(Debug, Clone)]
pub struct ViewStatus {
    pub view: String,
    pub stream: String,
    pub failure: Option<Failure>,
    pub open_windows: u64,
    /// In memory.
    pub state_bytes: u64,
    /// On disk.
    pub spilled_bytes: u64,
    pub state_rows: u64,
    pub tail_rows: u64,
    pub history_files: u64,
    pub history_rows: u64,
    pub late_rows: u64,
    pub failed_rows: u64,
    /// Windows that end at or before this instant have closed; `None` before the first, and once all have.
    pub closed_through: Option<Micros>,
    /// When a view emits only windows that began after it was born: that instant.
    pub born_after: Option<Micros>,
    pub waits_for: Wait,
}

/// What has to come before a view has more rows that are final. `closes` is the end of its next unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Its rows are final at once, or never.
    Nothing,
    /// It has failed.
    Restart,
    FailedStream {
        stream: String,
        /// Again and again, by itself.
        is_tried: bool,
    },
    FailedView {
        view: String,
    },
    FirstRecord {
        stream: String,
    },
    /// None that it takes is open.
    Rows,
    /// The partition that is furthest behind, until the stream has come to `needs`.
    Partition {
        stream: String,
        partition: PartitionId,
        watermark: Option<Micros>,
        /// Wall time since which the watermark stands where it does.
        since: Option<Micros>,
        closes: Micros,
        needs: Micros,
    },
    /// All partitions are silent, so time has to pass by itself.
    Silence {
        stream: String,
        closes: Micros,
        /// How long they have to be.
        idle: Duration,
    },
    /// A view that it reads.
    View {
        view: String,
        closes: Micros,
        closed_through: Option<Micros>,
        /// How far that has to close.
        needs: Micros,
    },
    /// Nothing but the next one.
    Checkpoint {
        closes: Micros,
    },
}

#[derive(Debug, Clone)]
pub struct CheckpointStatus {
    pub epoch: Epoch,
    /// Wall time when it was durable.
    pub committed_at: Micros,
    /// From the barrier to being durable: the three that follow.
    pub duration_micros: u64,
    /// Until every worker had answered.
    pub barrier_micros: u64,
    /// Finishing windows, merging parts, and writing files.
    pub close_micros: u64,
    pub manifest_micros: u64,
    /// Afterwards: telling Delta, where files had been written.
    pub delta_micros: u64,
    pub state_bytes: u64,
    pub records: u64,
}

/// One line of the ledger: a stream's partition (`records = decoded + rejected`) or a view
/// (`decoded = aggregated + filtered + late + failed`) in one epoch. Terms that do not apply are 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRow {
    pub epoch: Epoch,
    pub stream: String,
    /// `None` on a stream's line
    pub view: Option<String>,
    /// `None` on a view's line
    pub partition: Option<PartitionId>,
    pub records: u64,
    pub decoded: u64,
    pub rejected: u64,
    pub aggregated: u64,
    pub filtered: u64,
    pub late: u64,
    /// Absent in manifests of format 1, whose views failed over such a row as a whole.
    #[serde(default)]
    pub failed: u64,
}
