//! Records whose sender does not wait until they are durable: they wait in memory for the call before, and go together, in
//! their order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Collector;
use crate::source::Outgoing;
use crate::{Error, Result};

/// Beyond these nothing more is taken.
const WAITING_BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
pub(super) struct Queued {
    state: Mutex<State>,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<Outgoing>,
    bytes: usize,
    at_work: bool,
}

impl Queued {
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come since the last call, or that nobody is at work any more.
    fn take(&self) -> Option<Vec<Outgoing>> {
        let mut state = self.state();
        state.bytes = 0;
        state.at_work = !state.waiting.is_empty();
        state.at_work.then(|| std::mem::take(&mut state.waiting))
    }
}

pub(super) fn queue(collector: &Arc<Collector>, records: Vec<Outgoing>) -> Result<()> {
    let bytes: usize = records.iter().map(|it| it.value.len() + it.key.as_ref().map_or(0, Vec::len)).sum();
    {
        let mut state = collector.queued.state();
        if state.bytes + bytes > WAITING_BYTES_MAX {
            return Err(Error::Unavailable("more is queued than may".into()));
        }
        state.bytes += bytes;
        state.waiting.extend(records);
        if std::mem::replace(&mut state.at_work, true) {
            return Ok(());
        }
    }
    let collector = Arc::clone(collector);
    tokio::spawn(async move {
        while let Some(records) = collector.queued.take() {
            let count = records.len() as u64;
            if let Err(error) = collector.put(records).await {
                let before = collector.queued.lost.fetch_add(count, Ordering::Relaxed);
                // Once; then the count tells.
                if before == 0 {
                    let stream = &collector.stream.name;
                    tracing::error!(stream, count, %error, "events that were queued are lost");
                }
            }
        }
    });
    Ok(())
}
