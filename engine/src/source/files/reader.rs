//! Reads files one after the other: fetches a chunk ahead, expands it, cuts it into records.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::PARTITION;
use super::expand::Expand;
use super::lines::{LINE_BYTES_MAX, Lines};
use super::location::Place;
use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Offset, PartitionId};
use crate::source::{Assignment, BatchLimit, NO_TIMESTAMP, Polled, RawBatch, Reader, Records, fingerprint};
use crate::{Error, Result};

/// One request to the store; large, for an object store takes tens of milliseconds to begin an answer.
const CHUNK: u64 = 4 << 20;
/// Expanded bytes that are cut into lines at a time.
const EXPANDED: usize = 1 << 20;

pub(super) struct FilesReader {
    place: Arc<Place>,
    with_keys: bool,
    /// The number of the next record, once the partition is assigned.
    next: Option<i64>,
    /// Records to pass over until then.
    skip: u64,
    /// The one behind these, which was read last: it must be there still.
    last_record: Option<RecordFingerprint>,
    ended: bool,
    lines: Lines,
    /// The file being read, and up to where it was asked for.
    file: usize,
    asked: u64,
    on_its_way: Option<Receiver<Result<Bytes>>>,
    /// Of the last chunk, what is not expanded yet.
    chunk: Bytes,
    expand: Option<Expand>,
}

impl FilesReader {
    pub(super) fn new(place: Arc<Place>, with_keys: bool) -> FilesReader {
        FilesReader {
            place,
            with_keys,
            next: None,
            skip: 0,
            last_record: None,
            ended: false,
            lines: Lines::default(),
            file: 0,
            asked: 0,
            on_its_way: None,
            chunk: Bytes::new(),
            expand: None,
        }
    }

    /// Brings more text into `lines`; false if none came until the deadline, or none is left.
    fn more(&mut self, deadline: Instant) -> Result<bool> {
        if self.file == self.place.files.len() {
            return Ok(false);
        }
        if self.chunk.is_empty() {
            match self.receive(deadline)? {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(false),
            }
        }
        if self.expand.is_none() {
            let expand = Expand::of_name(self.name()).map_err(|error| self.damaged(&error))?;
            self.expand = Some(expand);
        }
        let expand = self.expand.as_mut().expect("it was just made");
        let mut input = &self.chunk[..];
        let fed = expand.feed(&mut input, EXPANDED);
        let taken = self.chunk.len() - input.len();
        let whole =
            input.is_empty() && self.asked == self.place.files[self.file].size && self.on_its_way.is_none();
        let fed = if whole { fed.and_then(|()| expand.finish()) } else { fed };
        self.lines.push(expand.output());
        expand.output().clear();
        fed.map_err(|error| self.damaged(&error))?;
        let _ = self.chunk.split_to(taken);
        if whole {
            self.lines.end_file();
            self.expand = None;
            self.file += 1;
            self.asked = 0;
        }
        Ok(true)
    }

