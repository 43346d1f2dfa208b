//! `CREATE STREAM` to [`StreamSpec`]: columns, event time, and the options of each connector.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use thalweg_engine::ids::Micros;
use thalweg_engine::secrets;
use thalweg_engine::spec::{
    ColumnOrigin, EventTime, FilesSpec, GeneratorSpec, KafkaSpec, LogSpec, RecordColumn, SourceSpec, Start,
    StreamOptions, StreamSpec, TIME_COLUMN,
};
use uuid::Uuid;

use super::column_type::{column_type, moment};
use super::values::{self, Options, value_of};
use crate::error::{Error, Result, suggestion};
use crate::parse::{ColumnDeclaration, CreateStream, Name, OptionEntry, Watermark};

const CONNECTORS: [&str; 4] = ["kafka", "generator", "files", "log"];
const COMMON: [&str; 4] = ["connector", "idle", "future_guard", "record_bytes_max"];
const KAFKA: [&str; 5] = ["brokers", "topic", "format", "start", "properties.*"];
const GENERATOR: [&str; 5] = ["rate", "rows", "seed", "partitions", "start"];
const FILES: [&str; 3] = ["path", "format", "properties.*"];
const LOG: [&str; 4] = ["format", "partitions", "retention", "size_max"];
/// Columns that a view adds by itself, or that its table is partitioned by.
pub(super) const RESERVED_COLUMNS: [&str; 2] = [TIME_COLUMN, "window_date"];

const LOG_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
const LOG_SIZE_MAX: u64 = 1 << 30;

pub fn plan_stream(create: &CreateStream, id: Uuid) -> Result<StreamSpec> {
    let (schema, origins) = columns(&create.columns, &RESERVED_COLUMNS)?;
    let event_time = create.watermark.as_ref().map(|it| event_time(it, &schema)).transpose()?;
    let (source, options) = source(create, id)?;
    Ok(StreamSpec {
        id,
        name: create.name.value.clone(),
        sql: create.text.clone(),
        schema: Arc::new(schema),
        origins,
        event_time,
        source,
        options,
    })
}

pub(super) fn columns(
    declared: &[ColumnDeclaration],
    reserved: &[&str],
) -> Result<(Schema, Vec<ColumnOrigin>)> {
    let mut fields: Vec<Field> = vec![];
    let mut origins = vec![];
    for column in declared {
        let name = &column.name;
        if fields.iter().any(|field| field.name() == &name.value) {
            return Err(
                Error::invalid(format!("two columns are called \"{}\"", name.value)).at(name.position)
            );
        }
        if name.value.is_empty() || reserved.contains(&name.value.as_str()) {
            return Err(
                Error::invalid(format!("a column can't be called \"{}\"", name.value)).at(name.position)
            );
        }
        let data_type = column_type(&column.data_type)
            .map_err(|reason| Error::invalid(reason).at(column.type_position))?;
        origins.push(match &column.metadata {
            Some(source) => ColumnOrigin::Record(record_column(column, source, &data_type)?),
            None if holds_bytes(&data_type) => {
                return Err(Error::invalid("no JSON value is BYTES")
                    .at(column.type_position)
                    .hint("declare STRING; BYTES are for a record's key: BYTES METADATA FROM 'key'"));
            }
            None => ColumnOrigin::Value,
        });
        fields.push(Field::new(&name.value, data_type, true));
    }
    if fields.is_empty() {
        return Err(Error::invalid("at least one column must be declared"));
    }
    Ok((Schema::new(fields), origins))
}

fn holds_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| holds_bytes(field.data_type())),
        DataType::List(element) => holds_bytes(element.data_type()),
        _ => false,
    }
}

