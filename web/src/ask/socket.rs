//! `/ws`: what `/api/watch` tells, over a WebSocket, where what is watched may change while it is open.
//!
//! ```text
//!  client  {"watch": {"a": "/api/funnel?minutes=15", "b": {"what": "SELECT …", "known": "ID"}}}   begins, or begins anew
//!          {"forget": ["a"]}
//!  server  {"of": "a", "id": "ID", "rows": […]}     an id that comes back as `known` is not told again
//!          {"of": "b", "error": {…}}
//!          {"beat": true}                           every five seconds, beside a ping
//! ```
//!
//! Browsers let any page open one, so a page of another server is refused by its origin. A client that takes nothing, or
//! answers no ping, is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::feed::{BEAT, Watcher};
use super::watch::{WATCHED_MAX, fault_json, json, watcher};
use crate::collect;
use crate::fault::Fault;
use crate::front::Front;

/// Of one message from a client.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// A client that has not taken the next message for so long has gone.
const TAKE_TIME: Duration = Duration::from_secs(30);
/// Beats without a word from the other end.
const SILENT_BEATS_MAX: u32 = 6;
const WAITING: usize = 8;

pub(crate) async fn socket(State(front): State<Arc<Front>>, mut request: Request) -> Result<Response, Fault> {
    front.database()?;
    let key = asked_for(request.headers())?;
    let permit = Arc::clone(&front.sockets).try_acquire_owned();
    let permit = permit.map_err(|_| Fault::unavailable("too many WebSockets are open"))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _until_it_closes = permit;
        // A client that breaks off is no event of ours.
        if let Ok(upgraded) = upgrade.await {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let upgraded = TokioIo::new(upgraded);
            let stream = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await;
            Talk::new(front, stream).run().await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    Ok(response)
}

/// What a client is answered that wants a WebSocket, and may have one.
fn asked_for(headers: &HeaderMap) -> Result<HeaderValue, Fault> {
    if !collect::is_own(headers) {
        return Err(Fault::new(StatusCode::FORBIDDEN, "pages of other servers may not watch here"));
    }
    let is = |name, wanted: &str| {
        let value = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|each| each.trim().eq_ignore_ascii_case(wanted)))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    match key {
        Some(key) if is(header::UPGRADE, "websocket") && is(header::SEC_WEBSOCKET_VERSION, "13") => {
            HeaderValue::try_from(derive_accept_key(key.as_bytes()))
                .map_err(|error| Fault::internal(error.to_string()))
        }
        _ => Err(Fault::new(StatusCode::UPGRADE_REQUIRED, "this address is a WebSocket's")
            .with(header::UPGRADE, "websocket")
            .hint("GET /api/watch tells the same as server-sent events")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    watch: BTreeMap<String, What>,
    #[serde(default)]
    forget: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum What {
    Plain(String),
    Known { what: String, known: Option<String> },
}

struct Talk {
    front: Arc<Front>,
    stream: WebSocketStream<TokioIo<Upgraded>>,
    watched: BTreeMap<String, Teller>,
    tellers: mpsc::Sender<Bytes>,
    told: mpsc::Receiver<Bytes>,
}

/// Ends with the talk, or when the name is forgotten.
struct Teller(JoinHandle<()>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Talk {
    fn new(front: Arc<Front>, stream: WebSocketStream<TokioIo<Upgraded>>) -> Talk {
        // A client that is slow holds the tellers up, and they pass over what has changed since.
        let (tellers, told) = mpsc::channel(WAITING);
        Talk { front, stream, watched: BTreeMap::new(), tellers, told }
    }

    async fn run(mut self) {
        let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
        let mut silent = 0;
        loop {
            let message = tokio::select! {
                biased;
                said = self.stream.next() => {
                    silent = 0;
                    match said {
                        Some(Ok(Message::Text(text))) => match self.hear(&text).await {
                            Ok(()) => continue,
                            Err(fault) => text_of(fault.text().into()),
                        },
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                        // Closed, broken, too large, or in a form that is not ours.
                        _ => break,
                    }
                }
                Some(message) = self.told.recv() => text_of(message),
                _ = beats.tick() => {
                    silent += 1;
                    if silent > SILENT_BEATS_MAX || !self.send(Message::Ping(Bytes::new())).await {
                        break;
                    }
                    text_of(Bytes::from_static(br#"{"beat": true}"#))
                }
            };
            if !self.send(message).await {
                break;
            }
        }
        let _ = tokio::time::timeout(TAKE_TIME, self.stream.close(None)).await;
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(tokio::time::timeout(TAKE_TIME, self.stream.send(message)).await, Ok(Ok(())))
    }

    async fn hear(&mut self, text: &str) -> Result<(), Fault> {
        let said: Said = serde_json::from_str(text).map_err(|error| {
            Fault::invalid(format!("the message is not as it should be: {error}"))
                .hint(r#"{"watch": {"name": "/api/…, or SELECT …"}, "forget": ["name"]}"#)
        })?;
        said.forget.iter().for_each(|name| _ = self.watched.remove(name));
        let database = self.front.database()?.clone();
        for (name, what) in said.watch {
            if !self.watched.contains_key(&name) && self.watched.len() >= WATCHED_MAX {
                return Err(Fault::invalid(format!("at most {WATCHED_MAX} answers are watched at a time")));
            }
            let (what, known) = match what {
                What::Plain(what) => (what, None),
                What::Known { what, known } => (what, known),
            };
            let watcher = watcher(&self.front.feeds, &database, &what).await;
            let watcher = watcher.map(|it| it.knowing(known));
            let told =
                tell(serde_json::Value::from(name.as_str()).to_string(), watcher, self.tellers.clone());
            self.watched.insert(name, Teller(tokio::spawn(told)));
        }
        Ok(())
    }
}

/// `name` is a JSON string.
async fn tell(name: String, watcher: Result<Watcher, Fault>, tellers: mpsc::Sender<Bytes>) {
    let gone = match watcher {
        Err(fault) => fault,
        Ok(mut watcher) => {
            while let Some(told) = watcher.told().await {
                if tellers.send(json(&name, &told)).await.is_err() {
                    return;
                }
            }
            Fault::not_found("what was watched is there no more")
        }
    };
    // There may be nobody to hear it.
    let _ = tellers.send(fault_json(&name, &gone)).await;
}

/// What we write is JSON, which is UTF-8.
fn text_of(json: Bytes) -> Message {
    match json.try_into() {
        Ok(text) => Message::Text(text),
        Err(_) => unreachable!("JSON is UTF-8"),
    }
}
