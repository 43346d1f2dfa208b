//! Rows on their way to a client: a query's task on one side of a short queue, the client's stream on the other.
//!
//! Dropping the stream aborts the task. A keeper beside it watches the deadline, whoever stops it and a client that takes
//! nothing, and gives its slot back whether the stream is polled or not. A task that ends without having said so has
//! panicked, and the client is told: an answer is never cut short in silence.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::common::runtime::trace_future;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use thalweg_engine::ErrorKind;
use thalweg_engine::view::beyond_calendar;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::memory::TOGETHER;
use super::registry::{self, Ticket};
use super::settings::Settings;
use crate::tables::stamp;
use crate::travel::Encoded;
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
    /// Of computing.
    pub time: Duration,
    pub memory_bytes: usize,
    pub rows_max: Option<u64>,
    /// How long the client may take nothing of what is there.
    pub stalled: Duration,
    /// It is a subscription.
    pub rows_are_changes: bool,
}

impl Bounds {
    /// Of a query.
    pub fn of(settings: &Settings) -> Bounds {
        Bounds {
            time: settings.query_deadline,
            memory_bytes: settings.query_memory_bytes,
            rows_max: settings.query_rows_max,
            stalled: settings.client_patience,
            rows_are_changes: false,
        }
    }

    /// Says which bound was passed, where DataFusion names an operator of the plan.
    pub(crate) fn explain(&self, error: DataFusionError) -> Error {
        let DataFusionError::ResourcesExhausted(text) = error.find_root() else {
            return Error::from(error);
        };
        if text.starts_with(TOGETHER) {
            return Error::new(
                ErrorKind::Unavailable,
                "queries that run now use all the memory that they may have together",
            )
            .hint("ask again when they have ended, or ask for less; --reader-memory allows more");
        }
        Error::invalid(format!("the query needs more memory than it may. limit_bytes={}", self.memory_bytes))
            .hint("read less: name a time range in WHERE, group by fewer keys, or sort fewer rows; SET query_memory = DEFAULT, or --query-memory, allows more")
    }
}

/// A task that ends when nobody waits for it any more. Whoever traces what DataFusion spawns traces it too.
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub fn spawn(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        Task(runtime.spawn(trace_future(work)))
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
    // So Arrow says that a column's texts are too many for its offsets.
    if error.to_string().contains("offset overflow") {
        return Error::invalid("the texts of a column are larger than 2 GiB in a batch of rows")
            .hint("make less of each row, such as left(text, 1000)");
    }
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
    let promised = SchemaRef::clone(&schema);
    let stamped = rows.map(move |batch| {
        let batch = batch.and_then(|batch| stamp::batch(&promised, &batch));
        let batch = batch.map_err(|error| bounds.explain(error))?;
        match beyond_calendar(&batch) {
            None => Ok(batch),
            Some(column) => {
                Err(Error::invalid(format!("a time of column \"{column}\" is beyond the years 1 to 9999"))
                    .hint("leave such rows out in WHERE, or CAST the time AS STRING"))
            }
        }
    });
    let kept = keep(runtime, stamped.boxed(), |batch: &RecordBatch| batch.num_rows() as u64, bounds, ticket);
    Box::pin(RecordBatchStreamAdapter::new(schema, kept.map_err(DataFusionError::from)))
}

/// Hands messages on that another process makes.
pub(crate) fn start_away(
    messages: BoxStream<'static, Result<Encoded>>,
    bounds: Bounds,
    ticket: Ticket,
) -> BoxStream<'static, Result<Encoded>> {
    keep(&Handle::current(), messages, |message| message.rows, bounds, ticket).boxed()
}

/// INV-25: the slot is free when the answer has ended, however it does.
fn keep<T: Send + 'static>(
    runtime: &Handle,
    items: BoxStream<'static, Result<T>>,
    rows_of: fn(&T) -> u64,
    bounds: Bounds,
    ticket: Ticket,
) -> AnswerStream<T> {
    let (tx, rx) = mpsc::channel(QUEUE_BATCHES);
    let (say, end) = oneshot::channel();
    let pauses = Arc::new(Pauses::default());
    let driver = Driver { tx: tx.clone(), rows_of, bounds, pauses: Arc::clone(&pauses), sent: ticket.rows() };
    let worker = Task::spawn(runtime, driver.drive(items));
    let stopped = ticket.stopped();
    let ticket = Arc::new(Mutex::new(Some(ticket)));
    let held = Arc::clone(&ticket);
    // Among the threads of whoever asks: those of queries may all be within some long computation.
    tokio::spawn(async move {
        let outcome = tokio::select! {
            biased;
            () = tx.closed() => return,
            () = stopped => Err(registry::stopped()),
            () = pauses.computed(bounds.time) => Err(deadline_passed(bounds.time)),
            ended = worker.join() => ended.flatten(),
        };
        if let Some(mut ticket) = take(&held) {
            ticket.finish(outcome.as_ref().copied());
        }
        _ = say.send(outcome);
    });
    AnswerStream { rx, end: Some(end), ticket, ended: false }
}

