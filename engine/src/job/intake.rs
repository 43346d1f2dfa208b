//! From raw records to the one decoded batch that all views of a stream read. Decides which records are refused; keeps
//! no state between batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};

use crate::decode::Decoder;
use crate::ids::Micros;
use crate::job::refused::{RefusedRow, RefusedRows};
use crate::source::{RawBatch, Span};
use crate::spec::{ColumnOrigin, RecordColumn, StreamSpec, ViewSpec};
use crate::{Error, Result};

pub struct Intake {
    stream: Arc<StreamSpec>,
    decoder: Decoder,
    /// Columns of the record itself that some view needs, as indices into the stream's schema.
    record_columns: Vec<(usize, RecordColumn)>,
    needs_keys: bool,
}

/// Accepted rows of one raw batch.
pub struct Accepted {
    pub batch: RecordBatch,
    /// For each row, its index among the raw records.
    pub records: Vec<u32>,
    pub rejected: u64,
}

impl Accepted {
    /// The event times, where the stream declares them.
    pub fn event_times(&self, stream: &StreamSpec) -> Option<TimestampMicrosecondArray> {
        let name = stream.schema.field(stream.event_time?.column).name();
        let times = self.batch.column_by_name(name)?;
        Some(times.as_primitive::<TimestampMicrosecondType>().clone())
    }
}

impl Intake {
    /// Materializes the union of the columns that the views read.
    pub fn new(stream: &Arc<StreamSpec>, views: &[Arc<ViewSpec>]) -> Result<Intake> {
        let event_time = stream.event_time.map(|time| time.column);
        let needed = |column: usize| {
            Some(column) == event_time || views.iter().any(|view| view.columns.contains(&column))
        };
        let mut declared = vec![];
        let mut wanted = vec![];
        let mut record_columns = vec![];
        for (index, origin) in stream.origins.iter().enumerate() {
            match origin {
                ColumnOrigin::Value => {
                    if needed(index) {
                        wanted.push(declared.len());
                    }
                    declared.push(Arc::clone(&stream.schema.fields()[index]));
                }
                ColumnOrigin::Record(column) if needed(index) => record_columns.push((index, *column)),
                ColumnOrigin::Record(_) => {}
            }
        }
        let needs_keys = record_columns.iter().any(|(_, column)| *column == RecordColumn::Key);
        let decoder = Decoder::new(Arc::new(Schema::new(declared)), &wanted)?;
        Ok(Intake { stream: Arc::clone(stream), decoder, record_columns, needs_keys })
    }

    pub fn without_fast_decoding(self) -> Intake {
        Intake { decoder: self.decoder.without_fast_path(), ..self }
    }

    /// Whether any view reads the records' keys.
    pub fn needs_keys(&self) -> bool {
        self.needs_keys
    }

    pub fn accept(&mut self, raw: &mut RawBatch, refused: &mut RefusedRows) -> Result<Accepted> {
        let count = raw.records.spans.len();
        let oversize = self.refuse_oversize(raw, refused);
        let decoded = self.decoder.decode(&raw.records)?;
        let mut gone = vec![false; count];
        let mut rejected = oversize.len() as u64;
        for refusal in decoded.refused {
            gone[refusal.index] = true;
            if oversize.binary_search(&refusal.index).is_err() {
                rejected += 1;
                let position = Some(refusal.at as i64);
                refused.push(RefusedRow { position, ..RefusedRow::of(raw, refusal.index, refusal.reason) });
            }
        }
        let records: Vec<u32> = (0..count as u32).filter(|index| !gone[*index as usize]).collect();
        let batch = self.with_record_columns(decoded.batch, raw, &records)?;
        let mut accepted = Accepted { batch, records, rejected };
        self.refuse_bad_times(raw, &mut accepted, refused)?;
        if accepted.records.len() as u64 + accepted.rejected != count as u64 {
            return Err(Error::Internal(format!(
                "the decoder lost records. in={count}, rows={}, rejected={}",
                accepted.records.len(),
                accepted.rejected
            )));
        }
        Ok(accepted)
    }

