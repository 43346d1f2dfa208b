//! Answers pushed: an endpoint as server-sent events, told anew when it has changed, at most once a second.
//!
//! All who watch the same endpoint with the same values share one feed: one run of the query a second, and none while the
//! version of its views stays. A feed ends when its last watcher has gone. [`Feed::next`] is the one place that decides
//! when an answer is asked again.
//!
//! ```text
//! event: rows      the whole answer, as JSON; its id is the answer's, so a watcher that comes back is not told twice
//! event: fault     why there is none now; the feed goes on
//! event: beat      nothing has changed: whoever hears neither has lost touch
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use thalweg_sql::session::{Answer, Client, Database, Endpoint};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::body::{self, Answered};
use super::encode::Encoder;
use super::format::Format;
use super::hash;
use crate::fault::Fault;

const EVERY: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_secs(5);
/// Different feeds at a time: each may run a query a second.
const FEEDS_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Feeds(Mutex<BTreeMap<(Uuid, String), Weak<Shared>>>);

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
struct Told {
    id: String,
    message: Bytes,
}

/// Whether the client wants to be told, rather than to ask.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

pub(super) fn watch(
    feeds: &Feeds,
    database: &Database,
    endpoint: &Arc<Endpoint>,
    values: Vec<ScalarValue>,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let shared = feeds.of(database, endpoint, values)?;
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let watcher = Watcher { told: shared.told.clone(), known, _shared: shared };
    let messages = futures::stream::unfold(watcher, |mut watcher| async move {
        let message = watcher.next().await?;
        Some((Ok::<_, std::convert::Infallible>(message), watcher))
    });
    let mut response = Body::from_stream(messages).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy that gathers an answer first would gather for ever.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Feeds {
    fn of(
        &self,
        database: &Database,
        endpoint: &Arc<Endpoint>,
        values: Vec<ScalarValue>,
    ) -> Result<Arc<Shared>, Fault> {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let key = (endpoint.id, format!("{values:?}"));
        if let Some(shared) = feeds.get(&key).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        if feeds.len() >= FEEDS_MAX {
            return Err(Fault::unavailable(format!(
                "too many different answers are watched. most={FEEDS_MAX}"
            )));
        }
        let (teller, told) = watch::channel(None);
        let feed = Feed {
            database: database.clone(),
            endpoint: Arc::clone(endpoint),
            values,
            version: None,
            told: String::new(),
        };
        let shared = Arc::new(Shared { told, task: tokio::spawn(feed.run(teller)) });
        feeds.insert(key, Arc::downgrade(&shared));
        Ok(shared)
    }
}

struct Feed {
    database: Database,
    endpoint: Arc<Endpoint>,
    values: Vec<ScalarValue>,
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
            let there = self.database.endpoint(&self.endpoint.path);
            if there.is_ok_and(|it| it.is_none_or(|it| it.id != self.endpoint.id)) {
                return;
            }
            if let Some(told) = self.next().await
                && teller.send(Some(told)).is_err()
            {
                return;
            }
        }
    }

    /// What is to be told now, if anything has changed.
    async fn next(&mut self) -> Option<Told> {
        let session = self.database.session(Client { user: None, name: Some("http feed".to_owned()) });
        let version = session.version(&self.endpoint);
        if version.is_some() && version == self.version {
            return None;
        }
        let told = match self.rows(&session).await {
            Ok(rows) => {
                self.version = version;
                message("rows", &rows)
            }
            Err(fault) => message("fault", fault.text().as_bytes()),
        };
        (told.id != self.told).then(|| {
            self.told.clone_from(&told.id);
            told
        })
    }

    async fn rows(&self, session: &thalweg_sql::session::Session) -> Result<Bytes, Fault> {
        let Answer::Rows(rows) = session.ask(&self.endpoint, &self.values).await? else {
            return Err(Fault::internal("the endpoint answered without rows"));
        };
        let encoder = Encoder::new(Format::Json, &rows.schema())?;
        match body::of_rows(rows, encoder).await? {
            Answered::Whole(bytes) => Ok(bytes),
            Answered::Flowing(_) => Err(Fault::invalid("the answer is too large to be told each second")
                .hint("narrow it by its parameters, or ask for it")),
        }
    }
}

/// JSON on one line, as it is written here.
fn message(event: &str, json: &[u8]) -> Told {
    let id = format!("{:016x}", hash(json));
    let mut message = format!("event: {event}\nid: {id}\ndata: ").into_bytes();
    message.extend_from_slice(json);
    message.extend_from_slice(b"\n\n");
    Told { id, message: message.into() }
}

struct Watcher {
    told: watch::Receiver<Option<Told>>,
    /// What the client has.
    known: Option<String>,
    _shared: Arc<Shared>,
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        let beat = tokio::time::sleep(BEAT);
        tokio::pin!(beat);
        loop {
            let told = self.told.borrow_and_update().clone();
            if let Some(told) = told.filter(|told| self.known.as_ref() != Some(&told.id)) {
                self.known = Some(told.id);
                return Some(told.message);
            }
            tokio::select! {
                biased;
                changed = self.told.changed() => changed.ok()?,
                () = &mut beat => return Some(Bytes::from_static(b"event: beat\ndata: {}\n\n")),
            }
        }
    }
}
