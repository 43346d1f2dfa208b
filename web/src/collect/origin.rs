//! Which pages may send from a browser. Who says no origin is no browser, and has other bounds.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use thalweg_sql::session::Collect;

use crate::fault::Fault;

/// The origin that is to be told that it may, if there is one.
pub(super) fn allowed(collect: &Collect, headers: &HeaderMap) -> Result<Option<HeaderValue>, Fault> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let told = origin.to_str().unwrap_or_default();
    if is_own(headers) || collect.origins.iter().any(|listed| listed == told || listed == "*") {
        return Ok(Some(origin.clone()));
    }
    Err(Fault::new(StatusCode::FORBIDDEN, format!("pages of {told} may not send here"))
        .hint("CREATE ENDPOINT … WITH (origins = 'https://shop.example, …') lists those that may"))
}

/// Whether a page of this server sent it, or none at all.
pub(crate) fn is_own(headers: &HeaderMap) -> bool {
    // Of what a page fetches without an origin, such as a picture, browsers say this much.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    host.is_some() && host == headers.get(header::HOST).and_then(|host| host.to_str().ok())
}

pub(super) fn tell(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}
