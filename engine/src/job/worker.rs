//! One worker: reads some partitions of one stream, decodes each batch once, and runs every view's lower half on it.
//!
//! A micro-batch joins all its views, the ledger and its partition's watermark in one step, so every snapshot holds
//! whole micro-batches (INV-10): a prefix of each partition. Epochs end between two micro-batches.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::runtime_env::RuntimeEnv;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::job::intake::Intake;
use crate::job::ledger::PartitionTerms;
use crate::job::quiet::{Quiet, Verdict};
use crate::job::refused::{RefusedRows, RefusedTable};
use crate::job::running_view::{Arrivals, RunningView, Share};
use crate::job::shared::{Partition, Shared};
use crate::source::{BatchLimit, Polled, RawBatch, Reader};
use crate::spec::{StreamSpec, ViewSpec};
use crate::status::Effort;
use crate::view::compact::compacted;
use crate::view::part::Part;
use crate::view::watermark::PartitionTime;
use crate::{Error, Result};

/// Bytes of one micro-batch, at most; its rows are a setting.
const BATCH_BYTES: usize = 8 << 20;

/// After a micro-batch of fewer rows than this the worker lingers, so that a slow stream does not become a thousand tiny
/// batches a second: each costs its plans' fixed time now, and a place in every live read until its epoch is whole.
const SMALL_BATCH_ROWS: usize = 1024;
const LINGER: Duration = Duration::from_millis(4);

/// How long a worker may sit in its source: the bound on how late it answers a barrier.
const POLL: Duration = Duration::from_millis(10);

/// What the coordinator tells the workers of one stream.
pub struct Orders {
    /// The epoch that should be running; a worker that is behind ends its epoch.
    pub epoch: AtomicU64,
    /// Leave after the next barrier.
    pub stop: AtomicBool,
    /// What to run from the next barrier on.
    pub plan: Mutex<Arc<StreamPlan>>,
}

pub struct StreamPlan {
    pub views: Vec<Arc<ViewSpec>>,
    /// Partitions found while running, and the worker that takes them.
    pub found: Vec<(usize, PartitionId, Offset)>,
}

/// A worker's word at a barrier: where each of its partitions stood there. The tables go on meanwhile.
pub struct Report {
    pub stream: String,
    pub worker: usize,
    pub outcome: Result<Ended>,
}

pub struct Ended {
    pub epoch: Epoch,
    pub partitions: Vec<(PartitionId, Partition)>,
}

pub struct Worker {
    pub number: usize,
    pub stream: Arc<StreamSpec>,
    pub reader: Box<dyn Reader>,
    pub shared: Arc<Shared>,
    pub orders: Arc<Orders>,
    pub reports: mpsc::Sender<Report>,
    pub clock: Arc<dyn Clock>,
    pub state_bytes_max: usize,
    pub batch_rows: usize,
    pub filed_bytes_max: usize,
    pub drop_batch: Option<u64>,
    pub read_until: Option<Offset>,
    pub fast_decoding: bool,
}

struct Running {
    worker: Worker,
    epoch: Epoch,
    plan: Arc<StreamPlan>,
    intake: Intake,
    views: Vec<RunningView>,
    /// Records that were polled, and have had no room in a micro-batch yet.
    left: Option<RawBatch>,
    runtime: Arc<RuntimeEnv>,
    quiet: BTreeMap<PartitionId, Quiet>,
    rejected: RefusedRows,
    late: RefusedRows,
    batches: u64,
    /// Since the last micro-batch joined.
    effort: Effort,
}

