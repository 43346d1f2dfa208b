//! SHOW, DESCRIBE and EXPLAIN of a view: answers made of what is known, without a plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{ObjectName, Spanned};
use thalweg_engine::spec::{
    ColumnOrigin, RecordColumn, RowTime, SourceSpec, StreamSpec, Unit, ViewShape, ViewSpec,
};
use thalweg_engine::status::Failure;

use super::answer::Answer;
use super::database::{Shared, Table, TableKind};
use super::references::Names;
use crate::error::suggestion;
use crate::parse::{Name, Shown};
use crate::plan::{layout_text, type_text};
use crate::tables::waits;
use crate::{Error, Position, Result};

/// Columns of text, all of the same length; `None` is NULL.
pub(crate) struct Lines {
    schema: SchemaRef,
    columns: Vec<Vec<Option<String>>>,
}

impl Lines {
    pub fn new(names: &[&str]) -> Lines {
        // NULL is allowed everywhere, so that the schema does not depend on what there is to show.
        let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
        Lines { schema: Arc::new(Schema::new(fields)), columns: vec![vec![]; names.len()] }
    }

    pub fn push<const N: usize>(&mut self, line: [Option<String>; N]) {
        for (column, value) in self.columns.iter_mut().zip(line) {
            column.push(value);
        }
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub fn answer(self) -> Result<Answer> {
        let arrays = self.columns.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays.collect())?;
        Ok(Answer::Rows(Box::pin(MemoryStream::try_new(vec![batch], self.schema, None)?)))
    }
}

pub(crate) fn show(shown: Shown, shared: &Shared, tables: &[Table]) -> Lines {
    match shown {
        Shown::Streams => {
            let mut lines = Lines::new(&["stream", "connector", "source", "event_time", "delay", "state"]);
            let failed = failed(shared.engine.status().streams, |it| (it.stream, it.failure));
            for stream in shared.engine.streams() {
                let (connector, source) = source(&stream.source);
                let time = stream.event_time.map(|time| stream.schema.field(time.column).name().clone());
                let delay = stream.event_time.map(|time| duration(time.delay));
                lines.push([
                    Some(stream.name.clone()),
                    Some(connector.to_owned()),
                    Some(source),
                    time,
                    delay,
                    state(&failed, &stream.name),
                ]);
            }
            lines
        }
        Shown::Views => {
            let mut lines = Lines::new(&["view", "stream", "window", "allowed_lateness", "state"]);
            let failed = failed(shared.engine.status().views, |it| (it.view, it.failure));
            for view in shared.engine.views() {
                let (window, lateness) = match &view.shape {
                    // Its units are nobody's windows.
                    ViewShape::Units { allowed_lateness, .. } if view.times.contains(&Some(RowTime::Own)) => {
                        (None, Some(duration(*allowed_lateness)))
                    }
                    ViewShape::Units { unit: Unit::Window(window), allowed_lateness, .. } => {
                        (Some(layout_text(window.layout, duration)), Some(duration(*allowed_lateness)))
                    }
                    ViewShape::Units { unit: Unit::Session(session), allowed_lateness, .. } => {
                        let window = format!("SESSION of {}", duration(session.gap));
                        (Some(window), Some(duration(*allowed_lateness)))
                    }
                    ViewShape::Copy { .. } | ViewShape::Units { unit: Unit::Ever(_), .. } => (None, None),
                };
                let state = state(&failed, &view.name);
                lines.push([
                    Some(view.name.clone()),
                    Some(view.inputs().join(", ")),
                    window,
                    lateness,
                    state,
                ]);
            }
            for name in shared.plain_views().names() {
                lines.push([Some(name.to_owned()), None, None, None, Some("a name for a query".to_owned())]);
            }
            lines
        }
        Shown::Endpoints => {
            let mut lines = Lines::new(&["endpoint", "method", "parameters"]);
            for endpoint in shared.endpoints() {
                lines.push([
                    Some(endpoint.path.clone()),
                    Some(endpoint.method().to_owned()),
                    Some(endpoint.signature()),
                ]);
            }
            lines
        }
        Shown::Sinks => {
            let mut lines = Lines::new(&["sink", "view", "into", "target", "state"]);
            for sink in shared.sending.get().map(|sending| sending.status()).unwrap_or_default() {
                let state = Some(sink.state.name().to_owned());
                lines.push([
                    Some(sink.sink),
                    Some(sink.view),
                    Some(sink.into.to_owned()),
                    Some(sink.target),
                    state,
                ]);
            }
            lines
        }
        Shown::Tables => {
            let mut lines = Lines::new(&["schema", "table", "kind"]);
            for table in tables {
                let kind = match table.kind {
                    TableKind::View => "view",
                    TableKind::Table => "table",
                    TableKind::System => "system table",
                };
                lines.push([Some(table.schema.to_owned()), Some(table.name.clone()), Some(kind.to_owned())]);
            }
            lines
        }
    }
}

pub(crate) fn why_columns() -> Lines {
    Lines::new(&["view", "waits_for"])
}

