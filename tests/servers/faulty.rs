//! A way to an S3 server on which requests go wrong: a proxy that answers for the server, loses its replies, or keeps
//! silent, by the weather that the test makes.
//!
//! Each request is forwarded as it came, under the name that its sender signed. What happens to it is drawn from a seed,
//! one after the other as they come.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// So many requests of a thousand meet a fault.
    Rough(u32),
    /// Connections are reset.
    Away,
    /// Connections stand, and nothing is carried out or answered.
    Silent,
    /// Every request is told to come later.
    Throttled,
}

/// What may happen to a request in rough weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    InternalError,
    SlowDown,
    /// The connection is reset and nothing was carried out.
    Reset,
    /// It is carried out, and the connection is reset.
    LostReply,
    /// A put under a condition meets another one, which comes to nothing.
    Conflict,
    /// 200, and an error for each object in the body, none of which was deleted.
    ErrorInBody,
    /// The answer's body breaks off.
    HalfAnswer,
    /// It is answered late.
    Stall,
}

const FAULTS: [Fault; 8] = [
    Fault::InternalError,
    Fault::SlowDown,
    Fault::Reset,
    Fault::LostReply,
    Fault::Conflict,
    Fault::ErrorInBody,
    Fault::HalfAnswer,
    Fault::Stall,
];

/// Ends with its value.
pub struct FaultyWay {
    pub endpoint: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    /// Where the server listens.
    server: String,
    stall: Duration,
    now: Mutex<Now>,
}

struct Now {
    weather: Weather,
    random: StdRng,
    requests: u64,
    met: BTreeMap<Fault, u64>,
}

type Body = http_body_util::combinators::BoxBody<Bytes, io::Error>;

impl FaultyWay {
    /// To a server at `http://HOST:PORT`; the weather is fair. A stall takes so long.
    pub async fn to(endpoint: &str, seed: u64, stall: Duration) -> Result<FaultyWay> {
        let server = endpoint.strip_prefix("http://").context("the endpoint is not http://…")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let now = Now {
            weather: Weather::Fair,
            random: StdRng::seed_from_u64(seed),
            requests: 0,
            met: BTreeMap::new(),
        };
        let state = Arc::new(State { server, stall, now: Mutex::new(now) });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(FaultyWay { endpoint, state, accepting })
    }

    pub fn set(&self, weather: Weather) {
        self.state.now().weather = weather;
    }

    /// Requests that came, and how often each fault was met.
    pub fn counts(&self) -> (u64, BTreeMap<Fault, u64>) {
        let now = self.state.now();
        (now.requests, now.met.clone())
    }
}

impl Drop for FaultyWay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // Closed early it is reset, as by a server that died.
            if stream.set_zero_linger().is_err() || state.now().weather == Weather::Away {
                return;
            }
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { state.answer(request).await }
            });
            // Ends with an error wherever the weather wants it to.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let request = Request::from_parts(parts, body);
        let weather = {
            let mut now = self.now();
            now.requests += 1;
            now.weather
        };
        match weather {
            Weather::Fair => self.forward(request).await,
            Weather::Away => Err(reset()),
            Weather::Throttled => Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Weather::Silent => std::future::pending().await,
            Weather::Rough(of_thousand) => match self.draw(of_thousand, &request) {
                Some(fault) => self.go_wrong(fault, request).await,
                None => self.forward(request).await,
            },
        }
    }

    fn draw(&self, of_thousand: u32, request: &Request<Bytes>) -> Option<Fault> {
        let mut now = self.now();
        if !now.random.random_ratio(of_thousand, 1000) {
            return None;
        }
        let headers = request.headers();
        let conditional = headers.contains_key("if-none-match") || headers.contains_key("if-match");
        let fits = |fault: &&Fault| match fault {
            Fault::Conflict => conditional && request.method() == Method::PUT,
            Fault::ErrorInBody => deletes(request),
            Fault::HalfAnswer => request.method() == Method::GET,
            _ => true,
        };
        // What was met least, so that each is soon met.
        let first = now.random.random_range(0..FAULTS.len());
        let fitting = FAULTS.iter().cycle().skip(first).take(FAULTS.len()).filter(fits);
        let fault = *fitting.min_by_key(|fault| now.met.get(fault).copied().unwrap_or(0))?;
        *now.met.entry(fault).or_default() += 1;
        Some(fault)
    }

    async fn go_wrong(&self, fault: Fault, request: Request<Bytes>) -> io::Result<Response<Body>> {
        match fault {
            Fault::InternalError => Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
            Fault::SlowDown => Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Fault::Reset => Err(reset()),
            Fault::LostReply => {
                self.forward(request).await?;
                Err(reset())
            }
            Fault::Conflict => Ok(refusal(StatusCode::CONFLICT, "ConditionalRequestConflict")),
            Fault::ErrorInBody => Ok(none_was_deleted(request.body())),
            Fault::HalfAnswer => {
                let (parts, body) = self.forward(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                let half = Ok(Frame::data(body.slice(..body.len() / 2)));
                let pieces = futures::stream::iter([half, Err(reset())]);
                Ok(Response::from_parts(parts, StreamBody::new(pieces).boxed()))
            }
            Fault::Stall => {
                tokio::time::sleep(self.stall).await;
                self.forward(request).await
            }
        }
    }

    async fn forward(&self, request: Request<Bytes>) -> io::Result<Response<Body>> {
        let stream = TcpStream::connect(&self.server).await?;
        let (mut server, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let answer = server.send_request(request.map(Full::new)).await.map_err(io::Error::other)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        connection.abort();
        Ok(Response::from_parts(parts, whole(body)))
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a test</Message></Error>");
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    response
}

fn deletes(request: &Request<Bytes>) -> bool {
    request.method() == Method::POST && request.uri().query().is_some_and(|query| query.contains("delete"))
}

fn none_was_deleted(asked: &[u8]) -> Response<Body> {
    let asked = String::from_utf8_lossy(asked);
    let keys = asked.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
    let errors: String = keys
        .map(|key| {
            format!("<Error><Key>{key}</Key><Code>InternalError</Code><Message>a test</Message></Error>")
        })
        .collect();
    Response::new(whole(format!("<?xml version=\"1.0\"?><DeleteResult>{errors}</DeleteResult>")))
}
