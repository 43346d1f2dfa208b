//! The one task that turns epochs: asks the workers for a barrier, waits for all of them, makes the epoch durable, and
//! only then shows it. Also where the catalog changes: between two epochs.
//!
//! INV-1: what readers are shown as closed is in a durable manifest. INV-5: manifests are put by this task alone, one
//! at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::checkpoint::manifest::{KeptState, Manifest, ManifestKind, StreamState, TableState};
use crate::checkpoint::{DataRoot, EpochFile, ManifestLog, Owner, Step};
use crate::clock::Clock;
use crate::ids::{Epoch, Micros, PartitionId, TopicId};
use crate::job::cleaner::Cleaner;
use crate::job::closing::{AllClosed, Closing};
use crate::job::fed::Fed;
use crate::job::lake::Lake;
use crate::job::orders::Report;
use crate::job::request::Request;
use crate::job::retry::Again;
use crate::job::scout::Sighting;
use crate::job::shared::{Partition, Shared, Stream};
use crate::job::stream::{Crew, Starts, StreamJob};
use crate::job::{Settings, tables};
use crate::spec::{Input, Leg, ViewSpec};
use crate::status::{CheckpointStatus, Failure, Intervention, LedgerRow};
use crate::{Error, Result};

/// How many checkpoints and ledger lines `system.*` shows.
const KEPT_CHECKPOINTS: usize = 1_000;
const KEPT_LEDGER_ROWS: usize = 10_000;
/// And interventions, which are in every manifest.
const KEPT_INTERVENTIONS: usize = 100;

/// Workers that have not answered a barrier for so many times [`Owner::RENEW_EVERY`] are told of. They are waited for all the
/// same: whatever ends one of them is an answer too, so they are at work, on rows that take long.
const SLOW: u32 = 3;

pub enum Command {
    Apply(Request, oneshot::Sender<Result<Option<String>>>),
    Stop(oneshot::Sender<Result<()>>),
}

pub struct Coordinator {
    pub settings: Settings,
    pub root: DataRoot,
    pub clock: Arc<dyn Clock>,
    pub shared: Arc<Shared>,
    pub log: ManifestLog,
    pub owner: Owner,
    pub nonce: Uuid,
    /// The epoch that the workers are in.
    pub epoch: Epoch,
    pub streams: BTreeMap<String, StreamJob>,
    pub lake: Lake,
    pub cleaner: Cleaner,
    pub totals: BTreeMap<String, Totals>,
    /// What views over views that are being born have to catch up with, by view.
    pub backfill: BTreeMap<String, Fed>,
    pub commands: mpsc::Receiver<Command>,
    pub reports: mpsc::Receiver<Report>,
    pub reporter: mpsc::Sender<Report>,
    pub sightings: mpsc::Receiver<Sighting>,
    pub scout: mpsc::Sender<Sighting>,
    /// For what it asks of itself; keeps nobody from seeing that all handles are gone.
    pub own_commands: mpsc::WeakSender<Command>,
}

/// Of a stream, over all durable epochs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub records: u64,
    pub rejected: u64,
}

/// Where every stream's partitions stood at a barrier.
pub(super) struct Stood {
    pub streams: BTreeMap<String, BTreeMap<PartitionId, Partition>>,
    /// On the clock's elapsed time, when the workers were asked.
    asked: Duration,
}

impl Coordinator {
    /// Turns epochs until told to stop, or until something fails.
    pub async fn run(mut self) -> Result<()> {
        loop {
            let command = tokio::select! {
                biased;
                command = self.commands.recv() => Some(command),
                report = self.reports.recv() => { unexpected(report)?; None }
                () = tokio::time::sleep(self.settings.epoch) => None,
            };
            match command {
                None => {
                    self.hear_scouts()?;
                    self.try_again();
                    self.owner.check()?;
                    self.turn(false).await?;
                }
                Some(Some(Command::Apply(request, reply))) => {
                    let outcome = match self.prepare(request).await {
                        // Refused; nothing has changed, and whoever asked is told.
                        Err(error) => Err(error),
                        Ok(prepared) => Ok(self.carry_out(prepared).await?),
                    };
                    // Whoever asked may have gone; the change stands all the same.
                    let _ = reply.send(outcome);
                }
                Some(Some(Command::Stop(reply))) => {
                    let outcome = self.turn(true).await;
                    let _ = reply.send(outcome.clone());
                    outcome?;
                    // Durable it is by now; if this fails the next instance has to wait.
                    if let Err(error) = self.owner.release().await {
                        tracing::warn!(%error, "cannot give the data up");
                    }
                    return Ok(());
                }
                Some(None) => return self.turn(true).await,
            }
        }
    }

