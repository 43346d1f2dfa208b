//! Tables coming into being: new ones, and those that a manifest describes, read back from their files.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Schema;

use crate::checkpoint::DataRoot;
use crate::checkpoint::StateFiles;
use crate::checkpoint::manifest::{DataFile, DeltaState, PendingCommit, TableKind, TableState};
use crate::checkpoint::table_folder;
use crate::ids::{Epoch, Micros};
use crate::job::epoch::{for_readers, tail_rows};
use crate::job::ever::Told;
use crate::job::shared::{Table, Tail};
use crate::memory::{Memory, Purpose};
use crate::sink::{ClosedRows, DeltaSink, HistoryFile, HistoryFiles, instants};
use crate::spec::{Cut, Input, Leg, Unit, ViewShape, ViewSpec};
use crate::view::left::Left;
use crate::view::panes::Panes;
use crate::view::part::Part;
use crate::view::pieces::Share;
use crate::view::run::{Run, Section};
use crate::view::{LeafExec, reads};
use crate::{Error, Result};

/// A table without a row, first fed in the epoch after `ending`. Where a dropped table of the same name left its
/// files, they go with the first commit.
pub async fn created(root: &DataRoot, spec: &Arc<ViewSpec>, ending: Epoch) -> Result<Table> {
    let mut delta = DeltaState::default();
    if !spec.is_system() {
        let sink = DeltaSink::open(root, &spec.name, spec.id, &spec.schema).await.map_err(|error| match error {
            Error::Delta(_) => Error::BadData(format!(
                "a Delta table is there that can't be read: move it away, or put its log right. folder=\"{}\", {error}",
                table_folder(&spec.name)
            )),
            other => other,
        })?;
        if sink.needs_replace()? {
            delta.pending.push(PendingCommit { txn: ending, previous: None, files: vec![], replace: true });
        }
    }
    Ok(Table {
        spec: Arc::clone(spec),
        since: ending.next(),
        until: Epoch::MAX,
        bound: Epoch(0),
        panes: Panes::new(spec, None),
        tail: Tail::default(),
        history: no_history(root),
        delta,
        told: Told::UNKNOWN,
        late: 0,
        failed: 0,
        failure: None,
        waits: None,
        written: None,
    })
}

/// What tables are read back with.
pub struct Restoring<'a> {
    pub root: &'a DataRoot,
    pub files: &'a StateFiles,
    pub memory: &'a Arc<Memory>,
}

/// A table as its manifest left it. What its view can't read any more, or can't be planned any more, is no reason not to
/// start: then the view has failed, and what it had closed is served. If it `waits`, nothing that it reads goes on before it
/// can be planned again, and what it has open is kept for then.
pub async fn restored(
    Restoring { root, files, memory }: &Restoring<'_>,
    planned: Result<ViewSpec, String>,
    state: &Arc<TableState>,
    waits: bool,
    now: Micros,
) -> Result<Table> {
    let (born_after, closed_through, left, late, failed) = match &state.kind {
        TableKind::View { born_after, closed_through, left, late, failed, .. } => {
            (*born_after, *closed_through, left.clone(), *late, *failed)
        }
        TableKind::RejectedRecords | TableKind::LateRows => (None, None, None, 0, 0),
    };
    let waits = (planned.is_err() && waits && state.failure.is_none()).then(|| state.runs.clone());
    let mut reasons = vec![];
    let tail = passing(read_tail(files, state).await, &mut reasons)?.unwrap_or_default();
    let spec = match planned {
        Ok(spec) => Arc::new(spec),
        Err(reason) => {
            reasons.push(format!("its statement can't be planned any more: {reason}"));
            Arc::new(bygone(root, state, &tail).await?)
        }
    };
    let mut panes = Panes::new(&spec, born_after);
    panes.left = left.unwrap_or_else(|| Left::through(closed_through, spec.shape.window()));
    if reasons.is_empty() && state.failure.is_none() {
        let runs = restored_runs(files, memory, &spec, state, &panes, closed_through).await;
        let runs = passing(runs, &mut reasons)?.unwrap_or_default();
        panes.restore(runs, closed_through);
    } else {
        panes.closed_through = closed_through;
    }
    let history = passing(restored_history(root, &spec, state).await, &mut reasons)?;
    let history = history.unwrap_or_else(|| {
        let unknown = HistoryFiles { is_lost: true, ..HistoryFiles::clone(&no_history(root)) };
        Arc::new(unknown)
    });
    let visible = tail.iter().map(|closed| for_readers(&spec, closed)).collect::<Result<Vec<_>>>()?;
    let mut table = Table {
        spec: Arc::clone(&spec),
        since: Epoch(0),
        until: Epoch::MAX,
        bound: Epoch(0),
        panes,
        tail: Tail {
            rows: tail,
            visible: Arc::new(visible),
            files: state.tail.clone(),
            since: state.tail_since,
        },
        history,
        delta: state.delta.clone(),
        told: Told::UNKNOWN,
        late,
        failed,
        failure: state.failure.clone(),
        waits,
        written: Some(Arc::clone(state)),
    };
    if !reasons.is_empty() {
        table.fail(reasons.join("; "), now);
    }
    Ok(table)
}

