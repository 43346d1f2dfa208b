//! From a location to the files it means, on the store that holds them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;
use url::Url;

use super::FilesRoots;
use crate::spec::FilesSpec;
use crate::{Error, Result};

/// The files of one source, and the means to read them from a thread that blocks.
pub(super) struct Place {
    store: Arc<dyn ObjectStore>,
    /// In the byte order of their paths, empty ones left out.
    pub(super) files: Vec<ObjectMeta>,
    /// An object is replaced as a whole, so it is only read while it is the one that was listed.
    versioned: bool,
    /// Runs what the store asks for, and lives until the place is dropped.
    runtime: Option<Runtime>,
}

impl Place {
    pub(super) fn find(spec: &FilesSpec, roots: &FilesRoots) -> Result<Place> {
        let location = &spec.location;
        let (store, path, versioned) = open_store(spec)?;
        if !versioned {
            let there = LocalFileSystem::new().path_to_filesystem(&path)?;
            roots.check(&there)?;
            if std::fs::metadata(&there).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
                return Err(Error::Invalid(format!(
                    "what is there is a pipe or a device, and no file. location={location:?}"
                )));
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("files")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::Unavailable(format!("no thread can be started to read files. {error}"))
            })?;
        let mut place = Place { store, files: Vec::new(), versioned, runtime: Some(runtime) };
        let store = Arc::clone(&place.store);
        let listed = place.run(async move { list(&*store, &path).await });
        let listed = listed.recv().map_err(|_| Error::Internal("a listing of files broke off".into()))?;
        let mut files = match listed {
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            // The crate has no error of its own for a bucket that is not there.
            Err(error) if error.to_string().contains("<Code>NoSuchBucket</Code>") => Vec::new(),
            Err(
                error @ (object_store::Error::Unauthenticated { .. }
                | object_store::Error::PermissionDenied { .. }),
            ) => {
                let values = format!("location={location:?}, reason={:?}", error.to_string());
                return Err(Error::Invalid(format!(
                    "the store does not let these credentials list files. {values}"
                )));
            }
            listed => listed?,
        };
        if !versioned {
            files.retain(|file| !is_no_file(file));
        }
        if files.is_empty() {
            return Err(Error::Invalid(format!("no file is there to read. location={location:?}")));
        }
        if !versioned {
            // A listing follows links.
            let disk = LocalFileSystem::new();
            files.iter().try_for_each(|file| roots.check(&disk.path_to_filesystem(&file.location)?))?;
        }
        files.retain(|file| file.size > 0);
        files.sort_unstable_by(|a, b| a.location.as_ref().cmp(b.location.as_ref()));
        place.files = files;
        Ok(place)
    }

    /// Begins to read some bytes of a file; they come through the channel.
    pub(super) fn fetch(&self, file: usize, range: std::ops::Range<u64>) -> Receiver<Result<Bytes>> {
        let store = Arc::clone(&self.store);
        let ObjectMeta { location, e_tag, .. } = self.files[file].clone();
        let if_match = e_tag.filter(|_| self.versioned);
        self.run(async move {
            let options =
                GetOptions { range: Some(GetRange::Bounded(range)), if_match, ..GetOptions::default() };
            match store.get_opts(&location, options).await {
                Ok(found) => Ok(found.bytes().await?),
                Err(object_store::Error::Precondition { .. }) => {
                    Err(Error::BadData(format!("the file changed while it was read. file={location}")))
                }
                Err(object_store::Error::NotFound { .. }) => {
                    Err(Error::BadData(format!("the file vanished while it was read. file={location}")))
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Runs the future on a thread of its own; so the caller may block, whatever kind of thread it is.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Receiver<T> {
        let (tx, rx) = sync_channel(1);
        let runtime = self.runtime.as_ref().expect("the runtime is taken by the drop alone");
        runtime.spawn(async move {
            // Room for the one result is there. It is not missed if nobody waits for it.
            let _ = tx.send(future.await);
        });
        rx
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, and panics on the threads of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// The store, the path in it with its wildcards, and whether it keeps versions apart.
pub(super) fn open_store(spec: &FilesSpec) -> Result<(Arc<dyn ObjectStore>, Path, bool)> {
    let location = &spec.location;
    let wrong = |reason: String| {
        Error::Invalid(format!("the files' location is wrong. location={location:?}; {reason}"))
    };
    if location.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    let url = match location.split_once("://") {
        Some(_) => Url::parse(location).map_err(|error| wrong(error.to_string()))?,
        None => {
            let path = std::path::absolute(location).map_err(|error| wrong(error.to_string()))?;
            return local(spec, &path);
        }
    };
    match url.scheme() {
        "file" => {
            let path = url.to_file_path().map_err(|()| wrong("a file URL begins with file:///".into()))?;
            local(spec, &path)
        }
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::new().with_url(location.as_str());
            for (key, value) in &spec.properties {
                let key: AmazonS3ConfigKey = key.to_ascii_lowercase().parse().map_err(|_| {
                    Error::Invalid(format!("an S3 property is not known. key={key:?}, location={location:?}"))
                })?;
                builder = builder.with_config(key, value);
            }
            let path = Path::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
            let store = builder.build().map_err(|error| wrong(error.to_string()))?;
            Ok((Arc::new(store), path, true))
        }
        scheme => Err(wrong(format!("{scheme}:// is not read; a local path, file:// or s3:// is"))),
    }
}

fn local(spec: &FilesSpec, path: &std::path::Path) -> Result<(Arc<dyn ObjectStore>, Path, bool)> {
    let location = &spec.location;
    if let Some(key) = spec.properties.keys().next() {
        return Err(Error::Invalid(format!(
            "a local file has no properties. key={key:?}, location={location:?}"
        )));
    }
    let path = Path::from_absolute_path(path).map_err(|error| {
        Error::Invalid(format!("the files' location is wrong. location={location:?}; {error}"))
    })?;
    Ok((Arc::new(LocalFileSystem::new()), path, false))
}

/// The files that a path means: itself, those below it, or those whose names its last part matches.
async fn list(store: &dyn ObjectStore, path: &Path) -> object_store::Result<Vec<ObjectMeta>> {
    let name = path.filename().unwrap_or_default().to_owned();
    if name.contains('*') {
        let parts: Vec<_> = path.parts().collect();
        let folder: Path = parts[..parts.len() - 1].iter().cloned().collect();
        let found = store.list_with_delimiter(Some(&folder)).await?.objects;
        let named = |file: &ObjectMeta| file.location.filename().is_some_and(|found| matches(&name, found));
        return Ok(found.into_iter().filter(|file| named(file) && is_data(file, &folder)).collect());
    }
    match store.head(path).await {
        Ok(file) => Ok(vec![file]),
        Err(object_store::Error::NotFound { .. }) => {
            let below: Vec<ObjectMeta> = store.list(Some(path)).try_collect().await?;
            Ok(below.into_iter().filter(|file| is_data(file, path)).collect())
        }
        Err(error) => Err(error),
    }
}

/// A pipe or a device of a local folder, which whoever opens it may wait for without an end.
fn is_no_file(file: &ObjectMeta) -> bool {
    std::fs::metadata(format!("/{}", file.location)).is_ok_and(|found| !found.is_file())
}

/// Not a marker such as `_SUCCESS`, nor in a folder of such.
fn is_data(file: &ObjectMeta, folder: &Path) -> bool {
    let mut below = file.location.prefix_match(folder).into_iter().flatten();
    below.all(|part| !part.as_ref().starts_with(['.', '_']))
}

/// Whether a name has the form of a pattern in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    // A star takes as little as lets the rest match; every place is tried.
    (0..=name.len()).any(|taken| name.is_char_boundary(taken) && matches(rest, &name[taken..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a.json", true),
            ("*.json", "a.json", true),
            ("*.json", "a.json.gz", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a*", "ba", false),
            ("ü*ß", "ü-ß", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
