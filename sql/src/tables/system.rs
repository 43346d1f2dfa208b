//! `system.*`: what the job and the sessions know of themselves, as tables. Their columns are a promise: docs/TABLES.md
//! lists them, and a test compares.
//!
//! Counts are BIGINT and instants TIMESTAMP in UTC, which every client can read. An instant at the end of time (a source
//! that has ended) is outside of what clients can hold, so it is NULL beside a column `ended`.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Date32Type, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use thalweg_engine::ids::{END_OF_TIME, Micros};
use thalweg_engine::status::{
    Change, CheckpointStatus, CompactionStatus, Failure, Intervention, LedgerRow, LookupStatus, MemoryStatus,
    PartitionStatus, StoreStatus, StreamStatus, ViewStatus,
};

use super::Pinned;
use super::part::memory_scan;
use super::waits::sentence;
use crate::session::{DeadLetter, Endpoint, Kind, QueryStatus, SinkStatus};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemTable {
    Streams,
    Partitions,
    Views,
    Tables,
    Checkpoints,
    Ledger,
    Queries,
    Subscriptions,
    Store,
    Compactions,
    Memory,
    Interventions,
    Endpoints,
    Sinks,
    DeadLetters,
}

impl SystemTable {
    pub const ALL: [SystemTable; 15] = [
        SystemTable::Streams,
        SystemTable::Partitions,
        SystemTable::Views,
        SystemTable::Tables,
        SystemTable::Checkpoints,
        SystemTable::Ledger,
        SystemTable::Queries,
        SystemTable::Subscriptions,
        SystemTable::Store,
        SystemTable::Compactions,
        SystemTable::Memory,
        SystemTable::Interventions,
        SystemTable::Endpoints,
        SystemTable::Sinks,
        SystemTable::DeadLetters,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SystemTable::Streams => "streams",
            SystemTable::Partitions => "partitions",
            SystemTable::Views => "views",
            SystemTable::Tables => "tables",
            SystemTable::Checkpoints => "checkpoints",
            SystemTable::Ledger => "ledger",
            SystemTable::Queries => "queries",
            SystemTable::Subscriptions => "subscriptions",
            SystemTable::Store => "store",
            SystemTable::Compactions => "compactions",
            SystemTable::Memory => "memory",
            SystemTable::Interventions => "interventions",
            SystemTable::Endpoints => "endpoints",
            SystemTable::Sinks => "sinks",
            SystemTable::DeadLetters => "dead_letters",
        }
    }

    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 15]> = LazyLock::new(|| {
            SystemTable::ALL.map(|table| {
                let columns = match table {
                    SystemTable::Streams => streams(&[]),
                    SystemTable::Partitions => partitions(&[]),
                    SystemTable::Views => views(&[]),
                    SystemTable::Tables => tables(&[]),
                    SystemTable::Checkpoints => checkpoints(&[]),
                    SystemTable::Ledger => ledger(&[]),
                    SystemTable::Queries | SystemTable::Subscriptions => queries(&[]),
                    SystemTable::Store => store(&[]),
                    SystemTable::Compactions => compactions(&[]),
                    SystemTable::Memory => memory(&[]),
                    SystemTable::Interventions => interventions(&[]),
                    SystemTable::Endpoints => endpoints(&[]),
                    SystemTable::Sinks => sinks(&[]),
                    SystemTable::DeadLetters => dead_letters(&[]),
                };
                Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
            })
        });
        Arc::clone(&SCHEMAS[self as usize])
    }

    pub(crate) fn rows(self, pinned: &Pinned) -> Result<RecordBatch> {
        if let Some(fact) = pinned.fact(self.name()) {
            return fact;
        }
        let columns = match self {
            SystemTable::Streams => streams(&pinned.status().streams),
            SystemTable::Partitions => partitions(&pinned.status().partitions),
            SystemTable::Views => views(&pinned.status().views),
            SystemTable::Tables => tables(&pinned.status().lookups),
            SystemTable::Checkpoints => checkpoints(&pinned.status().checkpoints),
            SystemTable::Ledger => ledger(&pinned.status().ledger),
            SystemTable::Queries => queries(&pinned.running(Kind::Query)),
            SystemTable::Subscriptions => queries(&pinned.running(Kind::Subscription)),
            SystemTable::Store => store(std::slice::from_ref(&pinned.status().store)),
            SystemTable::Compactions => compactions(&pinned.status().compactions),
            SystemTable::Memory => memory(&pinned.status().memory),
            SystemTable::Interventions => interventions(&pinned.status().interventions),
            SystemTable::Endpoints => endpoints(pinned.endpoints()),
            SystemTable::Sinks => sinks(&pinned.sinks()),
            SystemTable::DeadLetters => dead_letters(&pinned.dead_letters()),
        };
        let arrays = columns.into_iter().map(|column| column.values).collect();
        Ok(RecordBatch::try_new(self.schema(), arrays)?)
    }
}

