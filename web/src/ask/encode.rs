//! Rows to bytes in each form, batch by batch.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{JsonArray, LineDelimited, Writer as JsonWriter};
use axum::http::StatusCode;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use thalweg_sql::{as_text, plain};

use super::format::Format;
use crate::fault::Fault;

/// Rows are told in this many at a time.
const ROWS: usize = 8192;

pub(crate) struct Encoder {
    schema: SchemaRef,
    sink: Sink,
    writer: Writer,
}

enum Writer {
    Json(JsonWriter<Sink, JsonArray>),
    Lines(JsonWriter<Sink, LineDelimited>),
    Csv,
    Arrow(Box<StreamWriter<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
}

impl Encoder {
    /// Refuses columns that the form can't hold.
    pub fn new(format: Format, rows: &Schema) -> Result<Encoder, Fault> {
        let schema: SchemaRef = Arc::new(plain::schema(rows, false));
        if let Some(column) = unfit(format, &schema) {
            return Err(Fault::new(
                StatusCode::NOT_ACCEPTABLE,
                format!("column \"{column}\" can't be written as {}", format.suffix()),
            )
            .hint("take another form, or a part of the column"));
        }
        let sink = Sink::default();
        let json = as_text::json();
        let writer = match format {
            Format::Json => Writer::Json(json.build(sink.clone())),
            Format::Lines => Writer::Lines(json.build(sink.clone())),
            Format::Csv => Writer::Csv,
            Format::Arrow => {
                Writer::Arrow(Box::new(StreamWriter::try_new(sink.clone(), &schema).map_err(failed)?))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = ArrowWriter::try_new(sink.clone(), Arc::clone(&schema), Some(properties));
                Writer::Parquet(Box::new(writer.map_err(failed)?))
            }
        };
        let mut encoder = Encoder { schema, sink, writer };
        if let Writer::Csv = encoder.writer {
            // Even of no rows.
            as_text::csv_names(&mut encoder.sink, &encoder.schema).map_err(failed)?;
        }
        Ok(encoder)
    }

    /// What is ready after these rows.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let batch = plain::batch(batch, &self.schema)?;
        for start in (0..batch.num_rows()).step_by(ROWS) {
            let piece = batch.slice(start, ROWS.min(batch.num_rows() - start));
            match &mut self.writer {
                Writer::Json(writer) => writer.write(&piece)?,
                Writer::Lines(writer) => writer.write(&piece)?,
                Writer::Csv => as_text::csv_rows(&mut self.sink, &piece)?,
                Writer::Arrow(writer) => writer.write(&piece)?,
                Writer::Parquet(writer) => writer.write(&piece).map_err(ArrowError::from)?,
            }
        }
        Ok(self.sink.take())
    }

    pub fn finish(self) -> Result<Bytes, ArrowError> {
        match self.writer {
            Writer::Json(mut writer) => writer.finish()?,
            Writer::Lines(mut writer) => writer.finish()?,
            Writer::Csv => {}
            Writer::Arrow(mut writer) => writer.finish()?,
            Writer::Parquet(writer) => drop(writer.close().map_err(ArrowError::from)?),
        }
        Ok(self.sink.take())
    }
}

fn failed(error: impl std::fmt::Display) -> Fault {
    Fault::internal(format!("cannot encode the rows: {error}"))
}

/// The first column that the form has no room for.
fn unfit(format: Format, schema: &Schema) -> Option<&str> {
    let fits = |kind: &DataType| match (format, kind) {
        (Format::Csv, kind) => !kind.is_nested(),
        // Parquet knows no lengths of time.
        (Format::Parquet, DataType::Duration(_)) => false,
        _ => true,
    };
    schema.fields().iter().find(|field| !fits(field.data_type())).map(|field| field.name().as_str())
}

/// What the writers write into, and what is taken from it as it comes.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
