//! Events from outside: `POST` to an endpoint that was created `INTO` a stream.
//!
//! Bounds come before work: who may send (origin, rate), then the size of the body, before and after decompression, and
//! only then JSON. Each event is judged as its stream will judge it. 202 means that what was taken is durable.

mod events;
mod fill;
mod origin;
mod rate;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use thalweg_engine::collect::Outgoing;
use thalweg_sql::session::{Collect, Database, Endpoint};

use crate::fault::Fault;
use crate::front::Front;
use crate::server::{Peer, Route};
pub(crate) use origin::is_own;
pub(crate) use rate::Rates;

/// Refused events that are told one by one.
const REFUSALS_TOLD: usize = 100;

pub(crate) async fn take(
    State(front): State<Arc<Front>>,
    Extension(Peer(address)): Extension<Peer>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let (database, endpoint) = found(&front, &path)?;
    let collect = endpoint.collect().ok_or_else(|| Fault::method("GET"))?;
    let mut response = match origin::allowed(collect, &headers) {
        Err(fault) => fault.into_response(),
        Ok(origin) => {
            let taken = taken(&front, database, &endpoint, collect, address, &headers, body).await;
            let mut response = taken.into_response();
            origin::tell(&mut response, origin);
            response
        }
    };
    response.extensions_mut().insert(Route(endpoint.path.clone()));
    Ok(response)
}

/// What a browser asks before it sends.
pub(crate) async fn preflight(
    State(front): State<Arc<Front>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (_, endpoint) = found(&front, &path)?;
    let collect = endpoint.collect().ok_or_else(|| Fault::method("GET"))?;
    let origin = origin::allowed(collect, &headers)?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, content-encoding"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    origin::tell(&mut response, origin);
    Ok(response)
}

fn found<'a>(front: &'a Front, path: &str) -> Result<(&'a Database, Arc<Endpoint>), Fault> {
    let database = front.database()?;
    let path = format!("/api/{path}");
    let endpoint = database.endpoint(&path)?;
    let endpoint = endpoint.ok_or_else(|| Fault::not_found(format!("there is no endpoint {path}")))?;
    Ok((database, endpoint))
}

async fn taken(
    front: &Front,
    database: &Database,
    endpoint: &Endpoint,
    collect: &Collect,
    address: IpAddr,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    if let Some(rate) = collect.rate {
        front.rates.take(endpoint.id, address, rate, 1)?;
    }
    let body =
        Limited::new(body, collect.body_bytes_max).collect().await.map_err(|error| match error
            .downcast_ref::<LengthLimitError>(
        ) {
            Some(_) => too_large("body", collect.body_bytes_max),
            None => Fault::invalid(format!("the request broke off: {error}")),
        })?;
    let plain = events::decompressed(headers, body.to_bytes(), collect.expanded_bytes_max)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let events = events::split(&plain, kind)?;
    if let Some(rate) = collect.rate {
        // The request itself was the first.
        front.rates.take(endpoint.id, address, rate, events.len().saturating_sub(1))?;
    }
    let collector = database.collector(&collect.stream)?;
    let filled = fill::Filled::new(&collect.fill, address, headers);
    let records: Vec<Vec<u8>> = events.iter().map(|event| filled.event(event)).collect();
    let refused = collector.judge(records.iter().map(Vec::as_slice)).map_err(thalweg_sql::Error::from)?;
    let mut is_refused = vec![false; records.len()];
    refused.iter().for_each(|it| is_refused[it.index] = true);
    let good: Vec<Outgoing> = records
        .into_iter()
        .zip(is_refused)
        .filter(|(_, is_refused)| !is_refused)
        .map(|(value, _)| Outgoing {
            key: collect.key.as_deref().and_then(|key| events::key(&value, key)),
            value,
        })
        .collect();
    let taken = good.len();
    collector.put(good).await.map_err(thalweg_sql::Error::from)?;
    let told: Vec<Value> = refused
        .iter()
        .take(REFUSALS_TOLD)
        .map(|it| json!({ "index": it.index, "reason": it.reason, "at": it.at }))
        .collect();
    let mut answer = json!({ "taken": taken, "refused": refused.len() });
    if !told.is_empty() {
        answer["refusals"] = Value::from(told);
    }
    let status = match taken == 0 && !refused.is_empty() {
        true => {
            answer["error"] = json!({ "message": "none of the events can become a row of the stream" });
            StatusCode::BAD_REQUEST
        }
        false => StatusCode::ACCEPTED,
    };
    Ok((status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

fn too_large(what: &str, most: usize) -> Fault {
    Fault::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the {what} is too large. bytes_max={most}"))
}