    /// The next chunk of the file; another is asked for as soon as one has come.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Bytes>> {
        if self.on_its_way.is_none() {
            self.ask();
        }
        let on_its_way =
            self.on_its_way.as_ref().expect("a file has a chunk that was not asked for, or is whole");
        let left = deadline.saturating_duration_since(now());
        let chunk = match on_its_way.recv_timeout(left) {
            Ok(chunk) => chunk?,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::Internal(format!("reading a file broke off. file={}", self.name())));
            }
        };
        self.on_its_way = None;
        self.ask();
        Ok(Some(chunk))
    }

    fn ask(&mut self) {
        let size = self.place.files[self.file].size;
        if self.asked < size {
            let end = (self.asked + CHUNK).min(size);
            self.on_its_way = Some(self.place.fetch(self.file, self.asked..end));
            self.asked = end;
        }
    }

    fn name(&self) -> &str {
        self.place.files[self.file].location.as_ref()
    }

    fn damaged(&self, error: &io::Error) -> Error {
        Error::BadData(format!(
            "a compressed file is damaged. file={:?}, reason={:?}",
            self.name(),
            error.to_string()
        ))
    }

    fn fill(&mut self, batch: &mut RawBatch, next: i64, limit: BatchLimit) {
        self.lines.take(limit, &mut batch.records);
        let count = batch.records.spans.len();
        let after = next + count as i64;
        self.next = Some(after);
        batch.offsets.extend(next..after);
        batch.timestamps.resize(count, NO_TIMESTAMP);
        if self.with_keys {
            batch.keys.resize(count, None);
        }
        if count > 0 {
            batch.belong_to(PARTITION);
        }
    }

    /// Takes the partition on where it stood.
    pub(super) fn resume(&mut self, assigned: Assignment) -> Result<()> {
        self.add(assigned.partition, assigned.next_offset)?;
        let is_before = |last: &RecordFingerprint| last.offset.0.checked_add(1) == self.next;
        self.last_record = assigned.last_record.filter(is_before);
        self.skip -= u64::from(self.last_record.is_some());
        Ok(())
    }

    /// Whether the record that was read last has been found to be the one that is there (INV-12); false while it has not
    /// come.
    fn recognizes(&mut self) -> Result<bool> {
        let Some(last) = self.last_record else { return Ok(true) };
        let mut found = Records::default();
        self.lines.take(BatchLimit { rows: 1, bytes: usize::MAX }, &mut found);
        if found.spans.is_empty() {
            return Ok(false);
        }
        if fingerprint(last.offset.0, last.timestamp, found.value(0)) != last {
            return Err(Error::BadData(format!(
                "the files hold other records than were read from them before. file={:?}, offset={}; they must stay as they were",
                self.name_of_last(),
                last.offset
            )));
        }
        self.last_record = None;
        Ok(true)
    }

    /// The file that the last line came from, which may have been its last.
    fn name_of_last(&self) -> &str {
        let files = &self.place.files;
        files.get(self.file).or(files.last()).map_or("", |file| file.location.as_ref())
    }
}

impl Reader for FilesReader {
    fn poll(&mut self, batch: &mut RawBatch, limit: BatchLimit, timeout: Duration) -> Result<Polled> {
        let deadline = now() + timeout;
        let Some(next) = self.next.filter(|_| !self.ended) else {
            std::thread::sleep(timeout);
            return Ok(Polled::Nothing);
        };
        loop {
            self.skip -= self.lines.skip(self.skip);
            if self.skip == 0 && self.recognizes()? {
                self.fill(batch, next, limit);
                if !batch.is_empty() {
                    return Ok(Polled::Records { more: true });
                }
            }
            if self.lines.unfinished() > LINE_BYTES_MAX {
                return Err(Error::BadData(format!(
                    "a line is too long to be a record. file={:?}, bytes max={LINE_BYTES_MAX}",
                    self.name()
                )));
            }
            if !self.more(deadline)? {
                break;
            }
        }
        if self.file < self.place.files.len() {
            return Ok(Polled::Nothing);
        }
        let missing = self.skip + u64::from(self.last_record.is_some());
        if missing > 0 {
            let held = next - missing as i64;
            return Err(Error::BadData(format!(
                "the files hold fewer records than were read from them before. wanted offset={next}, records={held}; \
                 they must stay as they were"
            )));
        }
        self.ended = true;
        Ok(Polled::Ended(PARTITION))
    }

    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<()> {
        if partition != PARTITION || offset.0 < 0 || self.next.is_some() {
            return Err(Error::Internal(format!(
                "files are one partition, 0, and assigned once. partition={partition}, offset={offset}"
            )));
        }
        self.next = Some(offset.0);
        self.skip = offset.0 as u64;
        Ok(())
    }

    fn ends(&self) -> Vec<(PartitionId, Offset)> {
        self.next.filter(|_| self.ended).map(|next| (PARTITION, Offset(next))).into_iter().collect()
    }

    fn queued_bytes(&self) -> usize {
        self.chunk.len() + self.on_its_way.as_ref().map_or(0, |_| CHUNK as usize)
    }
}

#[expect(clippy::disallowed_methods, reason = "for how long a poll may block; no record depends on it")]
fn now() -> Instant {
    Instant::now()
}
