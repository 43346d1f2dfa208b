//! Deletes what no manifest needs any more, many objects at once and beside all else.
//!
//! A state file is named by the manifest of its own epoch or by none, and carried on from one manifest to the next
//! (INV-C7). So what a committed manifest of its epoch or a later one does not name can never be named again: files that
//! were in use, and what killed runs have left. Parquet files are not of these: readers of older Delta versions may still
//! want them.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::data::DataRoot;
use super::failpoint::Step;
use super::names;
use crate::Result;
use crate::ids::Epoch;

/// Objects that may go, relative to the root.
#[derive(Debug, Default)]
pub struct Garbage {
    pub(super) files: Vec<String>,
    pub(super) manifests: Vec<String>,
}

impl Garbage {
    pub fn len(&self) -> usize {
        self.files.len() + self.manifests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn add(&mut self, mut more: Garbage) {
        self.files.append(&mut more.files);
        self.manifests.append(&mut more.manifests);
    }

    /// Where it ends midway, what is left is found at the next start.
    pub async fn delete(self, root: &DataRoot) -> Result<()> {
        if !self.files.is_empty() {
            delete(root, self.files).await?;
            root.failpoints().hit(Step::RetiredStateFile);
        }
        if !self.manifests.is_empty() {
            delete(root, self.manifests).await?;
            root.failpoints().hit(Step::RetiredManifest);
        }
        Ok(())
    }
}

async fn delete(root: &DataRoot, paths: Vec<String>) -> Result<()> {
    let paths = stream::iter(paths.into_iter().map(|path| Ok(Path::from(path))));
    root.objects().delete_stream(paths.boxed()).try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}

/// What killed runs have left.
pub struct Orphans {
    /// That of the claim.
    pub(super) through: Epoch,
    /// What was in use then.
    pub(super) named: BTreeSet<String>,
}

impl Orphans {
    /// Returns how many files went.
    pub async fn sweep(self, root: &DataRoot) -> Result<usize> {
        let mut swept = 0;
        for folder in [names::STATE, names::CATALOG] {
            let found = root.objects().list(Some(&Path::from(folder)));
            let orphans: Vec<String> = found
                .map_ok(|meta| meta.location)
                .try_filter(|path| std::future::ready(self.is_orphan(path)))
                .map_ok(String::from)
                .try_collect()
                .await?;
            swept += orphans.len();
            delete(root, orphans).await?;
        }
        if swept > 0 {
            tracing::info!(files = swept, "deleted state files that no manifest names");
        }
        Ok(swept)
    }

    fn is_orphan(&self, path: &Path) -> bool {
        let epoch = path.filename().and_then(names::state_epoch);
        epoch.is_some_and(|epoch| epoch <= self.through) && !self.named.contains(path.as_ref())
    }
}
