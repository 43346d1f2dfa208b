//! Events from outside: `POST` to an endpoint that was created `INTO` a stream.
//!
//! Bounds come before work: who may send (origin, key, rate), then the size of the body, before and after decompression, and
//! only then JSON. Each event is judged as its stream will judge it. 202 means that what was taken is durable, unless the
//! endpoint was told `ack = 'queued'`.

mod events;
mod fill;
mod keys;
mod origin;
mod rate;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body, Incoming};
use serde_json::{Value, json};
use thalweg_engine::collect::{Outgoing, Refused};
use thalweg_sql::session::{Collect, Database, Endpoint};

use crate::fault::Fault;
use crate::front::Front;
use crate::server::{Peer, Route};
use crate::whole;
pub(crate) use origin::is_own;
use rate::Limit;
pub(crate) use rate::Rates;

/// Refused events that are told one by one.
const REFUSALS_TOLD: usize = 100;

pub(crate) async fn take(
    front: &Front,
    Peer(address): Peer,
    request: hyper::Request<Incoming>,
) -> (Option<Route>, Response) {
    let (Parts { uri, headers, .. }, body) = request.into_parts();
    let mut body = Some(body);
    let answer = answered(front, address, &uri, &headers, &mut body).await;
    if let Some(unread) = body.filter(|body| !body.is_end_stream()) {
        whole::linger(unread, &headers);
    }
    answer
}

/// The body is taken only where somebody looks at it.
async fn answered(
    front: &Front,
    address: IpAddr,
    uri: &Uri,
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
) -> (Option<Route>, Response) {
    let (database, endpoint) = match found(front, uri.path()) {
        Ok(found) => found,
        Err(fault) => return (None, fault.into_response()),
    };
    let Some(collect) = endpoint.collect() else {
        return (None, Fault::method_of(&endpoint).into_response());
    };
    let response = match origin::allowed(collect, headers) {
        Err(fault) => fault.into_response(),
        Ok(origin) => {
            let taken = match keys::sender(database, &endpoint, headers, uri.query()) {
                Ok(key) => {
                    let sender = Sender { endpoint: &endpoint, collect, address, key };
                    taken(front, database, &sender, headers, body).await
                }
                Err(fault) => Err(fault),
            };
            let mut response = taken.into_response();
            origin::tell(&mut response, origin);
            response
        }
    };
    (Some(Route(endpoint.path.clone())), response)
}

/// What a browser asks before it sends.
pub(crate) async fn preflight(
    State(front): State<Arc<Front>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (_, endpoint) = found(&front, uri.path())?;
    let collect = endpoint.collect().ok_or_else(|| Fault::method_of(&endpoint))?;
    let origin = origin::allowed(collect, &headers)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, content-encoding, authorization, x-api-key"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    origin::tell(&mut response, origin);
    Ok(response)
}

fn found<'a>(front: &'a Front, path: &str) -> Result<(&'a Database, Arc<Endpoint>), Fault> {
    let database = front.database()?;
    let endpoint = database.endpoint(path)?;
    let endpoint = endpoint.ok_or_else(|| Fault::not_found(format!("there is no endpoint {path}")))?;
    Ok((database, endpoint))
}

/// Who brings events, and where.
struct Sender<'a> {
    endpoint: &'a Endpoint,
    collect: &'a Collect,
    address: IpAddr,
    key: Option<usize>,
}

impl Sender<'_> {
    fn limits(&self) -> Vec<Limit> {
        let limits = self.collect.rates;
        let by_address = limits.per_address.map(|rate| (rate::Sender::at(self.address), rate));
        let by_key = limits.per_key.zip(self.key).map(|(rate, key)| (rate::Sender::Key(key), rate));
        let all = by_address.into_iter().chain(by_key);
        all.map(|(sender, per_second)| Limit { sender, per_second }).collect()
    }
}

async fn taken(
    front: &Front,
    database: &Database,
    sender: &Sender<'_>,
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
) -> Result<Response, Fault> {
    let Sender { endpoint, collect, address, .. } = *sender;
    let limits = sender.limits();
    front.rates.enter(endpoint.id, &limits)?;
    let most = collect.body_bytes_max;
    let body = body.take().ok_or_else(|| Fault::internal("a body is read twice"))?;
    let body = whole::body(body, headers, most, || too_large("body", most)).await?;
    let plain = events::decompressed(headers, body, collect.expanded_bytes_max)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let events = events::split(&plain, kind)?;
    front.rates.bring(endpoint.id, &limits, events.len())?;
    let collector = database.collector(&collect.stream)?;
    let filled = fill::Filled::new(&collect.fill, address, headers);
    let records: Vec<Vec<u8>> = events.iter().map(|event| filled.event(event)).collect();
    let mut refused = collector.judge(records.iter().map(Vec::as_slice)).map_err(thalweg_sql::Error::from)?;
    for refused in &mut refused {
        refused.at = fill::place_in(events[refused.index], &records[refused.index], refused.at);
    }
    let good = good(records, &refused, collect.key.as_deref());
    let taken = good.len();
    let put = match collect.is_queued {
        true => collector.queue(good),
        false => collector.put(good).await,
    };
    put.map_err(thalweg_sql::Error::from)?;
    front.counts.events(&endpoint.path, taken, refused.len());
    Ok(told(taken, &refused, collect.is_queued))
}

/// Those that were not refused, each with its key.
fn good(records: Vec<Vec<u8>>, refused: &[Refused], key: Option<&str>) -> Vec<Outgoing> {
    let mut refused = refused.iter().map(|it| it.index).peekable();
    let records = records.into_iter().enumerate();
    let good = records.filter(|(index, _)| refused.next_if_eq(index).is_none());
    good.map(|(_, value)| Outgoing { key: key.and_then(|key| events::key(&value, key)), value }).collect()
}

fn told(taken: usize, refused: &[Refused], is_queued: bool) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    if refused.is_empty() && !is_queued {
        // As nearly all are.
        return (StatusCode::ACCEPTED, json, format!("{{\"refused\":0,\"taken\":{taken}}}")).into_response();
    }
    let refusals: Vec<Value> = refused
        .iter()
        .take(REFUSALS_TOLD)
        .map(|it| json!({ "index": it.index, "reason": it.reason, "at": it.at }))
        .collect();
    let mut answer = json!({ "taken": taken, "refused": refused.len() });
    if is_queued {
        answer["ack"] = "queued".into();
    }
    if !refusals.is_empty() {
        answer["refusals"] = Value::from(refusals);
    }
    let status = match taken == 0 && !refused.is_empty() {
        true => {
            answer["error"] = json!({ "message": "none of the events can become a row of the stream" });
            StatusCode::BAD_REQUEST
        }
        false => StatusCode::ACCEPTED,
    };
    (status, json, answer.to_string()).into_response()
}

fn too_large(what: &str, most: usize) -> Fault {
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the {what} is too large. bytes_max={most}"))
}
