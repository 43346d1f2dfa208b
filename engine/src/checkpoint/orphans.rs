//! Deletes what killed runs left under `state/`.
//!
//! A state file is named by the manifest of its own epoch or by none, and carried on from one manifest to the next
//! (INV-C7). So once an epoch is committed, a file of that epoch or an earlier one that its manifest does not name can
//! never be named again. Parquet files are not swept: readers of older Delta versions may still want them.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::data::DataRoot;
use super::manifest::Manifest;
use super::names;
use crate::Result;

/// To be called with the claim that this instance has just committed. Returns how many files went.
pub async fn sweep_orphans(root: &DataRoot, committed: &Manifest) -> Result<usize> {
    let named: BTreeSet<&str> = committed.state_files().map(|file| file.path.as_str()).collect();
    let files: Vec<Path> = root
        .objects()
        .list(Some(&Path::from(names::STATE)))
        .map_ok(|meta| meta.location)
        .try_collect()
        .await?;
    let mut swept = 0;
    for file in files {
        let epoch = file.filename().and_then(names::state_epoch);
        if epoch.is_none_or(|epoch| epoch > committed.epoch) || named.contains(file.as_ref()) {
            continue;
        }
        match root.objects().delete(&file).await {
            Ok(()) => swept += 1,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if swept > 0 {
        tracing::info!(files = swept, "deleted state files that no manifest names");
    }
    Ok(swept)
}
