//! Parameters on their way in: read from a DoPut stream, kept in the handle, handed out row by row.

use std::pin::Pin;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use bytes::Bytes;
use futures::stream::{Peekable, Stream, TryStreamExt};
use tonic::Status;

/// Handles travel in every message of their statement, so what they carry is small.
const PARAMETER_BYTES_MAX: usize = 1024 * 1024;

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

async fn read<S>(messages: S) -> Result<Bytes, Status>
where
    S: Stream<Item = Result<FlightData, Status>> + Send + 'static,
{
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from));
    let mut writer: Option<StreamWriter<Vec<u8>>> = None;
    while let Some(batch) = batches.try_next().await.map_err(unreadable)? {
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
            return Err(Status::invalid_argument(format!(
                "the bound parameters are too large. bytes_max={PARAMETER_BYTES_MAX}"
            )));
        }
    }
    match writer {
        None => Ok(Bytes::new()),
        Some(writer) => Ok(writer.into_inner().map_err(unreadable)?.into()),
    }
}

/// One batch of one row for each time the statement is to run; a single `None` when nothing is bound.
pub(crate) fn rows(parameters: &Bytes) -> Result<Vec<Option<RecordBatch>>, Status> {
    if parameters.is_empty() {
        return Ok(vec![None]);
    }
    let reader = StreamReader::try_new(parameters.as_ref(), None).map_err(unreadable)?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(unreadable)?;
        rows.extend((0..batch.num_rows()).map(|row| Some(batch.slice(row, 1))));
    }
    Ok(rows)
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("cannot read the bound parameters: {error}"))
}
