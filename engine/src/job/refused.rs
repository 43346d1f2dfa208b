//! Rows for `system.rejected_records` and `system.late_rows`: what did not become part of a view, and why.
//!
//! Both are ordinary tables. Beyond a budget of bytes per worker and epoch they hold one row per run of records, with
//! how many; never silence.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, Int32Builder, Int64Builder, RecordBatch, StringViewBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use uuid::Uuid;

use crate::Result;
use crate::ids::{CALENDAR, Micros, Offset, PartitionId};
use crate::source::RawBatch;
use crate::spec::{TIME_COLUMN, ViewShape, ViewSpec};
use crate::view::LeafExec;

/// Bytes of records that one worker keeps in one epoch before it only counts them.
const BYTES_PER_EPOCH: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedTable {
    RejectedRecords,
    LateRows,
}

impl RefusedTable {
    pub fn name(self) -> &'static str {
        match self {
            RefusedTable::RejectedRecords => "rejected_records",
            RefusedTable::LateRows => "late_rows",
        }
    }

    fn id(self) -> Uuid {
        match self {
            RefusedTable::RejectedRecords => Uuid::from_u128(0x7468_616c_7765_6700_8000_0000_0000_0001),
            RefusedTable::LateRows => Uuid::from_u128(0x7468_616c_7765_6700_8000_0000_0000_0002),
        }
    }

    /// Its key among the tables.
    pub fn spec_name(self) -> String {
        format!("system.{}", self.name())
    }

    pub fn schema(self) -> SchemaRef {
        let timestamp = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        Arc::new(Schema::new(vec![
            field("stream", DataType::Utf8View),
            field("view", DataType::Utf8View),
            field("partition", DataType::Int32),
            field("offset", DataType::Int64),
            field("last_offset", DataType::Int64),
            field("records", DataType::Int64),
            field("timestamp", timestamp()),
            field("event_time", timestamp()),
            field("watermark", timestamp()),
            field("reason", DataType::Utf8View),
            field("position", DataType::Int64),
            field("record", DataType::BinaryView),
        ]))
    }

    /// The table as a view without a window, so that it is kept, rolled and served like one.
    pub fn spec(self) -> ViewSpec {
        let schema = self.schema();
        ViewSpec {
            lookups: vec![],
            retention: None,
            id: self.id(),
            name: self.spec_name(),
            sql: String::new(),
            legs: vec![],
            times: vec![None; schema.fields().len()],
            shape: ViewShape::Copy { lowers: vec![Arc::new(LeafExec::of_micro_batch(Arc::clone(&schema)))] },
            schema,
            fingerprint: String::new(),
        }
    }
}

/// The table of that identity.
pub fn system_view(id: Uuid) -> Option<ViewSpec> {
    let both = [RefusedTable::RejectedRecords, RefusedTable::LateRows];
    both.into_iter().find(|table| table.id() == id).map(RefusedTable::spec)
}

/// One record, or a run of them, on its way to a table.
#[derive(Debug, Clone)]
pub struct RefusedRow {
    pub view: Option<String>,
    /// Of a record; a row of a view has neither.
    pub place: Option<(PartitionId, Offset)>,
    pub timestamp: Option<Micros>,
    pub event_time: Option<Micros>,
    pub watermark: Option<Micros>,
    pub reason: String,
    pub position: Option<i64>,
    pub record: Option<Vec<u8>>,
}

impl RefusedRow {
    /// What the record itself says.
    pub fn of(raw: &RawBatch, index: usize, reason: String) -> RefusedRow {
        let record = raw.records.value(index).map(<[u8]>::to_vec);
        RefusedRow { record, ..RefusedRow::without_record(raw, index, reason) }
    }

    /// A row of a view that another view can't take.
    pub fn of_view(view: &str, event_time: Option<Micros>, reason: String, row: String) -> RefusedRow {
        RefusedRow {
            view: Some(view.to_string()),
            place: None,
            timestamp: None,
            event_time,
            watermark: None,
            reason,
            position: None,
            record: Some(row.into_bytes()),
        }
    }

    fn offset(&self) -> Option<Offset> {
        self.place.map(|(_, offset)| offset)
    }

