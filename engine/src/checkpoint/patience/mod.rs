//! The store as the engine sees it: it always answers, sooner or later.
//!
//! An outage, throttling, a reset connection, a lost reply, a full disk, no descriptor left: what may pass by itself is
//! asked for again, for as long as it takes, in this one place. So whoever commits sees an answer or nothing, and an
//! error means that the store *said* something: not there, already there, changed. This is INV-C12.
//!
//! A put under a condition may have happened when it failed (INV-C2). Then the object is read:
//!
//! ```text
//! put ─► done                                          ─► done
//!     ─► failed, or refused by its condition ─► look ─┬─ our bytes           ─► done
//!                                                     ├─ another's           ─► refused, for good
//!                                                     └─ as it was before    ─► put again
//! ```
//! What a store refuses (credentials, no such bucket) may be set right while the engine runs, and is waited for by name;
//! while it starts it is an error at once. Readers do not wait: [`DataRoot::readers`](super::DataRoot::readers).

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::data::Retry;
use super::watch::{Wait, Watch};
use super::whole_upload::WholeUpload;

/// A put gets as much more as this takes; and twice as much after each time that it was not enough.
const BYTES_PER_SECOND: f64 = 1_048_576.0;

/// Deleted by one request, as S3 has it.
const DELETED_AT_ONCE: usize = 1_000;

#[derive(Debug, Clone)]
pub(super) struct Patient {
    pub inner: Arc<dyn ObjectStore>,
    pub watch: Arc<Watch>,
    pub retry: Retry,
    /// A request without a reply is given up and made again. A local folder's cannot be: its thread is still at it.
    pub gives_up: bool,
}

