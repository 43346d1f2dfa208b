//! `GET /api/watch?a=…&b=…`: several answers pushed over one connection, each under the name that it was asked by. What is
//! asked is the path of an endpoint with its parameters, or a `SELECT`.
//!
//! ```text
//! event: rows      {"of": "a", "id": …, "rows": […]}
//! event: fault     {"of": "b", "error": {…}}: the others go on
//! event: beat      every five seconds: whoever hears nothing has lost touch
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use thalweg_sql::session::{Client, Database};

use super::feed::{self, Asked, BEAT, BEAT_MESSAGE, Feeds, Told, Watcher};
use crate::fault::Fault;
use crate::front::Front;

/// Answers over one connection.
pub(super) const WATCHED_MAX: usize = 32;

pub(crate) async fn watch(
    State(front): State<Arc<Front>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    super::own_pages_alone(&headers)?;
    let database = front.database()?;
    let wanted: Vec<(String, String)> =
        url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    if wanted.is_empty() || wanted.len() > WATCHED_MAX {
        return Err(Fault::invalid(format!("between one and {WATCHED_MAX} answers are watched at a time"))
            .hint("/api/watch?live=/api/metrics/live%3Fminutes%3D5&views=SELECT%20*%20FROM%20system.views"));
    }
    let mut told = vec![];
    for (name, what) in wanted {
        // What is wrong with one is no reason to keep the others.
        let watcher = watcher(&front.feeds, database, &what).await;
        told.push(messages(serde_json::Value::from(name).to_string(), watcher));
    }
    let beats = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
    let beats = stream::unfold(beats, |mut beats| async move {
        beats.tick().await;
        Some((Bytes::from_static(BEAT_MESSAGE), beats))
    });
    let messages = stream::select(stream::select_all(told), beats).map(Ok::<_, Infallible>);
    Ok(feed::events(Body::from_stream(messages)))
}

pub(super) async fn watcher(feeds: &Feeds, database: &Database, what: &str) -> Result<Watcher, Fault> {
    if what.starts_with('/') {
        let (path, query) = what.split_once('?').map_or((what, None), |(path, query)| (path, Some(query)));
        let endpoint = database.endpoint(path)?.ok_or_else(|| super::unknown(database, path))?;
        if endpoint.collect().is_some() {
            return Err(Fault::invalid(format!("{path} takes events, and answers none")));
        }
        let values = super::values(&endpoint, query)?;
        return feeds.watcher(database, Asked::Endpoint(endpoint, values));
    }
    let asked = Asked::Statement(what.to_owned());
    if let Some(watcher) = feeds.joined(&asked) {
        return Ok(watcher);
    }
    let session = database.session(Client { user: None, name: Some("http feed".to_owned()) });
    super::only_asks(&session, what).await?;
    feeds.watcher(database, asked)
}

/// `name` is a JSON string.
fn messages(name: String, watcher: Result<Watcher, Fault>) -> BoxStream<'static, Bytes> {
    let watcher = match watcher {
        Ok(watcher) => watcher,
        Err(fault) => return stream::once(async move { fault_message(&name, &fault) }).boxed(),
    };
    stream::unfold(Some((name, watcher)), |watching| async move {
        let (name, mut watcher) = watching?;
        match watcher.told().await {
            Some(told) => Some((message(&name, &told), Some((name, watcher)))),
            None => {
                let gone = Fault::not_found("what was watched is there no more");
                Some((fault_message(&name, &gone), None))
            }
        }
    })
    .boxed()
}

fn message(name: &str, told: &Told) -> Bytes {
    let mut message = format!("event: {}\ndata: ", told.event).into_bytes();
    message.extend_from_slice(&json(name, told));
    message.extend_from_slice(b"\n\n");
    message.into()
}

fn fault_message(name: &str, fault: &Fault) -> Bytes {
    message(name, &Told::new("fault", fault.text().into()))
}

/// What is told, with whose it is.
pub(super) fn json(name: &str, told: &Told) -> Bytes {
    let mut json = format!("{{\"of\": {name}, ").into_bytes();
    match told.event {
        // A fault is an object of its own, and its one field belongs to this one.
        "fault" => json.extend_from_slice(&told.json[1..]),
        _ => {
            json.extend_from_slice(format!("\"id\": \"{}\", \"rows\": ", told.id).as_bytes());
            json.extend_from_slice(&told.json);
            json.push(b'}');
        }
    }
    json.into()
}

pub(super) fn fault_json(name: &str, fault: &Fault) -> Bytes {
    json(name, &Told::new("fault", fault.text().into()))
}
