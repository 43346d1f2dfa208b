//! Looks at a data root while nobody runs on it, or beside whoever does: what is in it, how large and how old it is, and what
//! is wrong. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::checkpoint::manifest::{Manifest, StateFile, TableKind, TableState};
use crate::checkpoint::{DataRoot, StateFiles, newest_manifest, table_folder};
use crate::ids::{Epoch, Micros};
use crate::sink::{LakeTable, look_at};
use crate::{Error, Result};

/// Tables that are looked at, and objects that are read, at a time.
const AT_ONCE: usize = 16;

/// At a root that goes on meanwhile, where something seems wrong.
const LOOKS: usize = 5;

#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// None of a root without a manifest.
    pub newest: Option<Newest>,
    pub folders: Vec<Folder>,
    pub streams: Vec<StreamSeen>,
    pub tables: Vec<TableSeen>,
    /// Folders of tables that no view writes to.
    pub left: Vec<String>,
    /// Each with its place and what it means; nothing of it may be there.
    pub wrong: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Newest {
    pub epoch: Epoch,
    pub committed_at: Micros,
}

/// What lies below a folder of the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    pub name: &'static str,
    pub objects: u64,
    pub bytes: u64,
    /// Of these, what the newest manifest needs.
    pub needed: u64,
    pub needed_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct StreamSeen {
    pub name: String,
    pub partitions: u64,
    pub records: u64,
    pub rejected: u64,
    pub frontier: Option<Micros>,
}

#[derive(Debug, Clone)]
pub struct TableSeen {
    pub name: String,
    /// Why a view stands still.
    pub failed: Option<String>,
    pub closed_through: Option<Micros>,
    pub runs: u64,
    pub state_bytes: u64,
    pub tail_rows: u64,
    /// Commits that Delta is to be told.
    pub pending: u64,
    /// None where no table is.
    pub lake: Option<LakeTable>,
}

/// Of a root on which somebody runs, what goes between two looks is no fault: then it is looked at again.
pub async fn inspect(root: &DataRoot) -> Result<Inspection> {
    for _ in 0..LOOKS {
        let seen = once(root).await?;
        let epoch = seen.newest.as_ref().map(|newest| newest.epoch);
        let newest = newest_manifest(root).await.ok().flatten().map(|manifest| manifest.epoch);
        if seen.wrong.is_empty() || newest == epoch {
            return Ok(seen);
        }
    }
    once(root).await
}

async fn once(root: &DataRoot) -> Result<Inspection> {
    let mut seen = Inspection::default();
    let listed = listed(root).await?;
    seen.folders = ["manifests", "catalog", "state", "tables"].map(|name| folder(name, &listed)).to_vec();
    let manifest = match newest_manifest(root).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let is_named = |folder: &Folder| ["state", "tables"].contains(&folder.name) && folder.objects > 0;
            if seen.folders.iter().any(is_named) {
                seen.wrong.push(
                    "there is no manifest, and yet there are files that one has named; nothing can start on this data"
                        .to_owned(),
                );
            }
            return Ok(seen);
        }
        Err(error) if error.is_of_store() => return Err(error),
        Err(error) => {
            seen.wrong.push(format!("{error}; nothing can start on this data"));
            return Ok(seen);
        }
    };
    seen.newest = Some(Newest { epoch: manifest.epoch, committed_at: manifest.committed_at });
    seen.streams = manifest
        .streams
        .iter()
        .map(|stream| StreamSeen {
            name: stream.name.clone(),
            partitions: stream.partitions.len() as u64,
            records: stream.records,
            rejected: stream.rejected,
            frontier: stream.frontier,
        })
        .collect();
    let needed: BTreeMap<&str, u64> = manifest.state_files().fold(BTreeMap::new(), |mut needed, file| {
        *needed.entry(file.path.as_str()).or_default() += file.bytes;
        needed
    });
    if let Some(state) = seen.folders.iter_mut().find(|folder| folder.name == "state") {
        (state.needed, state.needed_bytes) = (needed.len() as u64, needed.values().sum());
    }
    seen.wrong.extend(unreadable_sections(root, &manifest).await?);
    let looking = manifest.tables.iter().map(async |table| look(root, table).await);
    let mut looked = stream::iter(looking).buffered(AT_ONCE);
    while let Some((table, wrong)) = looked.try_next().await? {
        seen.tables.push(table);
        seen.wrong.extend(wrong);
    }
    drop(looked);
    // What a table has was there when its log said so, and goes long after it has been taken out of that.
    let now = self::listed(root).await?;
    seen.wrong.extend(seen.tables.iter().flat_map(|table| missing(table, &now)));
    if let Some(tables) = seen.folders.iter_mut().find(|folder| folder.name == "tables") {
        let lakes = || seen.tables.iter().filter_map(|table| table.lake.as_ref());
        tables.needed = lakes().map(|lake| lake.files.len() as u64).sum();
        tables.needed_bytes = lakes().flat_map(|lake| &lake.files).map(|file| file.bytes).sum();
    }
    let folders: BTreeSet<String> = manifest.tables.iter().map(|table| table_folder(&table.name)).collect();
    seen.left = table_folders(&listed).difference(&folders).cloned().collect();
    Ok(seen)
}

