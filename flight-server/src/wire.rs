//! The form in which rows travel: types that every client can read, messages that every client accepts.
//!
//! Types and the size of messages are as [`thalweg_sql::travel`] makes them. While a query computes, an empty batch is sent each
//! second: Python honours Ctrl-C only when a message arrives, and proxies cut silent connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow::record_batch::RecordBatch;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use thalweg_sql::plain;
use thalweg_sql::travel::{Compression, Encoded, Encoder};
use tonic::Status;

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
    pub fn compression(&self) -> Compression {
        Compression::of(&self.compression)
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

/// What there is to send, as the backend has it.
pub(crate) enum Piece {
    Rows(RecordBatch),
    /// In the form of the advertised schema already.
    Encoded(Encoded),
}

/// Sends the schema at once, then the rows as they come.
pub(crate) fn encode<S>(
    schema: SchemaRef,
    profile: &Profile,
    rows: S,
) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status>
where
    S: Stream<Item = Result<Piece, Status>> + Send + 'static,
{
    let options = profile.compression().options().map_err(encode_failed)?;
    let first = FlightData::from(SchemaAsIpc::new(&schema, &options));
    let encoder = Encoder::new(schema, profile.compression()).map_err(encode_failed)?;
    let sender = Sender { rows: rows.boxed(), encoder, queue: VecDeque::from([first]), done: false };
    Ok(stream::unfold(sender, |mut sender| async move {
        sender.next_message().await.map(|message| (message, sender))
    })
    .boxed())
}

struct Sender {
    rows: BoxStream<'static, Result<Piece, Status>>,
    encoder: Encoder,
    queue: VecDeque<FlightData>,
    done: bool,
}

impl Sender {
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
                piece = self.rows.next() => match piece {
                    None => { self.done = true; Ok(vec![]) }
                    Some(Ok(Piece::Encoded(message))) => Ok(vec![message]),
                    Some(Ok(Piece::Rows(batch))) => self.encoder.encode(&batch).map_err(encode_failed),
                    Some(Err(status)) => Err(status),
                },
                () = tokio::time::sleep(KEEPALIVE) => {
                    self.encoder.keepalive().map(|message| vec![message]).map_err(encode_failed)
                }
            };
            match queued {
                Ok(messages) => self.queue.extend(messages.into_iter().map(flight_data)),
                Err(status) => {
                    self.done = true;
                    return Some(Err(status));
                }
            }
        }
    }
}

fn flight_data(message: Encoded) -> FlightData {
    FlightData { data_header: message.header, data_body: message.body, ..FlightData::default() }
}

fn encode_failed(error: ArrowError) -> Status {
    Status::internal(format!("cannot encode the rows: {error}"))
}
