//! Tables of a compacted topic: the newest record of each key; a tombstone takes its row away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::row::{RowConverter, SortField};

use super::content::Content;
use super::files::too_large;
use super::keeper::Sources;
use crate::Result;
use crate::ids::{Offset, PartitionId};
use crate::job::{Intake, RefusedRows};
use crate::source::{self, BatchLimit, Polled, RawBatch, Reader, Reading};
use crate::spec::{KafkaSpec, LookupSpec, SourceSpec};

/// What a new content costs is at most one part in so many of the time.
const PACE: u32 = 20;
const POLL: Duration = Duration::from_millis(50);

type RecordKey = Option<Box<[u8]>>;

/// Follows the topic.
pub struct Topic {
    spec: Arc<LookupSpec>,
    reader: Box<dyn Reader>,
    intake: Intake,
    /// Where each partition's end was when it was opened, as long as that has not been read.
    to_read: BTreeMap<PartitionId, Offset>,
    next: BTreeMap<PartitionId, Offset>,
    rows: RecordBatch,
    /// Of each row, where it has one.
    keys: Vec<RecordKey>,
    news: Vec<RecordBatch>,
    /// What came since, in its order: a key, and its row among the rows and then the news, or that it is gone.
    events: Vec<(RecordKey, Option<u32>)>,
    /// Of the next content it is not asked whether it is too large.
    any_size: bool,
    /// When the next content may be made.
    due: Instant,
    /// Records that are no rows of the table, and why the last was not.
    pub refused: u64,
    pub reason: Option<String>,
}

impl Topic {
    pub fn open(spec: &Arc<LookupSpec>, topic: &KafkaSpec, sources: &Sources) -> Result<Topic> {
        let stream = spec.records(SourceSpec::Kafka(topic.clone()));
        let mut discovery = source::open(&stream.source, &sources.secrets, &sources.roots, &sources.logs)?;
        let ranges = discovery.partitions()?;
        let starts: Vec<_> = ranges.iter().map(|range| (range.partition, range.first).into()).collect();
        let reader = discovery.open(&starts, Reading { with_keys: true, queue_bytes: 16 << 20 })?;
        let unread = ranges.iter().filter(|range| range.end > range.first);
        Ok(Topic {
            spec: Arc::clone(spec),
            reader,
            intake: Intake::whole(&stream)?,
            to_read: unread.map(|range| (range.partition, range.end)).collect(),
            next: ranges.iter().map(|range| (range.partition, range.first)).collect(),
            rows: RecordBatch::new_empty(Arc::clone(&spec.schema)),
            keys: vec![],
            news: vec![],
            events: vec![],
            any_size: sources.first_of_any_size,
            due: now(),
            refused: 0,
            reason: None,
        })
    }

    /// Reads for a moment. Gives what the table holds when that has changed, and first when all is read that was there
    /// when it was opened.
    pub fn follow(&mut self, is_first: bool) -> Result<Option<Content>> {
        let limit = BatchLimit { rows: 16 << 10, bytes: 8 << 20 };
        let mut raw = RawBatch::default();
        match self.reader.poll(&mut raw, limit, POLL)? {
            Polled::Records { .. } => {
                for index in 0..raw.len() {
                    self.reached(raw.partition(index), Offset(raw.offsets[index] + 1));
                }
                let mut left = Some(raw);
                while let Some(raw) = left {
                    left = self.take_in(raw)?;
                }
            }
            Polled::AtEnd { partition, next_offset } => self.reached(partition, next_offset),
            Polled::Ended(_) | Polled::Nothing => {}
        }
        let is_due = is_first || (!self.events.is_empty() && now() >= self.due);
        if !self.to_read.is_empty() || !is_due {
            return Ok(None);
        }
        let begun = now();
        let content = self.content()?;
        self.due = now() + begun.elapsed() * PACE;
        Ok(Some(content))
    }

    fn reached(&mut self, partition: PartitionId, next: Offset) {
        let known = self.next.entry(partition).or_insert(next);
        *known = next.max(*known);
        let next = *known;
        if self.to_read.get(&partition).is_some_and(|end| next >= *end) {
            self.to_read.remove(&partition);
        }
    }

