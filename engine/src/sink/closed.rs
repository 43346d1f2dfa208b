//! In which epoch rows closed: whoever has been told those of an epoch goes on with those of the next.
//!
//! The rows of a file lie epoch by epoch, and its metadata says how many each has; so what closed after an epoch is the
//! end of a file, and what closed in one a stretch of it.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, sort_to_indices, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::KeyValue;

use super::opened::OpenedFiles;
use super::stored::StoredFile;
use super::{HistoryFile, HistoryFiles};
use crate::checkpoint::{part_epoch, part_number};
use crate::ids::Epoch;
use crate::{Error, Result};

/// Of a file's metadata: `7:120 8:44` are 120 rows that closed in epoch 7, and then 44 in the next.
const KEY: &str = "thalweg.closed";

/// Decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Rows of one table that closed in one epoch.
#[derive(Debug, Clone)]
pub struct ClosedRows {
    pub epoch: Epoch,
    pub rows: RecordBatch,
}

/// INV-28: rows that close in one epoch, as they will lie in a file: whoever reads them before and after that finds them in one order.
pub fn in_order_of_time(rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let Some(first) = rows.first() else { return Ok(rows) };
    let schema = first.schema();
    let each = rows.iter().map(times_of).collect::<Result<Vec<_>>>()?;
    if each.iter().flat_map(|times| times.values()).is_sorted() {
        return Ok(rows);
    }
    let all = concat_batches(&schema, &rows)?;
    let times = times_of(&all)?;
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_by_key(|row| times.value(*row as usize));
    Ok(vec![take_record_batch(&all, &UInt32Array::from(order))?])
}

/// Rows by their time, those of one time by a key: a file's pages have few of its values, and pack well.
pub fn in_order_of_key(rows: RecordBatch, key: usize) -> Result<RecordBatch> {
    let column = |column: usize| SortColumn { values: Arc::clone(rows.column(column)), options: None };
    let order = match times_of(&rows)?.values() {
        times if times.windows(2).all(|pair| pair[0] == pair[1]) => {
            sort_to_indices(rows.column(key), None, None)
        }
        _ => lexsort_to_indices(&[column(rows.num_columns() - 1), column(key)], None),
    };
    Ok(take_record_batch(&rows, &order?)?)
}

fn times_of(rows: &RecordBatch) -> Result<TimestampMicrosecondArray> {
    let times = rows.columns().last().and_then(|it| it.as_primitive_opt::<TimestampMicrosecondType>());
    times.cloned().ok_or_else(|| Error::Internal("closed rows lack their time".into()))
}

/// What is to be said in the metadata of a file with these rows, each with its epoch.
pub(super) fn metadata(epochs: &[Epoch]) -> KeyValue {
    told(&epochs.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect::<Vec<_>>())
}

/// Likewise, with how many rows of each epoch come one after the other.
pub(super) fn told(runs: &[(Epoch, usize)]) -> KeyValue {
    let runs = runs.iter().map(|(epoch, rows)| format!("{epoch}:{rows}"));
    KeyValue::new(KEY.to_owned(), runs.collect::<Vec<_>>().join(" "))
}

/// What a file's metadata says of its rows.
pub(super) fn runs(metadata: Option<&Vec<KeyValue>>) -> Option<Vec<(Epoch, usize)>> {
    let text = metadata?.iter().find(|pair| pair.key == KEY)?.value.as_deref()?;
    let run = |run: &str| {
        let (epoch, rows) = run.split_once(':')?;
        Some((Epoch(epoch.parse().ok()?), rows.parse().ok()?))
    };
    text.split(' ').map(run).collect()
}

/// How many rows of a file had closed by then.
fn closed_by(epoch: Epoch, metadata: Option<&Vec<KeyValue>>) -> Option<usize> {
    Some(runs(metadata)?.into_iter().filter(|(closed, _)| *closed <= epoch).map(|(_, rows)| rows).sum())
}

impl HistoryFile {
    /// Whether some of its rows may have closed after an epoch: what is in it had when it was written.
    pub fn may_hold_after(&self, epoch: Epoch) -> bool {
        self.path.filename().and_then(part_epoch).is_none_or(|written| written > epoch)
    }

    /// Which of those that were written in one epoch it is.
    pub fn number(&self) -> Option<u64> {
        self.path.filename().and_then(part_number)
    }
}

