//! One worker: reads some partitions of one stream, decodes what is there of all of them at once, and runs every view's
//! lower half on it when enough has come.
//!
//! A micro-batch joins the ledger, its partitions' watermarks and what readers see in one step, so every snapshot holds
//! whole micro-batches (INV-10): a prefix of each partition. It waits, decoded, until a few thousand rows have come or
//! the epoch ends; then the lower halves of all views run over what waits, which in one step becomes parts
//! (docs/decisions/rows-wait-decoded.md). Epochs end between two micro-batches.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::error::panic_text;
use crate::ids::{Epoch, Micros, Offset, PartitionId};
use crate::job::arrival::{self, Arrival, Reached};
use crate::job::intake::Intake;
use crate::job::orders::{Ended, Orders, Report, StreamPlan};
use crate::job::origins::Origins;
use crate::job::pace::{Pace, Portion};
use crate::job::quiet::{Quiet, Verdict};
use crate::job::refused::{RefusedRow, RefusedRows, RefusedTable};
use crate::job::running_leg::{Made, RunningLeg, Share};
use crate::job::shared::{Shared, Tables};
use crate::memory::{Hold, Purpose, Shares};
use crate::source::{BatchLimit, Polled, RawBatch, Reader};
use crate::spec::StreamSpec;
use crate::status::Effort;
use crate::view::arrived::{Arrived, Waiting};
use crate::view::compact::compacted;
use crate::view::lower::FailedRow;
use crate::view::part::Part;
use crate::{Error, Result};

/// Rows that wait for the lower halves, at most: so many that the fixed costs of all plans are a small share of what the
/// rows cost, so few that a reader puts them through the plan of its view in a millisecond.
const WAITING_ROWS: usize = 4096;

