//! Rows become Parquet files, one or more per UTC date, each with Delta's statistics.
//!
//! Rows come with the trailing [`TIME_COLUMN`], by which they are split and sorted; it is not stored. Encoding is pure
//! and takes CPU, so the caller chooses the thread; putting is I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch, not, take_record_batch};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;
use chrono::{Duration, NaiveDate};
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::closed::{self, ClosedRows};
use super::lake_schema::lake_schema;
use super::stats::file_stats;
use crate::checkpoint::manifest::DataFile;
use crate::checkpoint::{DataRoot, FileNames, Step, table_folder};
use crate::ids::{Epoch, Micros};
use crate::spec::TIME_COLUMN;
use crate::{Error, Result};

const MICROS_PER_DAY: Micros = 24 * 3600 * 1_000_000;

/// In memory, before compression. A file of it is some ten times smaller.
const FILE_BYTES_MAX: usize = 1 << 30;

const ROW_GROUP_ROWS: usize = 512 * 1024;

/// Files of one table that are put at a time.
const PUTTING: usize = 8;

/// A file that is not stored yet.
#[derive(Debug, Clone)]
pub struct EncodedFile {
    pub file: DataFile,
    pub bytes: Bytes,
}

/// All have one schema, whose last column is [`TIME_COLUMN`], and come epoch by epoch. Within a file they stay so, those of
/// an epoch are sorted by their time, and rows of one time keep their order.
pub fn encode_parts(closed: &[ClosedRows], names: &mut FileNames) -> Result<Vec<EncodedFile>> {
    let Some(first) = closed.first() else { return Ok(Vec::new()) };
    let schema = first.rows.schema();
    let time_column =
        schema.fields().len().checked_sub(1).filter(|&last| schema.field(last).name() == TIME_COLUMN);
    let Some(time_column) = time_column else {
        return Err(Error::Internal(format!(
            "rows for history lack their last column. column=\"{TIME_COLUMN}\""
        )));
    };
    let rows = concat_batches(&schema, closed.iter().map(|closed| &closed.rows))?;
    let epochs: Vec<Epoch> =
        closed.iter().flat_map(|closed| std::iter::repeat_n(closed.epoch, closed.rows.num_rows())).collect();
    let times = time_of(&rows, time_column)?;
    let order = in_files_order(&times, &epochs);
    let rows = take_record_batch(&rows, &order)?;
    let epochs: Vec<Epoch> = order.values().iter().map(|row| epochs[*row as usize]).collect();
    let times = time_of(&rows, time_column)?;
    let lake = lake_schema(&schema.project(&(0..time_column).collect::<Vec<_>>())?)?;
    let mut parts = Vec::new();
    for (day, start, length) in days(&times) {
        let date = NaiveDate::default() + Duration::days(day);
        let of_day = to_lake(&rows.slice(start, length), &lake)?;
        let mut first = start;
        for slice in slices(&of_day) {
            let closed = closed::metadata(&epochs[first..first + slice.num_rows()]);
            first += slice.num_rows();
            parts.push(encode(&slice, closed, date, names.part(date))?);
        }
    }
    Ok(parts)
}

/// The rows of the first so many dates, and the others: a file a date is what a roll costs. Nothing is copied where there
/// are no others.
pub fn first_dates(closed: &[ClosedRows], most: usize) -> Result<(Vec<ClosedRows>, Vec<ClosedRows>)> {
    let mut dates = BTreeSet::new();
    for ClosedRows { rows, .. } in closed {
        let times = time_of(rows, rows.num_columns() - 1)?;
        dates.extend(times.values().iter().map(|time| time.div_euclid(MICROS_PER_DAY)));
    }
    let Some(next) = dates.into_iter().nth(most) else { return Ok((closed.to_vec(), vec![])) };
    let (mut first, mut others) = (vec![], vec![]);
    for ClosedRows { epoch, rows } in closed {
        let times = time_of(rows, rows.num_columns() - 1)?;
        let is_first: BooleanArray =
            times.values().iter().map(|time| Some(time.div_euclid(MICROS_PER_DAY) < next)).collect();
        first.push(ClosedRows { epoch: *epoch, rows: filter_record_batch(rows, &is_first)? });
        others.push(ClosedRows { epoch: *epoch, rows: filter_record_batch(rows, &not(&is_first)?)? });
    }
    [&mut first, &mut others].into_iter().for_each(|rows| rows.retain(|some| some.rows.num_rows() > 0));
    Ok((first, others))
}

