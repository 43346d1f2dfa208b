//! The Delta sink on a store in memory and on a local folder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder,
    StringViewBuilder, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::{
    ClosedRows, DeltaSink, HistoryFiles, OpenedFiles, compaction_due, encode_parts, put_parts,
    write_compacted,
};
use crate::ErrorKind;
use crate::checkpoint::manifest::PendingCommit;
use crate::checkpoint::{DataRoot, Failpoints, FileNames, Step, compacted_part};
use crate::ids::Epoch;
use crate::spec::TIME_COLUMN;

const NOON: i64 = 1_748_779_200_000_000;

fn in_memory() -> DataRoot {
    DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap())
}

#[expect(clippy::disallowed_methods, reason = "files are as old as the clock of the store says")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn view(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new(
            "window_start",
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        Field::new("events", DataType::UInt64, false),
        Field::new("country", DataType::Utf8, true),
    ])
}

fn rows(n: u64) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values((0..n as i64).map(|i| NOON + i * 60_000_000));
    let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
    let events: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..n));
    let countries: ArrayRef =
        Arc::new(StringArray::from_iter((0..n).map(|i| (i % 3 > 0).then(|| format!("c{i}")))));
    RecordBatch::try_from_iter_with_nullable([
        ("window_start", Arc::clone(&times), false),
        ("events", events, false),
        ("country", countries, true),
        (TIME_COLUMN, times, false),
    ])
    .unwrap()
}

fn closed(rows: RecordBatch) -> ClosedRows {
    ClosedRows { epoch: Epoch(1), rows }
}

async fn pending(root: &DataRoot, id: Uuid, txn: u64, previous: Option<u64>, n: u64) -> PendingCommit {
    let mut names = FileNames::new(id, Epoch(txn), view(9));
    let files = put_parts(root, "v", encode_parts(&[closed(rows(n))], &mut names).unwrap()).await.unwrap();
    PendingCommit { txn: Epoch(txn), previous: previous.map(Epoch), files, replace: false }
}

fn rows_in(sink: &DeltaSink) -> Vec<u64> {
    let mut rows: Vec<u64> = sink.history().unwrap().files.iter().map(|file| file.rows).collect();
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn a_commit_told_twice_is_there_once() {
    let failpoints = Failpoints::counting();
    let root = in_memory().with_failpoints(failpoints.clone());
    let mut sink = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    assert_eq!(sink.confirmed().await.unwrap(), None);
    let first = pending(&root, view(1), 3, None, 10).await;
    sink.commit(&first).await.unwrap();
    sink.commit(&first).await.unwrap();
    let second = pending(&root, view(1), 8, Some(3), 5).await;
    let mut later = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    later.commit(&first).await.unwrap();
    later.commit(&second).await.unwrap();
    sink.commit(&second).await.unwrap();
    for sink in [&mut sink, &mut later] {
        assert_eq!(rows_in(sink), [5, 10]);
        assert_eq!(sink.confirmed().await.unwrap(), Some(Epoch(8)));
    }
    let files = sink.history().unwrap();
    for file in files.files.iter() {
        let found = object_store::ObjectStoreExt::head(files.store.as_ref(), &file.path).await.unwrap();
        assert_eq!((found.size, file.date.to_string().as_str()), (file.bytes, "2025-06-01"));
    }
    let hits: BTreeMap<_, _> = failpoints.hits().into_iter().collect();
    assert_eq!(
        (hits[&Step::DeltaTableCreated], hits[&Step::DeltaCommitted], hits[&Step::DeltaConfirmed]),
        (1, 2, 5)
    );
}

#[tokio::test]
async fn a_commit_that_no_manifest_of_ours_knows_fences() {
    let root = in_memory();
    let mut ours = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    let mut theirs = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    theirs.commit(&pending(&root, view(1), 2, None, 1).await).await.unwrap();
    let error = ours.commit(&pending(&root, view(1), 4, None, 1).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("table=\"v\", txn=2, expected=none"), "{error}");
    assert_eq!(rows_in(&ours), [1]);
}

#[tokio::test]
async fn a_name_created_again_replaces_the_former_rows_in_one_commit() {
    let root = in_memory();
    let mut old = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    old.commit(&pending(&root, view(1), 2, None, 7).await).await.unwrap();
    let narrow = schema().project(&[0, 1]).unwrap();
    let mut new = DeltaSink::open(&root, "v", view(2), &narrow).await.unwrap();
    assert!(new.needs_replace().unwrap());
    assert!(rows_in(&new).is_empty(), "the rows of the dropped view are not the new one's");
    let mut names = FileNames::new(view(2), Epoch(5), view(9));
    let parts = encode_parts(&[closed(rows(4).project(&[0, 1, 3]).unwrap())], &mut names).unwrap();
    let files = put_parts(&root, "v", parts).await.unwrap();
    let mut replacing = PendingCommit { txn: Epoch(5), previous: None, files, replace: false };
    assert_eq!(new.commit(&replacing).await.unwrap_err().kind(), ErrorKind::Invalid);
    replacing.replace = true;
    new.commit(&replacing).await.unwrap();
    assert_eq!(rows_in(&new), [4]);
    assert!(!new.needs_replace().unwrap());
    let again = DeltaSink::open(&root, "v", view(2), &narrow).await.unwrap();
    assert_eq!(rows_in(&again), [4]);
}

#[tokio::test]
async fn a_local_table_is_read_back_through_a_checkpoint_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let root = DataRoot::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
    let mut sink = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    for txn in 1..=103 {
        let previous = (txn > 1).then(|| txn - 1);
        sink.commit(&pending(&root, view(1), txn, previous, 1).await).await.unwrap();
    }
    let log = folder.path().join("tables/v/_delta_log");
    assert!(log.join("_last_checkpoint").exists(), "no checkpoint after a hundred commits");
    let mut again = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    assert_eq!(again.confirmed().await.unwrap(), Some(Epoch(103)));
    assert_eq!(rows_in(&again), vec![1; 103]);
    again.commit(&pending(&root, view(1), 104, Some(103), 2).await).await.unwrap();
    assert_eq!(rows_in(&again).len(), 104);
}