fn record_column(column: &ColumnDeclaration, source: &Name, data_type: &DataType) -> Result<RecordColumn> {
    let (record, types): (_, &[DataType]) = match source.value.to_lowercase().as_str() {
        "partition" => (RecordColumn::Partition, &[DataType::Int32, DataType::Int64]),
        "offset" => (RecordColumn::Offset, &[DataType::Int64]),
        "timestamp" => (RecordColumn::Timestamp, &[moment()]),
        "key" => (RecordColumn::Key, &[DataType::Utf8View, DataType::BinaryView]),
        other => {
            let known = ["partition", "offset", "timestamp", "key"];
            return Err(Error::invalid(format!("a record has no metadata \"{other}\""))
                .at(source.position)
                .hint(suggestion(other, "metadata are", known)));
        }
    };
    if types.contains(data_type) {
        return Ok(record);
    }
    let fitting = match record {
        RecordColumn::Partition => "INT or BIGINT",
        RecordColumn::Offset => "BIGINT",
        RecordColumn::Timestamp => "TIMESTAMP",
        RecordColumn::Key => "STRING or BYTES",
    };
    Err(Error::invalid(format!("the record's {} is {fitting}, not {}", source.value, column.data_type))
        .at(column.type_position))
}

fn event_time(watermark: &Watermark, schema: &Schema) -> Result<EventTime> {
    let name = &watermark.column;
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let Ok(column) = schema.index_of(&name.value) else {
        return Err(Error::invalid(format!("no column \"{}\"", name.value))
            .at(name.position)
            .hint(suggestion(&name.value, "columns are", names)));
    };
    if schema.field(column).data_type() != &moment() {
        return Err(Error::invalid(format!("the event time \"{}\" is not a TIMESTAMP", name.value))
            .at(name.position)
            .hint(format!("declare it as {} TIMESTAMP", name.value)));
    }
    Ok(EventTime { column, delay: watermark.delay })
}

fn source(create: &CreateStream, id: Uuid) -> Result<(SourceSpec, StreamOptions)> {
    let mut given = Options::new(&create.options);
    let Some(connector) = given.take("connector") else {
        return Err(Error::invalid(format!("stream {} has no connector", create.name.value))
            .at(create.name.position)
            .hint("add WITH (connector = 'kafka', brokers = 'localhost:9092', topic = '…')"));
    };
    let name = connector.value.to_lowercase();
    let known = match name.as_str() {
        "kafka" => KAFKA.as_slice(),
        "generator" => GENERATOR.as_slice(),
        "files" => FILES.as_slice(),
        "log" => LOG.as_slice(),
        other => {
            return Err(Error::invalid(format!("unknown connector \"{other}\""))
                .at(connector.value_position)
                .hint(suggestion(other, "connectors are", CONNECTORS)));
        }
    };
    given.refuse_unknown(&[known, &COMMON].concat())?;
    let mut options = common_options(&mut given)?;
    let source = match name.as_str() {
        "kafka" => SourceSpec::Kafka(kafka(create, &mut given, &mut options)?),
        "generator" => SourceSpec::Generator(generator(&mut given, id)?),
        "log" => SourceSpec::Log(log(&mut given, id)?),
        _ => SourceSpec::Files(files(create, &mut given)?),
    };
    Ok((source, options))
}

fn common_options(given: &mut Options<'_>) -> Result<StreamOptions> {
    let mut options = StreamOptions::default();
    if let Some(idle) = given.parsed("idle", values::duration)? {
        options.idle = idle;
    }
    if let Some(guard) = given.parsed("future_guard", values::duration)? {
        options.future_guard = guard;
    }
    if let Some(bytes) = given.parsed("record_bytes_max", values::bytes)? {
        options.record_bytes_max = bytes;
    }
    Ok(options)
}

fn kafka(create: &CreateStream, given: &mut Options<'_>, options: &mut StreamOptions) -> Result<KafkaSpec> {
    check_format(given)?;
    if let Some(start) = given.parsed("start", start)? {
        options.start = start;
    }
    Ok(KafkaSpec {
        brokers: required(&create.name, given, "brokers")?,
        topic: required(&create.name, given, "topic")?,
        properties: properties(given)?,
    })
}