/// What a store that answers has to say against a view: the reasons are kept, and the start goes on.
fn passing<T>(outcome: Result<T>, reasons: &mut Vec<String>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_of_store() => Err(error),
        Err(error) => {
            reasons.push(error.to_string());
            Ok(None)
        }
    }
}

async fn restored_runs(
    files: &StateFiles,
    memory: &Memory,
    spec: &ViewSpec,
    state: &TableState,
    panes: &Panes,
    closed_through: Option<Micros>,
) -> Result<Vec<Run>> {
    // A view without a window has no state: its rows are its own as they come.
    if let (TableKind::View { fingerprint, .. }, ViewShape::Units { .. }) = (&state.kind, &spec.shape) {
        same_fingerprint(spec, fingerprint)?;
    }
    let mut runs = vec![];
    for run in &state.runs {
        let mut sections = vec![];
        for file in run.sections() {
            let parts = panes.staying(&files.read(file).await?, closed_through)?;
            let is_shared = !run.more.is_empty();
            let placed = |part: Part| placed(part, spec.shape.cuts(), is_shared, memory);
            let parts = parts.into_iter().map(placed).collect::<Result<_>>()?;
            sections.push(Arc::new(Section { file: file.clone(), parts }));
        }
        runs.push(Run { level: run.level, sections });
    }
    Ok(runs)
}

/// A part that was read back, where there is room for it.
fn placed(part: Part, cuts: &[Cut], is_shared: bool, memory: &Memory) -> Result<Part> {
    let share = match cuts.get(part.cut as usize) {
        Some(cut) if is_shared => Share::of_rows(cut, &part.batch)?,
        _ => Share::ALL,
    };
    let part = part.of_share(share);
    let spills = part.bytes() >= memory.spill().least() && memory.open_too_much(part.bytes()) > 0;
    let part = if spills { part.spilled(memory.spill()) } else { part };
    memory.add(Purpose::Open, part.bytes());
    Ok(part)
}

async fn read_tail(files: &StateFiles, state: &TableState) -> Result<Vec<ClosedRows>> {
    let mut rows = vec![];
    for file in &state.tail {
        rows.extend(files.read(file).await?.into_iter().map(tail_rows));
    }
    Ok(rows)
}

