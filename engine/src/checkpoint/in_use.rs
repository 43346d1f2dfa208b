//! The files that the newest manifest names, and how much of each: what nobody names any more goes, and what little is left
//! in a file may be moved out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::manifest::{Manifest, StateFile, TableState};

/// More files than that are made fewer: a start reads each.
const FILES: usize = 128;

/// At most so many in an epoch, each with so many bytes in use at most: what is moved is written again.
const MOVED: usize = 4;
const MOVED_BYTES: u64 = 256 << 10;

#[derive(Debug, Default)]
pub(super) struct FilesInUse(BTreeMap<String, Sections>);

/// Bytes by where they begin.
type Sections = BTreeMap<u64, u64>;

impl FilesInUse {
    pub fn of(manifest: &Manifest) -> FilesInUse {
        let mut files = FilesInUse::default();
        for file in manifest.state_files() {
            files.add(file);
        }
        files
    }

    pub fn paths(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    fn add(&mut self, file: &StateFile) -> bool {
        self.0.entry(file.path.clone()).or_default().insert(file.offset, file.bytes).is_none()
    }

    /// Goes on from the manifest `before` to the one after it. Gives the files that are not in use any more.
    pub fn go_on(&mut self, before: &Manifest, now: &Manifest) -> Result<Vec<String>, String> {
        let (old, new) = (before.tables_by_id(), now.tables_by_id());
        let changed = |table: &Arc<TableState>, others: &BTreeMap<Uuid, &Arc<TableState>>| {
            others.get(&table.id).is_none_or(|other| !Arc::ptr_eq(other, table))
        };
        let left = before.tables.iter().filter(|table| changed(table, &new));
        let left = left.flat_map(|table| table.state_files());
        let left = left.chain(before.lookups.iter().filter_map(|lookup| lookup.file.as_ref()));
        let mut touched = BTreeSet::new();
        for file in left {
            if let Some(sections) = self.0.get_mut(&file.path) {
                sections.remove(&file.offset);
                touched.insert(file.path.clone());
            }
        }
        let come = now.tables.iter().filter(|table| changed(table, &old));
        let come = come.flat_map(|table| table.state_files());
        for file in come.chain(now.lookups.iter().filter_map(|lookup| lookup.file.as_ref())) {
            if !self.add(file) {
                return Err(format!("a section of a state file is named twice. path=\"{}\"", file.path));
            }
        }
        touched.retain(|path| self.0.get(path).is_some_and(|sections| sections.is_empty()));
        for path in &touched {
            self.0.remove(path);
        }
        Ok(touched.into_iter().collect())
    }

    /// Those with the least in use, where there are many. What a table holds that is looked up has a file of its own, and
    /// stays in it.
    pub fn to_empty(&self, newest: &Manifest) -> BTreeSet<String> {
        let more = self.0.len().saturating_sub(FILES);
        if more == 0 {
            return BTreeSet::new();
        }
        let apart = newest.lookups.iter().filter_map(|lookup| Some(lookup.file.as_ref()?.path.as_str()));
        let apart: BTreeSet<&str> = apart.collect();
        let weigh = |(path, sections): (&String, &Sections)| (sections.values().sum::<u64>(), path.clone());
        let mut files: Vec<(u64, String)> = self.0.iter().map(weigh).collect();
        files.retain(|(bytes, path)| *bytes <= MOVED_BYTES && !apart.contains(path.as_str()));
        files.sort_unstable();
        files.into_iter().take(more.min(MOVED)).map(|(_, path)| path).collect()
    }
}
