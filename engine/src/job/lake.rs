//! Tells Delta what manifests have made real, table by table: after each commit, and again when an engine starts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Result;
use crate::checkpoint::DataRoot;
use crate::checkpoint::manifest::PendingCommit;
use crate::clock::Clock;
use crate::job::shared::Shared;
use crate::sink::DeltaSink;
use crate::spec::ViewSpec;

pub struct Lake {
    root: DataRoot,
    sinks: BTreeMap<String, DeltaSink>,
    /// Failed views whose tables could not be told; nobody asks them again before the view is begun anew.
    unsettled: BTreeSet<String>,
}

impl Lake {
    pub fn new(root: DataRoot) -> Lake {
        Lake { root, sinks: BTreeMap::new(), unsettled: BTreeSet::new() }
    }

    /// The table is another one from here on, or to be looked at afresh.
    pub fn forget(&mut self, table: &str) {
        self.sinks.remove(table);
        self.unsettled.remove(table);
    }

    /// A table that can't be told fails its view.
    pub async fn settle(&mut self, shared: &Shared, clock: &dyn Clock) -> Result<()> {
        let pending: Vec<_> = {
            let tables = shared.lock();
            let due = tables.tables.values().filter(|table| !table.delta.pending.is_empty());
            let due = due.filter(|table| !self.unsettled.contains(&table.spec.name));
            due.map(|table| (Arc::clone(&table.spec), table.delta.pending.clone(), table.failure.is_some()))
                .collect()
        };
        for (spec, commits, has_failed) in pending {
            let outcome = self.tell(&spec, &commits, has_failed).await;
            let mut tables = shared.lock();
            let Some(table) = tables.tables.get_mut(&spec.name) else { continue };
            match outcome {
                Ok(()) => {
                    table.delta.confirmed = commits.last().map(|last| last.txn);
                    table.delta.pending.clear();
                }
                Err(error) if error.is_of_store() || spec.is_system() => return Err(error),
                Err(error) => {
                    table.fail(error.to_string(), clock.wall());
                    self.unsettled.insert(spec.name.clone());
                }
            }
        }
        Ok(())
    }

    async fn tell(&mut self, spec: &ViewSpec, commits: &[PendingCommit], has_failed: bool) -> Result<()> {
        let sink = match self.sinks.entry(spec.name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(DeltaSink::open(&self.root, &spec.name, spec.id, &spec.schema).await?)
            }
        };
        for commit in commits {
            match has_failed {
                // All others wait for this.
                true => sink.try_commit(commit).await?,
                false => sink.commit(commit).await?,
            }
        }
        Ok(())
    }
}
