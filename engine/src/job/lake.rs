//! Tells Delta what manifests have made real: beside all else, several tables at a time, each by a task of its own. What is
//! told is told again where it is not known to have been.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::checkpoint::DataRoot;
use crate::checkpoint::manifest::PendingCommit;
use crate::clock::Clock;
use crate::ids::Epoch;
use crate::job::shared::Shared;
use crate::sink::DeltaSink;
use crate::spec::ViewSpec;
use crate::{Error, Result};

/// Tables that are told at a time.
const TELLING: usize = 16;

pub struct Lake {
    root: DataRoot,
    /// Of tables that nobody tells now.
    sinks: BTreeMap<Uuid, DeltaSink>,
    /// Tables that are being told, and whether they have become others meanwhile.
    busy: BTreeMap<Uuid, bool>,
    /// Failed views whose tables could not be told; nobody asks them again before the view is begun anew.
    unsettled: BTreeSet<Uuid>,
    telling: JoinSet<Told>,
    room: Arc<Semaphore>,
    /// The longest that a table took since somebody asked.
    slowest: Duration,
}

/// What became of the commits of one table.
struct Told {
    spec: Arc<ViewSpec>,
    sink: Option<DeltaSink>,
    outcome: Result<Option<Epoch>>,
    took: Duration,
}

impl Lake {
    pub fn new(root: DataRoot) -> Lake {
        Lake {
            root,
            sinks: BTreeMap::new(),
            busy: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            telling: JoinSet::new(),
            room: Arc::new(Semaphore::new(TELLING)),
            slowest: Duration::ZERO,
        }
    }

    /// The table is another one from here on, or to be looked at afresh.
    pub fn forget(&mut self, table: Uuid) {
        self.sinks.remove(&table);
        self.unsettled.remove(&table);
        if let Some(other) = self.busy.get_mut(&table) {
            *other = true;
        }
    }

    /// Takes up what tables have been told, and has others told what they have not. Nobody waits for the store here.
    pub fn settle(&mut self, shared: &Shared, clock: &Arc<dyn Clock>) -> Result<()> {
        while let Some(told) = self.telling.try_join_next() {
            self.take_up(told, shared, clock)?;
        }
        let due: Vec<(Arc<ViewSpec>, Vec<PendingCommit>, bool)> = {
            let tables = shared.lock();
            let due = tables.tables.values().filter(|table| !table.delta.pending.is_empty());
            let due = due.filter(|table| {
                !self.unsettled.contains(&table.spec.id) && !self.busy.contains_key(&table.spec.id)
            });
            due.map(|table| (Arc::clone(&table.spec), table.delta.pending.clone(), table.failure.is_some()))
                .collect()
        };
        for (spec, commits, has_failed) in due {
            self.busy.insert(spec.id, false);
            let sink = self.sinks.remove(&spec.id);
            let (root, room, clock) = (self.root.clone(), Arc::clone(&self.room), Arc::clone(clock));
            self.telling.spawn(async move {
                let _room = room.acquire_owned().await;
                let begun = clock.elapsed();
                let (sink, outcome) = tell(&root, &spec, sink, &commits, has_failed).await;
                Told { spec, sink, outcome, took: clock.elapsed().saturating_sub(begun) }
            });
        }
        Ok(())
    }

    /// Likewise, and waits until all tables know all.
    pub async fn finish(&mut self, shared: &Shared, clock: &Arc<dyn Clock>) -> Result<()> {
        loop {
            self.settle(shared, clock)?;
            match self.telling.join_next().await {
                Some(told) => self.take_up(told, shared, clock)?,
                None => return Ok(()),
            }
        }
    }

    /// How long the slowest table took that has been told since this was asked last.
    pub fn slowest(&mut self) -> Duration {
        std::mem::take(&mut self.slowest)
    }

    /// A table that can't be told fails its view.
    fn take_up(
        &mut self,
        told: Result<Told, tokio::task::JoinError>,
        shared: &Shared,
        clock: &Arc<dyn Clock>,
    ) -> Result<()> {
        let Told { spec, sink, outcome, took } =
            told.map_err(|error| Error::Internal(format!("telling Delta panicked: {error}")))?;
        self.slowest = self.slowest.max(took);
        let is_another = self.busy.remove(&spec.id).unwrap_or_default();
        if let Some(sink) = sink.filter(|_| !is_another) {
            self.sinks.insert(spec.id, sink);
        }
        let mut tables = shared.lock();
        let table = tables.tables.get_mut(&spec.name).filter(|table| table.spec.id == spec.id);
        match (outcome, table) {
            (Ok(confirmed), Some(table)) => table.delta.confirm(confirmed),
            (Err(error), _) if error.is_of_store() => return Err(error),
            (Err(error), Some(table)) if table.spec.is_system() => return Err(error),
            (Err(error), Some(table)) => {
                table.fail(error.to_string(), clock.wall());
                // All others would wait for its next attempts.
                if !is_another {
                    self.unsettled.insert(spec.id);
                }
            }
            // It was dropped meanwhile.
            (_, None) => {}
        }
        Ok(())
    }
}

/// Gives the sink back, and the last commit that the table has for certain.
async fn tell(
    root: &DataRoot,
    spec: &ViewSpec,
    sink: Option<DeltaSink>,
    commits: &[PendingCommit],
    has_failed: bool,
) -> (Option<DeltaSink>, Result<Option<Epoch>>) {
    let mut sink = match sink {
        Some(sink) => sink,
        None => match DeltaSink::open(root, &spec.name, spec.id, &spec.schema).await {
            Ok(sink) => sink,
            Err(error) => return (None, Err(error)),
        },
    };
    for commit in commits {
        let told = match has_failed {
            true => sink.try_commit(commit).await,
            false => sink.commit(commit).await,
        };
        if let Err(error) = told {
            return (Some(sink), Err(error));
        }
    }
    (Some(sink), Ok(commits.last().map(|last| last.txn)))
}
