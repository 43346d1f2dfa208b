//! `/ws`: what `/api/watch` and `/api/subscribe` tell, over a WebSocket, where what is told may change while it is open.
//!
//! ```text
//!  client  {"watch": {"a": "/api/funnel?minutes=15", "b": {"what": "SELECT …", "known": "ID"}}}   begins, or begins anew
//!          {"subscribe": {"c": "SUBSCRIBE TO …", "d": {"what": "SUBSCRIBE TO …", "after": "TOKEN"}}}
//!          {"forget": ["a", "c"]}
//!  server  {"of": "a", "id": "ID", "rows": […]}     an id that comes back as `known` is not told again
//!          {"of": "b", "error": {…}}
//!          {"of": "c", "begun": true}               what follows is of the newest one by that name
//!          {"of": "c", "rows": [{"change": 1, "final": false, …}]}
//!          {"of": "c", "mark": "TOKEN", "epoch": 7} {"of": "c", "end": true}
//!          {"beat": true}                           every five seconds, beside a ping
//! ```
//!
//! Browsers let any page open one, so a page of another server is refused by its origin. A client that takes nothing, or
//! answers no ping, is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use thalweg_sql::session::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::changes::{Changes, Told};
use super::feed::{BEAT, Watcher};
use super::said;
use super::watch::{WATCHED_MAX, fault_json, json, watcher};
use crate::collect;
use crate::fault::Fault;
use crate::front::Front;
use crate::patient::TAKE_TIME;
use crate::whole::LINGER_TIME;

/// Of one message from a client.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Beats without a word from the other end.
const SILENT_BEATS_MAX: u32 = 6;
const WAITING: usize = 8;

