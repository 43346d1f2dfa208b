//! The queries that run now, and the last ones that ran: the ground of `system.queries`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_engine::clock::Clock;
use thalweg_engine::ids::Micros;

use super::settings::Client;
use crate::{Error, Result};

/// Queries that have ended and are still listed; as many subscriptions.
const FINISHED_MAX: usize = 100;
/// Subscriptions at a time.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Longer texts are cut in the listing.
const LISTED_SQL_BYTES_MAX: usize = 4096;

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
    running_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    last_id: u64,
    running: BTreeMap<u64, Running>,
    finished: VecDeque<QueryStatus>,
}

struct Running {
    status: QueryStatus,
    rows: Arc<AtomicU64>,
}

/// A query's place in the registry. Relation before [`finish`](Ticket::finish), the query counts as cancelled.
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    id: u64,
    rows: Arc<AtomicU64>,
    finished: bool,
}

impl Registry {
    pub fn new(clock: Arc<dyn Clock>, running_max: usize) -> Registry {
        Registry { clock, running_max, entries: Mutex::default() }
    }

    /// Enters a query or a subscription, unless too many run already.
    pub fn enter(self: &Arc<Registry>, kind: Kind, sql: &str, client: &Client) -> Result<Ticket> {
        let mut entries = self.entries();
        let running = entries.running.values().filter(|running| running.status.kind == kind).count();
        let (most, what) = match kind {
            Kind::Query => (self.running_max, "queries"),
            Kind::Subscription => (SUBSCRIPTIONS_MAX, "subscriptions"),
        };
        if running >= most {
            return Err(Error::new(
                thalweg_engine::ErrorKind::Unavailable,
                format!("too many {what} run already. running={running}, most={most}"),
            )
            .hint(format!("try again when one has ended; SELECT * FROM system.{what} lists them")));
        }
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
        entries.running.insert(id, Running { status, rows: Arc::clone(&rows) });
        Ok(Ticket { registry: Arc::clone(self), id, rows, finished: false })
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
    pub fn sent(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub fn finish(&mut self, outcome: Result<(), &Error>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let (state, error) = match outcome {
            Ok(()) => (QueryState::Done, None),
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