    /// One epoch, from the barrier to publication.
    async fn turn(&mut self, stop: bool) -> Result<()> {
        let leaving = if stop { Leaving::Everybody } else { Leaving::Nobody };
        let taken_up = self.take_up_tables().await?;
        let stood = self.barrier(leaving).await?;
        taken_up.install(&mut self.shared.lock(), self.epoch);
        self.commit(stood, stop).await?;
        if stop {
            self.lake.finish().await?;
            self.cleaner.finish().await;
        }
        Ok(())
    }

    pub(super) async fn barrier(&mut self, leaving: Leaving<'_>) -> Result<Stood> {
        let ending = self.epoch;
        self.epoch = ending.next();
        let mut stood = Stood { streams: BTreeMap::new(), asked: self.clock.elapsed() };
        let mut waiting = 0;
        let mut failed = vec![];
        for (name, stream) in &self.streams {
            let mut leaves = leaving.includes(name);
            if let Some(known) = self.shared.lock().streams.get(name).filter(|it| it.failure.is_some()) {
                leaves = true;
                failed.push(name.clone());
                if stream.workers == 0 {
                    stood.streams.insert(name.clone(), known.partitions.clone());
                    continue;
                }
            }
            stream.orders.stop.store(leaves, Ordering::Release);
            stream.orders.epoch.store(self.epoch.0, Ordering::Release);
            waiting += stream.workers;
            stood.streams.insert(name.clone(), BTreeMap::new());
        }
        let mut waited = 0;
        while waiting > 0 {
            let Ok(report) = tokio::time::timeout(Owner::RENEW_EVERY, self.reports.recv()).await else {
                waited += 1;
                if waited == SLOW {
                    tracing::warn!(epoch = %ending, workers = waiting, "workers take long over some rows, and are waited for");
                }
                self.owner.check()?;
                continue;
            };
            let report = report.ok_or_else(|| Error::Internal("the workers are gone".into()))?;
            let ended =
                report.outcome.map_err(|error| worker_failed(&report.stream, report.worker, error))?;
            if ended.epoch != ending {
                return Err(Error::Internal(format!(
                    "a worker ended epoch {} instead of {ending}",
                    ended.epoch
                )));
            }
            stood.streams.entry(report.stream).or_default().extend(ended.partitions);
            waiting -= 1;
        }
        for name in failed {
            if let Some(stream) = self.streams.get_mut(&name) {
                stream.left();
            }
        }
        Ok(stood)
    }

    /// Makes the epoch that has just ended durable, and shows it.
    pub(super) async fn commit(&mut self, stood: Stood, stop: bool) -> Result<()> {
        let mut stages = Stages::since(stood.asked);
        let barrier = stages.next(&*self.clock);
        let ending = Epoch(self.epoch.0 - 1);
        let wall = self.clock.wall();
        let ledger = self.check_ledger(ending)?;
        let frontiers = self.frontiers(&stood);
        let closing = Closing {
            epoch: ending,
            wall,
            file: Arc::new(EpochFile::new(self.root.clone(), ending, self.nonce)),
            emptied: Arc::new(self.log.to_empty()),
            spilled: Arc::new(self.shared.lock().to_spill(self.shared.memory())),
            roll: self.roll(stop),
        };
        let closed = self.close_tables(&closing, &frontiers).await?;
        closing.file.put().await?;
        let ledger =
            [ledger, closed.changed.iter().flat_map(|table| table.ledger.iter().cloned()).collect()].concat();
        let close = stages.next(&*self.clock);
        let tables = self.table_states(&closed);
        let manifest = self.manifest(ending, wall, &stood, &frontiers, tables.clone(), &ledger);
        self.log.commit(manifest).await?;
        let put = stages.next(&*self.clock);
        let committed_at = self.clock.wall();
        let state_bytes = closed.changed.iter().map(|table| table.state_bytes).sum();
        self.publish(ending, closed, tables, &ledger)?;
        self.shared.tell();
        self.leave_out_failed();
        self.root.failpoints().hit(Step::Published);
        self.lake.settle()?;
        let delta = self.lake.slowest();
        self.record(CheckpointStatus {
            epoch: ending,
            committed_at,
            duration_micros: barrier + close + put,
            barrier_micros: barrier,
            close_micros: close,
            manifest_micros: put,
            delta_micros: delta.as_micros() as u64,
            state_bytes,
            records: ledger.iter().map(|row| row.records).sum(),
        });
        self.publish_offsets(&stood);
        self.cleaner.take(self.log.garbage());
        Ok(())
    }

