//! A local folder as an object store whose puts survive a power cut, which object_store's own does not promise.
//!
//! A put writes a file beside its target, syncs it, and only then gives it its name (by link when the name must be
//! free, by rename otherwise) and syncs the folder. So a name never stands for half a file. Readings and listings are
//! object_store's own, but sorted as a bucket's are: the Delta library relies on it (INV-C8). It takes a name ending in
//! `#<digits>` for an unfinished put and passes over it, so that is how the unfinished files are named here too.
//!
//! A failed sync of a file is an error like any other: nothing has its name yet, and the next attempt writes anew. A
//! failed sync of a folder leaves a name that may or may not last, so the process ends there (INV-C6).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use object_store::{PutMode, Result};

use super::whole_upload::WholeUpload;

const STORE: &str = "local folder";

#[derive(Debug, Clone)]
pub(super) struct DurableLocal {
    inner: Arc<LocalFileSystem>,
    writer: Arc<Writer>,
}

impl DurableLocal {
    /// `folder` exists and is absolute.
    pub(super) fn open(folder: PathBuf) -> Result<DurableLocal> {
        let inner = Arc::new(LocalFileSystem::new_with_prefix(&folder)?);
        #[expect(clippy::disallowed_methods, reason = "names of files that nobody will ever read")]
        let unique = AtomicU64::new(uuid::Uuid::new_v4().as_u64_pair().0 >> 1);
        Ok(DurableLocal {
            inner,
            writer: Arc::new(Writer { root: folder, unique, synced_folders: Mutex::default() }),
        })
    }
}

impl std::fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{STORE} {}", self.writer.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Overwrite => false,
            PutMode::Create => true,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented {
                    operation: "put if unchanged".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let target = self.inner.path_to_filesystem(location)?;
        let writer = Arc::clone(&self.writer);
        let name = location.to_string();
        tokio::task::spawn_blocking(move || writer.put(&target, &payload, create))
            .await
            .map_err(|source| object_store::Error::JoinError { source })?
            .map_err(|source| refused(name, source))?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(WholeUpload::to(Arc::new(self.clone()), location))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let asked = options.range.clone();
        let found = self.inner.get_opts(location, options).await?;
        // Whoever asks for a part knows how long the file is to be, and takes what is short for a mistake of its own.
        match asked {
            Some(GetRange::Bounded(asked)) if found.range.end < asked.end => Err(Error::NotFound {
                path: location.to_string(),
                source: format!(
                    "the file was cut, it has {} bytes, and those up to {} are asked for",
                    found.meta.size, asked.end
                )
                .into(),
            }),
            _ => Ok(found),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            object_store::CopyMode::Overwrite => PutMode::Overwrite,
            object_store::CopyMode::Create => PutMode::Create,
        };
        let bytes = self.inner.get_opts(from, GetOptions::default()).await?.bytes().await?;
        let options = PutOptions { mode, ..PutOptions::default() };
        self.put_opts(to, PutPayload::from_bytes(bytes), options).await.map(|_| ())
    }
}

fn sorted(listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let whole = async move {
        let mut found: Vec<ObjectMeta> = listing.try_collect().await?;
        found.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, object_store::Error>(futures::stream::iter(found.into_iter().map(Ok)))
    };
    futures::stream::once(whole).try_flatten().boxed()
}

fn refused(path: String, source: io::Error) -> object_store::Error {
    match source.kind() {
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: Box::new(source) },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            object_store::Error::PermissionDenied { path, source: Box::new(source) }
        }
        _ => object_store::Error::Generic {
            store: STORE,
            source: format!("cannot write a file. path=\"{path}\": {source}").into(),
        },
    }
}

#[derive(Debug)]
struct Writer {
    root: PathBuf,
    unique: AtomicU64,
    /// Folders whose own entry is known to be on disk.
    synced_folders: Mutex<BTreeSet<PathBuf>>,
}

impl Writer {
    fn put(&self, target: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
        let folder = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.ensure_folder(folder)?;
        // Opened before the name is given: where no descriptor is left, nothing has happened yet.
        let opened = File::open(folder)?;
        let unfinished = self.unfinished_name(target);
        let put = write_synced(&unfinished, payload).and_then(|()| match create {
            true => fs::hard_link(&unfinished, target),
            false => fs::rename(&unfinished, target),
        });
        if create || put.is_err() {
            // Its loss is not an error: nothing lists such a name.
            let _ = fs::remove_file(&unfinished);
        }
        put?;
        sync_or_die(folder, &opened);
        Ok(())
    }

    fn unfinished_name(&self, target: &FilePath) -> PathBuf {
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{}", self.unique.fetch_add(1, Ordering::Relaxed)));
        PathBuf::from(name)
    }

    /// Makes the folder and syncs the entries on the way to it. A folder found here may have been made by a process
    /// that died before its sync, so the first use of each folder walks up to the root.
    fn ensure_folder(&self, folder: &FilePath) -> io::Result<()> {
        if self.synced_folders().contains(folder) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        let mut at = folder;
        while let Some(parent) = at.parent().filter(|_| at.starts_with(&self.root)) {
            sync_or_die(parent, &File::open(parent)?);
            at = parent;
        }
        self.synced_folders().insert(folder.to_owned());
        Ok(())
    }

    fn synced_folders(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.synced_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_synced(path: &FilePath, payload: &PutPayload) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    for chunk in payload {
        file.write_all(chunk)?;
    }
    file.sync_all()
}

fn sync_or_die(folder: &FilePath, opened: &File) {
    if let Err(error) = opened.sync_all() {
        tracing::error!(folder = %folder.display(), %error, "a folder cannot be synced; stopping at once");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    fn create() -> PutOptions {
        PutOptions { mode: PutMode::Create, ..PutOptions::default() }
    }

    async fn names(store: &DurableLocal) -> Vec<String> {
        store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn puts_are_read_back_and_absent_means_absent() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(folder.path().canonicalize().unwrap()).unwrap();
        let path = Path::from("a/b/c.json");
        store.put_opts(&path, "one".into(), create()).await.unwrap();
        let again = store.put_opts(&path, "two".into(), create()).await.unwrap_err();
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        let mut upload = store.put_multipart(&Path::from("big")).await.unwrap();
        upload.put_part("12".into()).await.unwrap();
        upload.put_part("34".into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(store.get(&Path::from("big")).await.unwrap().bytes().await.unwrap(), "1234");
        assert_eq!(names(&store).await, ["a/b/c.json", "big"]);
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1, "no unfinished file stays");
    }

    #[tokio::test]
    async fn listings_are_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(folder.path().canonicalize().unwrap()).unwrap();
        let mut put: Vec<String> = (0..50).map(|i| format!("{}/{}", i % 7, i * 7919 % 50)).collect();
        for name in &put {
            store.put(&Path::from(name.as_str()), "x".into()).await.unwrap();
        }
        put.sort();
        assert_eq!(names(&store).await, put);
    }

    #[tokio::test]
    async fn an_unfinished_file_is_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(folder.path().canonicalize().unwrap()).unwrap();
        let target = folder.path().join("x.json");
        fs::write(store.writer.unfinished_name(&target), "half").unwrap();
        assert!(names(&store).await.is_empty());
        store.put_opts(&Path::from("x.json"), "whole".into(), create()).await.unwrap();
        assert_eq!(names(&store).await, ["x.json"]);
    }
}
