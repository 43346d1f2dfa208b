//! What is known of the store: whether it answers, since when it does not and why, and how often it was asked again. The
//! ground of `system.store`, and of the log's word on it: one line when it goes away, one in a while, one when it is back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use object_store::Error;

use crate::clock::{Clock, SystemClock};
use crate::ids::Micros;
use crate::status::{StoreRequests, StoreStatus};

/// An operation that fails for so long says that the store is away; one that gets through sooner met a hiccup.
const HICCUP: Duration = Duration::from_secs(2);

/// How often the log says again that the store is still away.
const SAID_AGAIN: Duration = Duration::from_secs(300);

pub struct Watch {
    store: String,
    clock: Arc<dyn Clock>,
    /// Before, what a store refuses is an error of whoever starts; from then on nothing is.
    running: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last_id: u64,
    /// Operations without an answer.
    waiting: BTreeMap<u64, Waiting>,
    away: Option<Away>,
    /// Wall time from which on the store answered, where it does.
    since: Micros,
    retries: u64,
    last_error: Option<(Micros, String)>,
    requests: StoreRequests,
}

#[derive(Debug)]
struct Waiting {
    begun: Duration,
    failures: u32,
}

#[derive(Debug)]
struct Away {
    since: Micros,
    begun: Duration,
    said: Duration,
    retries_before: u64,
}

/// An operation that waits for its answer.
#[derive(Debug)]
pub(super) struct Wait {
    watch: Arc<Watch>,
    id: u64,
    begun: Duration,
    failures: u32,
}

impl Watch {
    pub(super) fn new(store: String) -> Arc<Watch> {
        Watch::by(Arc::new(SystemClock::new()), store)
    }

    pub(super) fn by(clock: Arc<dyn Clock>, store: String) -> Arc<Watch> {
        let seen = Seen { since: clock.wall(), ..Seen::default() };
        Arc::new(Watch { store, clock, running: AtomicBool::new(false), seen: Mutex::new(seen) })
    }

    /// The engine has come up with this store: what it refuses from now on is waited for like anything else.
    pub fn running(&self) {
        self.running.store(true, Ordering::Release);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub fn status(&self) -> StoreStatus {
        let seen = self.seen();
        let (last_error_at, last_error) = seen.last_error.clone().unzip();
        StoreStatus {
            store: self.store.clone(),
            away: seen.away.is_some(),
            since: seen.away.as_ref().map_or(seen.since, |away| away.since),
            retries: seen.retries,
            last_error,
            last_error_at,
            requests: seen.requests,
        }
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut StoreRequests)) {
        count(&mut self.seen().requests);
    }

    /// How long the oldest operation that has no answer has been waiting for it.
    pub fn longest_wait(&self) -> Duration {
        let begun = self.seen().waiting.values().map(|waiting| waiting.begun).min();
        begun.map_or(Duration::ZERO, |begun| self.clock.elapsed().saturating_sub(begun))
    }

    pub(super) fn begin(self: &Arc<Watch>) -> Wait {
        let begun = self.clock.elapsed();
        let mut seen = self.seen();
        seen.last_id += 1;
        let id = seen.last_id;
        seen.waiting.insert(id, Waiting { begun, failures: 0 });
        Wait { watch: Arc::clone(self), id, begun, failures: 0 }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whole after every statement of the code here, so a panic elsewhere did not break it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Wait {
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// An attempt failed, and there will be another.
    pub(super) fn failed(&mut self, error: &Error) {
        self.failures += 1;
        let (wall, now) = (self.watch.clock.wall(), self.watch.clock.elapsed());
        let mut seen = self.watch.seen();
        if let Some(waiting) = seen.waiting.get_mut(&self.id) {
            waiting.failures = self.failures;
        }
        seen.retries += 1;
        seen.last_error = Some((wall, error.to_string()));
        let failing = now.saturating_sub(self.begun);
        let retries = seen.retries;
        let away = match &mut seen.away {
            Some(away) if now.saturating_sub(away.said) >= SAID_AGAIN => away,
            none @ None if failing >= HICCUP => none.insert(Away {
                since: wall - failing.as_micros() as Micros,
                begun: self.begun,
                said: now,
                retries_before: retries - u64::from(self.failures),
            }),
            _ => return,
        };
        away.said = now;
        let (since, retries) = (text(away.since), retries - away.retries_before);
        let store = &self.watch.store;
        tracing::warn!(store, since, retries, %error, "the store is away; what is read waits for it in memory");
    }

    /// The store has answered, whatever it said.
    pub(super) fn answered(self) {
        let now = self.watch.clock.elapsed();
        let mut seen = self.watch.seen();
        seen.waiting.remove(&self.id);
        if seen.waiting.values().any(|waiting| waiting.failures > 0) {
            return;
        }
        if let Some(away) = seen.away.take() {
            seen.since = self.watch.clock.wall();
            let (away_for, retries) = (now.saturating_sub(away.begun), seen.retries - away.retries_before);
            let store = &self.watch.store;
            tracing::info!(store, away_s = away_for.as_secs(), retries, "the store is back");
        }
    }
}

/// Whoever asked has gone, and the store has not answered.
impl Drop for Wait {
    fn drop(&mut self) {
        self.watch.seen().waiting.remove(&self.id);
    }
}

fn text(at: Micros) -> String {
    let at = DateTime::from_timestamp_micros(at).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
