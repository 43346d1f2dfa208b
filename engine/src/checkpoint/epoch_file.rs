//! What all tables keep of an epoch, in one file: what a store is asked for goes by epochs, and not by tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::data::DataRoot;
use super::manifest::{Manifest, StateFile};
use super::names;
use super::state_file::{encode, put, read_section, section, whole};
use crate::Result;
use crate::ids::Epoch;
use crate::view::part::Part;

/// A file of so many bytes is put, and another one begun: what waits to be durable is bounded.
const FULL: usize = 32 << 20;

/// A file that is being written.
#[derive(Debug)]
pub struct EpochFile {
    root: DataRoot,
    epoch: Epoch,
    nonce: Uuid,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    number: u32,
    bytes: Vec<u8>,
}

impl EpochFile {
    pub fn new(root: DataRoot, epoch: Epoch, nonce: Uuid) -> EpochFile {
        EpochFile { root, epoch, nonce, open: Mutex::default() }
    }

    /// Says where the parts will lie. They are durable once [`EpochFile::put`] has returned.
    pub async fn add(&self, parts: &[Part]) -> Result<StateFile> {
        let bytes = encode(parts)?;
        let (file, full) = {
            let mut open = self.open();
            let path = names::epoch_file(self.epoch, self.nonce, open.number);
            let file = section(path, open.bytes.len() as u64, &bytes, parts);
            open.bytes.extend_from_slice(&bytes);
            (file, (open.bytes.len() >= FULL).then(|| open.end()))
        };
        if let Some(full) = full {
            put(&self.root, &file.path, full).await?;
        }
        Ok(file)
    }

    /// Makes durable all that was added.
    pub async fn put(&self) -> Result<()> {
        let (path, rest) = {
            let mut open = self.open();
            (names::epoch_file(self.epoch, self.nonce, open.number), open.end())
        };
        match rest.is_empty() {
            true => Ok(()),
            false => put(&self.root, &path, rest).await,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Whole after every statement of the code here, so a panic elsewhere did not break it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&mut self) -> Bytes {
        self.number += 1;
        Bytes::from(std::mem::take(&mut self.bytes))
    }
}

/// The files of a manifest's state while they are read back: each is read once, however many tables have a section in it,
/// and let go of with the last of these.
pub struct StateFiles {
    root: DataRoot,
    wanted: Mutex<BTreeMap<String, Wanted>>,
}

#[derive(Default)]
struct Wanted {
    sections: usize,
    bytes: Arc<OnceCell<Bytes>>,
}

impl StateFiles {
    pub fn of(root: &DataRoot, manifest: &Manifest) -> StateFiles {
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        for file in manifest.state_files() {
            wanted.entry(file.path.clone()).or_default().sections += 1;
        }
        StateFiles { root: root.clone(), wanted: Mutex::new(wanted) }
    }

    pub async fn read(&self, file: &StateFile) -> Result<Vec<Part>> {
        let bytes = self.bytes_of(file);
        read_section(bytes.get_or_try_init(|| whole(&self.root, file)).await?, file)
    }

    fn bytes_of(&self, file: &StateFile) -> Arc<OnceCell<Bytes>> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = wanted.get_mut(&file.path) else { return Arc::default() };
        let bytes = Arc::clone(&known.bytes);
        known.sections -= 1;
        if known.sections == 0 {
            wanted.remove(&file.path);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use object_store::memory::InMemory;

    use super::*;

    fn part(number: i64, rows: usize) -> Part {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|n| n * number)));
        Part::of_one_pane(number, 0, RecordBatch::try_from_iter([("n", numbers)]).unwrap())
    }

    #[tokio::test]
    async fn what_all_tables_keep_of_an_epoch_lies_in_one_file() {
        let root = DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap());
        let file = EpochFile::new(root.clone(), Epoch(3), Uuid::from_u128(1));
        let sections = [file.add(&[part(1, 10)]).await.unwrap(), file.add(&[part(2, 5)]).await.unwrap()];
        assert!(root.get(&sections[0].path).await.is_err(), "nothing is durable yet");
        file.put().await.unwrap();
        file.put().await.unwrap();
        assert_eq!(sections[0].path, sections[1].path);
        assert_eq!(sections[1].offset, sections[0].bytes);
        let wanted = [(sections[0].path.clone(), Wanted { sections: 2, ..Wanted::default() })];
        let files = StateFiles { root: root.clone(), wanted: Mutex::new(wanted.into()) };
        assert_eq!(files.read(&sections[1]).await.unwrap(), [part(2, 5)]);
        // It is in memory.
        root.put(&sections[0].path, Bytes::from("another")).await.unwrap();
        assert_eq!(files.read(&sections[0]).await.unwrap(), [part(1, 10)]);
        assert!(files.wanted.lock().unwrap().is_empty());
    }
}
