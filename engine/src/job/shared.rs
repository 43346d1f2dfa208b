//! Everything that workers, the coordinator and readers share, under one lock that is held for microseconds.
//!
//! One lock, because a statement sees one instant of everything: a micro-batch is seen by all its views at once, and a
//! manifest's effects on all tables appear at once. Nothing is computed while it is held; batches are shared by `Arc`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::Error;
use crate::checkpoint::manifest::{DeltaState, RecordFingerprint, StateFile};
use crate::ids::{Epoch, Micros, Offset, PartitionId};
use crate::job::ledger::EpochLedger;
use crate::sink::HistoryFiles;
use crate::snapshot::{Snapshot, TableSnapshot, Version};
use crate::spec::{EndpointSpec, StreamSpec, ViewShape, ViewSpec};
use crate::status::{CheckpointStatus, Effort, Failure, LedgerRow};
use crate::view::OpenPanes;
use crate::view::arrived::Arrived;
use crate::view::panes::{Filed, Panes};
use crate::view::watermark::PartitionTime;

#[derive(Default)]
pub struct Shared {
    tables: Mutex<Tables>,
    held: AtomicBool,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic under the lock leaves half an update behind; going on from it would be worse than stopping.
        self.tables.lock().expect("no thread panics while it holds the tables")
    }

    /// While held, workers answer barriers and read nothing.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub fn fail_stream(&self, name: &str, error: &Error, since: Micros) {
        if let Some(stream) = self.lock().streams.get_mut(name) {
            stream.fail(error, since);
        }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.lock().snapshot())
    }
}

#[derive(Default)]
pub struct Tables {
    /// The newest durable epoch.
    pub epoch: Epoch,
    pub streams: BTreeMap<String, Stream>,
    /// Views by name, and the tables of refused rows by theirs (`system.…`).
    pub tables: BTreeMap<String, Table>,
    /// By path.
    pub endpoints: BTreeMap<String, Arc<EndpointSpec>>,
    pub ledger: BTreeMap<Epoch, EpochLedger>,
    pub checkpoints: VecDeque<CheckpointStatus>,
    pub ledger_rows: VecDeque<LedgerRow>,
    /// What waits for its manifest in all tables, and all that views have open.
    filed_bytes: usize,
    open_bytes: usize,
}

pub struct Stream {
    pub spec: Arc<StreamSpec>,
    pub partitions: BTreeMap<PartitionId, Partition>,
    pub frontier: Option<Micros>,
    /// The stream stands still: its workers read nothing, and leave at the next barrier.
    pub failure: Option<Failure>,
    pub records: u64,
    pub rejected: u64,
    pub bytes: u64,
    /// On the clock's elapsed time: when the last record of any partition came, or a partition was last not known to be
    /// at its end.
    pub silent_since: Duration,
    pub effort: Effort,
    /// By worker: rows that readers see already, and that no view's lower half has seen.
    pub arrived: BTreeMap<usize, Vec<(Epoch, Arc<Arrived>)>>,
}

#[derive(Debug, Clone)]
pub struct Partition {
    pub time: PartitionTime,
    pub next_offset: Offset,
    pub end_offset: Option<Offset>,
    pub last_record: Option<RecordFingerprint>,
    pub ended: bool,
    /// Idle at the last barrier, since this wall time.
    pub idle_since: Option<Micros>,
    /// Then also when, on the clock's elapsed time, its source last said that it was at its end.
    pub heard: Option<Duration>,
    /// Came back from idleness after the last barrier, with the floor it then adopted: until the next barrier it holds
    /// the frontier there.
    pub returned: Option<Option<Micros>>,
}

pub struct Table {
    pub spec: Arc<ViewSpec>,
    /// The first epoch that ran with it.
    pub since: Epoch,
    /// The last one, once it is being dropped.
    pub until: Epoch,
    pub panes: Panes,
    pub tail: Tail,
    pub history: Arc<HistoryFiles>,
    pub delta: DeltaState,
    pub late: u64,
    /// Rows that an expression of the view could not take.
    pub failed: u64,
    /// The view stands still: it takes no rows, and has nothing open.
    pub failure: Option<Failure>,
}

impl Stream {
    /// The stream fails alone: its views keep what they have, and wait.
    pub fn fail(&mut self, error: &Error, since: Micros) {
        if self.failure.is_none() {
            tracing::error!(stream = self.spec.name, %error, "a stream has failed; ALTER STREAM … RESTART has it go on");
            self.failure = Some(Failure { reason: error.to_string(), since });
        }
    }
}