    pub fn without_record(raw: &RawBatch, index: usize, reason: String) -> RefusedRow {
        RefusedRow {
            view: None,
            place: Some((raw.partition(index), Offset(raw.offsets[index]))),
            // A broker takes any number for one.
            timestamp: raw.timestamp(index).filter(|timestamp| CALENDAR.contains(timestamp)),
            event_time: None,
            watermark: None,
            reason,
            position: None,
            record: None,
        }
    }
}

/// Collects the refused rows of one worker.
#[derive(Debug, Default)]
pub struct RefusedRows {
    rows: Vec<Told>,
    bytes: usize,
    /// Where those are that only count, of each partition and view.
    counting: BTreeMap<(Option<PartitionId>, Option<String>), usize>,
}

#[derive(Debug)]
struct Told {
    row: RefusedRow,
    last_offset: Option<Offset>,
    records: i64,
}

impl RefusedRows {
    pub fn push(&mut self, mut row: RefusedRow) {
        let weight = row.record.as_ref().map_or(0, Vec::len) + row.reason.len() + 64;
        if self.bytes + weight <= BYTES_PER_EPOCH {
            self.bytes += weight;
            let last_offset = row.offset();
            self.rows.push(Told { row, last_offset, records: 1 });
            return;
        }
        row.record = None;
        match self.counting.entry((row.place.map(|(partition, _)| partition), row.view.clone())) {
            Entry::Occupied(place) => {
                let told = &mut self.rows[*place.get()];
                told.last_offset = row.offset();
                told.records += 1;
            }
            Entry::Vacant(place) => {
                place.insert(self.rows.len());
                row.reason = format!("{} (and more; only counted from here)", row.reason);
                let last_offset = row.offset();
                self.rows.push(Told { row, last_offset, records: 1 });
            }
        }
    }

    /// Why the first of them was refused.
    pub fn first_reason(&self) -> Option<&str> {
        self.rows.first().map(|told| told.row.reason.as_str())
    }

    /// A new epoch has a new budget.
    pub fn renew_budget(&mut self) {
        self.bytes = 0;
    }

    /// The rows so far as a batch of [`RefusedTable::schema`] followed by the hidden time column.
    pub fn take(&mut self, stream: &str) -> Result<Option<RecordBatch>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.rows);
        self.counting.clear();
        let mut columns = Columns::default();
        for told in &rows {
            columns.push(stream, told);
        }
        columns.finish().map(Some)
    }
}

#[derive(Default)]
struct Columns {
    stream: StringViewBuilder,
    view: StringViewBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    last_offset: Int64Builder,
    records: Int64Builder,
    timestamp: TimestampMicrosecondBuilder,
    event_time: TimestampMicrosecondBuilder,
    watermark: TimestampMicrosecondBuilder,
    reason: StringViewBuilder,
    position: Int64Builder,
    record: BinaryViewBuilder,
    time: TimestampMicrosecondBuilder,
}

impl Columns {
    fn push(&mut self, stream: &str, told: &Told) {
        let row = &told.row;
        self.stream.append_value(stream);
        self.view.append_option(row.view.as_deref());
        self.partition.append_option(row.place.map(|(partition, _)| partition.0));
        self.offset.append_option(row.offset().map(|offset| offset.0));
        self.last_offset.append_option(told.last_offset.map(|offset| offset.0));
        self.records.append_value(told.records);
        self.timestamp.append_option(row.timestamp);
        self.event_time.append_option(row.event_time);
        self.watermark.append_option(row.watermark);
        self.reason.append_value(&row.reason);
        self.position.append_option(row.position);
        self.record.append_option(row.record.as_deref());
        // The record's own time, or that of a view's row, so that a replay puts it into the same day; 1970 if it has none.
        let of_view = row.event_time.filter(|_| row.place.is_none());
        self.time.append_value(row.timestamp.or(of_view).unwrap_or(0));
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let mut fields = RefusedTable::LateRows.schema().fields().to_vec();
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        fields.push(Arc::new(Field::new(TIME_COLUMN, timestamp, true)));
        let utc = |mut builder: TimestampMicrosecondBuilder| -> ArrayRef {
            Arc::new(builder.finish().with_timezone("UTC"))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.stream.finish()),
            Arc::new(self.view.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.last_offset.finish()),
            Arc::new(self.records.finish()),
            utc(self.timestamp),
            utc(self.event_time),
            utc(self.watermark),
            Arc::new(self.reason.finish()),
            Arc::new(self.position.finish()),
            Arc::new(self.record.finish()),
            utc(self.time),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}
