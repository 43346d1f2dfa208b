//! Group commit: records that come while a commit runs wait for the next, and have it together.
//!
//! Whoever finds nobody at work does the work, for all who wait until nobody does; so there is no thread of its own, and
//! under load a commit carries what came during the one before. Invariant: an answer *durable* comes after the sync.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::oneshot;

use super::block;
use super::store::{Content, Failed, Store, Trim};
use crate::clock::{Clock, SystemClock};
use crate::collect::Outgoing;
use crate::ids::{Micros, Offset, PartitionId};
use crate::source::Parcel;
use crate::spec::LogSpec;
use crate::{Error, Result};

/// Records that wait for the commit after the running one.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Of one commit, so that no one waits for too many others.
const COMMIT_BYTES_MAX: usize = 8 << 20;
/// From the beginning of one commit to that of the next, at least. A commit costs what some hundred records do, however many
/// it has; whoever comes when nobody is at work does not wait for it.
const APART: Duration = Duration::from_millis(2);
/// Old blocks are looked for no more often.
const TRIM_EVERY: Micros = 1_000_000;

pub(crate) struct Log {
    spec: LogSpec,
    store: RwLock<Store>,
    state: Mutex<State>,
    /// More records are there.
    grown: Condvar,
}

struct State {
    ranges: Vec<Range<i64>>,
    /// Of all blocks.
    bytes: u64,
    /// Up to where the stream has made durable what it read; `None` until it has said so.
    committed: Option<Vec<i64>>,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    at_work: bool,
    /// The partition of the next request without keys.
    turn: u32,
    trimmed_at: Micros,
}

/// The records of one call.
struct Waiting {
    /// Each with its partition.
    records: Vec<(u32, Outgoing)>,
    bytes: usize,
    timestamp: Micros,
    done: oneshot::Sender<Result<()>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Log {
    pub fn open(path: &Path, spec: &LogSpec) -> Result<Log> {
        let store = Store::open(path)?;
        let Content { ranges, bytes } = store.start(spec.partitions)?;
        let state = State {
            ranges,
            bytes,
            committed: None,
            waiting: vec![],
            waiting_bytes: 0,
            at_work: false,
            turn: 0,
            trimmed_at: 0,
        };
        Ok(Log {
            spec: spec.clone(),
            store: RwLock::new(store),
            state: Mutex::new(state),
            grown: Condvar::new(),
        })
    }

    /// Returns when all of them are durable. After an error some may be, and others not.
    pub async fn put(self: &Arc<Self>, records: Vec<Outgoing>, timestamp: Micros) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let begins = {
            let mut state = self.state();
            let bytes = records.iter().map(|it| it.value.len() + it.key.as_ref().map_or(0, Vec::len)).sum();
            if state.waiting_bytes + bytes > WAITING_BYTES_MAX {
                return Err(Error::Unavailable("more waits for the log than may".into()));
            }
            state.turn = (state.turn + 1) % self.spec.partitions;
            let turn = state.turn;
            let records = records.into_iter().map(|it| (self.partition(&it, turn), it)).collect();
            state.waiting_bytes += bytes;
            state.waiting.push(Waiting { records, bytes, timestamp, done });
            !std::mem::replace(&mut state.at_work, true)
        };
        if begins {
            let log = Arc::clone(self);
            tokio::task::spawn_blocking(move || log.work());
        }
        answer.await.map_err(|_| Error::Internal("a commit of a log was never told of".into()))?
    }

    /// A key has one partition for ever.
    fn partition(&self, record: &Outgoing, turn: u32) -> u32 {
        let hashed =
            |key: &Vec<u8>| (xxhash_rust::xxh3::xxh3_64(key) % u64::from(self.spec.partitions)) as u32;
        record.key.as_ref().map_or(turn, hashed)
    }

    /// Commits until nobody waits.
    fn work(&self) {
        // Should a commit panic, those who wait hear that nobody answers, and the next one begins anew.
        let mut leaving = Leaving { log: self, done: false };
        let clock = SystemClock::new();
        loop {
            let begun = clock.elapsed();
            let (group, trim) = {
                let mut state = self.state();
                let group = state.take_group();
                if group.is_empty() {
                    state.at_work = false;
                    leaving.done = true;
                    return;
                }
                let trim = self.trim(&mut state, group[0].timestamp);
                (group, trim)
            };
            let outcome = match self.full(trim.as_ref()) {
                Ok(None) => self.commit(&group, trim.as_ref()),
                Ok(Some(full)) => Ok(Err(full)),
                Err(failed) => Err(failed),
            };
            let outcome = outcome.unwrap_or_else(|failed| Err(self.recover(failed)));
            for waiting in group {
                // Whoever waited may have gone.
                let _ = waiting.done.send(outcome.clone());
            }
            if !self.state().waiting.is_empty() {
                std::thread::sleep((begun + APART).saturating_sub(clock.elapsed()));
            }
        }
    }

    /// The outer error leaves the file in doubt.
    fn commit(&self, group: &[Waiting], trim: Option<&Trim>) -> Result<Result<()>, Failed> {
        // One timestamp for a commit: when its newest records came.
        let timestamp = group.iter().map(|it| it.timestamp).max().unwrap_or_default();
        let mut writers: BTreeMap<u32, block::Writer> = BTreeMap::new();
        for (partition, record) in group.iter().flat_map(|it| &it.records) {
            writers.entry(*partition).or_default().push(timestamp, record);
        }
        let blocks: BTreeMap<u32, (u32, Vec<u8>)> = writers
            .into_iter()
            .map(|(partition, writer)| (partition, (writer.count(), writer.finish())))
            .collect();
        let content = self.store().commit(&blocks, trim)?;
        self.state().is_now(content);
        self.grown.notify_all();
        Ok(Ok(()))
    }