/// What a view waits for.
pub(crate) fn why(view: &Name, shared: &Shared) -> Result<Lines> {
    let mut lines = why_columns();
    let views = shared.engine.status().views;
    if shared.plain_views().text(&view.value).is_some() {
        let text = "nothing: it is a plain view, whose query is part of each that reads it";
        lines.push([Some(view.value.clone()), Some(text.to_owned())]);
        return Ok(lines);
    }
    let Some(status) = views.iter().find(|status| status.view == view.value) else {
        let known: Vec<_> = views.iter().map(|status| status.view.as_str()).collect();
        return Err(Error::invalid(format!("no view \"{}\"", view.value))
            .at(view.position)
            .hint(suggestion(&view.value, "views are", known)));
    };
    lines.push([Some(view.value.clone()), Some(waits::sentence(&view.value, &status.waits_for))]);
    Ok(lines)
}

fn failed<T>(all: Vec<T>, of: impl Fn(T) -> (String, Option<Failure>)) -> BTreeSet<String> {
    all.into_iter().map(of).filter(|(_, failure)| failure.is_some()).map(|(name, _)| name).collect()
}

/// Why is in `system.views` and `system.streams`.
fn state(failed: &BTreeSet<String>, name: &str) -> Option<String> {
    Some(if failed.contains(name) { "failed" } else { "running" }.to_owned())
}

/// The columns of a stream, a view, a table, or one of `system`.
pub(crate) fn describe(name: &ObjectName, names: &Names<'_>, tables: &[Table]) -> Result<Lines> {
    let mut lines = described_columns();
    let table = object_name_to_table_reference(name.clone(), true)?;
    if let Some(stream) = bare(&table).and_then(|name| find(names.engine.streams(), |it| it.name == name)) {
        for (field, origin) in stream.schema.fields().iter().zip(&stream.origins) {
            lines.push(column(field, Some(origin_text(*origin))));
        }
        return Ok(lines);
    }
    if let Some(table) = bare(&table).and_then(|name| find(names.engine.tables(), |it| it.name == name)) {
        for (index, field) in table.schema.fields().iter().enumerate() {
            let origin = if table.key.contains(&index) { "primary key" } else { "value" };
            lines.push(column(field, Some(origin.to_owned())));
        }
        return Ok(lines);
    }
    let found = names.check_one(table).map_err(|error| error.at(Position::of(name.span().start)))?;
    let table = tables.iter().find(|table| table.schema == &*found.schema && table.name == *found.table);
    let table = table.ok_or_else(|| {
        Error::invalid(format!("{found} can't be described")).hint("SELECT * FROM information_schema.columns")
    })?;
    Ok(columns(&table.columns))
}

pub(crate) fn columns(schema: &SchemaRef) -> Lines {
    let mut lines = described_columns();
    schema.fields().iter().for_each(|field| lines.push(column(field, None)));
    lines
}

pub(crate) fn described_columns() -> Lines {
    Lines::new(&["column", "type", "nullable", "origin"])
}

/// The view of that name, for EXPLAIN.
pub(crate) fn view_named(name: &ObjectName, names: &Names<'_>) -> Result<Arc<ViewSpec>> {
    let table = object_name_to_table_reference(name.clone(), true)?;
    let view = names.check_one(table).map_err(|error| error.at(Position::of(name.span().start)))?;
    find(names.engine.views(), |it| it.name == *view.table).ok_or_else(|| {
        Error::invalid(format!("{view} is no view")).hint("EXPLAIN takes a view's name or a query")
    })
}

fn bare(table: &TableReference) -> Option<&str> {
    matches!(table, TableReference::Bare { .. }).then(|| table.table())
}

fn find<T>(all: Vec<Arc<T>>, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
    all.into_iter().find(|one| is_it(one))
}

fn column(field: &Field, origin: Option<String>) -> [Option<String>; 4] {
    let nullable = if field.is_nullable() { "yes" } else { "no" };
    [Some(field.name().clone()), Some(type_text(field.data_type())), Some(nullable.to_owned()), origin]
}

fn origin_text(origin: ColumnOrigin) -> String {
    match origin {
        ColumnOrigin::Value => "value",
        ColumnOrigin::Record(RecordColumn::Partition) => "record's partition",
        ColumnOrigin::Record(RecordColumn::Offset) => "record's offset",
        ColumnOrigin::Record(RecordColumn::Timestamp) => "record's timestamp",
        ColumnOrigin::Record(RecordColumn::Key) => "record's key",
    }
    .to_owned()
}

fn source(source: &SourceSpec) -> (&'static str, String) {
    match source {
        SourceSpec::Kafka(kafka) => ("kafka", format!("{} at {}", kafka.topic, kafka.brokers)),
        SourceSpec::Generator(generator) => ("generator", format!("seed {}", generator.seed)),
        SourceSpec::Files(files) => ("files", files.location.clone()),
        SourceSpec::Log(log) => ("log", format!("{} partitions", log.partitions)),
        SourceSpec::Unplanned(_) => ("unknown", "its statement can't be planned any more".to_owned()),
    }
}

/// `1 minute`, `90 seconds`, `250 ms`: the largest unit that is exact.
fn duration(micros: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (86_400_000_000, "day"),
        (3_600_000_000, "hour"),
        (60_000_000, "minute"),
        (1_000_000, "second"),
        (1_000, "ms"),
        (1, "µs"),
    ];
    let exact = UNITS.into_iter().find(|(unit, _)| micros != 0 && micros % unit == 0);
    let (unit, name) = exact.unwrap_or((1_000_000, "second"));
    let count = micros / unit;
    let plural = if count == 1 || unit < 1_000_000 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// One stream's columns for `StreamSpec`s that were only planned.
pub(crate) fn explain_stream(stream: &StreamSpec) -> String {
    let (connector, source) = source(&stream.source);
    format!("stream {}: {connector}, {source}", stream.name)
}