pub(crate) async fn socket(State(front): State<Arc<Front>>, mut request: Request) -> Result<Response, Fault> {
    front.database()?;
    let key = asked_for(request.headers())?;
    let permit = Arc::clone(&front.sockets).try_acquire_owned();
    let permit = permit.map_err(|_| Fault::unavailable("too many WebSockets are open"))?;
    let client = super::client(request.headers());
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
            Talk::new(front, client, stream).run().await;
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

struct Talk {
    front: Arc<Front>,
    client: Client,
    stream: WebSocketStream<TokioIo<Upgraded>>,
    tellers: BTreeMap<String, Teller>,
    /// Of the teller that began last.
    last: u64,
    tell: mpsc::Sender<(u64, Bytes)>,
    told: mpsc::Receiver<(u64, Bytes)>,
}

/// Ends with the talk, or when the name is forgotten.
struct Teller {
    /// What it has told and is still on its way is not sent once it has ended.
    number: u64,
    task: JoinHandle<()>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where one teller tells.
struct Mouth {
    number: u64,
    tell: mpsc::Sender<(u64, Bytes)>,
}

impl Mouth {
    /// Whether anybody may still hear it.
    async fn say(&self, message: Bytes) -> bool {
        self.tell.send((self.number, message)).await.is_ok()
    }
}

impl Talk {
    fn new(front: Arc<Front>, client: Client, stream: WebSocketStream<TokioIo<Upgraded>>) -> Talk {
        // A client that is slow holds the tellers up, and they pass over what has changed since.
        let (tell, told) = mpsc::channel(WAITING);
        Talk { front, client, stream, tellers: BTreeMap::new(), last: 0, tell, told }
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
                        Some(Ok(Message::Binary(_))) => {
                            text_of(Fault::invalid("a message is text, and not bytes").hint(said::SHAPE).text().into())
                        }
                        Some(Err(Error::Capacity(_))) => return self.leave_too_large().await,
                        // Closed, or broken.
                        _ => break,
                    }
                }
                Some((number, message)) = self.told.recv() => {
                    if !self.tellers.values().any(|teller| teller.number == number) {
                        continue;
                    }
                    text_of(message)
                }
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

    /// What comes behind its beginning is not understood, so this is the end.
    async fn leave_too_large(mut self) {
        let reason = format!("a message has at most {MESSAGE_BYTES_MAX} bytes");
        let told = text_of(Fault::invalid(reason.as_str()).text().into());
        let frame = CloseFrame { code: CloseCode::Size, reason: reason.into() };
        if self.send(told).await {
            let _ = tokio::time::timeout(TAKE_TIME, self.stream.close(Some(frame))).await;
            // To leave what is still on its way unread would take the reason with it.
            let mut nowhere = tokio::io::sink();
            let rest = tokio::io::copy(self.stream.get_mut(), &mut nowhere);
            let _ = tokio::time::timeout(LINGER_TIME, rest).await;
        }
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(tokio::time::timeout(TAKE_TIME, self.stream.send(message)).await, Ok(Ok(())))
    }

    async fn hear(&mut self, text: &str) -> Result<(), Fault> {
        let said = said::of(text)?;
        said.forget.iter().for_each(|name| _ = self.tellers.remove(name));
        let database = self.front.database()?.clone();
        for (name, what) in said.watch {
            let mouth = self.mouth(&name)?;
            let watcher = match said::watched(what) {
                Ok((what, known)) => {
                    watcher(&self.front.feeds, &database, &what).await.map(|it| it.knowing(known))
                }
                Err(fault) => Err(fault),
            };
            self.begin(name, mouth, |name, mouth| answers(name, watcher, mouth));
        }
        for (name, what) in said.subscribe {
            let mouth = self.mouth(&name)?;
            let (database, client) = (database.clone(), self.client.clone());
            self.begin(name, mouth, |name, mouth| async move {
                let changes = match said::wanted(what) {
                    Ok(wanted) => Changes::begin(&database, client, &wanted).await,
                    Err(fault) => Err(fault),
                };
                told_changes(name, changes, mouth).await;
            });
        }
        Ok(())
    }

    fn mouth(&mut self, name: &str) -> Result<Mouth, Fault> {
        if !self.tellers.contains_key(name) && self.tellers.len() >= WATCHED_MAX {
            return Err(Fault::invalid(format!("at most {WATCHED_MAX} answers are watched at a time")));
        }
        self.last += 1;
        Ok(Mouth { number: self.last, tell: self.tell.clone() })
    }

    /// In place of whatever was told by that name.
    fn begin<F>(&mut self, name: String, mouth: Mouth, work: impl FnOnce(String, Mouth) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let number = mouth.number;
        let quoted = serde_json::Value::from(name.as_str()).to_string();
        self.tellers.insert(name, Teller { number, task: tokio::spawn(work(quoted, mouth)) });
    }
}

/// `name` is a JSON string, here and below.
async fn answers(name: String, watcher: Result<Watcher, Fault>, mouth: Mouth) {
    let gone = match watcher {
        Err(fault) => fault,
        Ok(mut watcher) => {
            while let Some(told) = watcher.told().await {
                if !mouth.say(json(&name, &told)).await {
                    return;
                }
            }
            Fault::not_found("what was watched is there no more")
        }
    };
    // There may be nobody to hear it.
    mouth.say(fault_json(&name, &gone)).await;
}

async fn told_changes(name: String, changes: Result<Changes, Fault>, mouth: Mouth) {
    let mut changes = match changes {
        Ok(changes) => changes,
        Err(fault) => {
            mouth.say(fault_json(&name, &fault)).await;
            return;
        }
    };
    let begun = format!("{{\"of\": {name}, \"begun\": true}}");
    let mut is_heard = mouth.say(begun.into()).await;
    while is_heard && let Some(told) = changes.next().await {
        let message = match told {
            Told::Rows(rows) => {
                let mut message = format!("{{\"of\": {name}, \"rows\": ").into_bytes();
                message.extend_from_slice(&rows);
                message.push(b'}');
                message.into()
            }
            Told::Mark { token, epoch } => {
                format!("{{\"of\": {name}, \"mark\": \"{token}\", \"epoch\": {epoch}}}").into()
            }
            Told::End => format!("{{\"of\": {name}, \"end\": true}}").into(),
            Told::Fault(fault) => fault_json(&name, &fault),
        };
        is_heard = mouth.say(message).await;
    }
}

/// What we write is JSON, which is UTF-8.
fn text_of(json: Bytes) -> Message {
    match json.try_into() {
        Ok(text) => Message::Text(text),
        Err(_) => unreachable!("JSON is UTF-8"),
    }
}
