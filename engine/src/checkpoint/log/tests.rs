//! Manifests on a store in memory: found, fenced, retired, refused, and read by way of their chain.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;
use crate::ErrorKind;
use crate::checkpoint::manifest::*;
use crate::checkpoint::{FileNames, read_batches, write_batches};
use crate::ids::{Micros, Offset, PartitionId};
use crate::view::part::Part;

const US: Uuid = Uuid::from_u128(1);
const THEM: Uuid = Uuid::from_u128(2);

fn root() -> DataRoot {
    DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap())
}

fn manifest(epoch: u64, nonce: Uuid, tail: Vec<StateFile>) -> Manifest {
    let table = TableState {
        id: Uuid::from_u128(7),
        name: "v".to_string(),
        kind: TableKind::RejectedRecords,
        runs: Vec::new(),
        tail,
        tail_since: None,
        delta: DeltaState::default(),
        failure: None,
    };
    Manifest {
        epoch: Epoch(epoch),
        kind: ManifestKind::Epoch,
        tables: vec![Arc::new(table)],
        ..Manifest::empty(nonce)
    }
}

async fn state(root: &DataRoot, epoch: u64) -> StateFile {
    let path = FileNames::new(Uuid::from_u128(7), Epoch(epoch), US).state();
    write_batches(root, path, &[] as &[Part]).await.unwrap()
}

async fn opened(root: &DataRoot, nonce: Uuid) -> (ManifestLog, Option<Manifest>) {
    ManifestLog::open(root.clone(), nonce, 2).await.unwrap()
}

