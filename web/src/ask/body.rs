//! The rows of an answer on their way out: a small answer whole, with its length and a tag of its content; a large one as
//! it comes.
//!
//! A client that takes nothing for a while is left, so that its query does not keep a place from others. An answer that
//! fails midway is cut off: its client sees that the last chunk never came.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::encode::Encoder;
use crate::fault::Fault;
use crate::patient::TAKE_TIME;

/// What is larger is sent as it comes.
const WHOLE_BYTES_MAX: usize = 1 << 20;
const PIECES_WAITING: usize = 4;

pub(crate) enum Answered {
    Whole(Bytes),
    Flowing(Body),
}

/// The first rows of an answer; all of them if nobody says how many.
pub(crate) fn first(rows: SendableRecordBatchStream, most: Option<usize>) -> SendableRecordBatchStream {
    let Some(most) = most else { return rows };
    let schema = rows.schema();
    let first = rows.scan(most, |left, batch| {
        let is_done = *left == 0;
        let cut = batch.map(|batch| {
            let batch = batch.slice(0, batch.num_rows().min(*left));
            *left -= batch.num_rows();
            batch
        });
        std::future::ready((!is_done).then_some(cut))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, first))
}

/// The first error comes as a fault, as long as nothing has been sent.
pub(crate) async fn of_rows(
    mut rows: SendableRecordBatchStream,
    mut encoder: Encoder,
) -> Result<Answered, Fault> {
    let mut whole = BytesMut::new();
    while whole.len() < WHOLE_BYTES_MAX {
        match rows.next().await {
            Some(batch) => {
                let batch = batch.map_err(thalweg_sql::Error::from)?;
                whole.extend_from_slice(&encoder.rows(&batch).map_err(thalweg_sql::Error::from)?);
            }
            None => {
                whole.extend_from_slice(&encoder.finish().map_err(thalweg_sql::Error::from)?);
                return Ok(Answered::Whole(whole.freeze()));
            }
        }
    }
    let (pieces, taken) = mpsc::channel(PIECES_WAITING);
    tokio::spawn(pump(whole.freeze(), rows, encoder, pieces));
    Ok(Answered::Flowing(Body::from_stream(until_the_end(taken))))
}

type Piece = Result<Bytes, DataFusionError>;

/// Without its end an answer is not whole, and must not look as if it were.
fn until_the_end(taken: mpsc::Receiver<Option<Piece>>) -> impl Stream<Item = Piece> + Send + 'static {
    futures::stream::unfold(Some(taken), |taken| async move {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Some(piece)) => Some((piece, Some(taken))),
            Some(None) => None,
            None => {
                let reason = "its client took nothing for a while".to_owned();
                Some((Err(DataFusionError::Execution(reason)), None))
            }
        }
    })
}

async fn pump(
    first: Bytes,
    mut rows: SendableRecordBatchStream,
    mut encoder: Encoder,
    pieces: mpsc::Sender<Option<Piece>>,
) {
    if !send(&pieces, Ok(first)).await {
        return;
    }
    while let Some(batch) = rows.next().await {
        let piece = batch.and_then(|batch| Ok(encoder.rows(&batch)?));
        let failed = piece.is_err();
        if !send(&pieces, piece).await || failed {
            return;
        }
    }
    if send(&pieces, encoder.finish().map_err(DataFusionError::from)).await {
        // Nobody who is gone misses it.
        let _ = pieces.send(None).await;
    }
}

/// Whether somebody took it.
async fn send(pieces: &mpsc::Sender<Option<Piece>>, piece: Piece) -> bool {
    if let Err(error) = &piece {
        tracing::warn!(%error, "an answer over http was cut off");
    }
    if piece.as_ref().is_ok_and(Bytes::is_empty) {
        return true;
    }
    matches!(tokio::time::timeout(TAKE_TIME, pieces.send(Some(piece))).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_without_its_end_fails() {
        let piece = || Some(Ok(Bytes::from_static(b"rows")));
        for has_end in [true, false] {
            let (pieces, taken) = mpsc::channel(PIECES_WAITING);
            pieces.send(piece()).await.unwrap();
            if has_end {
                pieces.send(None).await.unwrap();
            }
            drop(pieces);
            let told: Vec<Piece> = until_the_end(taken).collect().await;
            assert!(told[0].is_ok());
            assert_eq!((told.len() == 1, told.last().unwrap().is_ok()), (has_end, has_end));
        }
    }
}
