//! The manifests, one object per epoch, and the put-if-absent that commits one.
//!
//! An error of that put says nothing about its effect, *already exists* included: the client repeats a put whose reply
//! was lost and then meets its own object. So [`ManifestLog::commit`] goes on until it has read who owns the epoch. It
//! ends in `Ok` (the epoch is ours), or in `Fenced` (another instance's, or one that has gone further).

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::data::DataRoot;
use super::failpoint::Step;
use super::manifest::Manifest;
use super::names;
use crate::ids::Epoch;
use crate::{Error, Result};

#[derive(Debug)]
pub struct ManifestLog {
    root: DataRoot,
    nonce: Uuid,
    newest: Option<Epoch>,
    /// Manifests not retired yet, oldest first.
    kept: VecDeque<Epoch>,
    /// State files of the newest manifest.
    live: BTreeSet<String>,
}

impl ManifestLog {
    /// Reads the newest manifest. `nonce` is this instance's own; nothing is claimed yet: the caller commits a claim
    /// before it polls or touches a table.
    pub async fn open(root: DataRoot, nonce: Uuid) -> Result<(ManifestLog, Option<Manifest>)> {
        let kept = VecDeque::from(epochs(&root, None).await?);
        let newest = kept.back().copied();
        let manifest = match newest {
            Some(epoch) => Some(read(&root, epoch).await?),
            None => None,
        };
        let live = manifest.as_ref().map(state_paths).unwrap_or_default();
        Ok((ManifestLog { root, nonce, newest, kept, live }, manifest))
    }

    /// The epoch that the next manifest must have.
    pub fn next_epoch(&self) -> Epoch {
        self.newest.map_or(Epoch(0), Epoch::next)
    }

    pub fn nonce(&self) -> Uuid {
        self.nonce
    }

    /// Everything that `manifest` names is durable. Waits as long as it takes to know the outcome; when it is dropped
    /// midway the outcome is unknown and the log must be opened anew.
    pub async fn commit(&mut self, manifest: &Manifest) -> Result<()> {
        assert_eq!(manifest.epoch, self.next_epoch(), "INV-C1: epochs follow each other");
        assert_eq!(manifest.nonce, self.nonce, "INV-C2: a manifest carries the nonce of its writer");
        let bytes = encode(manifest)?;
        let failpoints = self.root.failpoints().clone();
        failpoints.hit(Step::ManifestAbsent);
        self.put_until_known(manifest.epoch, bytes).await?;
        failpoints.hit(Step::ManifestDurable);
        self.refuse_when_overtaken(manifest.epoch).await?;
        self.newest = Some(manifest.epoch);
        self.kept.push_back(manifest.epoch);
        self.live = state_paths(manifest);
        failpoints.hit(Step::ManifestCommitted);
        Ok(())
    }