    fn take_in(&mut self, mut raw: RawBatch) -> Result<Option<RawBatch>> {
        let mut refused = RefusedRows::default();
        let (accepted, rest) = self.intake.accept(&mut raw, &mut refused)?;
        let is_gone = |index: u32| raw.records.spans[index as usize].is_tombstone();
        let wrong = accepted.rejected.iter().filter(|index| !is_gone(**index)).count() as u64;
        if wrong > 0 {
            self.refused += wrong;
            self.reason = refused.first_reason().map(str::to_owned);
        }
        let first = self.rows.num_rows() + self.news.iter().map(RecordBatch::num_rows).sum::<usize>();
        let mut row = 0;
        for index in 0..raw.len() as u32 {
            let key = raw.keys.get(index as usize).cloned().flatten().map(Vec::into_boxed_slice);
            if accepted.records.get(row) == Some(&index) {
                self.events.push((key, Some((first + row) as u32)));
                row += 1;
            } else if is_gone(index) && key.is_some() {
                self.events.push((key, None));
            }
        }
        let batch = in_order_of(&self.spec, &accepted.batch)?;
        self.news.push(batch);
        Ok(rest)
    }

    /// The newest row of each record's key and, among those, of each primary key. Of the former all are kept: when the
    /// newest goes, the one before it is there again.
    fn content(&mut self) -> Result<Content> {
        let all: Vec<RecordBatch> = std::iter::once(self.rows.clone()).chain(self.news.drain(..)).collect();
        let all = concat_batches(&self.spec.schema, &all)?;
        let before = self.keys.drain(..).enumerate().map(|(row, key)| (key, Some(row as u32)));
        let mut events: Vec<_> = before.collect();
        events.append(&mut self.events);
        let columns: Vec<_> = self.spec.key.iter().map(|column| all.column(*column).clone()).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let primary = RowConverter::new(fields)?.convert_columns(&columns)?;
        let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let (mut kept, mut shown) = (vec![], vec![]);
        for (key, row) in events.into_iter().rev() {
            if let Some(key) = &key
                && !seen.insert(key.clone())
            {
                continue;
            }
            let Some(row) = row else { continue };
            if columns.iter().any(|column| column.is_null(row as usize)) {
                self.refused += 1;
                self.reason = Some("a record has no value for the primary key".into());
                continue;
            }
            let is_newest = taken.insert(primary.row(row as usize));
            shown.push(is_newest);
            if is_newest || key.is_some() {
                kept.push((row, key));
            } else {
                shown.pop();
            }
        }
        kept.reverse();
        shown.reverse();
        let rows: UInt32Array = kept.iter().map(|(row, _)| *row).collect();
        self.rows = crate::view::compact::compacted(take_record_batch(&all, &rows)?)?;
        self.keys = kept.into_iter().map(|(_, key)| key).collect();
        let bytes = self.rows.get_array_memory_size();
        if bytes > self.spec.bytes_max && !std::mem::take(&mut self.any_size) {
            return Err(too_large(&self.spec, bytes));
        }
        let offsets = self.next.iter().map(|(partition, offset)| format!("{partition}:{offset}"));
        let version = format!("offsets {}", offsets.collect::<Vec<_>>().join(" "));
        let shown = filter_record_batch(&self.rows, &shown.into())?;
        Content::new(shown, &self.spec.key, version)
    }
}

/// The decoder gives the record's own columns last.
fn in_order_of(spec: &LookupSpec, batch: &RecordBatch) -> Result<RecordBatch> {
    let places: Vec<usize> = spec
        .schema
        .fields()
        .iter()
        .map(|field| batch.schema_ref().index_of(field.name()))
        .collect::<std::result::Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(&spec.schema), batch.project(&places)?.columns().to_vec())?)
}

#[expect(clippy::disallowed_methods, reason = "how often a table is made anew is no matter of event time")]
fn now() -> Instant {
    Instant::now()
}
