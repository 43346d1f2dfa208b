//! From raw records to the one decoded batch that all views of a stream read. Decides which records are refused; keeps
//! no state between batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Int32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};

use crate::decode::{Decoder, Refused};
use crate::ids::{CALENDAR, Micros};
use crate::job::refused::{RefusedRow, RefusedRows};
use crate::source::{RawBatch, Span};
use crate::spec::{ColumnOrigin, Leg, RecordColumn, StreamSpec, ViewSpec};
use crate::{Error, Result};

/// How much is kept of a record that is too large.
const OVERSIZED_BYTES_KEPT: usize = 1024;

pub struct Intake {
    stream: Arc<StreamSpec>,
    decoder: Decoder,
    /// Columns of the record itself that some view needs, as indices into the stream's schema.
    record_columns: Vec<(usize, RecordColumn)>,
    needs_keys: bool,
    /// Whether the stream has the records' timestamps as a column, though no view may read it: what becomes of a record
    /// does not depend on views.
    declares_timestamp: bool,
}

/// What became of the records of one raw batch.
pub struct Accepted {
    pub batch: RecordBatch,
    /// For each row, its index among the raw records.
    pub records: Vec<u32>,
    /// The indices of the records that became no row, ascending.
    pub rejected: Vec<u32>,
}

/// A record that becomes no row. What is told of it is put together later, in the records' order.
struct Refusal {
    index: usize,
    cause: Cause,
}

