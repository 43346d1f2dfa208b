//! Rows on their way out of a process: IPC messages in the form that a client wants, encoded once and handed on as they
//! are, whichever process made them.
//!
//! Types are plain ones ([`plain`]), and the schema after the casts is the one advertised. A message holds at most 2 MiB,
//! for some clients refuse 4.
//!
//! Invariant: every batch has exactly the schema that was advertised, nullability included.

use std::collections::HashMap;

use bytes::Bytes;
use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::read_record_batch;
use datafusion::arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use datafusion::arrow::ipc::{CompressionType, root_as_message};

use crate::plain;

pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// How rows are to come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Form {
    /// What the client was told; `None`: the plain types of what is planned.
    pub schema: Option<SchemaRef>,
    pub compression: Compression,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Lz4,
    Zstd,
}

impl Compression {
    /// `lz4`, `zstd`; anything else is none.
    pub fn of(name: &str) -> Compression {
        match name {
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    pub fn options(self) -> Result<IpcWriteOptions, ArrowError> {
        IpcWriteOptions::default().try_with_compression(match self {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        })
    }
}

/// One message: what Flight calls data, and the stream format too.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub header: Bytes,
    pub body: Bytes,
    pub rows: u64,
}

pub struct Encoder {
    schema: SchemaRef,
    options: IpcWriteOptions,
}

impl Encoder {
    pub fn new(schema: SchemaRef, compression: Compression) -> Result<Encoder, ArrowError> {
        Ok(Encoder { schema, options: compression.options()? })
    }

    /// As many messages as it takes; none for no rows.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Vec<Encoded>, ArrowError> {
        let mut messages = vec![];
        if batch.num_rows() == 0 {
            return Ok(messages);
        }
        let batch = plain::batch(batch, &self.schema)?;
        // An estimate first, so that a large batch is not encoded whole to be thrown away.
        let bytes: usize =
            batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        let pieces = bytes.div_ceil(MESSAGE_BYTES_MAX).max(1);
        let piece_rows = batch.num_rows().div_ceil(pieces).max(1);
        for start in (0..batch.num_rows()).step_by(piece_rows) {
            let piece = batch.slice(start, piece_rows.min(batch.num_rows() - start));
            self.piece(&piece, &mut messages)?;
        }
        Ok(messages)
    }

    /// A message without a row, for clients that want to hear something.
    pub fn keepalive(&self) -> Result<Encoded, ArrowError> {
        self.message(&RecordBatch::new_empty(SchemaRef::clone(&self.schema)))
    }

    /// Halves the piece until it fits. A single row larger than a message is sent as it is.
    fn piece(&self, piece: &RecordBatch, messages: &mut Vec<Encoded>) -> Result<(), ArrowError> {
        let message = self.message(piece)?;
        let rows = piece.num_rows();
        if message.body.len() <= MESSAGE_BYTES_MAX || rows <= 1 {
            messages.push(message);
            return Ok(());
        }
        self.piece(&piece.slice(0, rows / 2), messages)?;
        self.piece(&piece.slice(rows / 2, rows - rows / 2), messages)
    }

    fn message(&self, batch: &RecordBatch) -> Result<Encoded, ArrowError> {
        // No dictionary is ever sent, so the tracker stays empty.
        let (_, encoded) = IpcDataGenerator::default().encode(
            batch,
            &mut DictionaryTracker::new(true),
            &self.options,
            &mut IpcWriteContext::default(),
        )?;
        let rows = batch.num_rows() as u64;
        Ok(Encoded { header: encoded.ipc_message.into(), body: encoded.arrow_data.into(), rows })
    }
}

impl Encoded {
    /// The rows again, whose schema is known.
    pub fn decode(&self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let unknown = |what: String| ArrowError::IpcError(what);
        let message = root_as_message(&self.header).map_err(|error| unknown(error.to_string()))?;
        let batch =
            message.header_as_record_batch().ok_or_else(|| unknown("no rows are in it".to_owned()))?;
        let body = Buffer::from(self.body.clone());
        read_record_batch(&body, batch, SchemaRef::clone(schema), &HashMap::new(), None, &message.version())
    }
}