fn take(ticket: &Mutex<Option<Ticket>>) -> Option<Ticket> {
    ticket.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// How long a query has waited for its client.
#[derive(Default)]
struct Pauses {
    micros: AtomicU64,
}

impl Pauses {
    /// Resolves when a query has computed for so long since now, or has taken twice as long with all its pauses.
    async fn computed(&self, limit: Duration) {
        let begun = Instant::now();
        loop {
            let paused = Duration::from_micros(self.micros.load(Ordering::Relaxed)).min(limit);
            let due = begun + limit + paused;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

struct Driver<T> {
    tx: mpsc::Sender<T>,
    rows_of: fn(&T) -> u64,
    bounds: Bounds,
    pauses: Arc<Pauses>,
    sent: Arc<AtomicU64>,
}

impl<T: Send> Driver<T> {
    async fn drive(self, mut items: BoxStream<'static, Result<T>>) -> Result<()> {
        while let Some(item) = items.next().await {
            let item = item?;
            let rows = (self.rows_of)(&item);
            if let Some(most) = self.bounds.rows_max
                && self.sent.load(Ordering::Relaxed) + rows > most
            {
                return Err(Error::invalid(format!(
                    "the query answers with more rows than it may. most={most}"
                ))
                .hint("read less: LIMIT, or a time range in WHERE; SET query_rows = DEFAULT, or --query-rows, allows more"));
            }
            let permit = match self.tx.try_reserve() {
                Ok(permit) => permit,
                Err(_) => {
                    let begun = Instant::now();
                    let waited = tokio::time::timeout(self.bounds.stalled, self.tx.reserve()).await;
                    let paused = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.pauses.micros.fetch_add(paused, Ordering::Relaxed);
                    match waited {
                        Ok(Ok(permit)) => permit,
                        // A receiver that is gone has aborted this task already.
                        Ok(Err(_)) => return Ok(()),
                        Err(_) => return Err(left(&self.bounds)),
                    }
                }
            };
            permit.send(item);
            self.sent.fetch_add(rows, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn left(bounds: &Bounds) -> Error {
    let limit = bounds.stalled;
    let error = Error::invalid(format!("the client took nothing of what was there for it for {limit:?}"));
    error.hint(match bounds.rows_are_changes {
        true => "SUBSCRIBE again, AFTER the last token that came",
        false => "ask again, and take the rows as they come; --client-patience allows for more",
    })
}

struct AnswerStream<T> {
    rx: mpsc::Receiver<T>,
    /// What became of it, until that is known to be good.
    end: Option<oneshot::Receiver<Result<()>>>,
    ticket: Arc<Mutex<Option<Ticket>>>,
    ended: bool,
}

impl<T> Drop for AnswerStream<T> {
    /// Its place is free at once; the task hears of it by the queue.
    fn drop(&mut self) {
        drop(take(&self.ticket));
    }
}

impl<T> Stream for AnswerStream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What went wrong is told before what waits.
        if let Some(end) = &mut self.end
            && let Poll::Ready(outcome) = end.poll_unpin(cx)
        {
            self.end = None;
            let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("the query was given up")));
            if let Err(error) = outcome {
                self.ended = true;
                return Poll::Ready(Some(Err(error)));
            }
        }
        match ready!(self.rx.poll_recv(cx)) {
            Some(item) => Poll::Ready(Some(Ok(item))),
            None if self.end.is_some() => Poll::Pending,
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

pub(crate) fn deadline_passed(limit: Duration) -> Error {
    Error::invalid(format!("the query took longer than it may. limit={limit:?}"))
        .hint("read less: name a time range in WHERE, or fewer columns; SET query_time = DEFAULT, or --query-time, allows more")
}
