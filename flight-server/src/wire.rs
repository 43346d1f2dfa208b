//! The form in which rows travel: types that every client can read, messages that every client accepts.
//!
//! Types are plain ones (`thalweg_sql::plain`), and the schema after the casts is the one advertised. A message holds at most 2 MiB (some clients refuse 4). While a query
//! computes, an empty batch is sent each second: Python honours Ctrl-C only when a message arrives, and proxies cut
//! silent connections.
//!
//! Invariant: every batch has exactly the schema that was advertised, nullability included.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use thalweg_sql::plain;
use tonic::Status;

pub(crate) const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
const KEEPALIVE: Duration = Duration::from_secs(1);

/// What a session may change about the form of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// `""`, `lz4` or `zstd`.
    pub compression: String,
    /// Every timestamp in nanoseconds, for Grafana.
    pub nanoseconds: bool,
}

impl Profile {
    fn options(&self) -> Result<IpcWriteOptions, ArrowError> {
        IpcWriteOptions::default().try_with_compression(match self.compression.as_str() {
            "lz4" => Some(CompressionType::LZ4_FRAME),
            "zstd" => Some(CompressionType::ZSTD),
            _ => None,
        })
    }
}

/// The schema that is advertised and sent for rows of `schema`.
pub(crate) fn wire_schema(schema: &Schema, profile: &Profile) -> Schema {
    plain::schema(schema, profile.nanoseconds)
}

/// An encapsulated IPC schema, as FlightInfo and prepared statements carry it.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) =
        SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(encode_failed)?;
    Ok(bytes)
}

pub(crate) fn schema_from_bytes(bytes: &Bytes) -> Result<SchemaRef, Status> {
    Schema::try_from(IpcMessage(bytes.clone()))
        .map(Arc::new)
        .map_err(|error| Status::invalid_argument(format!("the schema in the ticket is damaged: {error}")))
}

/// Sends the schema at once, then the rows as they come.
pub(crate) fn encode<S>(
    schema: SchemaRef,
    profile: &Profile,
    rows: S,
) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status>
where
    S: Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
{
    let options = profile.options().map_err(encode_failed)?;
    let first = FlightData::from(SchemaAsIpc::new(&schema, &options));
    let encoder =
        Encoder { rows: rows.boxed(), schema, options, queue: VecDeque::from([first]), done: false };
    Ok(stream::unfold(encoder, |mut encoder| async move {
        encoder.next_message().await.map(|message| (message, encoder))
    })
    .boxed())
}

struct Encoder {
    rows: BoxStream<'static, Result<RecordBatch, Status>>,
    schema: SchemaRef,
    options: IpcWriteOptions,
    queue: VecDeque<FlightData>,
    done: bool,
}

impl Encoder {
    async fn next_message(&mut self) -> Option<Result<FlightData, Status>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                return Some(Ok(message));
            }
            if self.done {
                return None;
            }
            let queued = tokio::select! {
                biased;
                batch = self.rows.next() => match batch {
                    None => { self.done = true; Ok(()) }
                    Some(Ok(batch)) => self.queue_batch(&batch),
                    Some(Err(status)) => Err(status),
                },
                () = tokio::time::sleep(KEEPALIVE) => self.queue_keepalive(),
            };
            if let Err(status) = queued {
                self.done = true;
                return Some(Err(status));
            }
        }
    }

    fn queue_batch(&mut self, batch: &RecordBatch) -> Result<(), Status> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = plain::batch(batch, &self.schema).map_err(encode_failed)?;
        // An estimate first, so that a large batch is not encoded whole to be thrown away.
        let bytes: usize =
            batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        let pieces = bytes.div_ceil(MESSAGE_BYTES_MAX).max(1);
        let piece_rows = batch.num_rows().div_ceil(pieces).max(1);
        for start in (0..batch.num_rows()).step_by(piece_rows) {
            let piece = batch.slice(start, piece_rows.min(batch.num_rows() - start));
            self.queue_piece(&piece)?;
        }
        Ok(())
    }

    /// Halves the piece until it fits. A single row larger than a message is sent as it is.
    fn queue_piece(&mut self, piece: &RecordBatch) -> Result<(), Status> {
        let message = self.message(piece)?;
        let rows = piece.num_rows();
        if message.data_body.len() <= MESSAGE_BYTES_MAX || rows <= 1 {
            self.queue.push_back(message);
            return Ok(());
        }
        self.queue_piece(&piece.slice(0, rows / 2))?;
        self.queue_piece(&piece.slice(rows / 2, rows - rows / 2))
    }

    fn queue_keepalive(&mut self) -> Result<(), Status> {
        let message = self.message(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        self.queue.push_back(message);
        Ok(())
    }

    fn message(&self, batch: &RecordBatch) -> Result<FlightData, Status> {
        // No dictionary is ever sent, so the tracker stays empty.
        let (_, encoded) = IpcDataGenerator::default()
            .encode(batch, &mut DictionaryTracker::new(true), &self.options, &mut IpcWriteContext::default())
            .map_err(encode_failed)?;
        Ok(encoded.into())
    }
}

fn encode_failed(error: ArrowError) -> Status {
    Status::internal(format!("cannot encode the rows: {error}"))
}
