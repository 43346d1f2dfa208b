//! The queries that are running now, and how one is cancelled. How many there may be is the backend's to say.
//!
//! A query is entered when it is to start and leaves when its stream is dropped, for whatever reason. Cancelling drops its
//! rows there and then, also where the client takes none: what it held is free at once.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::sync::Notify;
use tonic::Status;

#[derive(Clone, Default)]
pub(crate) struct Running {
    queries: Arc<Mutex<Queries>>,
}

#[derive(Default)]
struct Queries {
    next: u64,
    by_number: HashMap<u64, (Bytes, Arc<dyn Cancel>)>,
}

trait Cancel: Send + Sync {
    fn cancel(&self);
}

/// Rows that can be taken away from whoever is to poll them.
struct Cancellable<T> {
    state: Mutex<State<T>>,
    cancelled: Notify,
}

struct State<T> {
    rows: Option<BoxStream<'static, Result<T, Status>>>,
    is_cancelled: bool,
    waker: Option<Waker>,
}

impl<T> Cancellable<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Cancel for Cancellable<T> {
    fn cancel(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        let (rows, waker) = (state.rows.take(), state.waker.take());
        drop(state);
        drop(rows);
        self.cancelled.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A query's place among those that run.
struct Place {
    number: u64,
    queries: Arc<Mutex<Queries>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = lock(&self.queries).by_number.remove(&self.number);
        drop(left);
    }
}

struct Tracked<T> {
    rows: Arc<Cancellable<T>>,
    ended: bool,
    _place: Place,
}

impl<T: Send + 'static> Stream for Tracked<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = {
            let mut state = self.rows.lock();
            match &mut state.rows {
                Some(rows) => {
                    let polled = rows.poll_next_unpin(ctx);
                    if polled.is_pending() {
                        state.waker = Some(ctx.waker().clone());
                    }
                    polled
                }
                None => Poll::Ready(Some(Err(cancelled()))),
            }
        };
        self.ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

impl Running {
    /// Makes what `open` starts one of the running queries.
    pub async fn track<T: Send + 'static>(
        &self,
        query: Bytes,
        open: impl Future<Output = Result<BoxStream<'static, Result<T, Status>>, Status>>,
    ) -> Result<BoxStream<'static, Result<T, Status>>, Status> {
        let state = Mutex::new(State { rows: None, is_cancelled: false, waker: None });
        let rows = Arc::new(Cancellable { state, cancelled: Notify::new() });
        let place = self.enter(query, Arc::clone(&rows) as _);
        let opened = tokio::select! {
            biased;
            () = rows.cancelled.notified() => return Err(cancelled()),
            opened = open => opened?,
        };
        {
            let mut state = rows.lock();
            if state.is_cancelled {
                return Err(cancelled());
            }
            state.rows = Some(opened);
        }
        Ok(Tracked { rows, ended: false, _place: place }.boxed())
    }

    fn enter(&self, query: Bytes, cancel: Arc<dyn Cancel>) -> Place {
        let mut queries = lock(&self.queries);
        let number = queries.next;
        queries.next += 1;
        queries.by_number.insert(number, (query, cancel));
        Place { number, queries: Arc::clone(&self.queries) }
    }

    /// Stops every stream of this query. False: none is running.
    pub fn cancel(&self, query: &Bytes) -> bool {
        self.cancel_those(|id| id == query)
    }

    pub fn cancel_all(&self) {
        self.cancel_those(|_| true);
    }

    fn cancel_those(&self, wanted: impl Fn(&Bytes) -> bool) -> bool {
        let queries = lock(&self.queries);
        let those = queries.by_number.values().filter(|(id, _)| wanted(id));
        let those: Vec<_> = those.map(|(_, cancel)| Arc::clone(cancel)).collect();
        drop(queries);
        those.iter().for_each(|query| query.cancel());
        !those.is_empty()
    }
}

fn cancelled() -> Status {
    Status::cancelled("the query was cancelled")
}

fn lock(queries: &Mutex<Queries>) -> std::sync::MutexGuard<'_, Queries> {
    queries.lock().unwrap_or_else(PoisonError::into_inner)
}
