//! Answers pushed: an endpoint as server-sent events, told anew when it has changed, about once a second.
//!
//! All who watch the same endpoint with the same values, or the same `SELECT`, share one feed: one run of the
//! query each time, and none while the version of its views stays. A query that takes long is asked less often. A feed ends when its
//! last watcher has gone. [`Feed::next`] is the one place that decides when an answer is asked again. What is watched
//! together, over one connection, is put together in `watch`.
//!
//! ```text
//! event: rows      the whole answer, as JSON; its id is the answer's, so a watcher that comes back is not told twice
//! event: fault     why there is none now; the feed goes on
//! event: beat      nothing has changed: whoever hears neither has lost touch
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use thalweg_sql::session::{Answer, Client, Database, Endpoint, Session};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::body::{self, Answered};
use super::encode::Encoder;
use super::format::Format;
use super::hash;
use crate::fault::Fault;

/// Less than a second, so that what happens is told within one, with all that is on the way.
const EVERY: Duration = Duration::from_millis(800);
/// A query is asked again after this many times what it took: a slow one does not keep a core busy.
const REST: u32 = 4;
pub(super) const BEAT: Duration = Duration::from_secs(5);
pub(super) const BEAT_MESSAGE: &[u8] = b"event: beat\ndata: {}\n\n";
/// Different feeds at a time: each may run a query a second.
const FEEDS_MAX: usize = 256;

/// What a feed asks.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Endpoint(Arc<Endpoint>, Vec<ScalarValue>),
    Statement(String),
}

impl Asked {
    /// The same for all that have the same answer.
    fn key(&self) -> String {
        match self {
            Asked::Endpoint(endpoint, values) => format!("{} {values:?}", endpoint.id),
            Asked::Statement(sql) => format!("- {sql}"),
        }
    }

    fn is_there(&self, database: &Database) -> bool {
        let Asked::Endpoint(endpoint, _) = self else { return true };
        // What can't be read just now is there still.
        database.endpoint(&endpoint.path).map_or(true, |it| it.is_some_and(|it| it.id == endpoint.id))
    }

    fn version(&self, session: &Session) -> Option<u64> {
        match self {
            Asked::Endpoint(endpoint, _) => session.version(endpoint),
            Asked::Statement(_) => None,
        }
    }

    async fn answer(&self, session: &Session) -> Result<Answer, Fault> {
        Ok(match self {
            Asked::Endpoint(endpoint, values) => session.ask(endpoint, values).await?,
            Asked::Statement(sql) => session.execute(sql, &[]).await?,
        })
    }
}

#[derive(Default)]
pub(crate) struct Feeds(Mutex<BTreeMap<String, Weak<Shared>>>);

/// What the watchers of one feed have in common.
struct Shared {
    told: watch::Receiver<Option<Told>>,
    task: JoinHandle<()>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
pub(super) struct Told {
    pub id: String,
    pub event: &'static str,
    /// On one line.
    pub json: Bytes,
}

impl Told {
    pub fn new(event: &'static str, json: Bytes) -> Told {
        Told { id: format!("{:016x}", hash(&json)), event, json }
    }