impl std::fmt::Display for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.watch.count(|asked| {
            asked.puts += 1;
            asked.bytes_put += payload.content_length() as u64;
        });
        match opts.mode {
            PutMode::Overwrite => {
                let size = payload.content_length();
                let put = || self.inner.put_opts(location, payload.clone(), opts.clone());
                self.until_answered(size, put).await
            }
            PutMode::Create | PutMode::Update(_) => self.put_under_condition(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(WholeUpload::to(Arc::new(self.clone()), location))
    }

    /// Whole when it is answered: a body may break off like anything else.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut wait = self.watch.begin();
        loop {
            match self.get_whole(location, options.clone()).await {
                Err(error) if self.may_pass(&error) => wait.failed(&error),
                answer => {
                    wait.answered();
                    let bytes = answer.as_ref().map_or(0, |found| found.range.end - found.range.start);
                    self.watch.count(|asked| {
                        asked.gets += 1;
                        asked.bytes_got += if options.head { 0 } else { bytes };
                    });
                    return answer;
                }
            }
            self.retry.pause(wait.failures()).await;
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let gone = move |chunk: Vec<Path>| {
            let store = store.clone();
            async move {
                store.watch.count(|asked| asked.deletes += 1);
                store.until_answered(0, || store.delete_all(&chunk)).await?;
                Ok(stream::iter(chunk.into_iter().map(Ok)))
            }
        };
        locations.try_chunks(DELETED_AT_ONCE).map_err(|failed| failed.1).and_then(gone).try_flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.watch.count(|asked| asked.lists += 1);
        self.until_answered(0, || self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match options.mode {
            CopyMode::Overwrite => {
                self.until_answered(0, || self.inner.copy_opts(from, to, options.clone())).await
            }
            // Nobody asks for it; repeated it would meet its own copy.
            CopyMode::Create => self.inner.copy_opts(from, to, options).await,
        }
    }
}

impl Patient {
    /// `size` bytes are sent.
    async fn until_answered<T, F>(&self, size: usize, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut wait = self.watch.begin();
        let mut limit = Limit::of(size, &self.retry);
        loop {
            match self.in_time(&mut limit, &mut wait, attempt()).await {
                Err(error) if self.may_pass(&error) => wait.failed(&error),
                answer => {
                    wait.answered();
                    return answer;
                }
            }
            self.retry.pause(wait.failures()).await;
        }
    }

    async fn put_under_condition(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let mut wait = self.watch.begin();
        let mut limit = Limit::of(payload.content_length(), &self.retry);
        loop {
            let put = self.inner.put_opts(location, payload.clone(), opts.clone());
            let error = match self.in_time(&mut limit, &mut wait, put).await {
                Err(error) if is_conflict(&error) || self.may_pass(&error) => error,
                answer => {
                    wait.answered();
                    return answer;
                }
            };
            if !is_conflict(&error) {
                wait.failed(&error);
            }
            if let Some(answer) = self.look(location, &payload, &opts.mode, &error).await.transpose() {
                wait.answered();
                return answer;
            }
            if is_conflict(&error) {
                wait.failed(&error);
            }
            self.retry.pause(wait.failures()).await;
        }
    }

    /// What became of a put that failed with `error`; nothing if it did not happen and still may.
    async fn look(
        &self,
        location: &Path,
        payload: &PutPayload,
        mode: &PutMode,
        error: &Error,
    ) -> Result<Option<PutResult>> {
        let (path, source) = (location.to_string(), error.to_string().into());
        let found = match self.get_opts(location, GetOptions::default()).await {
            Ok(found) => Some((found.meta.clone(), found.bytes().await?)),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        match (found, mode) {
            (Some((meta, bytes)), _) if bytes_are(payload, &bytes) => {
                Ok(Some(PutResult { e_tag: meta.e_tag, version: meta.version }))
            }
            (Some((meta, _)), PutMode::Update(before)) if meta.e_tag == before.e_tag => Ok(None),
            (_, PutMode::Update(_)) => Err(Error::Precondition { path, source }),
            (Some(_), _) => Err(Error::AlreadyExists { path, source }),
            // Gone again, or hidden by another put that is under way.
            (None, _) => Ok(None),
        }
    }

    async fn get_whole(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let found = self.piece(self.inner.get_opts(location, options)).await?;
        if head {
            return Ok(found);
        }
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let mut pieces = Vec::new();
        match found.payload {
            GetResultPayload::Stream(mut body) => {
                while let Some(piece) = self.piece(body.try_next()).await? {
                    pieces.push(Ok(piece));
                }
            }
            GetResultPayload::File(..) => pieces.push(Ok(found.bytes().await?)),
        }
        let payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn delete_all(&self, locations: &[Path]) -> Result<()> {
        let locations: Vec<_> = locations.iter().cloned().map(Ok).collect();
        let mut answers = self.inner.delete_stream(stream::iter(locations).boxed());
        while let Some(answer) = answers.next().await {
            match answer {
                // What is not there may have gone with an earlier attempt.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on behind what has been listed already: listings are sorted (INV-C8).
    fn listing(&self, prefix: Option<Path>, after: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.watch.count(|asked| asked.lists += 1);
        let listing = Listing { store: self.clone(), prefix, after, running: None };
        let next = |mut listing: Listing| async move {
            Ok::<_, Error>(listing.next().await?.map(|found| (found, listing)))
        };
        stream::try_unfold(listing, next).boxed()
    }

    async fn in_time<T>(
        &self,
        limit: &mut Limit,
        wait: &mut Wait,
        attempt: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut attempt = pin!(attempt);
        if let Ok(answer) = tokio::time::timeout(limit.time(), &mut attempt).await {
            return answer;
        }
        let stalled = no_reply(limit.time());
        limit.stalls += 1;
        if self.gives_up {
            return Err(stalled);
        }
        wait.failed(&stalled);
        attempt.await
    }

    /// What comes within a moment, or not at all.
    async fn piece<T>(&self, piece: impl Future<Output = Result<T>>) -> Result<T> {
        let within = self.retry.stalled;
        match self.gives_up {
            true => tokio::time::timeout(within, piece).await.unwrap_or_else(|_| Err(no_reply(within))),
            false => piece.await,
        }
    }

    fn may_pass(&self, error: &Error) -> bool {
        match is_refusal(error) {
            true => self.watch.is_running(),
            false => matches!(error, Error::Generic { .. }),
        }
    }
}

struct Listing {
    store: Patient,
    prefix: Option<Path>,
    after: Option<Path>,
    running: Option<BoxStream<'static, Result<ObjectMeta>>>,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<ObjectMeta>> {
        let mut wait = self.store.watch.begin();
        loop {
            let prefix = self.prefix.as_ref();
            let running = self.running.get_or_insert_with(|| match &self.after {
                Some(after) => self.store.inner.list_with_offset(prefix, after),
                None => self.store.inner.list(prefix),
            });
            match self.store.piece(running.try_next()).await {
                Err(error) if self.store.may_pass(&error) => wait.failed(&error),
                answer => {
                    if let Ok(Some(found)) = &answer {
                        self.after = Some(found.location.clone());
                    }
                    wait.answered();
                    return answer;
                }
            }
            self.running = None;
            self.store.retry.pause(wait.failures()).await;
        }
    }
}

/// How long a put may take.
#[derive(Debug)]
struct Limit {
    reply: Duration,
    sending: Duration,
    stalls: u32,
}

impl Limit {
    fn of(bytes: usize, retry: &Retry) -> Limit {
        let sending = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        Limit { reply: retry.stalled, sending, stalls: 0 }
    }

    fn time(&self) -> Duration {
        self.reply.saturating_add(self.sending * (1 << self.stalls.min(10)))
    }
}

fn no_reply(within: Duration) -> Error {
    Error::Generic { store: "store", source: format!("no reply within {within:?}").into() }
}

fn bytes_are(payload: &PutPayload, mut bytes: &[u8]) -> bool {
    payload.content_length() == bytes.len()
        && payload.iter().all(|chunk| {
            let (head, rest) = bytes.split_at(chunk.len());
            bytes = rest;
            head == chunk
        })
}

/// Whether a put was refused by its condition: maybe by what it did itself.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. })
}

/// Whether the store is there and does not let us in: not a matter of time, but of somebody who sets it right.
pub(super) fn is_refusal(error: &Error) -> bool {
    const SAID: [&str; 6] = [
        "<Code>NoSuchBucket</Code>",
        "<Code>AccessDenied</Code>",
        "<Code>InvalidAccessKeyId</Code>",
        "<Code>SignatureDoesNotMatch</Code>",
        "<Code>AuthorizationHeaderMalformed</Code>",
        "incorrectly configured region",
    ];
    let said = || {
        let text = error.to_string();
        SAID.iter().any(|said| text.contains(said))
    };
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => true,
        Error::NotFound { .. } | Error::Generic { .. } => said() || is_forbidden_file(error),
        _ => false,
    }
}

fn is_forbidden_file(error: &Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)) {
            return true;
        }
        source = error.source();
    }
    false
}