impl Worker {
    /// Runs until told to stop; blocks its thread.
    pub fn run(self, epoch: Epoch, partitions: &[PartitionId]) {
        let (stream, number) = (self.stream.name.clone(), self.number);
        let reports = self.reports.clone();
        let work = || Running::new(self, epoch, partitions).and_then(|mut running| running.run());
        // A panic that ended the thread in silence would keep the barrier waiting.
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            Err(Error::Internal(format!("a worker panicked: {}", panic_text(&*panic))))
        });
        if let Err(error) = outcome {
            // The coordinator may be gone already; then nobody waits for the word.
            let _ = reports.blocking_send(Report { stream, worker: number, outcome: Err(error) });
        }
    }

    fn intake(&self, plan: &StreamPlan) -> Result<Intake> {
        let intake = Intake::new(&self.stream, &plan.views)?;
        Ok(if self.fast_decoding { intake } else { intake.without_fast_decoding() })
    }
}

impl Running {
    fn new(worker: Worker, epoch: Epoch, partitions: &[PartitionId]) -> Result<Running> {
        let plan = Arc::clone(&worker.orders.plan.lock().expect("no thread panics while it holds the plan"));
        let runtime = Arc::new(RuntimeEnv::default());
        let intake = worker.intake(&plan)?;
        let quiet = partitions.iter().map(|id| (*id, Quiet::default())).collect();
        let mut running = Running {
            worker,
            epoch,
            plan,
            intake,
            views: vec![],
            left: None,
            runtime,
            quiet,
            rejected: RefusedRows::default(),
            late: RefusedRows::default(),
            batches: 0,
            effort: Effort::default(),
        };
        running.views = running.running_views()?;
        Ok(running)
    }

    fn running_views(&self) -> Result<Vec<RunningView>> {
        self.plan.views.iter().map(|view| RunningView::new(view, &self.runtime)).collect()
    }

    fn run(&mut self) -> Result<()> {
        loop {
            if self.worker.orders.epoch.load(Ordering::Acquire) > self.epoch.0 {
                let stop = self.worker.orders.stop.load(Ordering::Acquire);
                self.barrier()?;
                if stop {
                    return Ok(());
                }
            }
            if self.must_wait() {
                self.pause();
                continue;
            }
            if let Some(raw) = self.left.take() {
                self.left = self.take_in(raw)?;
                continue;
            }
            let asked = self.worker.clock.elapsed();
            let limit = BatchLimit { rows: self.worker.batch_rows, bytes: BATCH_BYTES };
            match self.worker.reader.poll(limit, POLL)? {
                Polled::Batch(raw) => {
                    self.effort.reading += self.worker.clock.elapsed().saturating_sub(asked);
                    let small = raw.offsets.len() < SMALL_BATCH_ROWS;
                    self.left = self.take_in(raw)?;
                    if small {
                        std::thread::sleep(LINGER);
                    }
                }
                Polled::AtEnd { partition, next_offset } => self.at_end(partition, next_offset),
                Polled::Ended(partition) => self.ended(partition),
                Polled::Nothing => {}
            }
        }
    }

    /// Whether nothing may be read for now. Barriers are answered meanwhile.
    fn must_wait(&self) -> bool {
        if self.worker.shared.is_held() {
            return true;
        }
        let tables = self.worker.shared.lock();
        // INV-14: the store is slower than the source. The next commit makes room.
        if tables.filed_bytes() > self.worker.filed_bytes_max {
            return true;
        }
        let stream = tables.streams.get(&self.worker.stream.name);
        let (Some(until), Some(stream)) = (self.worker.read_until, stream) else { return false };
        let mut mine = self.quiet.keys().filter_map(|id| stream.partitions.get(id));
        mine.all(|partition| partition.ended || partition.next_offset >= until)
    }

    /// Reads nothing for a moment.
    fn pause(&mut self) {
        std::thread::sleep(POLL);
        self.quiet.values_mut().for_each(Quiet::not_listened);
    }