/// Durable once it returns; real once a manifest names the files.
pub async fn put_parts(root: &DataRoot, table: &str, parts: Vec<EncodedFile>) -> Result<Vec<DataFile>> {
    let folder = table_folder(table);
    let put = async |part: EncodedFile| {
        root.failpoints().hit(Step::DataFileAbsent);
        root.put(&format!("{folder}/{}", part.file.path), part.bytes).await?;
        root.failpoints().hit(Step::DataFileDurable);
        Ok(part.file)
    };
    stream::iter(parts).map(put).buffered(PUTTING).try_collect().await
}

fn time_of(rows: &RecordBatch, column: usize) -> Result<TimestampMicrosecondArray> {
    let column = rows.column(column);
    match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) if times.null_count() == 0 => Ok(times.clone()),
        _ => Err(Error::Internal(format!(
            "the time of rows for history must be microseconds and never NULL. type=\"{}\", nulls={}",
            column.data_type(),
            column.null_count()
        ))),
    }
}

/// Day by day, and within one epoch by epoch. A replay writes the same file.
fn in_files_order(times: &TimestampMicrosecondArray, epochs: &[Epoch]) -> UInt32Array {
    let mut order: Vec<u32> = (0..epochs.len() as u32).collect();
    order.sort_by_key(|row| {
        let (time, epoch) = (times.value(*row as usize), epochs[*row as usize]);
        (time.div_euclid(MICROS_PER_DAY), epoch, time)
    });
    UInt32Array::from(order)
}

/// Runs of one UTC day in times that are sorted by day: (days since 1970, first row, rows).
fn days(times: &TimestampMicrosecondArray) -> Vec<(i64, usize, usize)> {
    let mut start = 0;
    times
        .values()
        .chunk_by(|a, b| a.div_euclid(MICROS_PER_DAY) == b.div_euclid(MICROS_PER_DAY))
        .map(|run| {
            start += run.len();
            (run[0].div_euclid(MICROS_PER_DAY), start - run.len(), run.len())
        })
        .collect()
}

fn to_lake(rows: &RecordBatch, lake: &SchemaRef) -> Result<RecordBatch> {
    let columns: Result<Vec<ArrayRef>, _> = lake
        .fields()
        .iter()
        .zip(rows.columns())
        .map(|(field, column)| match field.data_type() == column.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast(column, field.data_type()),
        })
        .collect();
    Ok(RecordBatch::try_new(Arc::clone(lake), columns?)?)
}

fn slices(rows: &RecordBatch) -> Vec<RecordBatch> {
    let files = rows.get_array_memory_size().div_ceil(FILE_BYTES_MAX).clamp(1, rows.num_rows().max(1));
    let rows_per_file = rows.num_rows().div_ceil(files).max(1);
    (0..rows.num_rows())
        .step_by(rows_per_file)
        .map(|start| rows.slice(start, rows_per_file.min(rows.num_rows() - start)))
        .collect()
}

fn encode(rows: &RecordBatch, closed: KeyValue, date: NaiveDate, path: String) -> Result<EncodedFile> {
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties(&rows.schema(), closed)?))?;
    writer.write(rows)?;
    writer.close()?;
    let file = DataFile {
        path,
        bytes: bytes.len() as u64,
        rows: rows.num_rows() as u64,
        date,
        stats: file_stats(rows),
    };
    Ok(EncodedFile { file, bytes: Bytes::from(bytes) })
}

/// Of every file; `closed` says when its rows did.
pub(super) fn properties(schema: &Schema, closed: KeyValue) -> Result<WriterProperties> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(vec![closed]));
    // The format's bounds know no NaN, which is greater than any number: whoever prunes by them would lose it.
    let floats = floats(schema.fields(), &[]).into_iter();
    let properties = floats.fold(properties, |properties, column| {
        properties.set_column_statistics_enabled(ColumnPath::new(column), EnabledStatistics::None)
    });
    Ok(properties.build())
}