#[derive(Debug)]
pub(crate) struct SystemTableProvider {
    pub pinned: Arc<Pinned>,
    pub table: SystemTable,
}

#[async_trait]
impl TableProvider for SystemTableProvider {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.table.rows(&self.pinned)?;
        memory_scan(self.schema(), vec![rows], projection, session.config().batch_size())
    }
}

fn streams(rows: &[StreamStatus]) -> Vec<Column> {
    vec![
        text("stream", rows, |row| &row.stream),
        text("connector", rows, |row| row.connector),
        count("records", rows, |row| row.records),
        count("rejected", rows, |row| row.rejected),
        count("bytes", rows, |row| row.bytes),
        instant_or_null("frontier", rows, |row| row.frontier),
        flag("ended", rows, |row| row.frontier == Some(END_OF_TIME)),
        text("state", rows, |row| state(&row.failure)),
        instant_or_null("failed_since", rows, |row| row.failure.as_ref().map(|failure| failure.since)),
        text_or_null("reason", rows, |row| row.failure.as_ref().map(|failure| failure.reason.as_str())),
        instant_or_null("next_try", rows, |row| row.next_try),
        count("reading_ms", rows, |row| row.effort.reading.as_millis() as u64),
        count("decoding_ms", rows, |row| row.effort.decoding.as_millis() as u64),
        count("aggregating_ms", rows, |row| row.effort.aggregating.as_millis() as u64),
    ]
}

fn partitions(rows: &[PartitionStatus]) -> Vec<Column> {
    vec![
        text("stream", rows, |row| &row.stream),
        Column::of("partition", false, Int32Array::from_iter_values(rows.iter().map(|row| row.partition.0))),
        Column::of("offset", false, Int64Array::from_iter_values(rows.iter().map(|row| row.offset.0))),
        Column::of(
            "end_offset",
            true,
            rows.iter().map(|row| row.end_offset.map(|end| end.0)).collect::<Int64Array>(),
        ),
        Column::of("lag", true, rows.iter().map(lag).collect::<Int64Array>()),
        instant_or_null("watermark", rows, |row| row.watermark),
        flag("ended", rows, |row| row.ended),
        instant_or_null("idle_since", rows, |row| row.idle_since),
        flag("holds_frontier", rows, |row| row.holds_frontier),
    ]
}

/// Records that are there and not read. An end learnt before the last poll is not a negative lag.
fn lag(row: &PartitionStatus) -> Option<i64> {
    row.end_offset.map(|end| end.0.saturating_sub(row.offset.0).max(0))
}

fn views(rows: &[ViewStatus]) -> Vec<Column> {
    vec![
        text("view", rows, |row| &row.view),
        text("stream", rows, |row| &row.stream),
        text("state", rows, |row| state(&row.failure)),
        count("open_windows", rows, |row| row.open_windows),
        count("state_rows", rows, |row| row.state_rows),
        count("state_bytes", rows, |row| row.state_bytes),
        count("spilled_bytes", rows, |row| row.spilled_bytes),
        count("tail_rows", rows, |row| row.tail_rows),
        count("history_rows", rows, |row| row.history_rows),
        count("history_files", rows, |row| row.history_files),
        count("late_rows", rows, |row| row.late_rows),
        count("failed_rows", rows, |row| row.failed_rows),
        instant_or_null("closed_through", rows, |row| row.closed_through),
        instant_or_null("born_after", rows, |row| row.born_after),
        instant_or_null("failed_since", rows, |row| row.failure.as_ref().map(|failure| failure.since)),
        text_or_null("reason", rows, |row| row.failure.as_ref().map(|failure| failure.reason.as_str())),
        Column::of(
            "waits_for",
            false,
            StringArray::from_iter_values(rows.iter().map(|row| sentence(&row.view, &row.waits_for))),
        ),
    ]
}

fn tables(rows: &[LookupStatus]) -> Vec<Column> {
    let state = |row: &LookupStatus| match (row.is_read, &row.failure) {
        (false, _) => "unread",
        (true, Some(_)) => "stale",
        (true, None) => "read",
    };
    vec![
        text("table", rows, |row| &row.table),
        text("source", rows, |row| &row.source),
        text("format", rows, |row| row.format),
        text("state", rows, state),
        count("rows", rows, |row| row.rows),
        count("bytes", rows, |row| row.bytes),
        instant_or_null("taken_up_at", rows, |row| row.taken_at),
        count("refused", rows, |row| row.refused),
        text_or_null("refused_reason", rows, |row| row.refused_reason.as_deref()),
        instant_or_null("failed_since", rows, |row| row.failure.as_ref().map(|failure| failure.since)),
        text_or_null("reason", rows, |row| row.failure.as_ref().map(|failure| failure.reason.as_str())),
    ]
}

