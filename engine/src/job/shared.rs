//! Everything that workers, the coordinator and readers share, under one lock that is held for microseconds.
//!
//! One lock, because a statement sees one instant of everything: a micro-batch is seen by all its views at once, and a
//! manifest's effects on all tables appear at once. Nothing is computed while it is held; batches are shared by `Arc`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::checkpoint::manifest::{
    DeltaState, PartitionState, RecordFingerprint, RunFile, StateFile, TableState,
};
use crate::ids::{Epoch, Micros, Offset, PartitionId, TopicId};
use crate::job::ever::Told;
use crate::job::ledger::EpochLedger;
use crate::job::lookups::Lookup;
use crate::job::retry::Tries;
use crate::memory::{Lane, Memory, Purpose};
use crate::sink::{ClosedRows, HistoryFiles};
use crate::snapshot::{Behind, Snapshot, TableSnapshot, Version};
use crate::spec::{Input, KeptStatement, StreamSpec, ViewSpec};
use crate::status::{CheckpointStatus, CompactionStatus, Effort, Failure, Intervention, LedgerRow};
use crate::view::arrived::Arrived;
use crate::view::panes::{Filed, Panes};
use crate::view::watermark::PartitionTime;
use crate::view::{OpenInput, OpenPanes};
use crate::{Error, Result};

pub struct Shared {
    tables: Mutex<Tables>,
    changed: watch::Sender<()>,
    held: AtomicBool,
    memory: Arc<Memory>,
    lane: Lane,
}

impl Shared {
    pub fn new(memory: Arc<Memory>) -> Shared {
        let lane = Lane::of(memory.shares().closing);
        let tables = Mutex::new(Tables::new(Arc::clone(&memory)));
        Shared { tables, changed: watch::Sender::new(()), held: AtomicBool::new(false), memory, lane }
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What tables close in beside each other.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    pub fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic under the lock leaves half an update behind; going on from it would be worse than stopping.
        self.tables.lock().expect("no thread panics while it holds the tables")
    }

    /// Rows have come, or an epoch is durable: who waits for that looks again.
    pub fn tell(&self) {
        self.changed.send_replace(());
    }

    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
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

pub struct Tables {
    /// The newest durable epoch.
    pub epoch: Epoch,
    pub streams: BTreeMap<String, Stream>,
    /// Views by name, and the tables of refused rows by theirs (`system.…`).
    pub tables: BTreeMap<String, Table>,
    /// By name.
    pub kept: BTreeMap<String, Arc<KeptStatement>>,
    /// Tables that views look up, by name.
    pub lookups: BTreeMap<String, Lookup>,
    pub ledger: BTreeMap<Epoch, EpochLedger>,
    pub checkpoints: VecDeque<CheckpointStatus>,
    pub compactions: VecDeque<CompactionStatus>,
    pub ledger_rows: VecDeque<LedgerRow>,
    pub interventions: VecDeque<Intervention>,
    /// What waits for its manifest in all tables.
    filed_bytes: usize,
    memory: Arc<Memory>,
    /// What is read is slowed for want of memory.
    pub(super) scarce: bool,
}

pub struct Stream {
    pub spec: Arc<StreamSpec>,
    /// Its topic, where brokers know topics by more than a name: what is known of its offsets holds for this one alone.
    pub topic_id: Option<TopicId>,
    pub partitions: BTreeMap<PartitionId, Partition>,
    pub frontier: Option<Micros>,
    /// The stream stands still: its workers read nothing, and leave at the next barrier.
    pub failure: Option<Failure>,
    pub tries: Tries,
    pub records: u64,
    pub rejected: u64,
    pub bytes: u64,
    /// On the clock's elapsed time: when the last record of any partition came, or a partition was last not known to be
    /// at its end.
    pub silent_since: Duration,
    /// Likewise when a record last came after all partitions had been idle: others may have records of that time, and are
    /// not known to be at their end before their source says so anew.
    pub woke: Option<Duration>,
    pub effort: Effort,
    /// By worker: rows that readers see already, and that no view's lower half has seen.
    pub arrived: BTreeMap<usize, ArrivedRows>,
}

#[derive(Debug, Clone)]
pub struct Partition {
    pub time: PartitionTime,
    pub next_offset: Offset,
    pub end_offset: Option<Offset>,
    pub last_record: Option<RecordFingerprint>,
    pub ended: bool,
    /// Its watermark at the last barrier, and since which wall time it stands there.
    pub risen: Option<(Micros, Micros)>,
    /// Idle at the last barrier, since this wall time.
    pub idle_since: Option<Micros>,
    /// Then also when, on the clock's elapsed time, its source last said that it was at its end.
    pub heard: Option<Duration>,
    /// Since its stream was last opened its source has given a record of it, or its end.
    pub answers: bool,
    /// Came back from idleness after the last barrier, with the floor it then adopted: until the next barrier it holds
    /// the frontier there.
    pub returned: Option<Option<Micros>>,
}

impl Partition {
    pub fn state(&self, id: PartitionId) -> PartitionState {
        PartitionState {
            partition: id,
            next_offset: self.next_offset,
            event_time_max: self.time.event_time_max,
            floor: self.time.floor,
            idle: self.idle_since.is_some(),
            ended: self.ended,
            last_record: self.last_record,
        }
    }
}

pub struct Table {
    pub spec: Arc<ViewSpec>,
    /// The first epoch that ran with it.
    pub since: Epoch,
    /// The last one, once it is being dropped.
    pub until: Epoch,
    /// The epoch from which on its plans hold what its tables hold now.
    pub bound: Epoch,
    pub panes: Panes,
    pub tail: Tail,
    pub history: Arc<HistoryFiles>,
    pub delta: DeltaState,
    pub told: Told,
    pub late: u64,
    /// Rows that an expression of the view could not take.
    pub failed: u64,
    /// The view stands still: it takes no rows, and has nothing open.
    pub failure: Option<Failure>,
    /// It can't be planned as long as none of its streams can: the state files that it goes on with when they are.
    pub waits: Option<Vec<RunFile>>,
    /// As it stands in the newest manifest.
    pub written: Option<Arc<TableState>>,
}

impl Partition {
    /// For people who ask why nothing closes.
    pub fn note_rise(&mut self, wall: impl Fn() -> Micros) {
        let watermark = self.time.watermark();
        if self.risen.map(|(watermark, _)| watermark) != watermark {
            self.risen = watermark.map(|watermark| (watermark, wall()));
        }
    }
}

impl Stream {
    /// The stream fails alone: its views keep what they have, and wait.
    pub fn fail(&mut self, error: &Error, since: Micros) {
        if self.failure.is_none() {
            self.tries.failed(error, since);
            match self.tries.next {
                Some(_) => {
                    tracing::error!(stream = self.spec.name, %error, "a stream has failed, and is tried again")
                }
                None => tracing::error!(
                    stream = self.spec.name, %error,
                    "a stream has failed; ALTER STREAM … RESTART has it go on"
                ),
            }
            self.failure = Some(Failure { reason: error.to_string(), since });
        }
    }

