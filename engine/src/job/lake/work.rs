//! What is done to one table of the lake, by one task with the sink of that table.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinError;
use uuid::Uuid;

use crate::checkpoint::DataRoot;
use crate::checkpoint::manifest::{DataFile, PendingCommit};
use crate::clock::Clock;
use crate::ids::Epoch;
use crate::memory::{Hold, Memory, Purpose};
use crate::sink::{Compaction, DeltaSink, HistoryFile, HistoryFiles, write_compacted};
use crate::spec::ViewSpec;
use crate::{Error, Result};

pub(super) enum Work {
    Tell {
        commits: Vec<PendingCommit>,
        has_failed: bool,
    },
    Compact {
        compaction: Compaction,
        path: String,
    },
    /// Files of dates that are kept no longer.
    Expire {
        files: Vec<HistoryFile>,
    },
    Vacuum {
        older_than: Duration,
        /// When it was asked for: a file that is put meanwhile is no older than this, however long the store is waited for.
        as_of: DateTime<Utc>,
        /// What stays whatever the table says of it: it is read, or is yet to be told.
        kept: Arc<HistoryFiles>,
    },
}

pub(super) enum Outcome {
    /// The last commit that the table has for certain.
    Told(Option<Epoch>),
    Compacted(Compaction, DataFile),
    Expired(Vec<HistoryFile>),
    /// How many files have gone.
    Vacuumed(usize),
    /// There was nothing to do after all.
    Nothing,
    /// What was not needed has failed.
    Failed(Error),
}

/// What became of it; the sink is given back, unless it is of no use any more.
pub(super) struct Done {
    pub id: Uuid,
    pub name: String,
    pub sink: Option<DeltaSink>,
    pub outcome: Result<Outcome>,
    /// What the table has instead of what it was known to have: somebody else has written to it.
    pub others: Option<HistoryFiles>,
    pub took: Duration,
}

impl Done {
    pub fn panicked(spec: &ViewSpec, error: &JoinError) -> Done {
        let error = Error::Internal(format!("keeping a table in order panicked: {error}"));
        let outcome = Ok(Outcome::Failed(error));
        Done { id: spec.id, name: spec.name.clone(), sink: None, outcome, others: None, took: Duration::ZERO }
    }
}

impl Work {
    /// What it takes in memory: the files, what they become, and a group of rows.
    pub fn hold(&self, memory: &Arc<Memory>) -> Hold {
        let bytes = match self {
            Work::Compact { compaction, .. } => 3 * compaction.bytes() as usize,
            Work::Tell { .. } | Work::Expire { .. } | Work::Vacuum { .. } => 0,
        };
        memory.hold(Purpose::Encoding, bytes)
    }

    /// `known` are the files that the table has once this is done, unless somebody else has written to it.
    pub async fn done(
        self,
        root: DataRoot,
        spec: Arc<ViewSpec>,
        sink: Option<DeltaSink>,
        known: Option<Arc<HistoryFiles>>,
        clock: &dyn Clock,
    ) -> Done {
        let begun = clock.elapsed();
        let opened = match sink {
            Some(sink) => Ok(sink),
            None => DeltaSink::open(&root, &spec.name, spec.id, &spec.schema).await,
        };
        let (sink, outcome) = match opened {
            Ok(mut sink) => {
                let outcome = self.apply(&root, &spec.name, &mut sink).await;
                (Some(sink), outcome)
            }
            Err(error) if matches!(self, Work::Tell { .. }) => (None, Err(error)),
            Err(error) => (None, Ok(Outcome::Failed(error))),
        };
        let others = match (&sink, &outcome, &known) {
            (Some(sink), Ok(Outcome::Told(_) | Outcome::Vacuumed(_)), Some(known)) => sink.others(known),
            _ => Ok(None),
        };
        let others = others.unwrap_or_else(|error| {
            tracing::warn!(table = spec.name, %error, "what another engine has written can't be read here");
            None
        });
        let took = clock.elapsed().saturating_sub(begun);
        Done { id: spec.id, name: spec.name.clone(), sink, outcome, others, took }
    }

    async fn apply(self, root: &DataRoot, table: &str, sink: &mut DeltaSink) -> Result<Outcome> {
        match self {
            Work::Tell { commits, has_failed } => {
                for commit in &commits {
                    match has_failed {
                        true => sink.try_commit(commit).await?,
                        false => sink.commit(commit).await?,
                    }
                }
                Ok(Outcome::Told(commits.last().map(|last| last.txn)))
            }
            Work::Compact { compaction, path } => {
                Ok(compact(root, table, sink, compaction, path).await.unwrap_or_else(Outcome::Failed))
            }
            Work::Expire { files } => Ok(match sink.swap(&files, None).await {
                Ok(true) => Outcome::Expired(files),
                Ok(false) => Outcome::Nothing,
                Err(error) => Outcome::Failed(error),
            }),
            Work::Vacuum { older_than, as_of, kept } => Ok(sink
                .vacuum(older_than, as_of, &kept)
                .await
                .map_or_else(Outcome::Failed, Outcome::Vacuumed)),
        }
    }
}

async fn compact(
    root: &DataRoot,
    table: &str,
    sink: &mut DeltaSink,
    compaction: Compaction,
    path: String,
) -> Result<Outcome> {
    let Some(stats) = sink.stats_of(&compaction.files).await? else { return Ok(Outcome::Nothing) };
    let Some(file) = write_compacted(root, table, &compaction, &stats, path).await? else {
        return Ok(Outcome::Nothing);
    };
    match sink.swap(&compaction.files, Some(&file)).await? {
        true => Ok(Outcome::Compacted(compaction, file)),
        false => Ok(Outcome::Nothing),
    }
}