    /// What the manifest says of each table: of most of them what the one before said.
    fn table_states(&self, closed: &AllClosed) -> Vec<Arc<TableState>> {
        let mut changed: BTreeMap<&str, Arc<TableState>> =
            closed.changed.iter().map(|table| (table.spec.name.as_str(), Arc::new(table.state()))).collect();
        let tables = self.shared.lock();
        let states =
            tables.tables.iter().map(|(name, table)| changed.remove(name.as_str()).or(table.written.clone()));
        states.flatten().collect()
    }

    fn check_ledger(&mut self, ending: Epoch) -> Result<Vec<LedgerRow>> {
        let mut tables = self.shared.lock();
        let ledger = tables.ledger.remove(&ending).unwrap_or_default();
        let mut legs = BTreeMap::new();
        for spec in tables.tables.values().filter(|table| table.ran_in(ending)).map(|table| &table.spec) {
            for (leg, Leg { input, .. }) in spec.legs.iter().enumerate() {
                if let Input::Stream(stream) = input {
                    legs.insert((spec.name.clone(), leg), stream.clone());
                }
            }
        }
        let rows = ledger.balanced(ending, &legs)?;
        for row in rows.iter().filter(|row| row.view.is_none()) {
            let totals = self.totals.entry(row.stream.clone()).or_default();
            totals.records += row.records;
            totals.rejected += row.rejected;
        }
        Ok(rows)
    }

    fn manifest(
        &self,
        epoch: Epoch,
        wall: Micros,
        stood: &Stood,
        frontiers: &BTreeMap<String, Option<Micros>>,
        tables: Vec<Arc<TableState>>,
        ledger: &[LedgerRow],
    ) -> Manifest {
        let topics = self.topic_ids();
        let streams = self.streams.iter().map(|(name, stream)| {
            let totals = self.totals.get(name).copied().unwrap_or_default();
            let partitions = stood.streams.get(name).into_iter().flatten();
            StreamState {
                id: stream.spec.id,
                name: name.clone(),
                sql: stream.spec.sql.clone(),
                topic_id: topics.get(name).cloned(),
                frontier: frontiers.get(name).copied().flatten(),
                partitions: partitions.map(|(id, partition)| partition.state(*id)).collect(),
                records: totals.records,
                rejected: totals.rejected,
            }
        });
        Manifest {
            epoch,
            nonce: self.nonce,
            kind: ManifestKind::Epoch,
            committed_at: wall,
            streams: streams.collect(),
            tables,
            kept: self.kept_statements(),
            lookups: self.lookup_states(),
            ledger: ledger.to_vec(),
            interventions: self.interventions(),
        }
    }

    fn topic_ids(&self) -> BTreeMap<String, TopicId> {
        let tables = self.shared.lock();
        let id = |(name, stream): (&String, &Stream)| Some((name.clone(), stream.topic_id.clone()?));
        tables.streams.iter().filter_map(id).collect()
    }

    fn kept_statements(&self) -> Vec<KeptState> {
        self.shared.lock().kept.values().map(|spec| KeptState::of(spec)).collect()
    }

    /// The newest ones; what is older is in older manifests, and in the log.
    fn interventions(&self) -> Vec<Intervention> {
        let mut tables = self.shared.lock();
        let many = tables.interventions.len().saturating_sub(KEPT_INTERVENTIONS);
        tables.interventions.drain(..many);
        tables.interventions.iter().cloned().collect()
    }

    /// One swap for all tables: rows leave `open` and arrive in tail or history in the same instant.
    fn publish(
        &self,
        epoch: Epoch,
        closed: AllClosed,
        written: Vec<Arc<TableState>>,
        ledger: &[LedgerRow],
    ) -> Result<()> {
        let mut tables = self.shared.lock();
        for (name, through) in closed.through {
            if let Some(known) = tables.tables.get_mut(&name) {
                known.panes.closed_through = through;
            }
        }
        for state in written {
            if let Some(known) = tables.tables.get_mut(&state.name) {
                known.written = Some(state);
            }
        }
        for table in closed.changed {
            let Some(known) = tables.tables.get_mut(&table.spec.name) else { continue };
            let stands_still = known.failure.is_some() || table.failure.is_some();
            let runs = if stands_still { vec![] } else { table.runs };
            known.panes.install(epoch, runs, table.closed_through);
            if let Some(Failure { reason, since }) = table.failure {
                known.fail(reason, since);
            }
            known.failed += table.refused.len() as u64;
            known.panes.left = table.left;
            known.tail = table.tail;
            // Those before it are known, and what Delta was told of them meanwhile.
            for commit in table.delta.pending {
                if Some(commit.txn) > known.delta.last() {
                    known.delta.pending.push(commit);
                }
            }
            known.told = table.told;
            if !table.files.is_empty() {
                known.history = tables::with_files(&known.history, &table.spec, &table.files)?;
            }
        }
        tables.weigh();
        tables.tell_scarcity();
        tables.epoch = epoch;
        tables.ledger_rows.extend(ledger.iter().cloned());
        while tables.ledger_rows.len() > KEPT_LEDGER_ROWS {
            tables.ledger_rows.pop_front();
        }
        Ok(())
    }