    /// It was tried again, and stands still since when it did.
    pub fn failed_again(&mut self, error: &Error, now: Micros) {
        if let Some(failure) = &mut self.failure {
            tracing::warn!(stream = self.spec.name, %error, "a stream that was tried again has failed again");
            failure.reason = error.to_string();
            self.tries.failed(error, now);
        }
    }

    /// Its source has given something.
    pub fn reads(&mut self) {
        self.tries = Tries::default();
    }

    /// Whether it reads from all of its partitions; an error if it has failed.
    pub fn answers(&self) -> Result<bool> {
        match &self.failure {
            None => Ok(self.partitions.values().all(|partition| partition.answers)),
            Some(Failure { reason, .. }) => {
                let text = format!("the stream has failed again: {reason}");
                Err(if self.tries.next.is_some() { Error::Unavailable(text) } else { Error::BadData(text) })
            }
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

    /// How far it has to close for nothing to be open any more.
    pub fn open_through(&self) -> Option<Micros> {
        self.panes.last_end()
    }

    /// Whether the epoch ran with it to its end.
    pub fn ran_in(&self, epoch: Epoch) -> bool {
        !self.spec.is_system() && self.since <= epoch && self.failure.is_none()
    }
}

/// Closed rows that are durable and not in Parquet.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// With the hidden time column.
    pub rows: Vec<ClosedRows>,
    /// Without it, for readers.
    pub visible: Arc<Vec<ClosedRows>>,
    pub files: Vec<StateFile>,
    /// Wall time when the oldest row closed.
    pub since: Option<Micros>,
}

impl Tail {
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|closed| closed.rows.get_array_memory_size()).sum()
    }

    pub fn row_count(&self) -> usize {
        self.rows.iter().map(|closed| closed.rows.num_rows()).sum()
    }
}

type ArrivedRows = Vec<(Epoch, Arc<Arrived>)>;

/// Pins what tables have open, each once, however many views read it.
struct Opened<'a> {
    tables: &'a Tables,
    arrived: BTreeMap<String, Arc<ArrivedRows>>,
    open: BTreeMap<String, Arc<OpenPanes>>,
}