/// A view of which nothing is left but its rows: it stands still, and keeps their columns.
async fn bygone(root: &DataRoot, state: &TableState, tail: &[ClosedRows]) -> Result<ViewSpec> {
    let TableKind::View { sql, inputs, fingerprint, .. } = &state.kind else {
        return Err(Error::Internal(format!("a table of ours was not planned. table={:?}", state.name)));
    };
    let schema = match tail.first() {
        Some(ClosedRows { rows, .. }) => {
            Arc::new(Schema::new(rows.schema().fields()[..rows.num_columns() - 1].to_vec()))
        }
        None => DeltaSink::stored_schema(root, &state.name).await?,
    };
    Ok(ViewSpec {
        lookups: vec![],
        retention: None,
        id: state.id,
        name: state.name.clone(),
        sql: sql.clone(),
        // What they gave it, nobody asks any more.
        legs: inputs.iter().map(|name| Leg { input: Input::Stream(name.clone()), columns: vec![] }).collect(),
        times: vec![None; schema.fields().len()],
        shape: ViewShape::Copy { lowers: vec![Arc::new(LeafExec::of_micro_batch(Arc::clone(&schema)))] },
        schema,
        fingerprint: fingerprint.clone(),
    })
}

fn no_history(root: &DataRoot) -> Arc<HistoryFiles> {
    Arc::new(HistoryFiles { store: Arc::clone(root.readers()), files: Arc::new(vec![]), is_lost: false })
}

/// What Delta holds, and what the manifest has made real and Delta has not confirmed.
async fn restored_history(
    root: &DataRoot,
    spec: &Arc<ViewSpec>,
    state: &TableState,
) -> Result<Arc<HistoryFiles>> {
    let mut history = no_history(root);
    if !is_copied(spec) && (state.delta.confirmed.is_some() || !state.delta.pending.is_empty()) {
        let sink = DeltaSink::open(root, &spec.name, spec.id, &spec.schema).await?;
        sink.has_kept(state.delta.confirmed).await?;
        sink.is_not_ahead(state.delta.last()).await?;
        history = Arc::new(sink.history()?);
        for commit in &state.delta.pending {
            history = with_files(&history, spec, &commit.files)?;
        }
    }
    Ok(history)
}

/// Whether what the lake has of it is a copy of what is live, as of a view that never closes: nobody reads it here.
pub fn is_copied(spec: &ViewSpec) -> bool {
    matches!(&spec.shape, ViewShape::Units { unit: Unit::Ever(_), .. })
}

/// The history with the files of one more commit. Files it has already stay single: a commit may have reached Delta
/// without our knowing.
pub fn with_files(history: &HistoryFiles, spec: &ViewSpec, added: &[DataFile]) -> Result<Arc<HistoryFiles>> {
    let mut files = history.files.as_ref().clone();
    for file in added {
        let path = format!("{}/{}", table_folder(&spec.name), file.path);
        let path = object_store::path::Path::parse(&path).map_err(|error| {
            Error::Internal(format!("a data file has an impossible path. path={path:?}: {error}"))
        })?;
        if !files.iter().any(|known| known.path == path) {
            files.push(HistoryFile {
                path,
                bytes: file.bytes,
                rows: file.rows,
                date: file.date,
                instants: instants(&file.stats),
            });
        }
    }
    Ok(Arc::new(HistoryFiles { files: Arc::new(files), ..history.clone() }))
}

/// The history without some of its files.
pub fn without_files(history: &HistoryFiles, gone: &[HistoryFile]) -> Arc<HistoryFiles> {
    let gone: BTreeSet<&object_store::path::Path> = gone.iter().map(|file| &file.path).collect();
    let staying = history.files.iter().filter(|file| !gone.contains(&file.path));
    Arc::new(HistoryFiles { files: Arc::new(staying.cloned().collect()), ..history.clone() })
}

/// A state written by another plan would be read wrongly, so it is not read at all.
fn same_fingerprint(spec: &ViewSpec, written: &str) -> Result<()> {
    if reads(&spec.fingerprint, written) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "its state was written by another plan and can't be read by this one. written={written:?}, now={:?}",
        spec.fingerprint
    )))
}