    /// Ends the epoch: says where each partition stands, and takes up what the coordinator has changed.
    fn barrier(&mut self) -> Result<()> {
        let now = self.worker.clock.elapsed();
        let idle_after = self.worker.stream.options.idle;
        let ends: BTreeMap<_, _> = self.worker.reader.ends().into_iter().collect();
        let mut partitions = Vec::with_capacity(self.quiet.len());
        {
            let mut tables = self.worker.shared.lock();
            let Some(stream) = tables.streams.get_mut(&self.worker.stream.name) else { return Ok(()) };
            for (id, quiet) in &mut self.quiet {
                let Some(partition) = stream.partitions.get_mut(id) else { continue };
                let verdict = quiet.barrier(now, idle_after);
                partition.returned = None;
                partition.end_offset = ends.get(id).copied().or(partition.end_offset);
                partition.heard = None;
                match verdict {
                    Verdict::Idle { heard } => {
                        partition.idle_since.get_or_insert_with(|| self.worker.clock.wall());
                        partition.heard = Some(heard);
                    }
                    Verdict::Active | Verdict::Returns | Verdict::Silent => partition.idle_since = None,
                }
                if verdict == Verdict::Returns {
                    partition.time.floor = partition.time.floor.max(stream.frontier);
                }
                if matches!(verdict, Verdict::Active | Verdict::Returns) && !partition.ended {
                    stream.silent_since = now;
                }
                partitions.push((*id, partition.clone()));
            }
        }
        let report = Report {
            stream: self.worker.stream.name.clone(),
            worker: self.worker.number,
            outcome: Ok(Ended { epoch: self.epoch, partitions }),
        };
        self.worker
            .reports
            .blocking_send(report)
            .map_err(|_| Error::Internal("the coordinator is gone".into()))?;
        self.epoch = self.epoch.next();
        self.rejected.renew_budget();
        self.late.renew_budget();
        self.take_up_plan()
    }

    fn take_up_plan(&mut self) -> Result<()> {
        let plan =
            Arc::clone(&self.worker.orders.plan.lock().expect("no thread panics while it holds the plan"));
        if Arc::ptr_eq(&plan, &self.plan) {
            return Ok(());
        }
        self.plan = plan;
        self.intake = self.worker.intake(&self.plan)?;
        self.views = self.running_views()?;
        for (worker, partition, offset) in &self.plan.found {
            if *worker == self.worker.number && !self.quiet.contains_key(partition) {
                self.worker.reader.add(*partition, *offset)?;
                self.quiet.insert(*partition, Quiet::default());
            }
        }
        Ok(())
    }

    fn at_end(&mut self, partition: PartitionId, next_offset: Offset) {
        let now = self.worker.clock.elapsed();
        if let Some(quiet) = self.quiet.get_mut(&partition) {
            quiet.at_end(now);
        }
        let mut tables = self.worker.shared.lock();
        let stream = tables.streams.get_mut(&self.worker.stream.name);
        if let Some(partition) = stream.and_then(|stream| stream.partitions.get_mut(&partition)) {
            partition.next_offset = partition.next_offset.max(next_offset);
            partition.end_offset = Some(partition.next_offset);
        }
    }

    fn ended(&mut self, partition: PartitionId) {
        let mut tables = self.worker.shared.lock();
        let stream = tables.streams.get_mut(&self.worker.stream.name);
        if let Some(partition) = stream.and_then(|stream| stream.partitions.get_mut(&partition)) {
            partition.ended = true;
        }
    }

    /// Makes a micro-batch of the records, and gives back those for which it had no room.
    fn take_in(&mut self, mut raw: RawBatch) -> Result<Option<RawBatch>> {
        let begun = self.worker.clock.elapsed();
        let (accepted, left) = self.intake.accept(&mut raw, &mut self.rejected)?;
        let mut time = self.wake(raw.partition)?;
        let times = accepted.event_times(&self.worker.stream);
        let observed = times.as_ref().map(|times| time.observe(times));
        let decoded = self.worker.clock.elapsed();
        let arrivals =
            Arrivals { raw: &raw, accepted: &accepted, times: times.as_ref().zip(observed.as_ref()) };
        self.batches += u64::from(!self.views.is_empty());
        let dropped = self.worker.drop_batch == Some(self.batches);
        let views = self.views.iter_mut().filter(|_| !dropped);
        let shares = views.map(|view| view.take_in(&arrivals, &mut self.late)).collect::<Result<Vec<_>>>()?;
        self.effort.decoding += decoded.saturating_sub(begun);
        self.effort.aggregating += self.worker.clock.elapsed().saturating_sub(decoded);
        let terms = PartitionTerms {
            records: raw.offsets.len() as u64,
            decoded: accepted.batch.num_rows() as u64,
            rejected: accepted.rejected,
        };
        self.join(&raw, time, terms, shares)?;
        Ok(left)
    }

