//! Questions: an endpoint by its path, or any `SELECT` by `POST /api/sql`.
//!
//! A question takes one of the places that queries have, whichever wire it came by; when none becomes free in time it is
//! answered 503. An endpoint's answer is tagged: by the version of the views that it comes from where that is all, so
//! that *is it still the same* is answered without a query, or else by its bytes.

mod body;
mod changes;
mod encode;
mod feed;
mod format;
mod keep;
mod openapi;
mod said;
mod socket;
mod subscribe;
mod watch;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use serde::Deserialize;
use thalweg_sql::error::suggestion;
use thalweg_sql::parse::{self, Statement};
use thalweg_sql::session::{Answer, Client, Database, Endpoint, Session};

use crate::fault::Fault;
use crate::front::Front;
use crate::server::Route;
use crate::{collect, whole};
use body::Answered;
use encode::Encoder;
use feed::Asked;
pub(crate) use feed::Feeds;
use format::Format;
pub(crate) use keep::{forget, keep};
pub(crate) use openapi::described;
pub(crate) use socket::socket;
pub(crate) use subscribe::subscribe;
pub(crate) use watch::watch;

/// Of a statement with what is around it; the statement itself has a limit of its own.
const QUESTION_BYTES_MAX: usize = 128 << 10;

pub(crate) async fn endpoint(
    State(front): State<Arc<Front>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let database = front.database()?;
    let (stem, suffix) = Format::of_path(&path)?;
    let path = format!("/api/{stem}");
    let endpoint = database.endpoint(&path)?.ok_or_else(|| unknown(database, &path))?;
    if endpoint.collect().is_some() {
        return Err(Fault::method_of(&endpoint));
    }
    let answered = match suffix.map_or_else(|| Format::accepted(&headers), Ok) {
        _ if suffix.is_none() && feed::is_wanted(&headers) => {
            values(&endpoint, query.as_deref()).and_then(|values| {
                feed::watch(&front.feeds, database, Asked::Endpoint(Arc::clone(&endpoint), values), &headers)
            })
        }
        Ok(format) => ask(database, &endpoint, query.as_deref(), format, &headers).await,
        Err(fault) => Err(fault),
    };
    let mut response = answered.into_response();
    response.extensions_mut().insert(Route(path));
    if suffix.is_none() {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    }
    Ok(response)
}

/// By a method that no endpoint has.
pub(crate) async fn not_so(
    State(front): State<Arc<Front>>,
    Path(path): Path<String>,
) -> Result<Response, Fault> {
    let database = front.database()?;
    let path = format!("/api/{path}");
    let endpoint = database.endpoint(&path)?.ok_or_else(|| unknown(database, &path))?;
    Err(Fault::method_of(&endpoint))
}

async fn ask(
    database: &Database,
    endpoint: &Endpoint,
    query: Option<&str>,
    format: Format,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let values = values(endpoint, query)?;
    let session = database.session(client(headers));
    // Before the rows, so that it is never newer than they are.
    let version = session.version(endpoint).map(|version| tag(version, format));
    if let Some(tag) = version.as_ref().filter(|tag| is_known(headers, tag)) {
        return Ok(not_modified(tag));
    }
    match session.ask(endpoint, &values).await? {
        Answer::Rows(rows) => respond(rows, format, version, headers).await,
        Answer::Done(_) => Err(Fault::internal("the endpoint answered without rows")),
    }
}

/// By position, from a URL's part after the question mark.
fn values(endpoint: &Endpoint, query: Option<&str>) -> Result<Vec<ScalarValue>, Fault> {
    let given: Vec<_> = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
    Ok(endpoint.values(given.iter().map(|(name, value)| (&**name, &**value)))?)
}

fn unknown(database: &Database, path: &str) -> Fault {
    let known = database.endpoints();
    let fault = Fault::not_found(format!("there is no endpoint {path}"));
    match known.is_empty() {
        true => fault.hint("CREATE ENDPOINT '/api/…' AS SELECT … makes one"),
        false => fault.hint(suggestion(path, "endpoints are", known.iter().map(|it| it.path.as_str()))),
    }
}