#[tokio::test]
async fn a_table_with_rare_checkpoints_gets_more_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut root = DataRoot::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
    let each = std::mem::replace(&mut root.lake_log.versions_a_checkpoint, 100);
    let checkpoint = folder.path().join("tables/v/_delta_log/_last_checkpoint");
    for txn in 1..=20 {
        if txn == 12 {
            assert!(!checkpoint.exists(), "the table was to have few");
            root.lake_log.versions_a_checkpoint = each;
        }
        let mut sink = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
        let previous = (txn > 1).then(|| txn - 1);
        sink.commit(&pending(&root, view(1), txn, previous, 1).await).await.unwrap();
    }
    assert!(checkpoint.exists(), "no checkpoint after eight more commits");
    let again = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    assert_eq!(rows_in(&again), vec![1; 20]);
}

#[tokio::test]
async fn a_checkpoint_names_what_was_replaced_for_as_long_as_the_table_says() {
    for (checkpoints, named) in [(Duration::from_secs(3600), 4), (Duration::ZERO, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let mut root = DataRoot::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
        root.lake_log.checkpoints = checkpoints;
        let mut sink = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
        for txn in 1..=12 {
            let previous = (txn > 1).then(|| txn - 1);
            sink.commit(&pending(&root, view(1), txn, previous, 1).await).await.unwrap();
            if txn == 4 {
                let due = compaction_due(&sink.history().unwrap(), 4).unwrap();
                let stats = sink.stats_of(&due.files).await.unwrap().unwrap();
                let path = compacted_part(view(1), Epoch(4), view(9), 1, due.date);
                let file = write_compacted(&root, "v", &due, &stats, path).await.unwrap().unwrap();
                assert!(sink.swap(&due.files, Some(&file)).await.unwrap());
            }
        }
        let log = folder.path().join("tables/v/_delta_log");
        let file = std::fs::File::open(log.join("00000000000000000009.checkpoint.parquet")).unwrap();
        let rows = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let removed = rows.map(|rows| {
            let removed = Arc::clone(rows.unwrap().column_by_name("remove").unwrap());
            removed.len() - removed.null_count()
        });
        assert_eq!(removed.sum::<usize>(), named);
        assert_eq!(rows_in(&sink).iter().sum::<u64>(), 12);
        assert_eq!(
            sink.vacuum(Duration::from_secs(3600), now(), &sink.history().unwrap()).await.unwrap(),
            0,
            "a file stays by its age"
        );
    }
}

/// Whoever was told the rows of an epoch finds those after it at the end of the one file; a version before it still reads.
#[tokio::test]
async fn files_become_one_that_holds_the_same_rows_in_the_same_order() {
    let root = in_memory();
    let mut sink = DeltaSink::open(&root, "v", view(1), &schema()).await.unwrap();
    for txn in 1..=4 {
        let mut names = FileNames::new(view(1), Epoch(txn), view(9));
        let closed = ClosedRows { epoch: Epoch(txn), rows: rows(txn + 1) };
        let files = put_parts(&root, "v", encode_parts(&[closed], &mut names).unwrap()).await.unwrap();
        let previous = (txn > 1).then(|| Epoch(txn - 1));
        sink.commit(&PendingCommit { txn: Epoch(txn), previous, files, replace: false }).await.unwrap();
    }
    let before = sink.history().unwrap();
    let due = compaction_due(&before, 4).unwrap();
    assert_eq!(due.files.len(), 4);
    let stats = sink.stats_of(&due.files).await.unwrap().unwrap();
    let path = compacted_part(view(1), Epoch(4), view(9), 1, due.date);
    let file = write_compacted(&root, "v", &due, &stats, path).await.unwrap().unwrap();
    assert!(sink.swap(&due.files, Some(&file)).await.unwrap());
    assert!(!sink.swap(&due.files, Some(&file)).await.unwrap(), "they are not there any more");
    let after = sink.history().unwrap();
    let [one] = after.files.as_slice() else { panic!("{after:?}") };
    assert_eq!(one.rows, 2 + 3 + 4 + 5);
    let read = |batches: Vec<RecordBatch>| -> Vec<String> {
        let events = batches.iter().flat_map(|batch| {
            let column = arrow::compute::cast(batch.column(1), &DataType::Utf8).unwrap();
            column.as_string::<i32>().iter().map(|event| event.unwrap().to_owned()).collect::<Vec<_>>()
        });
        events.collect()
    };
    let found = read(after.read(one).await.unwrap());
    assert_eq!(found.len(), 14);
    let told = after
        .open(one, Some(Epoch(2)), &OpenedFiles::default())
        .await
        .unwrap()
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    assert_eq!(read(told), found[5..], "what closed after the second epoch");
    assert_eq!((one.instants[0].least, one.instants[0].most), (NOON, NOON + 4 * 60_000_000));
    // Delta goes on behind it, and knows its commits.
    assert_eq!(sink.confirmed().await.unwrap(), Some(Epoch(4)));
    sink.commit(&pending(&root, view(1), 7, Some(4), 1).await).await.unwrap();
    assert_eq!(rows_in(&sink), [1, 14]);
    // What is kept no longer leaves in the same way.
    let known = sink.history().unwrap();
    assert_eq!(sink.others(&known).unwrap().map(|others| others.files.len()), None);
    assert!(sink.swap(std::slice::from_ref(one), None).await.unwrap());
    assert_eq!(rows_in(&sink), [1]);
    assert_eq!(sink.others(&known).unwrap().map(|others| others.files.len()), Some(1));
    let nothing = HistoryFiles { files: Arc::default(), ..known.clone() };
    assert_eq!(sink.vacuum(Duration::ZERO, now(), &known).await.unwrap(), 4, "but for what is read");
    assert_eq!(sink.vacuum(Duration::ZERO, now(), &nothing).await.unwrap(), 1, "the one of them");
    let objects = root.objects().list(None).count().await;
    assert_eq!(sink.vacuum(Duration::ZERO, now(), &nothing).await.unwrap(), 0, "they have gone");
    assert_eq!(root.objects().list(None).count().await, objects, "what did nothing has no version");
    assert_eq!(rows_in(&sink), [1]);
}

/// Types that need more than a plain column, in a new table and in one that held something simpler.
#[tokio::test]
async fn local_timestamps_lists_and_maps_are_stored() {
    let root = in_memory();
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![NOON]).with_timezone("UTC"));
    let local: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![NOON]));
    let mut list = ListBuilder::new(StringViewBuilder::new());
    list.values().append_value("x");
    list.append(true);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).unwrap();
    let (list, map): (ArrayRef, ArrayRef) = (Arc::new(list.finish()), Arc::new(map.finish()));
    let batch = [("local", local), ("list", list), ("map", map), (TIME_COLUMN, at)];
    let batch = RecordBatch::try_from_iter(batch).unwrap();
    let schema = batch.schema().project(&[0, 1, 2]).unwrap();
    let mut simpler = DeltaSink::open(&root, "replaced", view(1), &self::schema()).await.unwrap();
    simpler.commit(&pending(&root, view(1), 1, None, 3).await).await.unwrap();
    for (table, replace) in [("a new view", false), ("replaced", true)] {
        let mut sink = DeltaSink::open(&root, table, view(2), &schema).await.unwrap();
        let mut names = FileNames::new(view(2), Epoch(2), view(9));
        let parts = encode_parts(&[closed(batch.clone())], &mut names).unwrap();
        let files = put_parts(&root, table, parts).await.unwrap();
        sink.commit(&PendingCommit { txn: Epoch(2), previous: None, files, replace }).await.unwrap();
        let mut again = DeltaSink::open(&root, table, view(2), &schema).await.unwrap();
        assert_eq!(rows_in(&again), [1]);
        let more =
            PendingCommit { txn: Epoch(3), previous: Some(Epoch(2)), files: Vec::new(), replace: false };
        again.commit(&more).await.unwrap();
    }
}
