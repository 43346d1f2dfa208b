//! Has deleted what no manifest needs any more: many objects at once, one task at a time, beside all else.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::checkpoint::{DataRoot, Garbage, Orphans};

/// So many objects make a request worth while.
const GATHERED: usize = 64;

/// Whoever stops waits no longer: what is left is found at the next start.
const LEAVING: Duration = Duration::from_secs(2);

pub struct Cleaner {
    root: DataRoot,
    gathered: Garbage,
    at_least: usize,
    /// None or one.
    task: JoinSet<()>,
}

impl Cleaner {
    /// Begins with what killed runs have left. `kept` manifests stay, of which a test has few.
    pub fn start(root: DataRoot, orphans: Orphans, kept: usize) -> Cleaner {
        let mut task = JoinSet::new();
        let root_of_task = root.clone();
        task.spawn(async move {
            if let Err(error) = orphans.sweep(&root_of_task).await {
                tracing::warn!(%error, "cannot delete now what killed runs have left");
            }
        });
        Cleaner { root, gathered: Garbage::default(), at_least: GATHERED.min(kept), task }
    }

    pub fn take(&mut self, garbage: Garbage) {
        self.gathered.add(garbage);
        while self.task.try_join_next().is_some() {}
        if self.task.is_empty() && self.gathered.len() >= self.at_least {
            self.delete();
        }
    }

    pub async fn finish(&mut self) {
        let rest = async {
            while self.task.join_next().await.is_some() {}
            self.delete();
            while self.task.join_next().await.is_some() {}
        };
        if tokio::time::timeout(LEAVING, rest).await.is_err() {
            tracing::info!("files that nobody needs are left to the next start");
        }
    }

    fn delete(&mut self) {
        let (garbage, root) = (std::mem::take(&mut self.gathered), self.root.clone());
        self.task.spawn(async move {
            if let Err(error) = garbage.delete(&root).await {
                tracing::warn!(%error, "cannot delete files that nobody needs; the next start will");
            }
        });
    }
}
