//! In which epoch rows closed: whoever has been told those of an epoch goes on with those of the next.
//!
//! The rows of a file lie epoch by epoch, and its metadata says how many each has; so what closed after an epoch is the
//! end of a file.

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::KeyValue;

use super::{HistoryFile, HistoryFiles};
use crate::checkpoint::part_epoch;
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
}

impl HistoryFiles {
    /// All rows of a file, in the lake's types.
    pub async fn read(&self, file: &HistoryFile) -> Result<Vec<RecordBatch>> {
        Ok(self.open(file, None).await?.collect::<Result<_, _>>()?)
    }

    /// The rows of a file that closed after an epoch, or all, as they are decoded.
    pub async fn open(&self, file: &HistoryFile, after: Option<Epoch>) -> Result<ParquetRecordBatchReader> {
        let bytes = self.store.get(&file.path).await?.bytes().await?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
