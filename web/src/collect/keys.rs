//! Who may send: those with a key, in a header, or in the address for a browser that leaves and can send no headers.

use axum::http::{HeaderMap, StatusCode, header};
use thalweg_sql::session::{Database, Endpoint};

use crate::fault::Fault;

const HEADER: &str = "x-api-key";
const PARAMETER: &str = "key";

/// Which of the endpoint's keys it is; nothing where it needs none.
pub(super) fn sender(
    database: &Database,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Option<usize>, Fault> {
    if endpoint.collect().is_none_or(|collect| collect.keys.is_empty()) {
        return Ok(None);
    }
    // The reason names secrets, and is the log's.
    let keys = database.sender_keys(endpoint).map_err(|error| {
        tracing::error!(endpoint = endpoint.path, %error, "the keys of an endpoint can't be had");
        Fault::unavailable(format!("the keys of {} can't be had; the server's log says why", endpoint.path))
    })?;
    let Some(given) = given(headers, query) else {
        return Err(refused(format!("{} needs a key", endpoint.path)));
    };
    // All are compared, and each to its end, so that the time tells nothing of them.
    let found = keys.iter().enumerate().fold(None, |found, (index, key)| match is_same(key, &given) {
        true => Some(index),
        false => found,
    });
    found.map(Some).ok_or_else(|| refused(format!("this is no key of {}", endpoint.path)))
}

fn given(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, key)| scheme.eq_ignore_ascii_case("bearer").then_some(key));
    if let Some(key) = bearer.or_else(|| text(HEADER)) {
        return Some(key.trim().to_owned());
    }
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(name, _)| name == PARAMETER).map(|(_, key)| key.into_owned())
}

fn is_same(left: &str, right: &str) -> bool {
    let pairs = left.bytes().zip(right.bytes());
    pairs.fold(left.len() ^ right.len(), |differs, (left, right)| differs | usize::from(left ^ right)) == 0
}

fn refused(message: String) -> Fault {
    Fault::new(StatusCode::UNAUTHORIZED, message)
        .with(header::WWW_AUTHENTICATE, "Bearer")
        .hint("send it as Authorization: Bearer KEY, as X-API-Key, or as ?key=KEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_by_a_header_or_the_address() {
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(given(&headers("authorization", "Bearer a b"), None).unwrap(), "a b");
        assert_eq!(given(&headers("authorization", "bearer a"), None).unwrap(), "a");
        assert_eq!(given(&headers("authorization", "Basic a"), None), None);
        assert_eq!(given(&headers("x-api-key", "k"), Some("key=other")).unwrap(), "k");
        assert_eq!(given(&HeaderMap::new(), Some("a=1&key=k%20k")).unwrap(), "k k");
        assert_eq!(given(&HeaderMap::new(), None), None);
        assert!(
            is_same("key", "key") && !is_same("key", "keys") && !is_same("key", "kex") && !is_same("", "k")
        );
    }
}
