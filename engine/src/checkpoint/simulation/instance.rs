//! One run of a process, reduced to what matters for the protocol: rows 0..N of one partition, windows of a few rows,
//! one view. It drives the real manifest log, state files, Parquet writer and Delta sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::Result;
use crate::checkpoint::manifest::*;
use crate::checkpoint::{
    DataRoot, EpochFile, FileNames, ManifestLog, StateFiles, compacted_part, part_epoch,
};
use crate::ids::{Epoch, Micros, Offset, PartitionId};
use crate::sink::{ClosedRows, DeltaSink, compaction_due, encode_parts, put_parts, write_compacted};
use crate::spec::TIME_COLUMN;
use crate::view::part::Part;

pub(super) const ROWS: i64 = 40;
const WINDOW: i64 = 4;
pub(super) const VIEW: Uuid = Uuid::from_u128(77);

/// A rule of the protocol left out, to see that the checks bite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// No claim before work begins, and names without a nonce of their own.
    NoClaimAndSharedNames,
    /// A roll is called confirmed before Delta was told.
    ConfirmedEarly,
    /// The tail of closed rows is not carried on.
    TailDropped,
    /// A roll is told to Delta before its manifest is committed.
    DeltaBeforeManifest,
}

pub(super) async fn run(root: DataRoot, seed: u64, nonce: Uuid, bug: Bug) -> Result<()> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let nonce = if bug == Bug::NoClaimAndSharedNames { Uuid::nil() } else { nonce };
    let (mut log, found) = ManifestLog::open(root.clone(), nonce, rng.random_range(1..6)).await?;
    let mut manifest = match found {
        Some(found) => Manifest { kind: ManifestKind::Claim, epoch: log.next_epoch(), nonce, ..found },
        None => first(nonce),
    };
    // Now and then another version plans the view otherwise.
    manifest.streams[0].sql = format!("CREATE STREAM s -- {}", rng.random_range(0..3));
    if bug != Bug::NoClaimAndSharedNames || manifest.epoch == Epoch(0) {
        log.commit(manifest.clone()).await?;
    }
    log.orphans().sweep(&root).await?;
    let mut sink = DeltaSink::open(&root, "v", VIEW, &schema()).await?;
    let (mut open, mut tail) = match recover(&root, &manifest).await {
        Ok(recovered) => recovered,
        Err(error) => return log.still_ours().await.and(Err(error)),
    };
    let mut made = 0;
    loop {
        settle(&mut sink, &mut manifest, bug).await?;
        let read_to = (offset(&manifest) + rng.random_range(0..=6)).min(ROWS);
        for row in offset(&manifest)..read_to {
            open.entry(row / WINDOW).or_default().push(row);
        }
        let later = open.split_off(&(read_to / WINDOW));
        tail.extend(std::mem::replace(&mut open, later).into_values().flatten());
        let roll = !tail.is_empty() && (read_to == ROWS || rng.random_bool(0.4));
        let next = epoch(&root, &log, &mut sink, &manifest, (&open, &mut tail), (read_to, roll), bug).await?;
        log.commit(next.clone()).await?;
        log.garbage().delete(&root).await?;
        if rng.random_bool(0.3) && manifest.tables[0].delta.pending.is_empty() {
            made += 1;
            compact(&root, &mut sink, nonce, made).await?;
        }
        manifest = next;
        let told = manifest.tables[0].delta.pending.is_empty();
        if read_to == ROWS && tail.is_empty() && told {
            return Ok(());
        }
    }
}

async fn settle(sink: &mut DeltaSink, manifest: &mut Manifest, bug: Bug) -> Result<()> {
    let delta = &mut Arc::make_mut(&mut manifest.tables[0]).delta;
    for pending in std::mem::take(&mut delta.pending) {
        if bug != Bug::ConfirmedEarly {
            sink.commit(&pending).await?;
        }
        delta.confirmed = Some(pending.txn);
    }
    Ok(())
}

