//! Tables coming into being: new ones, and those that a manifest describes, read back from their files.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::checkpoint::DataRoot;
use crate::checkpoint::manifest::{DataFile, DeltaState, PendingCommit, TableKind, TableState};
use crate::checkpoint::read_batches;
use crate::checkpoint::table_folder;
use crate::ids::Epoch;
use crate::job::shared::{Table, Tail};
use crate::sink::{DeltaSink, HistoryFile, HistoryFiles};
use crate::spec::ViewSpec;
use crate::view::panes::{Panes, Run};
use crate::view::without_time;
use crate::{Error, Result};

/// A table without a row, first fed in the epoch after `ending`. Where a dropped table of the same name left its
/// files, they go with the first commit.
pub async fn created(root: &DataRoot, spec: &Arc<ViewSpec>, ending: Epoch) -> Result<Table> {
    let mut delta = DeltaState::default();
    if !spec.stream.is_empty() {
        let sink = DeltaSink::open(root, &spec.name, spec.id, &spec.schema).await?;
        if sink.needs_replace()? {
            delta.pending.push(PendingCommit { txn: ending, previous: None, files: vec![], replace: true });
        }
    }
    Ok(Table {
        spec: Arc::clone(spec),
        since: ending.next(),
        until: Epoch::MAX,
        panes: Panes::new(spec, None),
        tail: Tail::default(),
        history: Arc::new(HistoryFiles { store: Arc::clone(root.objects()), files: Arc::new(vec![]) }),
        delta,
        late: 0,
        failed: 0,
    })
}

/// A table as its manifest left it.
pub async fn restored(root: &DataRoot, spec: &Arc<ViewSpec>, state: &TableState) -> Result<Table> {
    let (born_after, closed_through, late, failed) = match &state.kind {
        TableKind::View { fingerprint, born_after, closed_through, late, failed, .. } => {
            same_fingerprint(spec, fingerprint)?;
            (*born_after, *closed_through, *late, *failed)
        }
        TableKind::RejectedRecords | TableKind::LateRows => (None, None, 0, 0),
    };
    let mut panes = Panes::new(spec, born_after);
    let mut runs = vec![];
    for run in &state.runs {
        let parts = read_batches(root, &run.file).await?;
        let parts = panes.staying(&parts, closed_through)?;
        runs.push(Run { level: run.level, file: run.file.clone(), parts });
    }
    panes.restore(runs, closed_through);
    let tail = restored_tail(root, spec, state).await?;
    Ok(Table {
        spec: Arc::clone(spec),
        since: Epoch(0),
        until: Epoch::MAX,
        panes,
        tail,
        history: restored_history(root, spec, state).await?,
        delta: state.delta.clone(),
        late,
        failed,
    })
}

async fn restored_tail(root: &DataRoot, spec: &ViewSpec, state: &TableState) -> Result<Tail> {
    let mut rows: Vec<RecordBatch> = vec![];
    for file in &state.tail {
        rows.extend(read_batches(root, file).await?.into_iter().map(|part| part.batch));
    }
    let visible = rows.iter().map(|batch| without_time(spec, batch)).collect::<Result<Vec<_>>>()?;
    Ok(Tail { rows, visible: Arc::new(visible), files: state.tail.clone(), since: state.tail_since })
}

/// What Delta holds, and what the manifest has made real and Delta has not confirmed.
async fn restored_history(
    root: &DataRoot,
    spec: &Arc<ViewSpec>,
    state: &TableState,
) -> Result<Arc<HistoryFiles>> {
    let mut history = Arc::new(HistoryFiles { store: Arc::clone(root.objects()), files: Arc::new(vec![]) });
    if state.delta.confirmed.is_some() || !state.delta.pending.is_empty() {
        let sink = DeltaSink::open(root, &spec.name, spec.id, &spec.schema).await?;
        history = Arc::new(sink.history()?);
        for commit in &state.delta.pending {
            history = with_files(root, &history, spec, &commit.files)?;
        }
    }
    Ok(history)
}

/// The history with the files of one more commit. Files it has already stay single: a commit may have reached Delta
/// without our knowing.
pub fn with_files(
    root: &DataRoot,
    history: &HistoryFiles,
    spec: &ViewSpec,
    added: &[DataFile],
) -> Result<Arc<HistoryFiles>> {
    let mut files = history.files.as_ref().clone();
    for file in added {
        let path = format!("{}/{}", table_folder(&spec.name), file.path);
        let path = object_store::path::Path::parse(&path).map_err(|error| {
            Error::Internal(format!("a data file has an impossible path. path={path:?}: {error}"))
        })?;
        if !files.iter().any(|known| known.path == path) {
            files.push(HistoryFile { path, bytes: file.bytes, rows: file.rows, date: file.date });
        }
    }
    Ok(Arc::new(HistoryFiles { store: Arc::clone(root.objects()), files: Arc::new(files) }))
}

/// A state written by another plan would be read wrongly, so it is not read at all.
fn same_fingerprint(spec: &ViewSpec, written: &str) -> Result<()> {
    if spec.fingerprint == written {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the state of a view was written by another plan and can't be read by this one. view={:?}\n  written: {written}\n  \
         now:     {}\nrun the version that wrote it, or DROP the view and create it again",
        spec.name, spec.fingerprint
    )))
}
