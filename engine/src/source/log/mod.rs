//! A log of the server's own: records that were brought over HTTP, in partitions with offsets, durable on the local disk
//! before anybody is told so. What Kafka is for many machines this is for one.
//!
//! Owns: where logs lie, that each is open once, and the source over one. A log is its stream's: it comes with `CREATE
//! STREAM` and goes with `DROP STREAM`.
//!
//! ```text
//!  put ─► queue (whoever comes first commits for all who wait) ─► store (one file, one commit, one sync) ─► reader
//! ```

mod block;
mod queue;
mod reader;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use uuid::Uuid;

use super::{Assignment, Discovery, PartitionRange, Reader, Reading};
use crate::ids::{Offset, PartitionId};
use crate::spec::{LogSpec, Start};
use crate::{Error, Result};
pub(crate) use queue::Log;
use reader::LogReader;

const SUFFIX: &str = "redb";

/// The logs of one server: where they lie, and those that are open.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    folder: Option<PathBuf>,
    open: Arc<Mutex<BTreeMap<Uuid, Weak<Log>>>>,
    spools: Option<Spools>,
}

/// Where what Kafka does not take waits for it, a file for each stream.
#[derive(Debug, Clone)]
pub struct Spools {
    pub folder: PathBuf,
    /// Of each.
    pub bytes_max: u64,
}

impl Logs {
    /// Without a folder there is no place for a log, and a stream that wants one is refused.
    pub fn below(folder: Option<PathBuf>) -> Logs {
        Logs { folder, ..Logs::default() }
    }

    pub fn with_spools(self, spools: Option<Spools>) -> Logs {
        Logs { spools, ..self }
    }

    /// The spool of a stream over Kafka, made where there is none; `None` where there is no place for it.
    pub(crate) fn spool(&self, stream: Uuid) -> Result<Option<Log>> {
        let Some(Spools { folder, bytes_max }) = &self.spools else { return Ok(None) };
        // What was sent on is let go of at once.
        let spec = LogSpec { stream, partitions: 1, retention: Duration::ZERO, size_max: *bytes_max };
        Log::open(&file(folder, stream), &spec).map(Some)
    }

    /// Whether something may wait in it.
    pub(crate) fn has_spool(&self, stream: Uuid) -> bool {
        self.spools.as_ref().is_some_and(|spools| file(&spools.folder, stream).exists())
    }

    /// The stream's log, made where there is none.
    pub(crate) fn open(&self, spec: &LogSpec) -> Result<Arc<Log>> {
        let Some(folder) = &self.folder else {
            return Err(Error::Invalid(
                "a log is kept on a local disk, and the data of this server is not: give it a folder as --data, or read from Kafka"
                    .into(),
            ));
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = open.get(&spec.stream).and_then(Weak::upgrade) {
            return Ok(log);
        }
        let log = Arc::new(Log::open(&file(folder, spec.stream), spec)?);
        open.retain(|_, log| log.strong_count() > 0);
        open.insert(spec.stream, Arc::downgrade(&log));
        Ok(log)
    }

    /// Of a stream that has been dropped.
    pub(crate) fn forget(&self, stream: Uuid) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
        self.folders().for_each(|folder| remove(&file(folder, stream)));
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.folder.iter().chain(self.spools.iter().map(|spools| &spools.folder))
    }

    /// Deletes what a crash between a `DROP STREAM` and its end has left.
    pub(crate) fn keep_only(&self, streams: &[Uuid]) {
        let found = self.folders().filter_map(|folder| std::fs::read_dir(folder).ok());
        for path in found.flat_map(|entries| entries.flatten()).map(|entry| entry.path()) {
            let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let is_log = path.extension().is_some_and(|suffix| suffix == SUFFIX);
            if is_log && name.is_some_and(|stream: Uuid| !streams.contains(&stream)) {
                remove(&path);
            }
        }
    }
}

fn file(folder: &Path, stream: Uuid) -> PathBuf {
    folder.join(format!("{stream}.{SUFFIX}"))
}

/// What stays is found again at the next start.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "the log of a dropped stream could not be deleted");
        }
        _ => {}
    }
}

pub(super) struct LogSource {
    log: Arc<Log>,
}

impl LogSource {
    pub(super) fn new(log: Arc<Log>) -> LogSource {
        LogSource { log }
    }
}

impl Discovery for LogSource {
    fn partitions(&mut self) -> Result<Vec<PartitionRange>> {
        let range = |(partition, range): (usize, std::ops::Range<i64>)| PartitionRange {
            partition: PartitionId(partition as i32),
            first: Offset(range.start),
            end: Offset(range.end),
        };
        Ok(self.log.ranges().into_iter().enumerate().map(range).collect())
    }

    /// A stream and its log begin together, so there is nothing before the stream's own beginning.
    fn resolve(&mut self, partition: PartitionId, start: Start) -> Result<Offset> {
        let range = self.log.range(partition)?;
        match start {
            Start::Earliest => Ok(Offset(range.start)),
            Start::Latest => Ok(Offset(range.end)),
            Start::Timestamp(_) => Err(Error::Invalid("a log is read from its beginning".into())),
        }
    }

    fn open(&mut self, assignment: &[Assignment], reading: Reading) -> Result<Box<dyn Reader>> {
        let mut reader = LogReader::new(Arc::clone(&self.log), reading.with_keys);
        for assigned in assignment {
            reader.assign(*assigned)?;
        }
        Ok(Box::new(reader))
    }

    /// What is committed need not be kept for this stream's sake any more.
    fn publish(&mut self, offsets: &[(PartitionId, Offset)]) {
        self.log.committed(offsets);
    }
}