    async fn put_until_known(&self, epoch: Epoch, bytes: Bytes) -> Result<()> {
        let path = names::manifest(epoch);
        let mut failures = 0;
        loop {
            let error = match self.root.put_absent(&path, bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ object_store::Error::AlreadyExists { .. }) => match self.root.get(&path).await {
                    Ok(found) if found == bytes => return Ok(()),
                    Ok(found) => return Err(taken(epoch, &found)),
                    // Gone again, or hidden by a concurrent put; or the reading itself failed: ask again.
                    Err(object_store::Error::NotFound { .. }) => error,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(%epoch, %error, failures, "a manifest's put has an unknown outcome; trying again");
            self.root.retry().pause(failures).await;
            failures += 1;
        }
    }

    /// `Fenced` when a later manifest than this instance's last exists. A successor retires files that a zombie may be
    /// reading, so a file found missing means damage only after this has returned `Ok`.
    pub async fn still_ours(&self) -> Result<()> {
        match self.newest {
            Some(epoch) => self.refuse_when_overtaken(epoch).await,
            None => Ok(()),
        }
    }

    /// A zombie can find its number free long after, when the manifests of its time were retired; its successor's are
    /// in the listing.
    async fn refuse_when_overtaken(&self, epoch: Epoch) -> Result<()> {
        let mut failures = 0;
        let later = loop {
            match epochs(&self.root, Some(epoch)).await {
                Ok(later) => break later,
                Err(error) => {
                    tracing::warn!(%epoch, %error, failures, "cannot list the manifests; trying again")
                }
            }
            self.root.retry().pause(failures).await;
            failures += 1;
        };
        match later.last() {
            Some(later) => Err(Error::Fenced(format!(
                "another instance has taken over this data. epoch={epoch}, newest epoch={later}"
            ))),
            None => Ok(()),
        }
    }

    /// Deletes all but the newest `keep` manifests, and the state files they named that the newest does not: files are
    /// carried on from manifest to manifest, so none of these can be named again (INV-C7).
    pub async fn retire(&mut self, keep: usize) -> Result<()> {
        while self.kept.len() > keep.max(1) {
            let epoch = self.kept[0];
            match read(&self.root, epoch).await {
                Ok(manifest) => {
                    for path in state_paths(&manifest).difference(&self.live) {
                        delete(&self.root, path).await?;
                        self.root.failpoints().hit(Step::RetiredStateFile);
                    }
                }
                Err(Error::Store(error)) if matches!(*error, object_store::Error::NotFound { .. }) => {}
                Err(error @ Error::Store(_)) => return Err(error),
                // It cannot be read, so what it named stays; it must not stop those after it from going.
                Err(error) => tracing::warn!(%epoch, %error, "retiring a manifest that cannot be read"),
            }
            delete(&self.root, &names::manifest(epoch)).await?;
            self.root.failpoints().hit(Step::RetiredManifest);
            self.kept.pop_front();
        }
        Ok(())
    }
}

fn taken(epoch: Epoch, found: &[u8]) -> Error {
    let by = serde_json::from_slice::<Manifest>(found).map(|manifest| manifest.nonce);
    let by = by.map_or_else(|_| "unreadable".to_string(), |nonce| nonce.to_string());
    Error::Fenced(format!("another instance has taken over this data. epoch={epoch}, instance={by}"))
}

/// Ascending; those after `after`, where it is given.
async fn epochs(root: &DataRoot, after: Option<Epoch>) -> Result<Vec<Epoch>> {
    let folder = Path::from(names::MANIFESTS);
    let listing = match after {
        Some(epoch) => root.objects().list_with_offset(Some(&folder), &Path::from(names::manifest(epoch))),
        None => root.objects().list(Some(&folder)),
    };
    let found: Vec<Option<Epoch>> =
        listing.map_ok(|meta| names::manifest_epoch(meta.location.filename()?)).try_collect().await?;
    let mut epochs: Vec<Epoch> = found.into_iter().flatten().collect();
    epochs.sort_unstable();
    Ok(epochs)
}

async fn read(root: &DataRoot, epoch: Epoch) -> Result<Manifest> {
    let path = names::manifest(epoch);
    decode(&path, epoch, &root.get(&path).await?)
}

fn encode(manifest: &Manifest) -> Result<Bytes> {
    manifest.check().map_err(|wrong| Error::Internal(format!("a manifest is wrong: {wrong}")))?;
    let bytes = serde_json::to_vec(manifest)
        .map_err(|error| Error::Internal(format!("a manifest cannot be written: {error}")))?;
    Ok(Bytes::from(bytes))
}

fn decode(path: &str, epoch: Epoch, bytes: &[u8]) -> Result<Manifest> {
    let bad = |wrong: String| Error::BadData(format!("cannot read a manifest. path=\"{path}\": {wrong}"));
    #[derive(serde::Deserialize)]
    struct Header {
        format: u32,
    }
    let header: Header = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    if header.format != super::manifest::FORMAT {
        let known = super::manifest::FORMAT;
        return Err(bad(format!("its format is {}, this version reads {known}", header.format)));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    if manifest.epoch != epoch {
        return Err(bad(format!("it says that it is of epoch {}", manifest.epoch)));
    }
    manifest.check().map_err(bad)?;
    Ok(manifest)
}

fn state_paths(manifest: &Manifest) -> BTreeSet<String> {
    manifest.state_files().map(|file| file.path.clone()).collect()
}

async fn delete(root: &DataRoot, path: &str) -> Result<()> {
    match root.objects().delete(&Path::from(path)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
