//! The queries that run now, and the last ones that ran: the ground of `system.queries`; and how one is stopped by its
//! number.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_engine::ErrorKind;
use thalweg_engine::clock::Clock;
use thalweg_engine::ids::Micros;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::settings::{Client, Settings};
use super::slots::{Slots, Wants};
use crate::{Error, Result};

/// Queries that have ended and are still listed; as many subscriptions.
const FINISHED_MAX: usize = 100;
/// Subscriptions at a time.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Longer texts are cut in the listing.
const LISTED_SQL_BYTES_MAX: usize = 4096;

const STOPPED: &str = "the query was stopped by KILL QUERY";

pub(crate) fn stopped() -> Error {
    Error::new(ErrorKind::Stopped, STOPPED)
}

/// One line of `system.queries`.
#[derive(Debug, Clone)]
pub struct QueryStatus {
    pub kind: Kind,
    pub id: u64,
    pub sql: String,
    pub user: Option<String>,
    pub client: Option<String>,
    pub started_at: Micros,
    pub finished_at: Option<Micros>,
    /// Rows handed to the client so far.
    pub rows: u64,
    pub state: QueryState,
    pub error: Option<String>,
}

/// What runs, each with a bound of its own: a subscription waits for most of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Query,
    Subscription,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryState {
    Running,
    /// All rows were sent.
    Done,
    Failed,
    /// The client went away, or asked to stop.
    Cancelled,
}

impl QueryState {
    pub fn name(self) -> &'static str {
        match self {
            QueryState::Running => "running",
            QueryState::Done => "done",
            QueryState::Failed => "failed",
            QueryState::Cancelled => "cancelled",
        }
    }
}

pub(crate) struct Registry {
    clock: Arc<dyn Clock>,
    slots: Slots,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    last_id: u64,
    running: BTreeMap<u64, Running>,
    finished: VecDeque<QueryStatus>,
}

/// What a query is listed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It ends unseen: what runs later is listed by itself.
    Planned,
    Run,
}

struct Running {
    status: QueryStatus,
    stage: Stage,
    rows: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
}

/// A query's place in the registry, and its slot. Dropped before [`finish`](Ticket::finish), the query counts as cancelled.
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    id: u64,
    rows: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
    finished: bool,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Registry {
    pub fn new(clock: Arc<dyn Clock>, settings: &Settings) -> Registry {
        Registry { clock, slots: Slots::new(settings), entries: Mutex::default() }
    }

    /// Enters what is planned and not to run yet: it is listed, and can be stopped, for as long as that takes.
    pub async fn planning(self: &Arc<Registry>, wants: Wants, sql: &str, client: &Client) -> Result<Ticket> {
        let slot = self.slots.planning(wants).await?;
        Ok(self.listed(Kind::Query, Stage::Planned, sql, client, Some(slot)))
    }

    /// Enters a query, as soon as there is a slot for it.
    pub async fn enter(self: &Arc<Registry>, wants: Wants, sql: &str, client: &Client) -> Result<Ticket> {
        let slot = self.slots.running(wants).await?;
        Ok(self.listed(Kind::Query, Stage::Run, sql, client, Some(slot)))
    }

    /// Enters a subscription, unless there are too many already.
    pub fn subscribe(self: &Arc<Registry>, sql: &str, client: &Client) -> Result<Ticket> {
        let is_one = |running: &&Running| running.status.kind == Kind::Subscription;
        let running = self.entries().running.values().filter(is_one).count();
        if running >= SUBSCRIPTIONS_MAX {
            return Err(Error::new(
                thalweg_engine::ErrorKind::Unavailable,
                format!("too many subscriptions run already. running={running}, most={SUBSCRIPTIONS_MAX}"),
            )
            .hint("try again when one has ended; SELECT * FROM system.subscriptions lists them"));
        }
        Ok(self.listed(Kind::Subscription, Stage::Run, sql, client, None))
    }

    fn listed(
        self: &Arc<Registry>,
        kind: Kind,
        stage: Stage,
        sql: &str,
        client: &Client,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Ticket {
        let mut entries = self.entries();
        entries.last_id += 1;
        let id = entries.last_id;
        let rows = Arc::new(AtomicU64::new(0));
        let status = QueryStatus {
            kind,
            id,
            sql: sql[..sql.floor_char_boundary(LISTED_SQL_BYTES_MAX)].to_owned(),
            user: client.user.clone(),
            client: client.name.clone(),
            started_at: self.clock.wall(),
            finished_at: None,
            rows: 0,
            state: QueryState::Running,
            error: None,
        };
        let (stop, stopped) = watch::channel(false);
        entries.running.insert(id, Running { status, stage, rows: Arc::clone(&rows), stop });
        Ticket { registry: Arc::clone(self), id, rows, stopped, finished: false, _slot: slot }
    }

    /// Stops what runs under a number, whoever asked it.
    pub fn stop(&self, id: u64) -> Result<()> {
        match self.entries().running.get(&id) {
            Some(running) => {
                running.stop.send_replace(true);
                Ok(())
            }
            None => Err(Error::invalid(format!("no query {id} is running"))
                .hint("SELECT id, sql FROM system.queries WHERE state = 'running' lists them")),
        }
    }

    /// Running queries first, then those that have ended, newest first.
    pub fn list(&self) -> Vec<QueryStatus> {
        let entries = self.entries();
        let running = entries.running.values().map(|running| QueryStatus {
            rows: running.rows.load(Ordering::Relaxed),
            ..running.status.clone()
        });
        running.chain(entries.finished.iter().rev().cloned()).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // The entries are whole after every statement of the code below, so a panic elsewhere did not break them.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, id: u64, state: QueryState, error: Option<String>) {
        let mut entries = self.entries();
        let Some(running) = entries.running.remove(&id) else { return };
        if running.stage == Stage::Planned {
            return;
        }
        let alike = |ended: &QueryStatus| ended.kind == running.status.kind;
        if entries.finished.iter().filter(|ended| alike(ended)).count() >= FINISHED_MAX
            && let Some(oldest) = entries.finished.iter().position(alike)
        {
            entries.finished.remove(oldest);
        }
        entries.finished.push_back(QueryStatus {
            finished_at: Some(self.clock.wall()),
            rows: running.rows.load(Ordering::Relaxed),
            state,
            error,
            ..running.status
        });
    }
}

impl Ticket {
    /// To be raised by the rows that are handed on.
    pub fn rows(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rows)
    }

    /// Resolves when somebody stops the query by its number.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                // Nobody can stop it any more.
                std::future::pending().await
            }
        }
    }

    /// Gives up when somebody stops the query by its number.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(stopped()),
            done = work => done,
        }
    }

    pub fn finish(&mut self, outcome: Result<(), &Error>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let (state, error) = match outcome {
            Ok(()) => (QueryState::Done, None),
            Err(error) if error.kind == ErrorKind::Stopped => {
                (QueryState::Cancelled, Some(error.to_string()))
            }
            Err(error) => (QueryState::Failed, Some(error.to_string())),
        };
        self.registry.leave(self.id, state, error);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.finished {
            self.registry.leave(self.id, QueryState::Cancelled, None);
        }
    }
}
