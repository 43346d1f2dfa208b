//! The manifests, one object per epoch, and the put-if-absent that commits one.
//!
//! [`ManifestLog::commit`] ends in `Ok` (the epoch is ours), or in `Fenced` (another instance's, or one that has gone
//! further). What an error of the put stood for, and that the store may be away for a day, is `patience`'s to find out.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

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
        self.put(manifest.epoch, bytes).await?;
        failpoints.hit(Step::ManifestDurable);
        self.refuse_when_overtaken(manifest.epoch).await?;
        self.newest = Some(manifest.epoch);
        self.kept.push_back(manifest.epoch);
        self.live = state_paths(manifest);
        failpoints.hit(Step::ManifestCommitted);
        Ok(())
    }

    /// Whose epoch it is, is read from the object, never concluded from an error (INV-C2).
    async fn put(&self, epoch: Epoch, bytes: Bytes) -> Result<()> {
        let path = names::manifest(epoch);
        match self.root.put_absent(&path, bytes).await {
            Err(object_store::Error::AlreadyExists { .. }) => {
                Err(taken(epoch, &self.root.get(&path).await.unwrap_or_default()))
            }
            outcome => Ok(outcome?),
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

    /// INV-C9: a zombie can find its number free long after, when the manifests of its time were retired; its
    /// successor's are in the listing.
    async fn refuse_when_overtaken(&self, epoch: Epoch) -> Result<()> {
        let later = epochs(&self.root, Some(epoch)).await?;
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
    let manifest = opened(found).ok().and_then(|found| serde_json::from_slice::<Manifest>(&found).ok());
    let by = manifest.map_or_else(|| "unreadable".to_string(), |manifest| manifest.nonce.to_string());
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
    Ok(Bytes::from(sealed(&bytes)))
}

/// How a manifest begins that says what it holds by a hash of the rest, since format 5.
const SEAL: &str = "{\"hash\":";

fn sealed(manifest: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{SEAL}{},", xxh3_64(manifest)).into_bytes();
    bytes.extend_from_slice(manifest.strip_prefix(b"{").unwrap_or(manifest));
    bytes
}

/// The manifest without its hash, which it must have.
pub(super) fn opened(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let Some(rest) = bytes.strip_prefix(SEAL.as_bytes()) else { return Ok(Cow::Borrowed(bytes)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let hash = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse::<u64>().ok());
    let body = [b"{", rest.get(digits + 1..).unwrap_or_default()].concat();
    match hash == Some(xxh3_64(&body)) {
        true => Ok(Cow::Owned(body)),
        false => Err("it is not what was written: its hash is another".to_string()),
    }
}

fn decode(path: &str, epoch: Epoch, bytes: &[u8]) -> Result<Manifest> {
    let bad = |wrong: String| Error::BadData(format!("cannot read a manifest. path=\"{path}\": {wrong}"));
    #[derive(serde::Deserialize)]
    struct Header {
        format: u32,
    }
    let header: Header = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    super::manifest::check_format(header.format).map_err(bad)?;
    let opened = opened(bytes).map_err(bad)?;
    let manifest: Manifest = serde_json::from_slice(&opened).map_err(|error| bad(error.to_string()))?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::ErrorKind;
    use crate::checkpoint::manifest::*;
    use crate::checkpoint::{FileNames, read_batches};
    use crate::checkpoint::{sweep_orphans, write_batches};
    use crate::view::part::Part;

    const US: Uuid = Uuid::from_u128(1);
    const THEM: Uuid = Uuid::from_u128(2);

    fn root() -> DataRoot {
        DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap())
    }

    fn manifest(epoch: u64, nonce: Uuid, tail: Vec<StateFile>) -> Manifest {
        let table = TableState {
            id: Uuid::from_u128(7),
            name: "v".to_string(),
            kind: TableKind::RejectedRecords,
            runs: Vec::new(),
            tail,
            tail_since: None,
            delta: DeltaState::default(),
            failure: None,
        };
        Manifest {
            format: FORMAT,
            epoch: Epoch(epoch),
            nonce,
            kind: ManifestKind::Epoch,
            committed_at: 0,
            streams: Vec::new(),
            tables: vec![table],
            kept: Vec::new(),
            lookups: Vec::new(),
            ledger: Vec::new(),
            interventions: Vec::new(),
        }
    }

    async fn state(root: &DataRoot, epoch: u64) -> StateFile {
        let path = FileNames::new(Uuid::from_u128(7), Epoch(epoch), US).state();
        write_batches(root, path, &[] as &[Part]).await.unwrap()
    }

    async fn opened(root: &DataRoot, nonce: Uuid) -> (ManifestLog, Option<Manifest>) {
        ManifestLog::open(root.clone(), nonce).await.unwrap()
    }

    #[tokio::test]
    async fn the_newest_manifest_is_found_and_a_taken_number_fences() {
        let root = root();
        let (mut ours, none) = opened(&root, US).await;
        assert_eq!(none, None);
        ours.commit(&manifest(0, US, vec![])).await.unwrap();
        let (mut theirs, found) = opened(&root, THEM).await;
        assert_eq!(found, Some(manifest(0, US, vec![])));
        theirs.commit(&manifest(1, THEM, vec![])).await.unwrap();
        assert_eq!(ours.still_ours().await.unwrap_err().kind(), ErrorKind::Fenced);
        let error = ours.commit(&manifest(1, US, vec![])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert!(error.to_string().contains(&THEM.to_string()), "{error}");
        theirs.still_ours().await.unwrap();
    }

    #[tokio::test]
    async fn a_number_that_was_retired_fences_too() {
        let root = root();
        let (mut zombie, _) = opened(&root, US).await;
        let (mut theirs, _) = opened(&root, THEM).await;
        for epoch in 0..5 {
            theirs.commit(&manifest(epoch, THEM, vec![])).await.unwrap();
        }
        theirs.retire(2).await.unwrap();
        let error = zombie.commit(&manifest(0, US, vec![])).await.unwrap_err();
        assert!(error.to_string().contains("epoch=0, newest epoch=4"), "{error}");
        assert_eq!(opened(&root, US).await.1, Some(manifest(4, THEM, vec![])));
    }

    #[tokio::test]
    async fn the_same_nonce_with_another_content_is_no_success() {
        let root = root();
        let (mut log, _) = opened(&root, US).await;
        let (mut again, _) = opened(&root, US).await;
        log.commit(&manifest(0, US, vec![])).await.unwrap();
        let differs = Manifest { committed_at: 1, ..manifest(0, US, vec![]) };
        assert_eq!(again.commit(&differs).await.unwrap_err().kind(), ErrorKind::Fenced);
    }

    #[tokio::test]
    async fn retiring_takes_the_state_that_only_old_manifests_name() {
        let root = root();
        let (old, carried, orphan) = (state(&root, 0).await, state(&root, 1).await, state(&root, 2).await);
        let ahead = state(&root, 9).await;
        let (mut log, _) = opened(&root, US).await;
        log.commit(&manifest(0, US, vec![old.clone()])).await.unwrap();
        log.commit(&manifest(1, US, vec![old.clone(), carried.clone()])).await.unwrap();
        log.commit(&manifest(2, US, vec![carried.clone()])).await.unwrap();
        log.retire(1).await.unwrap();
        assert_eq!(read_batches(&root, &old).await.unwrap_err().kind(), ErrorKind::BadData);
        read_batches(&root, &carried).await.unwrap();
        read_batches(&root, &orphan).await.unwrap();
        assert_eq!(epochs(&root, None).await.unwrap(), [Epoch(2)]);
        assert_eq!(sweep_orphans(&root, &manifest(2, US, vec![carried.clone()])).await.unwrap(), 1);
        read_batches(&root, &orphan).await.unwrap_err();
        read_batches(&root, &carried).await.unwrap();
        read_batches(&root, &ahead).await.unwrap();
    }

    #[tokio::test]
    async fn what_this_version_cannot_read_is_refused_by_name() {
        let root = root();
        let good = serde_json::to_string(&manifest(3, US, vec![])).unwrap();
        let check = async |text: String, part: &str| {
            root.put("manifests/00000000000000000003.json", Bytes::from(text)).await.unwrap();
            let error = ManifestLog::open(root.clone(), US).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadData);
            assert!(error.to_string().contains("manifests/00000000000000000003.json"), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(good.replace("\"format\":5", "\"format\":6"), "its format is 6, this version reads 1 to 5")
            .await;
        let sealed = String::from_utf8(sealed(good.as_bytes())).unwrap();
        check(sealed.replace("\"epoch\":3", "\"epoch\":4"), "its hash is another").await;
        check(good.replace("\"ledger\"", "\"unheard\":1,\"ledger\""), "unheard").await;
        check(good.replace("\"epoch\":3", "\"epoch\":4"), "epoch 4").await;
        check(good[..good.len() / 2].to_string(), "EOF").await;
    }

    #[test]
    fn a_manifest_of_format_3_has_no_tables_to_look_up() {
        let written = Manifest { format: 3, ..manifest(3, US, vec![]) };
        let text = serde_json::to_string(&written).unwrap().replace("\"lookups\":[],", "");
        assert!(!text.contains("lookups"));
        let read: Manifest = serde_json::from_str(&text).unwrap();
        read.check().unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn a_manifest_of_format_2_has_no_endpoints() {
        let written = Manifest { format: 2, ..manifest(3, US, vec![]) };
        let text = serde_json::to_string(&written).unwrap().replace("\"endpoints\":[],", "");
        assert!(!text.contains("endpoints"));
        let read: Manifest = serde_json::from_str(&text).unwrap();
        read.check().unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn pending_commits_must_be_a_chain() {
        let pending = |txn, previous: Option<u64>| PendingCommit {
            txn: Epoch(txn),
            previous: previous.map(Epoch),
            files: Vec::new(),
            replace: false,
        };
        let check = |chain: Vec<PendingCommit>, right: bool| {
            let mut manifest = manifest(9, US, vec![]);
            manifest.tables[0].delta = DeltaState { confirmed: Some(Epoch(2)), pending: chain };
            assert_eq!(encode(&manifest).is_ok(), right, "{manifest:?}");
        };
        check(vec![pending(4, Some(2)), pending(9, Some(4))], true);
        check(vec![pending(4, None)], false);
        check(vec![pending(4, Some(2)), pending(6, Some(2))], false);
        check(vec![pending(2, Some(2))], false);
        check(vec![pending(10, Some(2))], false);
    }
}