enum Cause {
    Oversized,
    Undecodable { reason: String, at: usize },
    BadTime { reason: String, event_time: Option<Micros> },
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
        let legs = views.iter().flat_map(|view| view.legs_of_stream(&stream.name).map(|leg| &view.legs[leg]));
        let reading: Vec<&Leg> = legs.collect();
        Intake::of(stream, |column| {
            Some(column) == event_time || reading.iter().any(|leg| leg.columns.contains(&column))
        })
    }

    /// Materializes all columns.
    pub fn whole(stream: &Arc<StreamSpec>) -> Result<Intake> {
        Intake::of(stream, |_| true)
    }

    fn of(stream: &Arc<StreamSpec>, needed: impl Fn(usize) -> bool) -> Result<Intake> {
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
        let declares_timestamp = stream.origins.contains(&ColumnOrigin::Record(RecordColumn::Timestamp));
        Ok(Intake { stream: Arc::clone(stream), decoder, record_columns, needs_keys, declares_timestamp })
    }

    pub fn without_fast_decoding(self) -> Intake {
        Intake { decoder: self.decoder.without_fast_path(), ..self }
    }

    /// Whether any view reads the records' keys.
    pub fn needs_keys(&self) -> bool {
        self.needs_keys
    }

    /// Takes in the whole batch, or as much of it as has room at once: then `raw` is cut there, and its rest comes back.
    pub fn accept(
        &mut self,
        raw: &mut RawBatch,
        refused: &mut RefusedRows,
    ) -> Result<(Accepted, Option<RawBatch>)> {
        let (accepted, refusals, rest) = self.take(raw)?;
        let rejected = refusals.iter().map(|refusal| refusal.index as u32).collect();
        for refusal in refusals {
            refused.push(self.refused_row(raw, refusal));
        }
        Ok((Accepted { rejected, ..accepted }, rest))
    }

    /// Which records would be refused, and why, in order: for whoever asks before there is a topic to read.
    pub fn judge(&mut self, raw: &mut RawBatch) -> Result<Vec<Refused>> {
        let mut told = vec![];
        let mut rest = self.judge_some(raw, 0, &mut told)?;
        let mut before = raw.len();
        while let Some(mut raw) = rest {
            rest = self.judge_some(&mut raw, before, &mut told)?;
            before += raw.len();
        }
        Ok(told)
    }

    /// As many as have room at once, of which so many were before; gives the others.
    fn judge_some(
        &mut self,
        raw: &mut RawBatch,
        before: usize,
        told: &mut Vec<Refused>,
    ) -> Result<Option<RawBatch>> {
        let (_, refusals, rest) = self.take(raw)?;
        for refusal in refusals {
            let index = before + refusal.index;
            let row = self.refused_row(raw, refusal);
            told.push(Refused { index, reason: row.reason, at: row.position.unwrap_or(0) as usize });
        }
        Ok(rest)
    }

    /// What of the records becomes rows and what does not, in order, and those for which there was no room.
    fn take(&mut self, raw: &mut RawBatch) -> Result<(Accepted, Vec<Refusal>, Option<RawBatch>)> {
        let oversize = self.hide_oversize(raw);
        let decoded = self.decoder.decode(&raw.records)?;
        for (index, span) in &oversize {
            raw.records.spans[*index] = *span;
        }
        let rest = (decoded.read < raw.records.spans.len()).then(|| raw.split_off(decoded.read));
        let mut gone = vec![false; decoded.read];
        let mut refusals = Vec::with_capacity(decoded.refused.len());
        for Refused { index, reason, at } in decoded.refused {
            gone[index] = true;
            let oversized = oversize.binary_search_by_key(&index, |(index, _)| *index).is_ok();
            refusals.push(match oversized {
                true => Refusal { index, cause: Cause::Oversized },
                false => Refusal { index, cause: Cause::Undecodable { reason, at } },
            });
        }
        let records: Vec<u32> = (0..decoded.read as u32).filter(|index| !gone[*index as usize]).collect();
        let batch = self.with_record_columns(decoded.batch, raw, &records)?;
        let accepted = Accepted { batch, records, rejected: vec![] };
        let accepted = self.refuse_bad_times(raw, accepted, &mut refusals)?;
        if accepted.records.len() + refusals.len() != decoded.read {
            return Err(Error::Internal(format!(
                "the decoder lost records. in={}, rows={}, rejected={}",
                decoded.read,
                accepted.records.len(),
                refusals.len()
            )));
        }
        refusals.sort_by_key(|refusal| refusal.index);
        Ok((accepted, refusals, rest))
    }

    /// A record beyond the declared size is not even parsed: to the decoder it is a tombstone. Gives the spans back that
    /// are to be restored.
    fn hide_oversize(&self, raw: &mut RawBatch) -> Vec<(usize, Span)> {
        let most = self.stream.options.record_bytes_max;
        let spans = raw.records.spans.iter_mut().enumerate();
        let oversize = spans.filter(|(_, span)| !span.is_tombstone() && span.len as usize > most);
        oversize.map(|(index, span)| (index, std::mem::replace(span, Span::TOMBSTONE))).collect()
    }

    fn refused_row(&self, raw: &RawBatch, Refusal { index, cause }: Refusal) -> RefusedRow {
        match cause {
            Cause::Undecodable { reason, at } => {
                RefusedRow { position: Some(at as i64), ..RefusedRow::of(raw, index, reason) }
            }
            Cause::BadTime { reason, event_time } => {
                RefusedRow { event_time, ..RefusedRow::of(raw, index, reason) }
            }
            Cause::Oversized => {
                let (bytes, most) = (raw.records.spans[index].len, self.stream.options.record_bytes_max);
                let reason =
                    format!("the record is larger than record_bytes_max. bytes={bytes}, most={most}");
                let kept = raw.records.value(index).map(|record| &record[..most.min(OVERSIZED_BYTES_KEPT)]);
                let record = kept.map(<[u8]>::to_vec);
                RefusedRow { record, ..RefusedRow::without_record(raw, index, reason) }
            }
        }
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

    /// Refuses rows without an event time, those dated further ahead of their own record than the bound, and those whose
    /// record has a timestamp that is none. Without the clock, so that a replay decides alike.
    fn refuse_bad_times(
        &self,
        raw: &RawBatch,
        mut accepted: Accepted,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Accepted> {
        let times = accepted.event_times(&self.stream);
        let guard = self.stream.options.future_guard.as_micros() as Micros;
        let verdict = |row: usize| -> Option<String> {
            let timestamp = raw.timestamp(accepted.records[row] as usize);
            if self.declares_timestamp && timestamp.is_some_and(|it| !CALENDAR.contains(&it)) {
                return Some("the record's timestamp is beyond the years 1 to 9999".into());
            }
            let times = times.as_ref()?;
            if times.is_null(row) {
                return Some("the event time is missing".into());
            }
            if !CALENDAR.contains(&times.value(row)) {
                return Some("the event time is beyond the years 1 to 9999".into());
            }
            let ahead = times.value(row).saturating_sub(timestamp?);
            (ahead > guard).then(|| {
                let (ahead, guard) = (ahead / 1_000_000, guard / 1_000_000);
                format!("the event is dated further ahead of its record than future_guard. ahead={ahead} s, future_guard={guard} s")
            })
        };
        if times.is_none() && !self.declares_timestamp {
            return Ok(accepted);
        }
        let reasons: Vec<Option<String>> = (0..accepted.records.len()).map(verdict).collect();
        if reasons.iter().all(Option::is_none) {
            return Ok(accepted);
        }
        let mask: BooleanArray = reasons.iter().map(|reason| Some(reason.is_none())).collect();
        for (row_index, reason) in reasons.into_iter().enumerate() {
            if let Some(reason) = reason {
                let event_time = times.as_ref().filter(|times| times.is_valid(row_index));
                let event_time =
                    event_time.map(|times| times.value(row_index)).filter(|time| CALENDAR.contains(time));
                let index = accepted.records[row_index] as usize;
                refusals.push(Refusal { index, cause: Cause::BadTime { reason, event_time } });
            }
        }
        accepted.batch = filter_record_batch(&accepted.batch, &mask)?;
        let mut row_index = 0;
        accepted.records.retain(|_| {
            row_index += 1;
            mask.value(row_index - 1)
        });
        Ok(accepted)
    }
}

fn record_column(column: RecordColumn, field: &Field, raw: &RawBatch, records: &[u32]) -> Result<ArrayRef> {
    let rows = || records.iter().map(|index| *index as usize);
    let array: ArrayRef = match (column, field.data_type()) {
        (RecordColumn::Partition, _) => Arc::new(Int32Array::from(partitions(raw, records))),
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

/// Whose each of the records is, which ascend.
fn partitions(raw: &RawBatch, records: &[u32]) -> Vec<i32> {
    let mut partitions = Vec::with_capacity(records.len());
    for (partition, range) in raw.ranges() {
        let rows = records.partition_point(|index| (*index as usize) < range.end);
        partitions.resize(rows, partition.0);
    }
    partitions
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::TimeUnit;

    use super::*;
    use crate::ids::PartitionId;
    use crate::source::Stretch;
    use crate::spec::EventTime;

    fn intake() -> Intake {
        let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
        let element: Vec<Field> =
            names.iter().map(|name| Field::new(name, DataType::Utf8View, true)).collect();
        let list = DataType::new_list(DataType::Struct(element.into()), true);
        let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("at", at, true), Field::new("a", list, true)]);
        let stream = StreamSpec {
            schema: Arc::new(schema),
            event_time: Some(EventTime { column: 0, delay: 0 }),
            ..crate::job::tests::clicks()
        };
        Intake::new(&Arc::new(stream), &[]).unwrap()
    }

    /// Half of the records are of one partition, the others of another.
    fn raw(values: &[Option<&str>]) -> RawBatch {
        let mut raw = RawBatch::default();
        for (index, value) in values.iter().enumerate() {
            let partition = PartitionId((2 * index / values.len()) as i32);
            raw.push(partition, 100 + 2 * index as i64, 1_000_000, value.map(str::as_bytes));
        }
        raw
    }

    /// Offsets of the refused rows, in the order of their table.
    fn offsets(mut refused: RefusedRows) -> Vec<i64> {
        let Some(table) = refused.take("s").unwrap() else { return vec![] };
        table
            .column_by_name("offset")
            .unwrap()
            .as_any()
            .downcast_ref::<Int64Array>()
            .unwrap()
            .values()
            .to_vec()
    }

    #[test]
    fn what_is_refused_for_different_reasons_is_told_in_order() {
        let oversized = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        let good = "{\"at\":1}";
        let mut raw =
            raw(&[Some("{}"), Some(&oversized), Some(good), None, Some("{"), Some("{\"at\":999999}")]);
        let last = raw.fingerprint(5);
        let mut refused = RefusedRows::default();
        let (accepted, rest) = intake().accept(&mut raw, &mut refused).unwrap();
        assert_eq!((accepted.records, rest.is_none()), (vec![2], true));
        assert_eq!(accepted.rejected, [0, 1, 3, 4, 5]);
        assert_eq!(offsets(refused), [100, 102, 106, 108, 110]);
        assert_eq!(raw.records.value(1), Some(oversized.as_bytes()), "the record is as it came");
        assert_eq!(raw.fingerprint(5), last);
    }

    #[test]
    fn records_without_room_are_taken_in_later() {
        let large = format!("{{\"at\":1,\"a\":[{}]}}", vec!["{}"; 60_000].join(","));
        let values = [Some("{"), Some(large.as_str()), Some(&large), Some("{\"at\":1}"), None, Some(&large)];
        let mut intake = intake();
        let mut left = Some(raw(&values));
        let (mut rows, mut batches) = (0, vec![]);
        let mut refused = RefusedRows::default();
        while let Some(mut raw) = left {
            let (accepted, rest) = intake.accept(&mut raw, &mut refused).unwrap();
            rows += accepted.batch.num_rows();
            batches.push((raw.offsets.clone(), raw.stretches.clone()));
            for (index, offset) in raw.offsets.iter().enumerate() {
                assert_eq!(raw.records.value(index), values[(*offset as usize - 100) / 2].map(str::as_bytes));
            }
            left = rest;
        }
        let of = |partition| vec![Stretch { partition: PartitionId(partition), end: 3 }];
        assert_eq!(batches, [(vec![100, 102, 104], of(0)), (vec![106, 108, 110], of(1))]);
        assert_eq!((rows, offsets(refused)), (4, vec![100, 108]));
    }
}