impl Opened<'_> {
    fn open(&mut self, table: &Table) -> Arc<OpenPanes> {
        if let Some(open) = self.open.get(&table.spec.name) {
            return Arc::clone(open);
        }
        let open = Arc::new(match &table.failure {
            Some(_) => OpenPanes::default(),
            None => OpenPanes::Panes {
                view: Arc::clone(&table.spec),
                panes: Arc::new(table.panes.clone()),
                inputs: table.spec.legs.iter().map(|leg| self.input(table, &leg.input)).collect(),
            },
        });
        self.open.insert(table.spec.name.clone(), Arc::clone(&open));
        open
    }

    /// A view is older than those that read it, so this ends.
    fn input(&mut self, table: &Table, input: &Input) -> OpenInput {
        match input {
            Input::Stream(name) => {
                let waiting = |stream: &Stream| stream.arrived.values().flatten().cloned().collect();
                let arrived = self.arrived.entry(name.clone()).or_insert_with(|| {
                    Arc::new(self.tables.streams.get(name).map(waiting).unwrap_or_default())
                });
                OpenInput::Stream { arrived: Arc::clone(arrived), runs: table.since..=table.until }
            }
            Input::View(input) => OpenInput::View(match self.tables.tables.get(&input.name) {
                Some(read) => self.open(read),
                None => Arc::default(),
            }),
        }
    }
}

impl Tables {
    fn new(memory: Arc<Memory>) -> Tables {
        Tables {
            epoch: Epoch::default(),
            streams: BTreeMap::new(),
            tables: BTreeMap::new(),
            kept: BTreeMap::new(),
            lookups: BTreeMap::new(),
            ledger: BTreeMap::new(),
            checkpoints: VecDeque::new(),
            compactions: VecDeque::new(),
            ledger_rows: VecDeque::new(),
            interventions: VecDeque::new(),
            filed_bytes: 0,
            memory,
            scarce: false,
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { epoch: self.epoch, ..Snapshot::default() };
        let mut opened = Opened { tables: self, arrived: BTreeMap::new(), open: BTreeMap::new() };
        for (name, table) in &self.tables {
            let pinned = Arc::new(TableSnapshot {
                schema: Arc::clone(&table.spec.schema),
                version: Version {
                    view: table.spec.id,
                    records: self.records_of(&table.spec),
                    closed_through: table.panes.closed_through,
                    tail_rows: table.tail.row_count(),
                    history_files: table.history.files.len(),
                    failed: table.failure.is_some(),
                    bound: table.bound,
                },
                open: opened.open(table),
                tail: Arc::clone(&table.tail.visible),
                history: Arc::clone(&table.history),
                failure: table.failure.clone(),
                behind: self.failed_below(&table.spec),
            });
            match name.strip_prefix("system.") {
                Some(system) => snapshot.system.insert(system.to_string(), pinned),
                None => snapshot.views.insert(name.clone(), pinned),
            };
        }
        let content = |(name, lookup): (&String, &Lookup)| (name.clone(), Arc::clone(&lookup.content));
        snapshot.lookups = self.lookups.iter().filter(|(_, it)| it.is_read).map(content).collect();
        snapshot
    }

    /// The view that has failed among those that a view reads.
    fn failed_below(&self, spec: &ViewSpec) -> Option<Behind> {
        spec.view_inputs().find_map(|(_, input)| {
            let table = self.tables.get(&input.name)?;
            let failed =
                |failure: &Failure| Behind { view: input.name.clone(), reason: failure.reason.clone() };
            table.failure.as_ref().map(failed).or_else(|| self.failed_below(&table.spec))
        })
    }

    /// Of the streams that a view reads, by itself or through others.
    fn records_of(&self, spec: &ViewSpec) -> u64 {
        let of_input = |input: &Input| match input {
            Input::Stream(name) => self.streams.get(name).map_or(0, |stream| stream.records),
            Input::View(input) => {
                self.tables.get(&input.name).map_or(0, |table| self.records_of(&table.spec))
            }
        };
        spec.legs.iter().map(|leg| of_input(&leg.input)).sum()
    }

    /// Adds what the lower halves of a worker, or refused rows, have become in one table.
    pub fn file(&mut self, name: &str, epoch: Epoch, parts: Filed) {
        let Some(table) = self.tables.get_mut(name) else { return };
        let before = table.panes.bytes();
        table.panes.file(epoch, parts);
        let added = table.panes.bytes() - before;
        self.filed_bytes += added;
        self.memory.add(Purpose::Open, added);
    }

    /// After tables have let go of what a manifest made durable, or have gone.
    pub fn weigh(&mut self) {
        let bytes = |of: fn(&Panes) -> usize| self.tables.values().map(|table| of(&table.panes)).sum();
        self.filed_bytes = bytes(Panes::filed_bytes);
        self.count_memory(bytes(Panes::bytes));
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Bytes that are in memory and not durable: what backpressure looks at.
    pub fn filed_bytes(&self) -> usize {
        self.filed_bytes
    }

    pub fn fail(&mut self, view: &str, reason: String, since: Micros) {
        if let Some(table) = self.tables.get_mut(view) {
            table.fail(reason, since);
        }
        self.weigh();
    }
}