    /// A record beyond the declared size is not even parsed: to the decoder it is a tombstone.
    fn refuse_oversize(&self, raw: &mut RawBatch, refused: &mut RefusedRows) -> Vec<usize> {
        let most = self.stream.options.record_bytes_max;
        let oversize: Vec<usize> = (0..raw.records.spans.len())
            .filter(|index| {
                let span = raw.records.spans[*index];
                !span.is_tombstone() && span.len as usize > most
            })
            .collect();
        for &index in &oversize {
            let bytes = raw.records.spans[index].len;
            let reason = format!("the record is larger than record_bytes_max. bytes={bytes}, most={most}");
            let mut oversized = RefusedRow::of(raw, index, reason);
            oversized.record = oversized.record.map(|record| record[..most.min(1024)].to_vec());
            refused.push(oversized);
            raw.records.spans[index] = Span::TOMBSTONE;
        }
        oversize
    }

    fn with_record_columns(
        &self,
        batch: RecordBatch,
        raw: &RawBatch,
        records: &[u32],
    ) -> Result<RecordBatch> {
        if self.record_columns.is_empty() {
            return Ok(batch);
        }
        let mut fields = batch.schema().fields().to_vec();
        let mut columns = batch.columns().to_vec();
        for (index, column) in &self.record_columns {
            let field = &self.stream.schema.fields()[*index];
            columns.push(record_column(*column, field, raw, records)?);
            fields.push(Arc::clone(field));
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Refuses rows without an event time, and those dated further ahead of their own record than the bound. Without
    /// the clock, so that a replay decides alike.
    fn refuse_bad_times(
        &self,
        raw: &RawBatch,
        accepted: &mut Accepted,
        refused: &mut RefusedRows,
    ) -> Result<()> {
        let Some(times) = accepted.event_times(&self.stream) else { return Ok(()) };
        let guard = self.stream.options.future_guard.as_micros() as Micros;
        let verdict = |row: usize| -> Option<String> {
            if times.is_null(row) {
                return Some("the event time is missing".into());
            }
            let timestamp = raw.timestamp(accepted.records[row] as usize)?;
            let ahead = times.value(row).saturating_sub(timestamp);
            (ahead > guard).then(|| {
                let (ahead, guard) = (ahead / 1_000_000, guard / 1_000_000);
                format!("the event is dated further ahead of its record than future_guard. ahead={ahead} s, future_guard={guard} s")
            })
        };
        let reasons: Vec<Option<String>> = (0..times.len()).map(verdict).collect();
        if reasons.iter().all(Option::is_none) {
            return Ok(());
        }
        let mask: BooleanArray = reasons.iter().map(|reason| Some(reason.is_none())).collect();
        for (row_index, reason) in reasons.into_iter().enumerate() {
            if let Some(reason) = reason {
                let event_time = (!times.is_null(row_index)).then(|| times.value(row_index));
                let index = accepted.records[row_index] as usize;
                refused.push(RefusedRow { event_time, ..RefusedRow::of(raw, index, reason) });
            }
        }
        accepted.batch = filter_record_batch(&accepted.batch, &mask)?;
        let mut row_index = 0;
        accepted.records.retain(|_| {
            row_index += 1;
            mask.value(row_index - 1)
        });
        accepted.rejected += (mask.len() - mask.true_count()) as u64;
        Ok(())
    }
}

fn record_column(column: RecordColumn, field: &Field, raw: &RawBatch, records: &[u32]) -> Result<ArrayRef> {
    let rows = || records.iter().map(|index| *index as usize);
    let array: ArrayRef = match (column, field.data_type()) {
        (RecordColumn::Partition, DataType::Int32) => {
            Arc::new(Int32Array::from(vec![raw.partition.0; records.len()]))
        }
        (RecordColumn::Partition, _) => {
            Arc::new(Int64Array::from(vec![i64::from(raw.partition.0); records.len()]))
        }
        (RecordColumn::Offset, _) => {
            Arc::new(rows().map(|row| Some(raw.offsets[row])).collect::<Int64Array>())
        }
        (RecordColumn::Timestamp, _) => {
            let times = rows().map(|row| raw.timestamp(row));
            Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        (RecordColumn::Key, DataType::BinaryView) => {
            Arc::new(rows().map(|row| raw.keys[row].as_deref()).collect::<BinaryViewArray>())
        }
        (RecordColumn::Key, _) => {
            let text = |row: usize| raw.keys[row].as_deref().map(String::from_utf8_lossy);
            Arc::new(rows().map(text).collect::<StringViewArray>())
        }
    };
    Ok(arrow::compute::cast(&array, field.data_type())?)
}