#[tokio::test]
async fn the_newest_manifest_is_found_and_a_taken_number_fences() {
    let root = root();
    let (mut ours, none) = opened(&root, US).await;
    assert_eq!(none, None);
    ours.commit(manifest(0, US, vec![])).await.unwrap();
    let (mut theirs, found) = opened(&root, THEM).await;
    assert_eq!(found, Some(manifest(0, US, vec![])));
    theirs.commit(manifest(1, THEM, vec![])).await.unwrap();
    assert_eq!(ours.still_ours().await.unwrap_err().kind(), ErrorKind::Fenced);
    let error = ours.commit(manifest(1, US, vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains(&THEM.to_string()), "{error}");
    theirs.still_ours().await.unwrap();
}

#[tokio::test]
async fn a_number_that_was_retired_fences_too() {
    let root = root();
    let (mut zombie, _) = opened(&root, US).await;
    let (mut theirs, _) = opened(&root, THEM).await;
    for epoch in 0..5 {
        theirs.commit(manifest(epoch, THEM, vec![])).await.unwrap();
    }
    theirs.garbage().delete(&root).await.unwrap();
    let error = zombie.commit(manifest(0, US, vec![])).await.unwrap_err();
    assert!(error.to_string().contains("epoch=0, newest epoch=4"), "{error}");
    assert_eq!(opened(&root, US).await.1, Some(manifest(4, THEM, vec![])));
}

#[tokio::test]
async fn the_same_nonce_with_another_content_is_no_success() {
    let root = root();
    let (mut log, _) = opened(&root, US).await;
    let (mut again, _) = opened(&root, US).await;
    log.commit(manifest(0, US, vec![])).await.unwrap();
    let differs = Manifest { committed_at: 1, ..manifest(0, US, vec![]) };
    assert_eq!(again.commit(differs).await.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn what_no_manifest_names_any_more_goes_and_its_manifests_do() {
    let root = root();
    let (mut log, _) = opened(&root, US).await;
    let (old, carried, orphan) = (state(&root, 0).await, state(&root, 1).await, state(&root, 2).await);
    let ahead = state(&root, 9).await;
    log.commit(manifest(0, US, vec![old.clone()])).await.unwrap();
    log.commit(manifest(1, US, vec![old.clone(), carried.clone()])).await.unwrap();
    assert!(log.garbage().is_empty());
    for epoch in 2..5 {
        log.commit(manifest(epoch, US, vec![carried.clone()])).await.unwrap();
        log.garbage().delete(&root).await.unwrap();
    }
    assert_eq!(read_batches(&root, &old).await.unwrap_err().kind(), ErrorKind::BadData);
    read_batches(&root, &carried).await.unwrap();
    read_batches(&root, &orphan).await.unwrap();
    // The fourth begins a chain of its own; the two newest stay in any case.
    assert_eq!(epochs(&root, None).await.unwrap(), [3, 4].map(Epoch));
    assert_eq!(opened(&root, US).await.1, Some(manifest(4, US, vec![carried.clone()])));
    assert_eq!(log.orphans().sweep(&root).await.unwrap(), 1);
    read_batches(&root, &orphan).await.unwrap_err();
    read_batches(&root, &carried).await.unwrap();
    read_batches(&root, &ahead).await.unwrap();
}

/// With a text, and in several states.
fn view(runs: Vec<StateFile>, closed_through: Micros) -> Arc<TableState> {
    let of_view = manifest(0, US, vec![]).tables[0].as_ref().clone();
    Arc::new(TableState {
        runs: runs.into_iter().filter_map(|file| RunFile::of(0, [file])).collect(),
        kind: TableKind::View {
            sql: "CREATE MATERIALIZED VIEW v".to_string(),
            inputs: vec!["s".to_string()],
            fingerprint: "f".to_string(),
            born_after: None,
            closed_through: Some(closed_through),
            left: None,
            late: 0,
            failed: 0,
        },
        ..of_view
    })
}

#[tokio::test]
async fn a_chain_of_changes_is_the_manifest_at_its_end() {
    let root = root();
    let (mut log, _) = ManifestLog::open(root.clone(), US, 100).await.unwrap();
    let stream = |offset: i64| StreamState {
        id: Uuid::from_u128(9),
        name: "s".to_string(),
        sql: "CREATE STREAM s".to_string(),
        topic_id: None,
        frontier: Some(offset),
        partitions: (0..2)
            .map(|partition| PartitionState {
                partition: PartitionId(partition),
                next_offset: Offset(offset * i64::from(partition)),
                event_time_max: None,
                floor: None,
                idle: false,
                ended: false,
                last_record: None,
            })
            .collect(),
        records: 0,
        rejected: 0,
    };
    let (mut files, mut last) = (vec![], None);
    for epoch in 0..40 {
        files.push(state(&root, epoch).await);
        // Now and then all that is open closes, and in some epochs nothing comes.
        if epoch % 9 == 0 {
            files.clear();
        }
        let came = epoch % 4 > 0;
        let table = match (&last, came) {
            (Some(Manifest { tables, .. }), false) => Arc::clone(&tables[0]),
            _ => view(files.clone(), epoch as Micros),
        };
        let next = Manifest {
            streams: if epoch == 7 { vec![] } else { vec![stream(epoch as i64 / 3)] },
            tables: vec![table],
            ..manifest(epoch, US, vec![])
        };
        log.commit(next.clone()).await.unwrap();
        log.garbage().delete(&root).await.unwrap();
        assert_eq!(opened(&root, US).await.1.as_ref(), Some(&next), "epoch {epoch}");
        last = Some(next);
    }
    let sizes: Vec<usize> = {
        let read = epochs(&root, None)
            .await
            .unwrap()
            .into_iter()
            .map(async |epoch| root.get(&names::manifest(epoch)).await.unwrap().len());
        futures::future::join_all(read).await
    };
    assert!(sizes.iter().all(|size| *size < 2500), "{sizes:?}");
    let texts = root.objects().list(Some(&Path::from("catalog"))).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[tokio::test]
async fn a_chain_with_a_link_missing_is_refused_by_name() {
    let root = root();
    let (mut log, _) = ManifestLog::open(root.clone(), US, 100).await.unwrap();
    for epoch in 0..5 {
        log.commit(manifest(epoch, US, vec![])).await.unwrap();
    }
    root.objects().delete(&Path::from(names::manifest(Epoch(2)))).await.unwrap();
    let error = ManifestLog::open(root.clone(), US, 100).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("manifests/00000000000000000002.json"), "{error}");
}

#[tokio::test]
async fn what_this_version_cannot_read_is_refused_by_name() {
    let root = root();
    let good = text(&manifest(3, US, vec![]));
    let check = async |text: String, part: &str| {
        root.put("manifests/00000000000000000003.json", Bytes::from(text)).await.unwrap();
        let error = ManifestLog::open(root.clone(), US, 2).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadData);
        assert!(error.to_string().contains("manifests/00000000000000000003.json"), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    let (now, next) = (FORMAT, FORMAT + 1);
    let newer = good.replace(&format!("\"format\":{now}"), &format!("\"format\":{next}"));
    check(newer, &format!("its format is {next}, this version reads 1 to {now}")).await;
    let sealed = String::from_utf8(sealed(good.as_bytes())).unwrap();
    check(sealed.replace("\"epoch\":3", "\"epoch\":4"), "its hash is another").await;
    check(good.replace("\"ledger\"", "\"unheard\":1,\"ledger\""), "unheard").await;
    check(good.replace("\"epoch\":3", "\"epoch\":4"), "epoch 4").await;
    check(good[..good.len() / 2].to_string(), "EOF").await;
}

fn text(manifest: &Manifest) -> String {
    serde_json::to_string(&Written::whole(manifest)).unwrap()
}

fn of_text(text: &str) -> Manifest {
    let mut read = Manifest::empty(US);
    serde_json::from_str::<Written>(text).unwrap().apply(&mut read).unwrap();
    read.check().unwrap();
    read
}

#[test]
fn older_formats_lack_what_came_later() {
    let written = manifest(3, US, vec![]);
    let text = text(&written);
    for (format, lacking) in [(3, "\"lookups\":[],"), (2, "\"endpoints\":[],")] {
        let text = text.replace("\"format\":7", &format!("\"format\":{format}"));
        assert!(text.contains(lacking));
        assert_eq!(of_text(&text.replace(lacking, "")), written);
    }
}

#[test]
fn pending_commits_must_be_a_chain() {
    let pending = |txn, previous: Option<u64>| PendingCommit {
        txn: Epoch(txn),
        previous: previous.map(Epoch),
        files: Vec::new(),
        replace: false,
    };
    let check = |chain: Vec<PendingCommit>, right: bool| {
        let mut table = manifest(9, US, vec![]).tables[0].as_ref().clone();
        table.delta = DeltaState { confirmed: Some(Epoch(2)), pending: chain };
        assert_eq!(table.check(Epoch(9)).is_ok(), right, "{table:?}");
    };
    check(vec![pending(4, Some(2)), pending(9, Some(4))], true);
    check(vec![pending(4, None)], false);
    check(vec![pending(4, Some(2)), pending(6, Some(2))], false);
    check(vec![pending(2, Some(2))], false);
    check(vec![pending(10, Some(2))], false);
}

#[cfg(unix)]
#[tokio::test]
async fn a_manifest_that_is_a_link_to_nowhere_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = DataRoot::open(folder.path().to_str().unwrap(), &Default::default()).unwrap();
    let (mut log, _) = ManifestLog::open(root.clone(), US, 2).await.unwrap();
    log.commit(manifest(0, US, vec![])).await.unwrap();
    let path = folder.path().join("manifests/00000000000000000000.json");
    std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("lost"), &path).unwrap();
    let error = ManifestLog::open(root, US, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("00000000000000000000.json"), "{error}");
}

/// Of which nothing changes afterwards.
#[tokio::test]
async fn files_without_a_manifest_are_not_written_over() {
    let root = root();
    let (mut log, _) = opened(&root, US).await;
    let named = state(&root, 0).await;
    log.commit(manifest(0, US, vec![named])).await.unwrap();
    opened(&root, US).await;
    root.objects().delete(&names::manifest(Epoch(0)).into()).await.unwrap();
    let error = ManifestLog::open(root.clone(), US, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadData);
    assert!(error.to_string().contains("bring manifests/ back, or move state/ and tables/ away"), "{error}");
}

#[tokio::test]
async fn a_manifest_without_a_catalog_gets_one_with_all_texts() {
    let root = root();
    let old = Manifest { tables: vec![view(vec![], 5)], ..manifest(3, US, vec![]) };
    let TableKind::View { sql, fingerprint, .. } = &old.tables[0].kind else { panic!() };
    let inline =
        format!("\"view\":{{\"sql\":\"{sql}\",\"inputs\":[\"s\"],\"fingerprint\":\"{fingerprint}\",");
    let written = text(&old).replace("\"format\":7", "\"format\":5").replace("\"view\":{", &inline);
    root.put(&names::manifest(Epoch(3)), Bytes::from(written)).await.unwrap();
    let (mut log, found) = opened(&root, THEM).await;
    assert_eq!(found.as_ref(), Some(&old));
    let claim = Manifest { epoch: Epoch(4), nonce: THEM, kind: ManifestKind::Claim, ..old };
    log.commit(claim.clone()).await.unwrap();
    log.commit(Manifest { epoch: Epoch(5), kind: ManifestKind::Epoch, ..claim.clone() }).await.unwrap();
    let found = opened(&root, US).await.1.unwrap();
    assert_eq!(found.tables, claim.tables);
}