pub struct Worker {
    pub number: usize,
    pub stream: Arc<StreamSpec>,
    pub reader: Box<dyn Reader>,
    pub shared: Arc<Shared>,
    pub orders: Arc<Orders>,
    pub reports: mpsc::Sender<Report>,
    pub clock: Arc<dyn Clock>,
    pub state_bytes_max: usize,
    pub shares: Shares,
    pub batch_rows: usize,
    pub linger: Duration,
    pub poll: Duration,
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
    views: Vec<RunningLeg>,
    pace: Pace,
    portion: Portion,
    /// Records that were polled, and have had no room in a micro-batch yet.
    left: Option<RawBatch>,
    /// Rows that readers see already, and that no lower half has seen.
    waiting: Waiting,
    origins: Origins,
    waiting_held: Hold,
    queued_held: Hold,
    quiet: BTreeMap<PartitionId, Quiet>,
    rejected: RefusedRows,
    late: RefusedRows,
    lowerings: u64,
    /// The epoch in which records were last taken in.
    read_in: Epoch,
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
        let plan = worker.orders.plan();
        let intake = worker.intake(&plan)?;
        let quiet = partitions.iter().map(|id| (*id, Quiet::default())).collect();
        let memory = worker.shared.memory();
        let (waiting_held, queued_held) = (memory.hold(Purpose::Waiting, 0), memory.hold(Purpose::Queues, 0));
        Ok(Running {
            views: RunningLeg::of(&plan.views, &worker.stream.name, &plan.left)?,
            pace: Pace::new(worker.linger),
            portion: Portion::default(),
            worker,
            epoch,
            plan,
            intake,
            left: None,
            waiting: Waiting::default(),
            origins: Origins::default(),
            waiting_held,
            queued_held,
            quiet,
            rejected: RefusedRows::default(),
            late: RefusedRows::default(),
            lowerings: 0,
            read_in: Epoch(0),
            effort: Effort::default(),
        })
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
            } else if let Some(raw) = self.left.take() {
                self.take_in(raw, true)?;
            } else {
                self.read()?;
            }
        }
    }

    /// One look at the source.
    fn read(&mut self) -> Result<()> {
        let rest = self.pace.rest(self.worker.clock.elapsed());
        if !rest.is_zero() {
            // With a long linger there are orders to look at meanwhile.
            std::thread::sleep(rest.min(self.worker.poll));
            return Ok(());
        }
        let asked = self.worker.clock.elapsed();
        let rows = self.worker.batch_rows.min(self.portion.rows());
        let limit = BatchLimit { rows, bytes: self.worker.shares.batch };
        let mut raw = self.origins.buffer();
        match self.worker.reader.poll(&mut raw, limit, self.worker.poll) {
            Ok(Polled::Records { more }) => {
                self.effort.reading += self.worker.clock.elapsed().saturating_sub(asked);
                return self.take_in(raw, more);
            }
            Ok(Polled::AtEnd { partition, next_offset }) => self.at_end(partition, next_offset),
            Ok(Polled::Ended(partition)) => self.ended(partition),
            Ok(Polled::Nothing) => {}
            Err(error) => self.source_failed(&error),
        }
        self.origins.give_back(raw);
        Ok(())
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
        // With little memory left a worker reads once an epoch: windows may close before it is used up.
        let memory = tables.memory();
        if memory.is_exhausted() || (memory.is_scarce() && self.read_in == self.epoch) {
            return true;
        }
        let Some(stream) = tables.streams.get(&self.worker.stream.name) else { return false };
        if stream.failure.is_some() {
            return true;
        }
        let Some(until) = self.worker.read_until else { return false };
        let mut mine = self.quiet.keys().filter_map(|id| stream.partitions.get(id));
        mine.all(|partition| partition.ended || partition.next_offset >= until)
    }

    /// What has been read stays, and all workers of the stream wait until they are told to leave.
    fn source_failed(&self, error: &Error) {
        self.worker.shared.fail_stream(&self.worker.stream.name, error, self.worker.clock.wall());
    }

    /// Reads nothing for a moment.
    fn pause(&mut self) {
        std::thread::sleep(self.worker.poll);
        // What the source fetches ahead meanwhile is the most that it ever holds.
        self.weigh();
        self.quiet.values_mut().for_each(Quiet::not_listened);
    }

    /// Ends the epoch: says where each partition stands, and takes up what the coordinator has changed.
    fn barrier(&mut self) -> Result<()> {
        let shares = self.lower()?;
        self.join(None, shares)?;
        self.worker.shared.tell();
        self.weigh();
        let now = self.worker.clock.elapsed();
        let idle_after = self.worker.stream.options.idle;
        let ends: BTreeMap<_, _> = self.worker.reader.ends().into_iter().collect();
        let plan = self.worker.orders.plan();
        let set = plan.watermark.as_ref().filter(|set| set.ends == self.epoch);
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
                if let Some(set) = set.filter(|set| set.is_for(*id)) {
                    partition.time.set(set.to);
                }
                partition.note_rise(|| self.worker.clock.wall());
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
        let plan = self.worker.orders.plan();
        if Arc::ptr_eq(&plan, &self.plan) {
            return Ok(());
        }
        self.plan = plan;
        self.intake = self.worker.intake(&self.plan)?;
        self.views = RunningLeg::of(&self.plan.views, &self.worker.stream.name, &self.plan.left)?;
        self.portion = Portion::default();
        for (worker, partition, offset) in &self.plan.found {
            if *worker == self.worker.number && !self.quiet.contains_key(partition) {
                if let Err(error) = self.worker.reader.add(*partition, *offset) {
                    self.source_failed(&error);
                }
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
        let Some(stream) = tables.streams.get_mut(&self.worker.stream.name) else { return };
        stream.reads();
        if let Some(partition) = stream.partitions.get_mut(&partition) {
            partition.answers = true;
            partition.next_offset = partition.next_offset.max(next_offset);
            partition.end_offset = Some(partition.next_offset);
        }
    }

    fn ended(&mut self, partition: PartitionId) {
        let mut tables = self.worker.shared.lock();
        let stream = tables.streams.get_mut(&self.worker.stream.name);
        if let Some(partition) = stream.and_then(|stream| stream.partitions.get_mut(&partition)) {
            partition.answers = true;
            partition.ended = true;
        }
    }

    /// Makes a micro-batch of the records. Those for which it had no room are left for the next.
    fn take_in(&mut self, mut raw: RawBatch, more: bool) -> Result<()> {
        self.read_in = self.epoch;
        let begun = self.worker.clock.elapsed();
        let (accepted, left) = self.intake.accept(&mut raw, &mut self.rejected)?;
        let mut reached = self.wake(&raw, &accepted.records)?;
        let times = accepted.event_times(&self.worker.stream);
        let observed = arrival::observe(&raw, &accepted, times, &mut reached);
        if let Some(observed) = &observed {
            let mut told = BTreeSet::new();
            for view in &self.views {
                view.tell_late(&raw, &accepted, observed, &mut told, &mut self.late);
            }
        }
        let (rows, bytes) = (raw.len(), raw.records.bytes.len() as u64);
        let arrived = Arc::new(Arrived { batch: accepted.batch, observed });
        self.waiting.push(Arc::clone(&arrived));
        self.origins.push(raw, accepted.records);
        self.effort.decoding += self.worker.clock.elapsed().saturating_sub(begun);
        let lowered = self.worker.clock.elapsed();
        let shares = if self.enough_waits() { self.lower()? } else { vec![] };
        let lowering = self.worker.clock.elapsed().saturating_sub(lowered);
        self.join(Some(Arrival { arrived, reached, records: rows as u64, bytes }), shares)?;
        self.worker.shared.tell();
        let now = self.worker.clock.elapsed();
        self.pace.took(rows, now.saturating_sub(begun + lowering), more || left.is_some(), now);
        self.left = left;
        self.weigh();
        Ok(())
    }

    /// Says what it holds in memory, and its source for it.
    fn weigh(&mut self) {
        let left = self.left.as_ref().map_or(0, RawBatch::bytes);
        self.waiting_held.set(self.waiting.bytes() + self.origins.bytes() + left);
        self.queued_held.set(self.worker.reader.queued_bytes());
    }

    /// Each partition of the batch as it stood before it. One that comes back from idleness first adopts the frontier
    /// as its floor; refused records say nothing of time, so they bring none back.
    fn wake(&mut self, raw: &RawBatch, accepted: &[u32]) -> Result<BTreeMap<PartitionId, Reached>> {
        let mut tables = self.worker.shared.lock();
        let stream = tables
            .streams
            .get_mut(&self.worker.stream.name)
            .ok_or_else(|| Error::Internal("a worker reads a stream that is gone".into()))?;
        let frontier = stream.frontier;
        let slept = stream
            .partitions
            .values()
            .all(|it| it.ended || (it.idle_since.is_some() && it.returned.is_none()));
        let mut woke = None;
        let mut reached = BTreeMap::new();
        let until = |end: usize| accepted.partition_point(|index| (*index as usize) < end);
        for (partition, range) in raw.ranges() {
            let known = stream.partitions.get_mut(&partition).ok_or_else(|| {
                Error::Internal(format!("a source gave a partition nobody asked for. partition={partition}"))
            })?;
            let quiet = self.quiet.entry(partition).or_default();
            if until(range.start) < until(range.end) && quiet.record() {
                known.time.floor = known.time.floor.max(frontier);
                known.returned = Some(known.time.watermark());
                woke = Some(self.worker.clock.elapsed());
            }
            reached.entry(partition).or_insert_with(|| Reached::at(known.time));
        }
        if slept {
            stream.woke = woke.or(stream.woke);
        }
        Ok(reached)
    }

    fn enough_waits(&self) -> bool {
        let rows = WAITING_ROWS.min(self.worker.batch_rows).min(self.portion.rows());
        self.waiting.rows() >= rows
            || self.waiting.bytes() + self.origins.bytes() >= self.worker.shares.waiting
    }

    /// Runs the lower halves of all views over what waits.
    fn lower(&mut self) -> Result<Vec<Share>> {
        let begun = self.worker.clock.elapsed();
        let Some(arrived) = self.waiting.take()? else { return Ok(vec![]) };
        self.lowerings += u64::from(!self.views.is_empty());
        let dropped = self.worker.drop_batch == Some(self.lowerings);
        let views = self.views.iter_mut().filter(|_| !dropped);
        let shares: Vec<Share> = views.map(|view| view.take_in(&arrived)).collect();
        for Share { views, made, .. } in &shares {
            for FailedRow { row, fault } in made.iter().flat_map(|made| &made.failed) {
                let event_time = arrived.observed.as_ref().map(|observed| observed.time(*row));
                let told = self.origins.told(*row, event_time, fault.reason.clone());
                let told = told.ok_or_else(|| Error::Internal(format!("a row has no record. row={row}")))?;
                for view in views {
                    self.rejected.push(RefusedRow { view: Some(view.name.clone()), ..told.clone() });
                }
            }
        }
        self.origins.clear();
        let spent = self.worker.clock.elapsed().saturating_sub(begun);
        self.portion.took(arrived.batch.num_rows(), spent);
        self.effort.aggregating += spent;
        Ok(shares)
    }

    /// A micro-batch, and what has become of those that waited if their turn came: in one step under the lock.
    fn join(&mut self, arrival: Option<Arrival>, shares: Vec<Share>) -> Result<()> {
        let name = &self.worker.stream.name;
        let rejected = self.rejected.take(name)?.map(row_part).transpose()?;
        let late = self.late.take(name)?.map(row_part).transpose()?;
        let now = self.worker.clock.elapsed();
        let mut tables = self.worker.shared.lock();
        let tables = &mut *tables;
        self.file(tables, shares);
        for (which, part) in [(RefusedTable::RejectedRecords, rejected), (RefusedTable::LateRows, late)] {
            if let Some(part) = part {
                tables.file(&which.spec_name(), self.epoch, Arc::new(vec![part]));
            }
        }
        let Some(stream) = tables.streams.get_mut(name) else { return Ok(()) };
        stream.effort += std::mem::take(&mut self.effort);
        let shown = stream.arrived.entry(self.worker.number).or_default();
        if self.waiting.is_empty() {
            shown.clear();
        }
        let Some(Arrival { arrived, reached, records, bytes }) = arrival else { return Ok(()) };
        let rows = arrived.batch.num_rows();
        if !self.waiting.is_empty() {
            shown.push((self.epoch, arrived));
        }
        stream.reads();
        stream.records += records;
        stream.bytes += bytes;
        if rows > 0 {
            stream.silent_since = now;
        }
        let ledger = tables.ledger.entry(self.epoch).or_default();
        for (id, reached) in reached {
            stream.rejected += reached.terms.rejected;
            ledger.add_partition(name, id, reached.terms);
            if let Some(partition) = stream.partitions.get_mut(&id) {
                reached.leave(partition);
            }
        }
        Ok(())
    }

    fn file(&self, tables: &mut Tables, shares: Vec<Share>) {
        let now = self.worker.clock.wall();
        for Share { views, leg, made } in shares {
            for view in views {
                let table = tables.tables.get_mut(&view.name);
                let Some(table) = table.filter(|table| table.failure.is_none()) else { continue };
                match &made {
                    Ok(Made { parts, terms, .. }) => {
                        table.late += terms.late;
                        table.failed += terms.failed;
                        tables.ledger.entry(self.epoch).or_default().add_view(&view.name, leg, *terms);
                        tables.file(&view.name, self.epoch, Arc::clone(parts));
                    }
                    Err(error) => tables.fail(&view.name, error.to_string(), now),
                }
                self.bound(tables, &view.name, now);
            }
        }
    }

    /// What grows beyond a bound takes nobody with it.
    fn bound(&self, tables: &mut Tables, view: &str, now: Micros) {
        let most = self.worker.state_bytes_max;
        if tables.tables.get(view).is_some_and(|table| table.panes.bytes() > most) {
            tables.fail(view, over_cap(most), now);
        }
        tables.give_way(now);
    }
}

fn row_part(batch: RecordBatch) -> Result<Part> {
    Ok(Part::of_one_pane(0, 0, compacted(batch)?))
}

fn over_cap(most: usize) -> String {
    format!(
        "the state of the view has outgrown its cap. cap={} MiB; group by fewer keys, make its windows shorter, or raise \
         --state-max",
        most >> 20
    )
}