impl HistoryFiles {
    /// All rows of a file, in the lake's types.
    pub async fn read(&self, file: &HistoryFile) -> Result<Vec<RecordBatch>> {
        Ok(self.open(file, None, &OpenedFiles::default()).await?.collect::<Result<_, _>>()?)
    }

    /// The rows of a file that closed after an epoch, or all, as they are decoded; `opened` are those that others read.
    pub async fn open(
        &self,
        file: &HistoryFile,
        after: Option<Epoch>,
        opened: &OpenedFiles,
    ) -> Result<ParquetRecordBatchReader> {
        let bytes = opened.open(&self.store, &file.path).await?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let told = match after {
            None => 0,
            Some(after) => {
                let metadata = builder.metadata().file_metadata().key_value_metadata();
                closed_by(after, metadata).ok_or_else(|| {
                    Error::BadData(format!(
                        "a file does not say when its rows closed: it was written before that was told. file={}",
                        file.path
                    ))
                })?
            }
        };
        Ok(builder.with_batch_size(BATCH_ROWS).with_offset(told).build()?)
    }
}

/// How many rows of each epoch a file has, in their order.
pub type Runs = Arc<[(Epoch, usize)]>;

/// Footers that are read at a time.
const FOOTERS: usize = 16;

impl HistoryFiles {
    /// When the rows of files closed, as their footers say. Those of a file that was written before that was told closed when
    /// it was.
    pub async fn runs_of(&self, files: Vec<HistoryFile>) -> Result<Vec<(HistoryFile, Runs)>> {
        let runs = async |file: HistoryFile| {
            let mut reader = self.reader(&file);
            let footer = ArrowReaderMetadata::load_async(&mut reader, Default::default()).await?;
            let told = runs(footer.metadata().file_metadata().key_value_metadata());
            let written = file.path.filename().and_then(part_epoch);
            let runs = match (told, written) {
                (Some(told), _) => told,
                (None, Some(written)) => vec![(written, file.rows as usize)],
                (None, None) => {
                    return Err(Error::BadData(format!(
                        "a file does not say when its rows closed. file={}",
                        file.path
                    )));
                }
            };
            Ok((file, Runs::from(runs)))
        };
        stream::iter(files).map(runs).buffered(FOOTERS).try_collect().await
    }

    /// The rows of a file that closed after an epoch, to be taken in their order.
    pub async fn rows_after(&self, file: &HistoryFile, runs: &Runs, after: Epoch) -> Result<FileRows> {
        let skipped = runs.iter().filter(|(closed, _)| *closed <= after).map(|(_, rows)| rows).sum();
        let left = runs.iter().filter(|(closed, _)| *closed > after).copied().collect();
        let builder = ParquetRecordBatchStreamBuilder::new(self.reader(file)).await?;
        let rows = builder.with_batch_size(BATCH_ROWS).with_offset(skipped).build()?;
        Ok(FileRows { rows, left, read: None })
    }

    fn reader(&self, file: &HistoryFile) -> StoredFile {
        StoredFile { store: Arc::clone(&self.store), path: file.path.clone(), bytes: file.bytes }
    }
}

/// A file that is read on as far as is wanted.
pub struct FileRows {
    rows: ParquetRecordBatchStream<StoredFile>,
    /// What of each epoch is left.
    left: VecDeque<(Epoch, usize)>,
    /// Read, and not taken.
    read: Option<RecordBatch>,
}

impl FileRows {
    /// In which epoch the next rows closed.
    pub fn next_epoch(&self) -> Option<Epoch> {
        self.left.front().map(|(epoch, _)| *epoch)
    }

    /// The next rows, if they closed by an epoch; all of one.
    pub async fn next(&mut self, through: Epoch) -> Result<Option<ClosedRows>> {
        let Some((epoch, left)) = self.left.front_mut().filter(|(epoch, _)| *epoch <= through) else {
            return Ok(None);
        };
        let rows = match self.read.take() {
            Some(rows) => rows,
            None => match self.rows.try_next().await? {
                Some(rows) => rows,
                None => return Err(Error::BadData("a file has fewer rows than it says had closed".into())),
            },
        };
        let taken = rows.num_rows().min(*left);
        if taken < rows.num_rows() {
            self.read = Some(rows.slice(taken, rows.num_rows() - taken));
        }
        let closed = ClosedRows { epoch: *epoch, rows: rows.slice(0, taken) };
        *left -= taken;
        if *left == 0 {
            self.left.pop_front();
        }
        Ok(Some(closed))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringViewArray};
    use arrow::datatypes::Int64Type;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use uuid::Uuid;

