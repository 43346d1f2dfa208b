//! Tables that views look up.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use uuid::Uuid;

use super::{ColumnOrigin, FilesSpec, KafkaSpec, SourceSpec, StreamOptions, StreamSpec};

/// A declared table: rows by key, which views look up.
#[derive(Debug, Clone)]
pub struct LookupSpec {
    pub id: Uuid,
    pub name: String,
    /// The text of the `CREATE TABLE`, kept in the manifest.
    pub sql: String,
    pub schema: SchemaRef,
    /// Of a topic: for each column of `schema`, where its values come from.
    pub origins: Vec<ColumnOrigin>,
    /// Indices into `schema` of the primary key.
    pub key: Vec<usize>,
    pub source: LookupSource,
    /// The most that it may weigh in memory.
    pub bytes_max: usize,
}

#[derive(Debug, Clone)]
pub enum LookupSource {
    /// Loaded whole, and again when they have changed, which is looked for each `refresh`.
    Files { files: FilesSpec, format: FileFormat, refresh: Duration },
    /// The newest record of each key.
    Topic(KafkaSpec),
    /// Of a table whose statement this version can't plan, and why: it stays as it is.
    Unplanned(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    Json,
    Parquet,
    Delta,
}

impl FileFormat {
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Csv => "csv",
            FileFormat::Json => "json",
            FileFormat::Parquet => "parquet",
            FileFormat::Delta => "delta",
        }
    }
}

impl LookupSpec {
    /// All that is left of a table whose statement can't be planned any more.
    pub fn unplanned(id: Uuid, name: String, sql: String, reason: String) -> LookupSpec {
        LookupSpec {
            id,
            name,
            sql,
            schema: Arc::new(Schema::empty()),
            origins: vec![],
            key: vec![],
            source: LookupSource::Unplanned(reason),
            bytes_max: 0,
        }
    }

    /// Its records as those of a stream.
    pub fn records(&self, source: SourceSpec) -> Arc<StreamSpec> {
        Arc::new(StreamSpec {
            id: self.id,
            name: self.name.clone(),
            sql: String::new(),
            schema: Arc::clone(&self.schema),
            origins: self.origins.clone(),
            event_time: None,
            source,
            options: StreamOptions::default(),
        })
    }
}