fn floats(fields: &Fields, within: &[String]) -> Vec<Vec<String>> {
    let of_field = |field: &FieldRef| {
        let path: Vec<String> = within.iter().chain([field.name()]).cloned().collect();
        match field.data_type() {
            DataType::Struct(fields) => floats(fields, &path),
            kind if kind.is_floating() => vec![path],
            _ => vec![],
        }
    };
    fields.iter().flat_map(of_field).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use uuid::Uuid;

    use super::*;

    fn rows(epoch: u64, of: &[(i64, Micros)]) -> ClosedRows {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(of.iter().map(|row| row.0)));
        let names: ArrayRef =
            Arc::new(StringViewArray::from_iter_values(of.iter().map(|row| row.0.to_string())));
        let times =
            TimestampMicrosecondArray::from_iter_values(of.iter().map(|row| row.1)).with_timezone("UTC");
        let columns = [("n", numbers), ("s", names), (TIME_COLUMN, Arc::new(times) as _)];
        ClosedRows { epoch: Epoch(epoch), rows: RecordBatch::try_from_iter(columns).unwrap() }
    }

    fn names() -> FileNames {
        FileNames::new(Uuid::from_u128(1), Epoch(7), Uuid::from_u128(2))
    }

    fn read(file: &EncodedFile) -> Vec<i64> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert!(batches.iter().all(|batch| batch.num_columns() == 2));
        batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec())
            .collect()
    }

    #[test]
    fn rows_are_split_by_utc_date_and_sorted_by_epoch_and_time() {
        let day = MICROS_PER_DAY;
        let batches = [rows(6, &[(1, day), (2, 5), (3, day - 1)]), rows(7, &[(4, -1), (5, 5), (6, 0)])];
        let parts = encode_parts(&batches, &mut names()).unwrap();
        let got: Vec<(String, u64, Vec<i64>)> =
            parts.iter().map(|part| (part.file.date.to_string(), part.file.rows, read(part))).collect();
        let expected = [
            ("1969-12-31".to_string(), 1, vec![4]),
            ("1970-01-01".to_string(), 4, vec![2, 3, 6, 5]),
            ("1970-01-02".to_string(), 1, vec![1]),
        ];
        assert_eq!(got, expected);
        for part in &parts {
            assert_eq!(part.file.bytes, part.bytes.len() as u64);
            assert!(part.file.path.starts_with(&format!("window_date={}/part-", part.file.date)));
            assert!(part.file.stats.contains(&format!("\"numRecords\":{}", part.file.rows)));
        }
        let again = encode_parts(&batches, &mut names()).unwrap();
        assert!(parts.iter().zip(&again).all(|(a, b)| a.bytes == b.bytes), "a replay writes the same bytes");
    }

    #[test]
    fn rows_of_too_many_dates_are_left_for_later() {
        let day = MICROS_PER_DAY;
        let batches =
            [rows(6, &[(1, 2 * day), (2, 0), (3, day)]), rows(7, &[(4, 3 * day), (5, 2 * day - 1)])];
        let numbers = |closed: &[ClosedRows]| -> Vec<i64> {
            let column = |closed: &ClosedRows| {
                closed.rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
            };
            closed.iter().flat_map(column).collect()
        };
        let (first, others) = first_dates(&batches, 2).unwrap();
        assert_eq!((numbers(&first), numbers(&others)), (vec![2, 3, 5], vec![1, 4]));
        let (first, others) = first_dates(&batches, 4).unwrap();
        assert_eq!((numbers(&first), numbers(&others)), (vec![1, 2, 3, 4, 5], vec![]));
        assert!(first_dates(&[], 1).unwrap().0.is_empty());
    }

    #[test]
    fn no_rows_make_no_file_and_a_missing_time_is_our_bug() {
        assert!(encode_parts(&[], &mut names()).unwrap().is_empty());
        assert!(encode_parts(&[rows(7, &[])], &mut names()).unwrap().is_empty());
        let ClosedRows { epoch, rows } = rows(7, &[(1, 1)]);
        let without = ClosedRows { epoch, rows: rows.project(&[0, 1]).unwrap() };
        assert!(encode_parts(&[without], &mut names()).unwrap_err().to_string().contains("__time"));
    }
}
