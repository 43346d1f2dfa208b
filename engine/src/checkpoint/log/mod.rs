//! The manifests, one object per epoch, and the put-if-absent that commits one.
//!
//! [`ManifestLog::commit`] ends in `Ok` (the epoch is ours), or in `Fenced` (another instance's, or one that has gone
//! further). What an error of the put stood for, and that the store may be away for a day, is `patience`'s to find out.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::checkpoint::data::DataRoot;
use crate::checkpoint::failpoint::Step;
use crate::checkpoint::garbage::{Garbage, Orphans};
use crate::checkpoint::in_use::FilesInUse;
use crate::checkpoint::manifest::{Manifest, ManifestKind};
use crate::checkpoint::names;
use crate::checkpoint::written::{Catalog, Written};
use crate::ids::Epoch;
use crate::{Error, Result};

/// A chain of changes is as long as the whole manifest weighs as much as they do: between these bounds.
const CHAIN_MIN: usize = 16;
const CHAIN_MAX: usize = 256;

/// Manifests of a chain that are read at a time.
const READ_AT_ONCE: usize = 16;

#[derive(Debug)]
pub struct ManifestLog {
    root: DataRoot,
    nonce: Uuid,
    newest: Option<Manifest>,
    chain: Chain,
    catalog: Catalog,
    /// Where it lies.
    catalog_file: Option<String>,
    /// So many manifests stay at least.
    keep: usize,
    /// Those not retired yet, oldest first.
    kept: VecDeque<Epoch>,
    in_use: FilesInUse,
    /// Named by the newest manifest no more.
    unused: Vec<String>,
}

/// Where the chain begins that the newest manifest is the end of, and what is in it.
#[derive(Debug, Default)]
struct Chain {
    whole: Option<Epoch>,
    whole_bytes: usize,
    changes: usize,
    change_bytes: usize,
}

impl Chain {
    /// Of which so many manifests are to be kept.
    fn is_long(&self, keep: usize) -> bool {
        let weighs_more = self.change_bytes >= self.whole_bytes;
        self.changes >= CHAIN_MAX.min(keep) || self.changes >= CHAIN_MIN && weighs_more
    }
}

impl ManifestLog {
    /// Reads the newest manifest. `nonce` is this instance's own; nothing is claimed yet: the caller commits a claim
    /// before it polls or touches a table. The newest `keep` manifests stay.
    pub async fn open(root: DataRoot, nonce: Uuid, keep: usize) -> Result<(ManifestLog, Option<Manifest>)> {
        refuse_lost_links(&root)?;
        let (kept, found) = newest(&root).await?;
        let (newest, catalog, catalog_file) = match found {
            Some(found) => (Some(found.manifest), found.catalog, found.catalog_file),
            None => {
                refuse_lost_manifests(&root).await?;
                Default::default()
            }
        };
        let in_use = newest.as_ref().map(FilesInUse::of).unwrap_or_default();
        let log = ManifestLog {
            root,
            nonce,
            newest: newest.clone(),
            chain: Chain::default(),
            catalog,
            catalog_file,
            keep: keep.max(1),
            kept,
            in_use,
            unused: vec![],
        };
        Ok((log, newest))
    }

    /// The epoch that the next manifest must have.
    pub fn next_epoch(&self) -> Epoch {
        self.newest.as_ref().map_or(Epoch(0), |newest| newest.epoch.next())
    }

    pub fn nonce(&self) -> Uuid {
        self.nonce
    }

    /// Files that hold so little of what is in use that it had better be written anew.
    pub fn to_empty(&self) -> BTreeSet<String> {
        self.newest.as_ref().map(|newest| self.in_use.to_empty(newest)).unwrap_or_default()
    }

    /// What killed runs have left, as of the claim that this instance has just committed.
    pub fn orphans(&self) -> Orphans {
        let named = self.in_use.paths().into_iter().chain(self.catalog_file.clone()).collect();
        Orphans { through: self.newest.as_ref().map_or(Epoch(0), |newest| newest.epoch), named }
    }