    /// Whether there is no room, after what may go has gone: what the stream has not read is worth more than what comes.
    fn full(&self, trim: Option<&Trim>) -> Result<Option<Error>, Failed> {
        let size_max = self.spec.size_max;
        if self.state().bytes < size_max {
            return Ok(None);
        }
        let content = self.store().commit(&BTreeMap::new(), trim)?;
        let bytes = content.bytes;
        self.state().is_now(content);
        Ok((bytes >= size_max).then(|| {
            Error::Unavailable(format!(
                "the log is full of what its stream has not read. bytes={bytes}, size_max={size_max}"
            ))
        }))
    }

    /// What may go, if it is time to look.
    fn trim(&self, state: &mut State, now: Micros) -> Option<Trim> {
        let below = state.committed.clone()?;
        if now - state.trimmed_at < TRIM_EVERY && state.bytes < self.spec.size_max {
            return None;
        }
        state.trimmed_at = now;
        let retention = Micros::try_from(self.spec.retention.as_micros()).unwrap_or(Micros::MAX);
        Some(Trim {
            before: now.saturating_sub(retention),
            bytes_over: (state.bytes + 1).saturating_sub(self.spec.size_max),
            below,
        })
    }

    /// After a full disk the file says what it holds when it is opened anew, and the next commit tries again. After anything
    /// else it stays closed, and those who read hear of it too.
    fn recover(&self, Failed { error, disk_is_full }: Failed) -> Error {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if !disk_is_full {
            tracing::error!(%error, "a log is closed until the server is started again");
            store.close();
            return error;
        }
        match store.open_again().and_then(|()| store.start(self.spec.partitions)) {
            Ok(content) => {
                drop(store);
                self.state().is_now(content);
                self.grown.notify_all();
            }
            // Closed, until another start; there may be no room to open it.
            Err(again) => tracing::error!(%error, %again, "a log could not be opened again"),
        }
        error
    }

    /// Up to where the stream needs nothing any more.
    pub fn committed(&self, offsets: &[(PartitionId, Offset)]) {
        let mut state = self.state();
        let mut committed = state.committed.take().unwrap_or_else(|| vec![0; state.ranges.len()]);
        for (partition, offset) in offsets {
            if let Some(known) = committed.get_mut(partition.0 as usize) {
                *known = offset.0;
            }
        }
        state.committed = Some(committed);
    }

    /// Lets go at once of what is before the offset, in the only partition of a log.
    pub fn let_go(&self, through: i64) -> Result<()> {
        self.committed(&[(PartitionId(0), Offset(through))]);
        let trim = Trim { before: Micros::MAX, bytes_over: 0, below: vec![through] };
        loop {
            let first = self.range(PartitionId(0))?.start;
            let content = self.store().commit(&BTreeMap::new(), Some(&trim));
            let content = content.map_err(|failed| self.recover(failed))?;
            self.state().is_now(content);
            // A commit takes so many blocks at most.
            let start = self.range(PartitionId(0))?.start;
            if start == first || start >= through {
                return Ok(());
            }
        }
    }

    /// What waits in the only partition of a log, from the offset on.
    pub fn waiting(&self, from: i64, records_max: usize, bytes_max: usize) -> Result<Vec<Parcel>> {
        let (mut parcels, mut bytes) = (vec![], 0);
        self.store().read(0, from, |_, record| {
            bytes += record.value.len();
            parcels.push(Parcel {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.to_vec(),
            });
            parcels.len() < records_max && bytes < bytes_max
        })?;
        Ok(parcels)
    }

    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// When this file was made, which another one in its place was not.
    pub fn made(&self, now: Micros) -> Result<u64> {
        self.store().made(now.unsigned_abs())
    }

    pub fn ranges(&self) -> Vec<Range<i64>> {
        self.state().ranges.clone()
    }

    pub fn range(&self, partition: PartitionId) -> Result<Range<i64>> {
        let range = self.state().ranges.get(partition.0 as usize).cloned();
        range.ok_or_else(|| Error::Internal(format!("a log has no such partition. partition={partition}")))
    }

    /// Waits until one of the partitions has more than it is told with, or the time is over.
    pub fn wait(&self, known: &[(PartitionId, i64)], timeout: Duration) {
        let state = self.state();
        let is_old = |state: &mut State| {
            known.iter().all(|(partition, next)| state.ranges[partition.0 as usize].end <= *next)
        };
        drop(self.grown.wait_timeout_while(state, timeout, is_old));
    }

    pub(super) fn store(&self) -> std::sync::RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_now(&mut self, Content { ranges, bytes }: Content) {
        (self.ranges, self.bytes) = (ranges, bytes);
    }

    fn take_group(&mut self) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = |waiting: &Waiting| {
            bytes += waiting.bytes;
            bytes <= COMMIT_BYTES_MAX
        };
        // One that is larger than that by itself goes alone.
        let count = self.waiting.iter().map(fits).take_while(|fits| *fits).count().max(1);
        let count = count.min(self.waiting.len());
        let group: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= group.iter().map(|it| it.bytes).sum::<usize>();
        group
    }
}

struct Leaving<'a> {
    log: &'a Log,
    done: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.log.state();
            state.at_work = false;
            state.waiting.clear();
            state.waiting_bytes = 0;
        }
    }
}