fn generator(given: &mut Options<'_>, id: Uuid) -> Result<GeneratorSpec> {
    Ok(GeneratorSpec {
        seed: given.parsed("seed", |text| values::number(text, 0, u64::MAX))?.unwrap_or(1),
        partitions: given.parsed("partitions", |text| values::number(text, 1, 1024))?.unwrap_or(4),
        rate: given.parsed("rate", |text| values::number(text, 0.0, 1e9))?,
        rows: given.parsed("rows", |text| values::number(text, 1, u64::MAX))?,
        start_micros: given.parsed("start", |text| moment_or_birth(text, id))?,
    })
}

/// `now` is when the stream was created, also after a restart: its id tells.
fn moment_or_birth(text: &str, id: Uuid) -> Result<Micros, String> {
    if !text.eq_ignore_ascii_case("now") {
        return values::moment(text).map_err(|_| "it is now or a moment such as 2025-06-01T00:00:00Z".into());
    }
    let (seconds, nanos) =
        id.get_timestamp().ok_or("the stream's id does not tell when it was created")?.to_unix();
    Ok(seconds as Micros * 1_000_000 + Micros::from(nanos / 1000))
}

fn files(create: &CreateStream, given: &mut Options<'_>) -> Result<FilesSpec> {
    check_format(given)?;
    Ok(FilesSpec { location: required(&create.name, given, "path")?, properties: properties(given)? })
}

fn log(given: &mut Options<'_>, id: Uuid) -> Result<LogSpec> {
    check_format(given)?;
    Ok(LogSpec {
        stream: id,
        partitions: given.parsed("partitions", |text| values::number(text, 1, 1024))?.unwrap_or(4),
        retention: given.parsed("retention", values::duration)?.unwrap_or(LOG_RETENTION),
        size_max: given.parsed("size_max", values::bytes)?.map_or(LOG_SIZE_MAX, |bytes| bytes as u64),
    })
}

pub(crate) fn check_format(given: &mut Options<'_>) -> Result<()> {
    let only_json = |text: &str| match text.to_lowercase().as_str() {
        "json" => Ok(()),
        _ => Err("the only format is json".to_owned()),
    };
    given.parsed("format", only_json).map(|_| ())
}

pub(crate) fn required(name: &Name, given: &mut Options<'_>, key: &str) -> Result<String> {
    let Some(entry) = given.take(key) else {
        return Err(Error::invalid(format!("{} lacks the option \"{key}\"", name.value))
            .at(name.position)
            .hint(format!("add {key} = '…' to WITH (…)")));
    };
    value_of(entry, |text| if text.is_empty() { Err("it is empty".into()) } else { Ok(text.to_owned()) })
}

pub(crate) fn properties(given: &mut Options<'_>) -> Result<BTreeMap<String, String>> {
    let property = |(key, entry): (String, &OptionEntry)| {
        if secrets::is_secret(&key) && secrets::reference(&entry.value).is_none() {
            return Err(Error::invalid(format!("option \"{}\" holds a secret in the open", entry.key))
                .at(entry.value_position)
                .detail("a statement is kept as it is written, in every manifest")
                .hint(format!(
                    "write '${{env:{}NAME}}' or '${{file:NAME}}', and give the secret to the server",
                    secrets::VARIABLE_PREFIX
                )));
        }
        Ok((key, entry.value.clone()))
    };
    given.take_prefixed("properties.").into_iter().map(property).collect()
}

/// What `start` and `RESTART AT` take.
pub(crate) fn start(text: &str) -> Result<Start, String> {
    match text.to_lowercase().as_str() {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => {
            let moment: Micros = values::moment(text)
                .map_err(|_| "it is earliest, latest or a moment such as 2025-06-01T00:00:00Z".to_owned())?;
            Ok(Start::Timestamp(moment))
        }
    }
}