    /// Everything that `manifest` names is durable. Waits as long as it takes to know the outcome; when it is dropped
    /// midway the outcome is unknown and the log must be opened anew.
    pub async fn commit(&mut self, manifest: Manifest) -> Result<()> {
        assert_eq!(manifest.epoch, self.next_epoch(), "INV-C1: epochs follow each other");
        assert_eq!(manifest.nonce, self.nonce, "INV-C2: a manifest carries the nonce of its writer");
        let nothing = Manifest::empty(self.nonce);
        let before = self.newest.as_ref().unwrap_or(&nothing);
        let wrong = |wrong: String| Error::Internal(format!("a manifest is wrong: {wrong}"));
        for table in &manifest.tables {
            table.check(manifest.epoch).map_err(wrong)?;
        }
        let mut unused = self.in_use.go_on(before, &manifest).map_err(wrong)?;
        if let Some(catalog) = self.catalog.changed(before, &manifest) {
            let file = put_catalog(&self.root, &catalog, &manifest).await?;
            unused.extend(self.catalog_file.replace(file));
            self.catalog = catalog;
        }
        let since = self
            .chain
            .whole
            .filter(|_| manifest.kind == ManifestKind::Epoch && !self.chain.is_long(self.keep));
        let written = match since {
            Some(_) => Written::change(before, &manifest, since),
            None => Written::whole(&manifest),
        };
        let bytes = encode(&Written { catalog: self.catalog_file.clone(), ..written })?;
        let size = bytes.len();
        let failpoints = self.root.failpoints().clone();
        failpoints.hit(Step::ManifestAbsent);
        self.put(manifest.epoch, bytes).await?;
        failpoints.hit(Step::ManifestDurable);
        self.refuse_when_overtaken(manifest.epoch).await?;
        match since {
            Some(_) => {
                self.chain.changes += 1;
                self.chain.change_bytes += size;
            }
            None => self.chain = Chain { whole: Some(manifest.epoch), whole_bytes: size, ..Chain::default() },
        }
        self.kept.push_back(manifest.epoch);
        self.unused.extend(unused);
        self.newest = Some(manifest);
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
        match &self.newest {
            Some(newest) => self.refuse_when_overtaken(newest.epoch).await,
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

    /// What nobody needs any more: files that the newest manifest does not name, which were carried on from manifest to
    /// manifest, so that none can be named again (INV-C7); and manifests but for the newest ones and those of its chain.
    pub fn garbage(&mut self) -> Garbage {
        let mut garbage = Garbage { files: std::mem::take(&mut self.unused), manifests: vec![] };
        while self.kept.len() > self.keep && Some(self.kept[0]) < self.chain.whole {
            garbage.manifests.extend(self.kept.pop_front().map(names::manifest));
        }
        garbage
    }
}

fn taken(epoch: Epoch, found: &[u8]) -> Error {
    let written = opened(found).ok().and_then(|found| serde_json::from_slice::<Written>(&found).ok());
    let by = written.map_or_else(|| "unreadable".to_string(), |written| written.nonce.to_string());
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

/// The manifest with which a start would go on.
pub async fn newest_manifest(root: &DataRoot) -> Result<Option<Manifest>> {
    Ok(newest(root).await?.1.map(|found| found.manifest))
}

/// A manifest that was read, and the catalog that it names.
pub(in crate::checkpoint) struct Found {
    pub manifest: Manifest,
    catalog: Catalog,
    catalog_file: Option<String>,
}

/// A link that leads nowhere is in no listing, and yet its name is taken: a put would wait for it to be seen.
fn refuse_lost_links(root: &DataRoot) -> Result<()> {
    let folder = root.local().map(|local| local.join(names::MANIFESTS));
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_symlink() && !path.exists() {
            return Err(bad(&path.display().to_string(), "it is a link to what is not there"));
        }
    }
    Ok(())
}

/// Where there are files that only a manifest can have named, manifests were lost, and an epoch begun anew would put its rows in the
/// place of theirs.
async fn refuse_lost_manifests(root: &DataRoot) -> Result<()> {
    for folder in [names::STATE, names::TABLES] {
        let found = root.objects().list(Some(&Path::from(folder))).next().await.transpose()?;
        let Some(found) = found else { continue };
        // Whoever is pushed aside may have begun a moment ago.
        if epochs(root, None).await?.is_empty() {
            return Err(Error::BadData(format!(
                "there is no manifest, and yet there are files that one has named: bring {}/ back, or move {}/ and {}/ away to \
                 begin anew without their rows. data=\"{}\", file=\"{}\"",
                names::MANIFESTS,
                names::STATE,
                names::TABLES,
                root.url(),
                found.location
            )));
        }
    }
    Ok(())
}

/// All epochs, ascending, and the manifest of the last. Whoever lives on this data may retire what is about to be read, but
/// only when it has gone on.
async fn newest(root: &DataRoot) -> Result<(VecDeque<Epoch>, Option<Found>)> {
    loop {
        let epochs = VecDeque::from(epochs(root, None).await?);
        let Some(newest) = epochs.back().copied() else { return Ok((epochs, None)) };
        match read(root, newest).await {
            Err(Error::BadData(_)) if !self::epochs(root, Some(newest)).await?.is_empty() => {}
            found => return Ok((epochs, Some(found?))),
        }
    }
}

/// By way of the chain that it is the end of.
pub(in crate::checkpoint) async fn read(root: &DataRoot, epoch: Epoch) -> Result<Found> {
    let newest = read_one(root, epoch).await?;
    let bad = |wrong: String| bad(&names::manifest(epoch), &wrong);
    let mut manifest = Manifest::empty(newest.nonce);
    let links = newest.since.map(|since| since.0..epoch.0).unwrap_or_default();
    let links = futures::stream::iter(links.map(|link| read_one(root, Epoch(link))));
    let links: Vec<Written> = links.buffered(READ_AT_ONCE).try_collect().await?;
    if let Some(first) = links.first().filter(|first| first.since.is_some()) {
        return Err(bad(format!(
            "the chain that it is the end of does not begin with epoch {}",
            first.epoch
        )));
    }
    let (nonce, catalog_file) = (newest.nonce, newest.catalog.clone());
    for link in links.into_iter().chain([newest]) {
        if link.nonce != nonce {
            return Err(bad(format!("epoch {} of its chain is of another instance", link.epoch)));
        }
        link.apply(&mut manifest).map_err(bad)?;
    }
    let catalog = match &catalog_file {
        Some(file) => {
            let catalog = read_catalog(root, file).await?;
            catalog.fill(&mut manifest).map_err(bad)?;
            catalog
        }
        None => Catalog::default(),
    };
    manifest.check().map_err(bad)?;
    Ok(Found { manifest, catalog, catalog_file })
}

async fn read_one(root: &DataRoot, epoch: Epoch) -> Result<Written> {
    let path = names::manifest(epoch);
    match root.get(&path).await {
        Err(object_store::Error::NotFound { .. }) => Err(bad(&path, "it is missing")),
        bytes => decode(&path, epoch, &bytes?),
    }
}

async fn put_catalog(root: &DataRoot, catalog: &Catalog, manifest: &Manifest) -> Result<String> {
    let bytes = serde_json::to_vec(catalog)
        .map_err(|error| Error::Internal(format!("a catalog cannot be written: {error}")))?;
    let path = names::catalog(manifest.epoch, manifest.nonce);
    root.failpoints().hit(Step::CatalogAbsent);
    root.put(&path, Bytes::from(sealed(&bytes))).await?;
    root.failpoints().hit(Step::CatalogDurable);
    Ok(path)
}

async fn read_catalog(root: &DataRoot, path: &str) -> Result<Catalog> {
    let bad = |wrong: &str| Error::BadData(format!("cannot read a catalog. path=\"{path}\": {wrong}"));
    let bytes = match root.get(path).await {
        Err(object_store::Error::NotFound { .. }) => return Err(bad("it is missing")),
        bytes => bytes?,
    };
    let opened = opened(&bytes).map_err(|wrong| bad(&wrong))?;
    serde_json::from_slice(&opened).map_err(|error| bad(&error.to_string()))
}

fn bad(path: &str, wrong: &str) -> Error {
    Error::BadData(format!("cannot read a manifest. path=\"{path}\": {wrong}"))
}

fn encode(written: &Written) -> Result<Bytes> {
    let bytes = serde_json::to_vec(written)
        .map_err(|error| Error::Internal(format!("a manifest cannot be written: {error}")))?;
    Ok(Bytes::from(sealed(&bytes)))
}

/// How a manifest, or a catalog, begins that says what it holds by a hash of the rest, since format 5.
const SEAL: &str = "{\"hash\":";

fn sealed(manifest: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{SEAL}{},", xxh3_64(manifest)).into_bytes();
    bytes.extend_from_slice(manifest.strip_prefix(b"{").unwrap_or(manifest));
    bytes
}

/// What is left without the hash, which is that of it.
fn opened(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let Some(rest) = bytes.strip_prefix(SEAL.as_bytes()) else { return Ok(Cow::Borrowed(bytes)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let hash = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse::<u64>().ok());
    let body = [b"{", rest.get(digits + 1..).unwrap_or_default()].concat();
    match hash == Some(xxh3_64(&body)) {
        true => Ok(Cow::Owned(body)),
        false => Err("it is not what was written: its hash is another".to_string()),
    }
}

fn decode(path: &str, epoch: Epoch, bytes: &[u8]) -> Result<Written> {
    let bad = |wrong: String| bad(path, &wrong);
    #[derive(serde::Deserialize)]
    struct Header {
        format: u32,
    }
    let header: Header = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    crate::checkpoint::manifest::check_format(header.format).map_err(bad)?;
    let opened = opened(bytes).map_err(bad)?;
    let written: Written = serde_json::from_slice(&opened).map_err(|error| bad(error.to_string()))?;
    if written.epoch != epoch {
        return Err(bad(format!("it says that it is of epoch {}", written.epoch)));
    }
    Ok(written)
}