    use super::*;
    use crate::checkpoint::FileNames;
    use crate::sink::encode_parts;
    use crate::spec::TIME_COLUMN;

    #[test]
    fn a_file_says_how_much_of_it_had_closed() {
        let epochs = [7, 7, 8, 10, 10, 10].map(Epoch);
        let told = vec![metadata(&epochs)];
        assert_eq!(told[0].value.as_deref(), Some("7:2 8:1 10:3"));
        let closed = |epoch| closed_by(Epoch(epoch), Some(&told));
        assert_eq!([6, 7, 9, 10, 11].map(closed), [Some(0), Some(2), Some(3), Some(6), Some(6)]);
        assert_eq!(closed_by(Epoch(7), Some(&vec![])), None);
        let damaged = vec![KeyValue::new(KEY.to_owned(), "7".to_owned())];
        assert_eq!(closed_by(Epoch(7), Some(&damaged)), None);
    }

    fn rows(epoch: u64, numbers: &[i64]) -> ClosedRows {
        let times = TimestampMicrosecondArray::from(vec![5; numbers.len()]).with_timezone("UTC");
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
        let columns = [("n", numbers), (TIME_COLUMN, Arc::new(times) as _)];
        ClosedRows { epoch: Epoch(epoch), rows: RecordBatch::try_from_iter(columns).unwrap() }
    }

    #[test]
    fn rows_of_one_time_are_in_the_order_of_their_key() {
        let sorted = |times: &[i64], keys: &[&str]| {
            let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
            let keys: ArrayRef = Arc::new(StringViewArray::from_iter_values(keys));
            let columns = [("k", keys), (TIME_COLUMN, Arc::new(times) as _)];
            let rows = in_order_of_key(RecordBatch::try_from_iter(columns).unwrap(), 0).unwrap();
            let times = times_of(&rows).unwrap().values().to_vec();
            let keys =
                rows.column(0).as_string_view().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
            (times, keys.concat())
        };
        assert_eq!(sorted(&[5, 5, 5], &["b", "c", "a"]), (vec![5, 5, 5], "abc".into()));
        assert_eq!(sorted(&[7, 5, 7, 5], &["b", "d", "a", "c"]), (vec![5, 5, 7, 7], "cdab".into()));
    }

    /// Which rows of which epoch come, as far as one.
    async fn taken(file: &mut FileRows, through: u64) -> Vec<(u64, Vec<i64>)> {
        let mut all = vec![];
        while let Some(closed) = file.next(Epoch(through)).await.unwrap() {
            let numbers = closed.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            all.push((closed.epoch.0, numbers));
        }
        all
    }

    #[tokio::test]
    async fn a_file_is_read_on_epoch_by_epoch() {
        let closed = [rows(6, &[1, 2]), rows(7, &[3]), rows(9, &[4, 5, 6])];
        let mut names = FileNames::new(Uuid::from_u128(1), Epoch(9), Uuid::from_u128(2));
        let part = encode_parts(&closed, &mut names).unwrap().remove(0);
        let files = HistoryFiles { store: Arc::new(InMemory::new()), files: Arc::default(), is_lost: false };
        let path = Path::from(part.file.path.as_str());
        files.store.put(&path, part.bytes.into()).await.unwrap();
        let (bytes, rows, date) = (part.file.bytes, part.file.rows, part.file.date);
        let file = HistoryFile { path, bytes, rows, date, instants: vec![] };
        let known = files.runs_of(vec![file]).await.unwrap();
        let (file, runs) = &known[0];
        assert_eq!(**runs, [(Epoch(6), 2), (Epoch(7), 1), (Epoch(9), 3)]);
        let mut reading = files.rows_after(file, runs, Epoch(6)).await.unwrap();
        assert_eq!(reading.next_epoch(), Some(Epoch(7)));
        assert_eq!(taken(&mut reading, 8).await, [(7, vec![3])]);
        assert_eq!(taken(&mut reading, 9).await, [(9, vec![4, 5, 6])]);
        assert_eq!(reading.next_epoch(), None);
        let mut all = files.rows_after(file, runs, Epoch(0)).await.unwrap();
        assert_eq!(taken(&mut all, 99).await, [(6, vec![1, 2]), (7, vec![3]), (9, vec![4, 5, 6])]);
    }
}