    /// From the next barrier on no worker runs a view that has failed.
    fn leave_out_failed(&self) {
        let tables = self.shared.lock();
        let failed =
            |view: &Arc<ViewSpec>| tables.tables.get(&view.name).is_some_and(|table| table.failure.is_some());
        for stream in self.streams.values().filter(|stream| stream.runs_any(failed)) {
            stream.change_views(|views| views.retain(|view| !failed(view)));
        }
    }

    fn record(&self, checkpoint: CheckpointStatus) {
        let mut tables = self.shared.lock();
        tables.checkpoints.push_back(checkpoint);
        while tables.checkpoints.len() > KEPT_CHECKPOINTS {
            tables.checkpoints.pop_front();
        }
    }

    fn publish_offsets(&self, stood: &Stood) {
        for (name, partitions) in &stood.streams {
            if let Some(stream) = self.streams.get(name) {
                stream
                    .publish(partitions.iter().map(|(id, partition)| (*id, partition.next_offset)).collect());
            }
        }
    }

    /// What scouts have found since the last turn.
    fn hear_scouts(&mut self) -> Result<()> {
        while let Ok(Sighting { stream, found, topic }) = self.sightings.try_recv() {
            // The stream may have been dropped meanwhile.
            if let Some(job) = self.streams.values().find(|job| job.spec.id == stream) {
                match found {
                    Ok(found) => job.take_up(found, topic, &self.shared),
                    Err(error) => self.shared.fail_stream(&job.spec.name, &error, self.clock.wall()),
                }
            }
        }
        Ok(())
    }

    pub(super) fn again(&self) -> Again {
        Again {
            shared: Arc::clone(&self.shared),
            settings: self.settings.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    pub fn start_workers(&mut self, name: &str, starts: &Starts) -> Result<()> {
        // The n-th stream gets an n-th: those before it can't be made to hold less.
        let queue_bytes = self.shared.memory().shares().queues / self.streams.len().max(1);
        let Some(stream) = self.streams.get_mut(name) else { return Ok(()) };
        let crew = Crew {
            shared: &self.shared,
            clock: &self.clock,
            reporter: &self.reporter,
            scout: &self.scout,
            settings: &self.settings,
            epoch: self.epoch,
            queue_bytes,
        };
        stream.start(crew, starts)
    }

    pub(super) fn stream(&self, name: &str) -> Result<&StreamJob> {
        self.streams
            .get(name)
            .ok_or_else(|| Error::Invalid(format!("there is no such stream. stream={name:?}")))
    }
}

/// Which workers leave at a barrier.
#[derive(Clone, Copy)]
pub enum Leaving<'a> {
    Nobody,
    Stream(&'a str),
    Everybody,
}

impl Leaving<'_> {
    fn includes(self, stream: &str) -> bool {
        match self {
            Leaving::Nobody => false,
            Leaving::Stream(leaving) => leaving == stream,
            Leaving::Everybody => true,
        }
    }
}

fn unexpected(report: Option<Report>) -> Result<()> {
    match report {
        None => Err(Error::Internal("the workers are gone".into())),
        Some(Report { stream, worker, outcome: Err(error) }) => Err(worker_failed(&stream, worker, error)),
        Some(Report { stream, worker, outcome: Ok(ended) }) => Err(Error::Internal(format!(
            "a worker ended an epoch that nobody asked for. stream={stream:?}, worker={worker}, epoch={}",
            ended.epoch
        ))),
    }
}

fn worker_failed(stream: &str, worker: usize, error: Error) -> Error {
    tracing::error!(stream, worker, %error, "a worker failed");
    error
}

/// Tells how long each stage of a commit took, in microseconds.
struct Stages {
    since: Duration,
}

impl Stages {
    fn since(since: Duration) -> Stages {
        Stages { since }
    }

    fn next(&mut self, clock: &dyn Clock) -> u64 {
        let now = clock.elapsed();
        now.saturating_sub(std::mem::replace(&mut self.since, now)).as_micros() as u64
    }
}

pub(super) fn micros(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}
