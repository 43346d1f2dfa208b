//! Batches that memory has no room for lie in files of this machine and are mapped: whoever reads them reads them as ever, and
//! the system keeps of them what it has room for (docs/decisions/spilling.md).
//!
//! The files have no name, so nothing of them is left behind by a process that dies, and nobody else can cut them short.
//! What they hold is durable elsewhere.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use memmap2::Mmap;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What weighs less is not worth a file, and a mapping, of which a process may have some ten thousand.
const LEAST: usize = 256 << 10;

#[derive(Debug, Default)]
pub struct Spill {
    folder: Option<PathBuf>,
    most: usize,
    above: Option<usize>,
    used: Arc<Used>,
    /// Why nothing can be put there, as the last attempt has found out.
    failed: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: AtomicUsize,
    most: AtomicUsize,
}

impl Spill {
    /// So many bytes at most, in a folder that is made when it is first needed.
    pub fn into_folder(folder: &Path, most: usize) -> Spill {
        Spill { folder: Some(folder.to_owned()), most, ..Spill::default() }
    }

    /// For tests: whatever views have open beyond so much, however small, and not beyond their share of the memory.
    pub fn above(self, above: Option<usize>) -> Spill {
        Spill { above, ..self }
    }

    /// What stays in memory, where its share is so much.
    pub fn stays(&self, share: usize) -> usize {
        self.above.unwrap_or(share)
    }

    /// What weighs less stays too.
    pub fn least(&self) -> usize {
        if self.above.is_some() { 1 } else { LEAST }
    }

    pub fn bytes(&self) -> usize {
        self.used.bytes.load(Ordering::Relaxed)
    }

    pub fn bytes_most(&self) -> usize {
        self.used.most.load(Ordering::Relaxed)
    }

    /// How much may lie there.
    pub fn room(&self) -> usize {
        self.folder.as_ref().map_or(0, |_| self.most)
    }

    /// The same rows, mapped; none where they can't be put there. They stay in memory then, and the reason is in the log.
    pub fn mapped(&self, batch: &RecordBatch) -> Option<RecordBatch> {
        let folder = self.folder.as_deref()?;
        let mapped = self.map(folder, batch);
        let failed = mapped.as_ref().err().map(|error| format!("{error}. folder=\"{}\"", folder.display()));
        let before = std::mem::replace(&mut *self.failed(), failed.clone());
        match (before, failed) {
            (Some(_), None) => {
                tracing::info!(folder = %folder.display(), "what views have open can be put on disk again");
            }
            (None, Some(why)) => {
                tracing::warn!(
                    why,
                    "what views have open can't be put on disk, and stays in memory; see --spill and --spill-max"
                );
            }
            _ => {}
        }
        mapped.ok()
    }

    /// For whoever has to know why memory did not suffice.
    pub fn why_not(&self) -> Option<String> {
        self.failed().clone()
    }

    fn failed(&self) -> MutexGuard<'_, Option<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether files can be made there.
    pub fn check(folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        tempfile::tempfile_in(folder).map(drop)
    }

    fn map(&self, folder: &Path, batch: &RecordBatch) -> Result<RecordBatch> {
        let weighs = batch.get_array_memory_size();
        if self.bytes().saturating_add(weighs) > self.most {
            let (holds, room) = (super::mebibytes(self.bytes()), super::mebibytes(self.most));
            return Err(format!("it is full. holds={holds}, room={room}").into());
        }
        std::fs::create_dir_all(folder)?;
        let file = tempfile::tempfile_in(folder)?;
        let mut writer = StreamWriter::try_new(BufWriter::with_capacity(1 << 20, &file), batch.schema_ref())?;
        writer.write(batch)?;
        writer.into_inner()?.flush()?;
        // SAFETY: the file has no name and is not written any more, so what is mapped never changes. A page that the disk
        // can't give back ends the process, as a page of swapped memory would.
        let map = unsafe { Mmap::map(&file)? };
        self.used.add(map.len());
        let whole = Bytes::from_owner(Mapped { map, used: Arc::clone(&self.used) });
        let mut rest = Buffer::from(whole.clone());
        let read = StreamDecoder::new().with_require_alignment(true).decode(&mut rest)?;
        let read = read.ok_or("a batch that was put on disk is not there")?;
        let columns = read.columns().iter().map(|column| make_array(exact(&column.to_data(), &whole)));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)?)
    }
}

/// A mapped file, which is gone from the disk with it.
struct Mapped {
    map: Mmap,
    used: Arc<Used>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.used.bytes.fetch_sub(self.map.len(), Ordering::Relaxed);
    }
}

