//! Files that several read at once: each is fetched once for all of them, and let go of with the last. A hundred who begin to
//! subscribe to a view would otherwise hold its files a hundred times, for as long as they take to read them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};
use tokio::sync::OnceCell;

use crate::Result;

#[derive(Debug, Default)]
pub struct OpenedFiles(Mutex<BTreeMap<Path, Weak<OnceCell<Bytes>>>>);

/// A file that is there as a whole.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    bytes: Bytes,
    /// By which others find it.
    _held: Arc<OnceCell<Bytes>>,
}

impl OpenedFiles {
    pub(super) async fn open(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Opened> {
        let held = self.held(path);
        let bytes = held.get_or_try_init(async || store.get(path).await?.bytes().await).await?.clone();
        Ok(Opened { bytes, _held: held })
    }

    fn held(&self, path: &Path) -> Arc<OnceCell<Bytes>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = files.get(path).and_then(Weak::upgrade) {
            return held;
        }
        files.retain(|_, held| held.strong_count() > 0);
        let held = Arc::default();
        files.insert(path.clone(), Arc::downgrade(&held));
        held
    }
}

impl Length for Opened {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl ChunkReader for Opened {
    type T = <Bytes as ChunkReader>::T;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.bytes.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.bytes.get_bytes(start, length)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_file_is_fetched_once_for_all_who_read_it_at_once() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (files, path) = (OpenedFiles::default(), Path::from("a"));
        store.put(&path, "first".into()).await.unwrap();
        let one = files.open(&store, &path).await.unwrap();
        store.put(&path, "second".into()).await.unwrap();
        let other = files.open(&store, &path).await.unwrap();
        assert_eq!((&one.bytes[..], &other.bytes[..]), (&b"first"[..], &b"first"[..]));
        drop((one, other));
        assert_eq!(&files.open(&store, &path).await.unwrap().bytes[..], b"second");
        assert!(files.open(&store, &Path::from("b")).await.is_err());
    }
}
