//! Parameters on their way in: read from a DoPut stream, kept in the handle, handed out row by row.

use std::pin::Pin;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::stream::{Peekable, Stream, StreamExt};
use tonic::Status;

use crate::untrusted::{Bounds, Reader};

/// Handles travel in every message of their statement, so what they carry is small.
const PARAMETER_BYTES_MAX: usize = 1024 * 1024;
/// The statement runs once for each.
const PARAMETER_ROWS_MAX: usize = 10_000;
const MESSAGES_MAX: usize = 10_000;

/// Reads all parameter rows, as the bytes that a handle carries; nothing if the stream is only a command.
pub(crate) async fn read_if_any<S>(mut messages: Pin<Box<Peekable<S>>>) -> Result<Bytes, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
{
    match messages.as_mut().peek().await {
        Some(Ok(first)) if first.data_header.is_empty() => Ok(Bytes::new()),
        _ => read(messages).await,
    }
}

async fn read<S>(mut messages: Pin<Box<Peekable<S>>>) -> Result<Bytes, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
{
    let mut reader = Reader::new(Bounds { rows: PARAMETER_ROWS_MAX, bytes: PARAMETER_BYTES_MAX });
    let mut writer: Option<StreamWriter<Vec<u8>>> = None;
    let mut count = 0;
    while let Some(message) = messages.next().await {
        count += 1;
        if count > MESSAGES_MAX {
            return Err(unreadable(format!("they come in too many messages. most={MESSAGES_MAX}")));
        }
        let Some(batch) = reader.take(message?).map_err(unreadable)? else { continue };
        if batch.num_columns() == 0 {
            // An update without parameters: ADBC sends an empty batch in their place.
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(StreamWriter::try_new(Vec::new(), batch.schema_ref()).map_err(unreadable)?),
        };
        writer.write(&batch).map_err(unreadable)?;
        if writer.get_ref().len() > PARAMETER_BYTES_MAX {
            return Err(unreadable(format!("they are too large. bytes_max={PARAMETER_BYTES_MAX}")));
        }
    }
    match writer {
        None => Ok(Bytes::new()),
        Some(writer) => Ok(writer.into_inner().map_err(unreadable)?.into()),
    }
}

/// One batch of one row for each time the statement is to run, as they are asked for; a single `None` when nothing is
/// bound.
pub(crate) fn rows(parameters: &Bytes) -> Result<Rows, Status> {
    if parameters.is_empty() {
        return Ok(Rows::Unbound);
    }
    let reader = StreamReader::try_new(std::io::Cursor::new(parameters.clone()), None).map_err(unreadable)?;
    Ok(Rows::Bound { reader: Box::new(reader), batch: None, next: 0 })
}

pub(crate) enum Rows {
    Unbound,
    Bound { reader: Box<StreamReader<std::io::Cursor<Bytes>>>, batch: Option<RecordBatch>, next: usize },
    Ended,
}

impl Iterator for Rows {
    type Item = Result<Option<RecordBatch>, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self {
                Rows::Ended => return None,
                Rows::Unbound => {
                    *self = Rows::Ended;
                    return Some(Ok(None));
                }
                Rows::Bound { batch: Some(batch), next, .. } if *next < batch.num_rows() => {
                    *next += 1;
                    return Some(Ok(Some(batch.slice(*next - 1, 1))));
                }
                Rows::Bound { reader, batch, next } => match reader.next()? {
                    Ok(read) => (*batch, *next) = (Some(read), 0),
                    Err(error) => {
                        *self = Rows::Ended;
                        return Some(Err(unreadable(error)));
                    }
                },
            }
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("cannot read the bound parameters: {error}"))
}