fn state(failure: &Option<Failure>) -> &'static str {
    match failure {
        Some(_) => "failed",
        None => "running",
    }
}

fn checkpoints(rows: &[CheckpointStatus]) -> Vec<Column> {
    vec![
        count("epoch", rows, |row| row.epoch.0),
        instant("committed_at", rows, |row| row.committed_at),
        count("duration_micros", rows, |row| row.duration_micros),
        count("barrier_micros", rows, |row| row.barrier_micros),
        count("close_micros", rows, |row| row.close_micros),
        count("manifest_micros", rows, |row| row.manifest_micros),
        count("delta_micros", rows, |row| row.delta_micros),
        count("state_bytes", rows, |row| row.state_bytes),
        count("records", rows, |row| row.records),
    ]
}

fn ledger(rows: &[LedgerRow]) -> Vec<Column> {
    let partitions = rows.iter().map(|row| row.partition.map(|partition| partition.0));
    vec![
        count("epoch", rows, |row| row.epoch.0),
        text("stream", rows, |row| &row.stream),
        text_or_null("view", rows, |row| row.view.as_deref()),
        Column::of("partition", true, partitions.collect::<Int32Array>()),
        count("records", rows, |row| row.records),
        count("decoded", rows, |row| row.decoded),
        count("rejected", rows, |row| row.rejected),
        count("aggregated", rows, |row| row.aggregated),
        count("filtered", rows, |row| row.filtered),
        count("late", rows, |row| row.late),
        count("failed", rows, |row| row.failed),
    ]
}

fn queries(rows: &[QueryStatus]) -> Vec<Column> {
    vec![
        count("id", rows, |row| row.id),
        text("sql", rows, |row| &row.sql),
        text_or_null("user", rows, |row| row.user.as_deref()),
        text_or_null("client", rows, |row| row.client.as_deref()),
        instant("started_at", rows, |row| row.started_at),
        instant_or_null("finished_at", rows, |row| row.finished_at),
        count("rows", rows, |row| row.rows),
        text("state", rows, |row| row.state.name()),
        text_or_null("error", rows, |row| row.error.as_deref()),
    ]
}

fn store(rows: &[StoreStatus]) -> Vec<Column> {
    vec![
        text("store", rows, |row| &row.store),
        text("state", rows, |row| if row.away { "away" } else { "answers" }),
        instant("since", rows, |row| row.since),
        count("retries", rows, |row| row.retries),
        text_or_null("last_error", rows, |row| row.last_error.as_deref()),
        instant_or_null("last_error_at", rows, |row| row.last_error_at),
        count("puts", rows, |row| row.requests.puts),
        count("gets", rows, |row| row.requests.gets),
        count("lists", rows, |row| row.requests.lists),
        count("deletes", rows, |row| row.requests.deletes),
        count("bytes_put", rows, |row| row.requests.bytes_put),
        count("bytes_got", rows, |row| row.requests.bytes_got),
    ]
}

fn compactions(rows: &[CompactionStatus]) -> Vec<Column> {
    let dates = rows.iter().map(|row| Date32Type::from_naive_date(row.date));
    vec![
        instant("at", rows, |row| row.at),
        text("table", rows, |row| &row.table),
        Column::of("date", false, Date32Array::from_iter_values(dates)),
        count("files", rows, |row| row.files),
        count("bytes", rows, |row| row.bytes),
        count("bytes_after", rows, |row| row.bytes_after),
        count("rows", rows, |row| row.rows),
        count("duration_micros", rows, |row| row.micros),
    ]
}

fn memory(rows: &[MemoryStatus]) -> Vec<Column> {
    vec![
        text("purpose", rows, |row| row.purpose),
        count("bytes", rows, |row| row.bytes),
        count("bytes_most", rows, |row| row.bytes_most),
        count("budget_bytes", rows, |row| row.budget),
    ]
}

fn interventions(rows: &[Intervention]) -> Vec<Column> {
    let offset =
        |of: fn(&Change) -> Option<i64>| rows.iter().map(|row| of(&row.change)).collect::<Int64Array>();
    let before = |change: &Change| match change {
        Change::Offset { before, .. } => Some(before.0),
        Change::Watermark { .. } => None,
    };
    let after = |change: &Change| match change {
        Change::Offset { after, .. } => Some(after.0),
        Change::Watermark { .. } => None,
    };
    vec![
        instant("at", rows, |row| row.at),
        text("stream", rows, |row| &row.stream),
        Column::of("partition", false, Int32Array::from_iter_values(rows.iter().map(|row| row.partition.0))),
        Column::of("offset_before", true, offset(before)),
        Column::of("offset_after", true, offset(after)),
        instant_or_null("watermark_before", rows, |row| match row.change {
            Change::Watermark { before, .. } => before,
            Change::Offset { .. } => None,
        }),
        instant_or_null("watermark_after", rows, |row| match row.change {
            Change::Watermark { after, .. } => Some(after),
            Change::Offset { .. } => None,
        }),
    ]
}