impl Table {
    /// INV-19: the view fails alone. Nothing of what it has open is kept, and what has closed stays.
    pub fn fail(&mut self, reason: String, since: Micros) {
        if self.failure.is_none() {
            tracing::error!(
                view = self.spec.name,
                reason,
                "a view has failed; ALTER VIEW … RESTART begins it anew"
            );
            self.failure = Some(Failure { reason, since });
        }
        self.panes.clear();
    }

    /// Where the frontier has to come for everything that is open to close.
    pub fn open_through(&self) -> Option<Micros> {
        let ViewShape::Windowed { allowed_lateness, .. } = &self.spec.shape else { return None };
        Some(self.panes.last_end()?.saturating_add(*allowed_lateness))
    }

    /// Whether the epoch ran with it to its end.
    pub fn ran_in(&self, epoch: Epoch) -> bool {
        !self.spec.stream.is_empty() && self.since <= epoch && self.failure.is_none()
    }
}

/// Closed rows that are durable and not in Parquet.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// With the hidden time column.
    pub rows: Vec<RecordBatch>,
    /// Without it, for readers.
    pub visible: Arc<Vec<RecordBatch>>,
    pub files: Vec<StateFile>,
    /// Wall time when the oldest row closed.
    pub since: Option<Micros>,
}

impl Tail {
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    pub fn row_count(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum()
    }
}

impl Tables {
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { epoch: self.epoch, ..Snapshot::default() };
        let waiting = |stream: &Stream| Arc::new(stream.arrived.values().flatten().cloned().collect());
        let arrived: BTreeMap<&String, Arc<Vec<_>>> =
            self.streams.iter().map(|(name, stream)| (name, waiting(stream))).collect();
        for (name, table) in &self.tables {
            let pinned = Arc::new(TableSnapshot {
                schema: Arc::clone(&table.spec.schema),
                version: Version {
                    view: table.spec.id,
                    records: self.streams.get(&table.spec.stream).map_or(0, |stream| stream.records),
                    closed_through: table.panes.closed_through,
                    tail_rows: table.tail.row_count(),
                    history_files: table.history.files.len(),
                    failed: table.failure.is_some(),
                },
                open: match &table.failure {
                    Some(_) => OpenPanes::default(),
                    None => OpenPanes::Panes {
                        view: Arc::clone(&table.spec),
                        panes: Arc::new(table.panes.clone()),
                        arrived: arrived.get(&table.spec.stream).cloned().unwrap_or_default(),
                        runs: table.since..=table.until,
                    },
                },
                tail: Arc::clone(&table.tail.visible),
                history: Arc::clone(&table.history),
            });
            match name.strip_prefix("system.") {
                Some(system) => snapshot.system.insert(system.to_string(), pinned),
                None => snapshot.views.insert(name.clone(), pinned),
            };
        }
        snapshot
    }

    /// Adds what the lower halves of a worker, or refused rows, have become in one table.
    pub fn file(&mut self, name: &str, epoch: Epoch, parts: Filed) {
        let Some(table) = self.tables.get_mut(name) else { return };
        let before = table.panes.bytes();
        table.panes.file(epoch, parts);
        let added = table.panes.bytes() - before;
        self.filed_bytes += added;
        self.open_bytes += added;
    }

    /// After tables have let go of what a manifest made durable, or have gone.
    pub fn weigh(&mut self) {
        let bytes = |of: fn(&Panes) -> usize| self.tables.values().map(|table| of(&table.panes)).sum();
        (self.filed_bytes, self.open_bytes) = (bytes(Panes::filed_bytes), bytes(Panes::bytes));
    }

    /// Bytes that are in memory and not durable: what backpressure looks at.
    pub fn filed_bytes(&self) -> usize {
        self.filed_bytes
    }

    /// Bytes of all that views have open.
    pub fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    pub fn fail(&mut self, view: &str, reason: String, since: Micros) {
        if let Some(table) = self.tables.get_mut(view) {
            table.fail(reason, since);
        }
        self.weigh();
    }

    /// Has the view fail that has most open.
    pub fn fail_heaviest(&mut self, most: usize, since: Micros) {
        const MEBIBYTE: f64 = 1_048_576.0;
        let running =
            self.tables.values().filter(|table| table.failure.is_none() && !table.spec.stream.is_empty());
        if let Some(heaviest) = running.max_by_key(|table| table.panes.bytes()) {
            let reason = format!(
                "all views together have outgrown the memory, and this one has most open. its share={:.1} MiB, memory={:.1} MiB; \
                 group by fewer keys, make its windows shorter, or raise --memory",
                heaviest.panes.bytes() as f64 / MEBIBYTE,
                most as f64 / MEBIBYTE
            );
            let view = heaviest.spec.name.clone();
            self.fail(&view, reason, since);
        }
    }
}
