//! Rows on their way to a client: a query's task on one side of a short queue, the client's stream on the other.
//!
//! Dropping the stream aborts the task. The deadline is watched on the client's side, since a plan that computes for
//! minutes within one poll would not notice it. A task that ends without having said so has panicked, and the client
//! is told: an answer is never cut short in silence.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{FutureExt, Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use super::registry::Ticket;
use crate::tables::stamp;
use crate::{Error, Result};

/// Batches that wait for a slow client; then the query pauses.
const QUEUE_BATCHES: usize = 2;

/// What a statement answers.
pub enum Answer {
    /// Dropping the stream stops the query. Its errors are [`Error`]s within DataFusion's: `Error::from` finds them.
    Rows(SendableRecordBatchStream),
    /// Something was done; there are no rows.
    Done(String),
}

/// What a running query may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub deadline: Instant,
    /// From the start to the deadline.
    pub time: Duration,
    pub memory_bytes: usize,
    /// How long the client may take nothing of what is there.
    pub stalled: Option<Duration>,
}

impl Bounds {
    /// Says which bound was passed, where DataFusion names an operator of the plan.
    pub(crate) fn explain(&self, error: DataFusionError) -> Error {
        if !matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
            return Error::from(error);
        }
        Error::invalid(format!("the query needs more memory than it may. limit_bytes={}", self.memory_bytes))
            .hint("read less: name a time range in WHERE, group by fewer keys, or sort fewer rows")
    }
}

/// A task that ends when nobody waits for it any more.
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub fn spawn(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task(runtime.spawn(work))
    }

    /// A panic of the task is an error of the statement, not of the server.
    pub async fn join(mut self) -> Result<T> {
        (&mut self.0).await.map_err(|error| panicked(&error))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn panicked(error: &tokio::task::JoinError) -> Error {
    tracing::error!(%error, "a query panicked");
    Error::internal("the query failed inside the database; its log says more")
}

/// Runs `rows` on `runtime` and gives each batch the promised `schema`.
pub(crate) fn start(
    runtime: &Handle,
    schema: SchemaRef,
    rows: SendableRecordBatchStream,
    bounds: Bounds,
    ticket: Ticket,
) -> SendableRecordBatchStream {
    let (tx, rx) = mpsc::channel(QUEUE_BATCHES);
    let task = Task::spawn(runtime, drive(rows, SchemaRef::clone(&schema), tx, bounds.stalled));
    let sleep = Box::pin(tokio::time::sleep_until(bounds.deadline));
    Box::pin(AnswerStream { schema, rx, task, sleep, bounds, ticket, ended: false })
}

async fn drive(
    mut rows: SendableRecordBatchStream,
    schema: SchemaRef,
    tx: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
    stalled: Option<Duration>,
) -> Result<()> {
    while let Some(batch) = rows.next().await {
        let batch = batch.and_then(|batch| stamp::batch(&schema, &batch));
        let failed = batch.is_err();
        let sent = match stalled {
            None => tx.send(batch).await,
            Some(limit) => match tokio::time::timeout(limit, tx.send(batch)).await {
                Ok(sent) => sent,
                Err(_) => return Err(left(limit)),
            },
        };
        // A receiver that is gone has aborted this task already.
        if sent.is_err() || failed {
            break;
        }
    }
    Ok(())
}

fn left(limit: Duration) -> Error {
    Error::invalid(format!("the client took nothing of what it was told for {limit:?}"))
        .hint("SUBSCRIBE again, AFTER the last token that came")
}

struct AnswerStream {
    schema: SchemaRef,
    rx: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    task: Task<Result<()>>,
    sleep: Pin<Box<Sleep>>,
    bounds: Bounds,
    ticket: Ticket,
    ended: bool,
}

impl AnswerStream {
    fn fail(&mut self, error: Error) -> Option<Result<RecordBatch, DataFusionError>> {
        self.ended = true;
        self.task.0.abort();
        self.ticket.finish(Err(&error));
        Some(Err(DataFusionError::from(error)))
    }
}

impl Stream for AnswerStream {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.sleep.poll_unpin(cx).is_ready() {
            let limit = self.bounds.time;
            return Poll::Ready(self.fail(deadline_passed(limit)));
        }
        match ready!(self.rx.poll_recv(cx)) {
            Some(Ok(batch)) => {
                self.ticket.sent(batch.num_rows());
                Poll::Ready(Some(Ok(batch)))
            }
            Some(Err(error)) => {
                let error = self.bounds.explain(error);
                Poll::Ready(self.fail(error))
            }
            None => match ready!(self.task.0.poll_unpin(cx)) {
                Ok(Ok(())) => {
                    self.ended = true;
                    self.ticket.finish(Ok(()));
                    Poll::Ready(None)
                }
                Ok(Err(error)) => Poll::Ready(self.fail(error)),
                Err(error) => Poll::Ready(self.fail(panicked(&error))),
            },
        }
    }
}

impl RecordBatchStream for AnswerStream {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

pub(crate) fn deadline_passed(limit: Duration) -> Error {
    Error::invalid(format!("the query took longer than it may. limit={limit:?}"))
        .hint("read less: name a time range in WHERE, or fewer columns")
}