fn endpoints(rows: &[Arc<Endpoint>]) -> Vec<Column> {
    let signatures = rows.iter().map(|row| row.signature());
    vec![
        text("endpoint", rows, |row| &row.path),
        text("method", rows, |row| row.method()),
        Column::of("parameters", false, StringArray::from_iter_values(signatures)),
        text("sql", rows, |row| &row.sql),
    ]
}

fn sinks(rows: &[SinkStatus]) -> Vec<Column> {
    vec![
        text("sink", rows, |row| &row.sink),
        text("view", rows, |row| &row.view),
        text("into", rows, |row| row.into),
        text("target", rows, |row| &row.target),
        text("state", rows, |row| row.state.name()),
        count("confirmed_epoch", rows, |row| row.confirmed.0),
        count("lag_epochs", rows, |row| row.epoch.0.saturating_sub(row.confirmed.0)),
        count("rows", rows, |row| row.rows),
        count("deliveries", rows, |row| row.deliveries),
        count("retries", rows, |row| row.retries),
        count("dead_letters", rows, |row| row.dead_letters),
        text_or_null("last_error", rows, |row| row.last_error.as_deref()),
        instant_or_null("last_error_at", rows, |row| row.last_error_at),
    ]
}

fn dead_letters(rows: &[DeadLetter]) -> Vec<Column> {
    vec![
        text("sink", rows, |row| &row.sink),
        text("delivery", rows, |row| &row.delivery),
        count("epoch", rows, |row| row.epoch.0),
        instant("refused_at", rows, |row| row.at),
        text("reason", rows, |row| &row.reason),
        text("body", rows, |row| &row.body),
    ]
}

struct Column {
    name: &'static str,
    nullable: bool,
    values: ArrayRef,
}

impl Column {
    fn of(
        name: &'static str,
        nullable: bool,
        values: impl datafusion::arrow::array::Array + 'static,
    ) -> Column {
        Column { name, nullable, values: Arc::new(values) }
    }

    fn field(&self) -> Field {
        Field::new(self.name, self.values.data_type().clone(), self.nullable)
    }
}

fn text<'a, R>(name: &'static str, rows: &'a [R], value: impl Fn(&'a R) -> &'a str) -> Column {
    Column::of(name, false, StringArray::from_iter_values(rows.iter().map(value)))
}

fn text_or_null<'a, R>(
    name: &'static str,
    rows: &'a [R],
    value: impl Fn(&'a R) -> Option<&'a str>,
) -> Column {
    Column::of(name, true, rows.iter().map(value).collect::<StringArray>())
}

fn count<R>(name: &'static str, rows: &[R], value: impl Fn(&R) -> u64) -> Column {
    let values = rows.iter().map(|row| i64::try_from(value(row)).unwrap_or(i64::MAX));
    Column::of(name, false, Int64Array::from_iter_values(values))
}

fn flag<R>(name: &'static str, rows: &[R], value: impl Fn(&R) -> bool) -> Column {
    Column::of(name, false, BooleanArray::from_iter(rows.iter().map(|row| Some(value(row)))))
}

fn instant<R>(name: &'static str, rows: &[R], value: impl Fn(&R) -> Micros) -> Column {
    let values = TimestampMicrosecondArray::from_iter_values(rows.iter().map(value));
    Column::of(name, false, values.with_timezone("UTC"))
}

fn instant_or_null<R>(name: &'static str, rows: &[R], value: impl Fn(&R) -> Option<Micros>) -> Column {
    let values = rows.iter().map(|row| value(row).filter(|&micros| micros != END_OF_TIME));
    Column::of(name, true, values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::type_text;

    /// The document is what people write queries by.
    #[test]
    fn the_document_lists_each_column_with_its_type() {
        let document = include_str!("../../../docs/TABLES.md");
        for table in SystemTable::ALL {
            let heading = format!("### system.{}\n", table.name());
            let (_, section) = document.split_once(&heading).expect("the table has a section");
            let section = section.split("### ").next().unwrap_or_default();
            let listed: Vec<_> = section
                .lines()
                .filter(|line| line.starts_with("| `"))
                .map(|line| line.split('|').skip(1).take(2).map(str::trim).collect::<Vec<_>>().join(" "))
                .collect();
            let columns: Vec<_> = table
                .schema()
                .fields()
                .iter()
                .map(|field| {
                    let nullable = if field.is_nullable() { " ?" } else { "" };
                    format!("`{}` {}{nullable}", field.name(), type_text(field.data_type()))
                })
                .collect();
            assert_eq!(listed, columns, "system.{}", table.name());
        }
    }
}