async fn epoch(
    root: &DataRoot,
    log: &ManifestLog,
    sink: &mut DeltaSink,
    before: &Manifest,
    (open, tail): (&BTreeMap<i64, Vec<i64>>, &mut Vec<i64>),
    (read_to, roll): (i64, bool),
    bug: Bug,
) -> Result<Manifest> {
    let mut next =
        Manifest { kind: ManifestKind::Epoch, epoch: log.next_epoch(), nonce: log.nonce(), ..before.clone() };
    let mut names = FileNames::new(VIEW, next.epoch, next.nonce);
    let file = EpochFile::new(root.clone(), next.epoch, next.nonce);
    let table = Arc::make_mut(&mut next.tables[0]);
    if roll {
        let closed = ClosedRows { epoch: next.epoch, rows: rows(tail, true) };
        let parts = encode_parts(&[closed], &mut names)?;
        let files = put_parts(root, "v", parts).await?;
        let previous = table.delta.confirmed;
        let pending = PendingCommit { txn: next.epoch, previous, files, replace: false };
        if bug == Bug::DeltaBeforeManifest {
            sink.commit(&pending).await?;
        }
        table.delta.pending = vec![pending];
        tail.clear();
    } else if bug == Bug::TailDropped {
        tail.clear();
    }
    let panes: Vec<Part> =
        open.iter().map(|(pane, of)| Part::of_one_pane(*pane, 0, rows(of, false))).collect();
    table.runs = RunFile::of(0, [file.add(&panes).await?]).into_iter().collect();
    let labelled = [Part::of_one_pane(0, 0, rows(tail, true))];
    table.tail = vec![file.add(&labelled).await?];
    file.put().await?;
    next.streams[0].partitions[0].next_offset = Offset(read_to);
    Ok(next)
}

/// What the manifest before has on record as told may become fewer files.
async fn compact(root: &DataRoot, sink: &mut DeltaSink, nonce: Uuid, made: u64) -> Result<()> {
    sink.confirmed().await?;
    let history = sink.history()?;
    let Some(due) = compaction_due(&history, 2) else { return Ok(()) };
    let Some(stats) = sink.stats_of(&due.files).await? else { return Ok(()) };
    let epochs = due.files.iter().filter_map(|file| part_epoch(file.path.filename()?));
    let path = compacted_part(VIEW, epochs.max().unwrap_or_default(), nonce, made, due.date);
    if let Some(file) = write_compacted(root, "v", &due, &stats, path).await? {
        sink.swap(&due.files, Some(&file)).await?;
    }
    Ok(())
}

async fn recover(root: &DataRoot, manifest: &Manifest) -> Result<(BTreeMap<i64, Vec<i64>>, Vec<i64>)> {
    let (mut open, mut tail) = (BTreeMap::new(), Vec::new());
    let files = StateFiles::of(root, manifest);
    for run in &manifest.tables[0].runs {
        for part in files.read(&run.file).await? {
            open.extend(part.by_pane().map(|(pane, rows)| (pane, numbers(&rows))));
        }
    }
    for file in &manifest.tables[0].tail {
        for part in files.read(file).await? {
            tail.extend(numbers(&part.batch));
        }
    }
    Ok((open, tail))
}

/// All rows that a manifest stands for, apart from those that Delta has.
pub(super) async fn rows_of(root: &DataRoot, manifest: &Manifest) -> Result<Vec<i64>> {
    let (open, tail) = recover(root, manifest).await?;
    Ok(open.into_values().flatten().chain(tail).collect())
}

pub(super) fn offset(manifest: &Manifest) -> i64 {
    manifest.streams[0].partitions[0].next_offset.0
}

pub(super) fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn schema() -> Schema {
    Schema::new(vec![Field::new("n", DataType::Int64, true)])
}

fn rows(of: &[i64], with_time: bool) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(of.to_vec()));
    if !with_time {
        return RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    }
    // Eight rows a day, so that a roll has several files.
    let hours: Vec<Micros> = of.iter().map(|row| row * 3 * 3_600_000_000).collect();
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(hours).with_timezone("UTC"));
    RecordBatch::try_from_iter([("n", numbers), (TIME_COLUMN, times)]).unwrap()
}

fn first(nonce: Uuid) -> Manifest {
    let partition = PartitionState {
        partition: PartitionId(0),
        next_offset: Offset(0),
        event_time_max: None,
        floor: None,
        idle: false,
        ended: false,
        last_record: None,
    };
    let stream = StreamState {
        id: Uuid::from_u128(1),
        name: "s".to_string(),
        sql: String::new(),
        topic_id: None,
        frontier: None,
        partitions: vec![partition],
        records: 0,
        rejected: 0,
    };
    let table = TableState {
        id: VIEW,
        name: "v".to_string(),
        kind: TableKind::LateRows,
        runs: Vec::new(),
        tail: Vec::new(),
        tail_since: None,
        delta: DeltaState::default(),
        failure: None,
    };
    Manifest { streams: vec![stream], tables: vec![Arc::new(table)], ..Manifest::empty(nonce) }
}
