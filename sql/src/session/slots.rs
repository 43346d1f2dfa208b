//! Places for queries: how many plan and run at a time, and how long one more waits for its turn.
//!
//! Statements that look at the server itself have places of their own beside those of all: whoever wants to know what holds
//! everybody up, and stop it, is never held up by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thalweg_engine::ErrorKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::settings::Settings;
use crate::{Error, Result};

/// Places for statements over `system.*` alone.
const SYSTEM_MAX: usize = 8;
/// Whoever comes while so many wait for each place is refused at once.
const WAITING_PER_PLACE: usize = 16;

/// Which places a statement may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    Any,
    /// It reads `system.*` alone.
    System,
}

pub(crate) struct Slots {
    running: Places,
    running_system: Places,
    planning: Places,
    planning_system: Places,
}

impl Slots {
    pub fn new(settings: &Settings) -> Slots {
        let places = |most| Places::new(most, settings.queue_time);
        Slots {
            running: places(settings.queries_max),
            running_system: places(SYSTEM_MAX),
            planning: places(settings.queries_max),
            planning_system: places(SYSTEM_MAX),
        }
    }

    pub async fn running(&self, wants: Wants) -> Result<OwnedSemaphorePermit> {
        one_of(&self.running, &self.running_system, wants).await
    }

    pub async fn planning(&self, wants: Wants) -> Result<OwnedSemaphorePermit> {
        one_of(&self.planning, &self.planning_system, wants).await
    }
}

async fn one_of(all: &Places, system: &Places, wants: Wants) -> Result<OwnedSemaphorePermit> {
    match (wants, all.free()) {
        (_, Some(permit)) => Ok(permit),
        (Wants::Any, None) => all.turn().await,
        (Wants::System, None) => system.turn().await,
    }
}

struct Places {
    permits: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
    patience: Duration,
}

impl Places {
    fn new(most: usize, patience: Duration) -> Places {
        Places { permits: Arc::new(Semaphore::new(most)), most, waiting: AtomicUsize::new(0), patience }
    }

    fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Those who came first go first.
    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.most.saturating_mul(WAITING_PER_PLACE) {
            return Err(self.refusal(format!("and {before} wait")));
        }
        match tokio::time::timeout(self.patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::internal("the places of queries are closed")),
            Err(_) => Err(self.refusal(format!("and none ended within {:?}", self.patience))),
        }
    }

    fn refusal(&self, why: String) -> Error {
        let most = self.most;
        Error::new(ErrorKind::Unavailable, format!("{most} queries are running, the most allowed, {why}")).hint(
            "try again; SELECT * FROM system.queries lists them and KILL QUERY id stops one; --queries allows more",
        )
    }
}