    fn message(&self) -> Bytes {
        let mut message = format!("event: {}\nid: {}\ndata: ", self.event, self.id).into_bytes();
        message.extend_from_slice(&self.json);
        message.extend_from_slice(b"\n\n");
        message.into()
    }
}

/// Whether the client wants to be told, rather than to ask.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// Tells one endpoint's answers.
pub(super) fn watch(
    feeds: &Feeds,
    database: &Database,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let watcher = feeds.watcher(database, asked)?.knowing(known);
    let messages = futures::stream::unfold(watcher, |mut watcher| async move {
        let message = watcher.message().await?;
        Some((Ok::<_, std::convert::Infallible>(message), watcher))
    });
    Ok(events(Body::from_stream(messages)))
}

/// An answer that goes on.
pub(super) fn events(body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy that gathers an answer first would gather for ever.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Feeds {
    pub(super) fn watcher(&self, database: &Database, asked: Asked) -> Result<Watcher, Fault> {
        Ok(Watcher::of(self.of(database, asked)?))
    }

    /// Where somebody watches the same already: it was checked for the first of them.
    pub(super) fn joined(&self, asked: &Asked) -> Option<Watcher> {
        let feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.get(&asked.key()).and_then(Weak::upgrade).map(Watcher::of)
    }

    fn of(&self, database: &Database, asked: Asked) -> Result<Arc<Shared>, Fault> {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let key = asked.key();
        if let Some(shared) = feeds.get(&key).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        if feeds.len() >= FEEDS_MAX {
            return Err(Fault::unavailable(format!(
                "too many different answers are watched. most={FEEDS_MAX}"
            )));
        }
        let (teller, told) = watch::channel(None);
        let feed = Feed { database: database.clone(), asked, version: None, told: String::new() };
        let shared = Arc::new(Shared { told, task: tokio::spawn(feed.run(teller)) });
        feeds.insert(key, Arc::downgrade(&shared));
        Ok(shared)
    }
}

struct Feed {
    database: Database,
    asked: Asked,
    /// Of the views, when they were asked last.
    version: Option<u64>,
    /// The id of what was told last.
    told: String,
}

impl Feed {
    /// Ends when nobody watches, or the endpoint is dropped.
    async fn run(mut self, teller: watch::Sender<Option<Told>>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.asked.is_there(&self.database) {
                return;
            }
            let begun = Instant::now();
            let told = self.next().await;
            ticks.reset_after(EVERY.saturating_sub(begun.elapsed()).max(begun.elapsed() * REST));
            if told.is_some() && teller.send(told).is_err() {
                return;
            }
        }
    }

    /// What is to be told now, if anything has changed.
    async fn next(&mut self) -> Option<Told> {
        let session = self.database.session(Client { user: None, name: Some("http feed".to_owned()) });
        let version = self.asked.version(&session);
        if version.is_some() && version == self.version {
            return None;
        }
        let told = match self.rows(&session).await {
            Ok(rows) => {
                self.version = version;
                Told::new("rows", rows)
            }
            Err(fault) => Told::new("fault", fault.text().into()),
        };
        (told.id != self.told).then(|| {
            self.told.clone_from(&told.id);
            told
        })
    }

    async fn rows(&self, session: &Session) -> Result<Bytes, Fault> {
        let Answer::Rows(rows) = self.asked.answer(session).await? else {
            return Err(Fault::internal("what is watched answered without rows"));
        };
        let encoder = Encoder::new(Format::Json, &rows.schema())?;
        match body::of_rows(rows, encoder).await? {
            Answered::Whole(bytes) => Ok(bytes),
            Answered::Flowing(_) => Err(Fault::invalid("the answer is too large to be told each second")
                .hint("narrow it by its parameters, or ask for it")),
        }
    }
}

pub(super) struct Watcher {
    told: watch::Receiver<Option<Told>>,
    /// What the client has.
    known: Option<String>,
    _shared: Arc<Shared>,
}

impl Watcher {
    fn of(shared: Arc<Shared>) -> Watcher {
        Watcher { told: shared.told.clone(), known: None, _shared: shared }
    }

    /// What the client says that it has.
    pub fn knowing(self, known: Option<String>) -> Watcher {
        Watcher { known, ..self }
    }

    /// What the client does not have yet; `None` when there will be nothing any more. Nothing is lost by not waiting for it.
    pub async fn told(&mut self) -> Option<Told> {
        loop {
            let told = self.told.borrow_and_update().clone();
            if let Some(told) = told.filter(|told| self.known.as_ref() != Some(&told.id)) {
                self.known = Some(told.id.clone());
                return Some(told);
            }
            self.told.changed().await.ok()?;
        }
    }

    async fn message(&mut self) -> Option<Bytes> {
        match tokio::time::timeout(BEAT, self.told()).await {
            Ok(told) => told.map(|told| told.message()),
            Err(_) => Some(Bytes::from_static(BEAT_MESSAGE)),
        }
    }
}