    /// The partition's event time. One that comes back from idleness first adopts the frontier as its floor.
    fn wake(&mut self, partition: PartitionId) -> Result<PartitionTime> {
        let returns = self.quiet.entry(partition).or_default().record();
        let mut tables = self.worker.shared.lock();
        let stream = tables
            .streams
            .get_mut(&self.worker.stream.name)
            .ok_or_else(|| Error::Internal("a worker reads a stream that is gone".into()))?;
        let frontier = stream.frontier;
        let known = stream.partitions.get_mut(&partition).ok_or_else(|| {
            Error::Internal(format!("a source gave a partition nobody asked for. partition={partition}"))
        })?;
        if returns {
            known.time.floor = known.time.floor.max(frontier);
            known.returned = Some(known.time.watermark());
        }
        Ok(known.time)
    }

    /// Everything that the micro-batch became, in one step under the lock.
    fn join(
        &mut self,
        raw: &RawBatch,
        time: PartitionTime,
        terms: PartitionTerms,
        shares: Vec<Share>,
    ) -> Result<()> {
        let name = &self.worker.stream.name;
        let rejected = self.rejected.take(name)?.map(row_part).transpose()?;
        let late = self.late.take(name)?.map(row_part).transpose()?;
        let last_record = raw.last_record();
        let now = self.worker.clock.elapsed();
        let mut tables = self.worker.shared.lock();
        let tables = &mut *tables;
        let ledger = tables.ledger.entry(self.epoch).or_default();
        ledger.add_partition(name, raw.partition, terms);
        for Share { view, parts, terms } in shares {
            ledger.add_view(&view.name, terms);
            let Some(table) = tables.tables.get_mut(&view.name) else { continue };
            table.late += terms.late;
            table.panes.file(self.epoch, Arc::new(parts));
            if table.panes.bytes() > self.worker.state_bytes_max {
                return Err(over_cap(&view.name, self.worker.state_bytes_max));
            }
        }
        for (which, part) in [(RefusedTable::RejectedRecords, rejected), (RefusedTable::LateRows, late)] {
            if let (Some(part), Some(table)) = (part, tables.tables.get_mut(&which.spec_name())) {
                table.panes.file(self.epoch, Arc::new(vec![part]));
            }
        }
        let Some(stream) = tables.streams.get_mut(name) else { return Ok(()) };
        stream.records += terms.records;
        stream.rejected += terms.rejected;
        stream.bytes += raw.records.bytes.len() as u64;
        stream.silent_since = now;
        stream.effort += std::mem::take(&mut self.effort);
        if let Some(partition) = stream.partitions.get_mut(&raw.partition) {
            partition.time = time;
            partition.next_offset = raw.next_offset;
            partition.ended = false;
            partition.last_record = last_record.or(partition.last_record);
            partition.end_offset = partition.end_offset.max(Some(raw.next_offset));
        }
        Ok(())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

fn row_part(batch: RecordBatch) -> Result<Part> {
    Ok(Part::of_one_pane(0, 0, compacted(batch)?))
}

fn over_cap(view: &str, most: usize) -> Error {
    let most = most >> 20;
    Error::Invalid(format!(
        "the state of a view has outgrown its cap. view={view:?}, cap={most} MiB; group by fewer keys, make its \
         windows shorter, or raise --state-max"
    ))
}
