//! `CREATE TABLE` to [`LookupSpec`]: columns, primary key, and where the rows come from.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema};
use thalweg_engine::lookup::LookupNode;
use thalweg_engine::spec::{
    ColumnOrigin, FileFormat, FilesSpec, KafkaSpec, LookupSource, LookupSpec, TIME_COLUMN,
};
use uuid::Uuid;

use super::column_type::type_text;
use super::stream::{check_format, columns, properties, required};
use super::values::{self, Options};
use crate::error::{Error, Result, suggestion};
use crate::parse::{CreateTable, Name};

const CONNECTORS: [&str; 2] = ["files", "kafka"];
const COMMON: [&str; 4] = ["connector", "format", "size_max", "properties.*"];
const FILES: [&str; 2] = ["path", "refresh"];
const KAFKA: [&str; 2] = ["brokers", "topic"];

const REFRESH: Duration = Duration::from_secs(60);
const REFRESH_LEAST: Duration = Duration::from_secs(1);
const SIZE_MAX: usize = 256 << 20;

pub fn plan_table(create: &CreateTable, id: Uuid) -> Result<LookupSpec> {
    let (schema, origins) = columns(&create.columns, &[TIME_COLUMN, LookupNode::FOUND])?;
    let key = key(&create.key, &schema)?;
    let mut given = Options::new(&create.options);
    let connector = given.take("connector");
    let is_topic = match connector.map(|it| it.value.to_lowercase()).as_deref() {
        None | Some("files") => false,
        Some("kafka") => true,
        Some(other) => {
            return Err(Error::invalid(format!("a table has no connector \"{other}\""))
                .at(connector.and_then(|it| it.value_position))
                .hint(suggestion(other, "connectors of tables are", CONNECTORS)));
        }
    };
    given.refuse_unknown(&[if is_topic { &KAFKA } else { &FILES }, &COMMON[..]].concat())?;
    let bytes_max = given.parsed("size_max", values::bytes)?.unwrap_or(SIZE_MAX);
    let source = match is_topic {
        true => topic(create, &mut given)?,
        false => files(create, &mut given, &schema, &origins)?,
    };
    let (name, sql) = (create.name.value.clone(), create.text.clone());
    Ok(LookupSpec { id, name, sql, schema: Arc::new(schema), origins, key, source, bytes_max })
}

fn key(named: &[Name], schema: &Schema) -> Result<Vec<usize>> {
    let mut key = vec![];
    for name in named {
        let Ok(column) = schema.index_of(&name.value) else {
            let names = schema.fields().iter().map(|field| field.name().as_str());
            return Err(Error::invalid(format!("no column \"{}\"", name.value))
                .at(name.position)
                .hint(suggestion(&name.value, "columns are", names)));
        };
        let data_type = schema.field(column).data_type();
        if !is_exact(data_type) {
            return Err(Error::invalid(format!("{} can't be a primary key", type_text(data_type)))
                .at(name.position)
                .hint("a key is a STRING, an integer, a DECIMAL, a BOOLEAN, a DATE or a TIMESTAMP"));
        }
        if key.contains(&column) {
            return Err(Error::invalid(format!("column \"{}\" is named twice", name.value)).at(name.position));
        }
        key.push(column);
    }
    Ok(key)
}

/// Whether two values are the same or not, without a doubt.
pub(super) fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_decimal()
        || matches!(
            data_type,
            DataType::Utf8View
                | DataType::BinaryView
                | DataType::Boolean
                | DataType::Date32
                | DataType::Timestamp(..)
        )
}

fn topic(create: &CreateTable, given: &mut Options<'_>) -> Result<LookupSource> {
    check_format(given)?;
    Ok(LookupSource::Topic(KafkaSpec {
        brokers: required(&create.name, given, "brokers")?,
        topic: required(&create.name, given, "topic")?,
        properties: properties(given)?,
    }))
}

fn files(
    create: &CreateTable,
    given: &mut Options<'_>,
    schema: &Schema,
    origins: &[ColumnOrigin],
) -> Result<LookupSource> {
    let of_record = create.columns.iter().zip(origins).find(|(_, origin)| **origin != ColumnOrigin::Value);
    if let Some((column, _)) = of_record {
        return Err(Error::invalid("only records of a topic have metadata").at(column.name.position));
    }
    let location = required(&create.name, given, "path")?;
    let format = match given.parsed("format", format)? {
        Some(format) => format,
        None => format_of(&location).ok_or_else(|| {
            Error::invalid(format!("the path of table {} does not tell its format", create.name.value))
                .at(create.name.position)
                .hint("add format = 'csv', 'json', 'parquet' or 'delta' to WITH (…)")
        })?,
    };
    let nested = schema.fields().iter().position(|field| field.data_type().is_nested());
    if let (FileFormat::Csv, Some(column)) = (format, nested) {
        return Err(Error::invalid("a field of a CSV file is one value")
            .at(create.columns[column].type_position)
            .hint("declare STRING, or keep such values in JSON or Parquet"));
    }
    let refresh = given.parsed("refresh", |text| {
        let refresh = values::duration(text)?;
        if refresh < REFRESH_LEAST { Err("it is 1s at least".into()) } else { Ok(refresh) }
    })?;
    let files = FilesSpec { location, properties: properties(given)? };
    Ok(LookupSource::Files { files, format, refresh: refresh.unwrap_or(REFRESH) })
}

fn format(text: &str) -> Result<FileFormat, String> {
    let all = [FileFormat::Csv, FileFormat::Json, FileFormat::Parquet, FileFormat::Delta];
    let found = all.into_iter().find(|format| text.eq_ignore_ascii_case(format.name()));
    found.ok_or_else(|| "formats are csv, json, parquet and delta".into())
}

/// What the ending of a path says.
fn format_of(location: &str) -> Option<FileFormat> {
    let plain = location.strip_suffix(".gz").or(location.strip_suffix(".zst")).unwrap_or(location);
    match plain.rsplit_once('.')?.1.to_lowercase().as_str() {
        "csv" => Some(FileFormat::Csv),
        "json" | "jsonl" | "ndjson" => Some(FileFormat::Json),
        "parquet" => Some(FileFormat::Parquet),
        _ => None,
    }
}