/// A statement with what belongs to it; as plain text the body is the statement alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
    format: Option<String>,
    /// No more rows than these; the query ends there.
    rows: Option<usize>,
}

pub(crate) async fn sql(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let database = front.database()?;
    // A browser sends text for any page, and the page is not told the answer; but it would run.
    own_pages_alone(&headers)?;
    let question = question(&headers, body).await?;
    let format = match question.format.as_deref() {
        Some(name) => Format::of_path(&format!("sql.{name}"))?.1.unwrap_or(Format::Json),
        None => Format::accepted(&headers)?,
    };
    let session = database.session(client(&headers));
    only_asks(&session, &question.sql).await?;
    match session.execute(&question.sql, &[]).await? {
        Answer::Rows(rows) => respond(body::first(rows, question.rows), format, None, &headers).await,
        Answer::Done(_) => Err(Fault::internal("the statement was planned with rows, and had none")),
    }
}

/// Refuses what has no rows, and what has rows without end.
///
/// Nothing is changed over HTTP: a page of somebody else's can have a browser send plain text here.
async fn only_asks(session: &Session, sql: &str) -> Result<(), Fault> {
    if session.prepare(sql, None).await?.rows.is_none() {
        let fault = Fault::new(StatusCode::FORBIDDEN, "only what answers with rows is asked over HTTP");
        return Err(fault.hint("thalweg sql, or any client of Flight SQL, creates and drops"));
    }
    if matches!(parse::statement(sql)?.statement, Statement::Subscribe(_)) {
        return Err(Fault::invalid("the answer to SUBSCRIBE has no end")
            .hint("GET /api/subscribe?sql=… tells it as it happens, and so does /ws"));
    }
    Ok(())
}

async fn question(headers: &HeaderMap, body: Body) -> Result<Question, Fault> {
    let bytes = text(headers, body).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let shape = "write {\"sql\": \"SELECT …\"}, or send the SELECT itself as text/plain";
    if kind.starts_with("application/json") {
        return serde_json::from_slice(&bytes).map_err(|error| {
            Fault::invalid(format!("the question is not as it should be: {error}")).hint(shape)
        });
    }
    let sql = String::from_utf8(bytes.into())
        .map_err(|_| Fault::invalid("the question is not UTF-8").hint(shape))?;
    Ok(Question { sql, format: None, rows: None })
}

async fn text(headers: &HeaderMap, body: Body) -> Result<Bytes, Fault> {
    let too_long = || {
        let reason = format!("the question is too long. bytes_max={QUESTION_BYTES_MAX}");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    whole::body(body, headers, QUESTION_BYTES_MAX, too_long).await
}

fn own_pages_alone(headers: &HeaderMap) -> Result<(), Fault> {
    match collect::is_own(headers) {
        true => Ok(()),
        false => {
            Err(Fault::new(StatusCode::FORBIDDEN, "a page of another server asks and changes nothing here"))
        }
    }
}

fn client(headers: &HeaderMap) -> Client {
    let name = headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok());
    Client { user: None, name: Some(format!("http {}", name.unwrap_or_default()).trim_end().to_owned()) }
}

async fn respond(
    rows: SendableRecordBatchStream,
    format: Format,
    tagged: Option<String>,
    headers: &HeaderMap,
) -> Result<Response, Fault> {
    let encoder = Encoder::new(format, &rows.schema())?;
    let answered = body::of_rows(rows, encoder).await?;
    let (body, tag) = match answered {
        Answered::Whole(bytes) => {
            let tag = tagged.unwrap_or_else(|| tag(hash(&bytes), format));
            if is_known(headers, &tag) {
                return Ok(not_modified(&tag));
            }
            (Body::from(bytes), Some(tag))
        }
        Answered::Flowing(body) => (body, tagged),
    };
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn tag(version: u64, format: Format) -> String {
    format!("\"{version:016x}-{}\"", format.suffix())
}

/// Whether the client has the answer that the tag stands for.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut given = given.flat_map(|value| value.split(',')).map(str::trim);
    given.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn not_modified(tag: &str) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response()
}