/// Sizes by path.
async fn listed(root: &DataRoot) -> Result<BTreeMap<Path, u64>> {
    let found = root.objects().list(None).map_ok(|meta| (meta.location, meta.size));
    Ok(found.try_collect().await?)
}

fn folder(name: &'static str, listed: &BTreeMap<Path, u64>) -> Folder {
    let within = listed.iter().filter(|(path, _)| path.as_ref().starts_with(&format!("{name}/")));
    within.fold(Folder { name, ..Folder::default() }, |folder, (_, bytes)| Folder {
        objects: folder.objects + 1,
        bytes: folder.bytes + bytes,
        ..folder
    })
}

fn table_folders(listed: &BTreeMap<Path, u64>) -> BTreeSet<String> {
    let tables = listed.keys().filter_map(|path| path.as_ref().strip_prefix("tables/")?.split('/').next());
    tables.map(|table| format!("tables/{table}")).collect()
}

/// Reads all of the state that a start would, and believes no more of it.
async fn unreadable_sections(root: &DataRoot, manifest: &Manifest) -> Result<Vec<String>> {
    let files = StateFiles::of(root, manifest);
    let read = manifest.state_files().map(async |file: &StateFile| match files.read(file).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_of_store() => Err(error),
        Err(error) => Ok(Some(error.to_string())),
    });
    let read = stream::iter(read).buffered(AT_ONCE);
    read.try_filter_map(|wrong| std::future::ready(Ok(wrong))).try_collect().await
}

async fn look(root: &DataRoot, state: &TableState) -> Result<(TableSeen, Vec<String>)> {
    let mut wrong = vec![];
    let lake = match look_at(root, &state.name, state.id).await {
        Ok(lake) => lake,
        Err(error) if error.is_of_store() => return Err(error),
        Err(error) => {
            wrong.push(lost(state, &error));
            None
        }
    };
    let confirmed = lake.as_ref().and_then(|lake| lake.confirmed);
    if wrong.is_empty() && confirmed < state.delta.confirmed {
        wrong.push(lost(state, &Error::BadData("it lacks what manifests say that it was told".into())));
    }
    if confirmed > state.delta.last() {
        let error = "it has what no manifest knows, so manifests are lost, or were put back";
        wrong.push(lost(state, &Error::BadData(error.into())));
    }
    let closed_through = match &state.kind {
        TableKind::View { closed_through, .. } => *closed_through,
        TableKind::RejectedRecords | TableKind::LateRows => None,
    };
    let is_untold = |txn| lake.as_ref().is_none_or(|lake| Some(txn) > lake.confirmed);
    let table = TableSeen {
        name: state.name.clone(),
        failed: state.failure.as_ref().map(|failure| failure.reason.clone()),
        closed_through,
        runs: state.runs.len() as u64,
        state_bytes: state.state_files().map(|file| file.bytes).sum(),
        tail_rows: state.tail.iter().map(|file| file.rows).sum(),
        pending: state.delta.pending.iter().filter(|commit| is_untold(commit.txn)).count() as u64,
        lake,
    };
    Ok((table, wrong))
}

/// Files of a table that are not as its log has them.
fn missing(table: &TableSeen, listed: &BTreeMap<Path, u64>) -> Vec<String> {
    let files = table.lake.iter().flat_map(|lake| &lake.files);
    let wrong = files.filter_map(|file| match listed.get(&file.path) {
        None => Some(format!("a file of a table is missing. table={:?}, file={}", table.name, file.path)),
        Some(bytes) if *bytes != file.bytes => Some(format!(
            "a file of a table is cut, or another. table={:?}, file={}, bytes={bytes}, expected={}",
            table.name, file.path, file.bytes
        )),
        Some(_) => None,
    });
    wrong.collect()
}

fn lost(state: &TableState, error: &Error) -> String {
    format!(
        "a Delta table can't be read: {error}; bring back what was in it, or DROP its view. table={:?}, folder=\"{}\"",
        state.name,
        table_folder(&state.name)
    )
}