impl Used {
    fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.most.fetch_max(before + bytes, Ordering::Relaxed);
    }
}

/// The same array with buffers that weigh what they hold, and not each all of the file.
fn exact(data: &ArrayData, whole: &Bytes) -> ArrayData {
    let own = |buffer: &Buffer| match whole.as_ptr_range().contains(&buffer.as_ptr()) {
        // Of no bytes a slice would be aligned as none need be.
        true if buffer.is_empty() => MutableBuffer::new(0).into(),
        true => Buffer::from(whole.slice_ref(buffer.as_slice())),
        // What the decoder made by itself.
        false => buffer.clone(),
    };
    let nulls = data.nulls().map(|nulls| {
        let bits = BooleanBuffer::new(own(nulls.buffer()), nulls.offset(), nulls.len());
        // SAFETY: of the same bits.
        unsafe { NullBuffer::new_unchecked(bits, nulls.null_count()) }
    });
    let builder = data
        .clone()
        .into_builder()
        .buffers(data.buffers().iter().map(own).collect())
        .nulls(nulls)
        .child_data(data.child_data().iter().map(|child| exact(child, whole)).collect());
    // SAFETY: the buffers hold the same bytes as those of an array that was checked.
    unsafe { builder.build_unchecked() }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BooleanArray, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::compute::take_record_batch;
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let text = |row: usize| {
            (!row.is_multiple_of(7)).then(|| format!("a string that is too long for its view, {row}"))
        };
        let views: ArrayRef = Arc::new((0..rows).map(text).collect::<StringViewArray>());
        let strings: ArrayRef = Arc::new((0..rows).map(text).collect::<StringArray>());
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let bits: ArrayRef =
            Arc::new((0..rows).map(|row| (row % 3 > 0).then_some(row % 2 == 0)).collect::<BooleanArray>());
        let times: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from_iter_values(0..rows as i64).with_timezone("UTC"));
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let lists: ArrayRef = Arc::new(ListArray::new(
            item,
            OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows)),
            Arc::clone(&views),
            None,
        ));
        let members = vec![Arc::new(Field::new("s", DataType::Utf8View, true))].into();
        let nulls = (0..rows).map(|row| row % 5 != 0).collect::<Vec<_>>();
        let structs: ArrayRef =
            Arc::new(StructArray::new(members, vec![Arc::clone(&views)], Some(nulls.into())));
        RecordBatch::try_from_iter_with_nullable([
            ("v", views, true),
            ("s", strings, true),
            ("n", numbers, true),
            ("b", bits, true),
            ("t", times, true),
            ("l", lists, true),
            ("o", structs, true),
        ])
        .unwrap()
    }

    #[test]
    fn what_is_mapped_is_the_same_and_weighs_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::into_folder(&folder.path().join("not there yet"), 1 << 30);
        for rows in [0, 1, 1_000, 100_000] {
            let batch = crate::view::compact::compacted(batch(rows)).unwrap();
            let mapped = spill.mapped(&batch).expect("there is a disk");
            assert_eq!(mapped, batch);
            let (weighs, before) = (mapped.get_array_memory_size(), batch.get_array_memory_size());
            assert!(weighs < before + before / 4 + 8_192, "{weighs} bytes, and {before} before");
            let chosen = arrow::array::UInt32Array::from_iter_values((0..rows as u32).step_by(3));
            let (taken, of) = (take_record_batch(&mapped, &chosen), take_record_batch(&batch, &chosen));
            drop(mapped);
            assert_eq!(taken.unwrap(), of.unwrap(), "they outlive what they were taken of");
        }
        assert_eq!(spill.bytes(), 0, "what nobody reads is gone");
        assert!(spill.bytes_most() > 1 << 20);
        assert_eq!(std::fs::read_dir(folder.path().join("not there yet")).unwrap().count(), 0);
    }

    #[test]
    fn what_has_no_room_stays_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (few, many) = (batch(100), batch(10_000));
        assert!(Spill::default().mapped(&few).is_none());
        let spill = Spill::into_folder(folder.path(), 2 * few.get_array_memory_size());
        let mapped = spill.mapped(&few);
        assert!(mapped.is_some() && spill.mapped(&many).is_none());
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let spill = Spill::into_folder(&file, usize::MAX);
        assert!(Spill::check(&file).is_err() && spill.mapped(&few).is_none());
        assert!(spill.why_not().is_some_and(|why| why.contains("folder=")), "{:?}", spill.why_not());
    }
}
