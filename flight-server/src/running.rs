//! The queries that are running now: how many there may be, and how one is cancelled.
//!
//! A query is entered when its rows start to flow and leaves when its stream is dropped, for whatever reason.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::AbortHandle;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

#[derive(Clone)]
pub(crate) struct Running {
    permits: Arc<Semaphore>,
    limit: usize,
    queries: Arc<Mutex<Queries>>,
}

#[derive(Default)]
struct Queries {
    next: u64,
    by_number: HashMap<u64, (Bytes, AbortHandle)>,
}

/// A query's right to run. Dropping it makes room for another.
pub(crate) struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
    number: u64,
    queries: Arc<Mutex<Queries>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.queries).by_number.remove(&self.number);
    }
}

impl Running {
    pub fn new(limit: usize) -> Self {
        Running { permits: Arc::new(Semaphore::new(limit)), limit, queries: Arc::default() }
    }

    /// Makes `rows` one of the running queries; `open` starts it once there is room. What has no end takes none of the
    /// room that queries share.
    pub async fn track<T: Send + 'static>(
        &self,
        query: Bytes,
        is_endless: bool,
        open: impl Future<Output = Result<BoxStream<'static, Result<T, Status>>, Status>>,
    ) -> Result<BoxStream<'static, Result<T, Status>>, Status> {
        let permit = match is_endless {
            true => None,
            false => Some(Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
                Status::resource_exhausted(format!(
                    "{} queries are running, the most allowed; try again",
                    self.limit
                ))
            })?),
        };
        let (abort, registration) = AbortHandle::new_pair();
        let permit = self.enter(query, abort.clone(), permit);
        let rows = stream::Abortable::new(open.await?, registration);
        let last = stream::once(async move {
            let _until_here = permit;
            abort.is_aborted().then(|| Err(Status::cancelled("the query was cancelled")))
        });
        Ok(rows.chain(last.filter_map(futures::future::ready)).boxed())
    }

    fn enter(&self, query: Bytes, abort: AbortHandle, permit: Option<OwnedSemaphorePermit>) -> Permit {
        let mut queries = lock(&self.queries);
        let number = queries.next;
        queries.next += 1;
        queries.by_number.insert(number, (query, abort));
        Permit { _permit: permit, number, queries: Arc::clone(&self.queries) }
    }

    /// Stops every stream of this query. False: none is running.
    pub fn cancel(&self, query: &Bytes) -> bool {
        let queries = lock(&self.queries);
        let mut found = false;
        for (id, abort) in queries.by_number.values() {
            if id == query {
                abort.abort();
                found = true;
            }
        }
        found
    }

    pub fn cancel_all(&self) {
        lock(&self.queries).by_number.values().for_each(|(_, abort)| abort.abort());
    }
}

fn lock(queries: &Mutex<Queries>) -> std::sync::MutexGuard<'_, Queries> {
    queries.lock().unwrap_or_else(PoisonError::into_inner)
}
