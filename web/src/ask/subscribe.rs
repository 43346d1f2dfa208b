//! `GET /api/subscribe?sql=SUBSCRIBE TO …`: a view's log of changes as server-sent events. Browsers tell the last id that
//! they heard when they come again, and marks alone have one: so they go on from there by themselves.
//!
//! ```text
//! event: rows      [{"change": 1, "final": false, …}, …]
//! event: mark      {"token": …, "epoch": …}: its id is the token
//! event: fault     {"error": {…}}: it goes on no more
//! event: end       it has come as far as UP TO says; who comes again is told that there is no more
//! event: beat      five seconds without any of these
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;

use super::changes::{self, Changes, Told, Wanted};
use super::feed::{self, BEAT, BEAT_MESSAGE};
use crate::fault::Fault;
use crate::front::Front;

/// The id of an end.
const ENDED: &str = "end";
const SHAPE: &str = "/api/subscribe?sql=SUBSCRIBE%20TO%20kpis_per_minute, and &after=TOKEN to go on";

pub(crate) async fn subscribe(
    State(front): State<Arc<Front>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    super::own_pages_alone(&headers)?;
    // What a browser heard is newer than the address that it was given at first.
    let heard = headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    if heard == Some(ENDED) {
        // Only so a browser leaves it at that.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    match begun(&front, query.as_deref(), heard, &headers).await {
        Ok(changes) => Ok(feed::events(Body::from_stream(messages(changes)))),
        // A browser comes again after an answer that ends, and never after a 503.
        Err(fault) if fault.will_pass() && feed::is_wanted(&headers) => {
            Ok(feed::events(Body::from(message(&Told::Fault(fault)))))
        }
        Err(fault) => Err(fault),
    }
}

async fn begun(
    front: &Front,
    query: Option<&str>,
    heard: Option<&str>,
    headers: &HeaderMap,
) -> Result<Changes, Fault> {
    let database = front.database()?;
    let mut wanted = wanted(query)?;
    if let Some(heard) = heard {
        wanted.after = Some(heard.to_owned());
    }
    Changes::begin(database, super::client(headers), &wanted).await
}

fn messages(changes: Changes) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    futures::stream::unfold(changes, |mut changes| async move {
        let message = match tokio::time::timeout(BEAT, changes.next()).await {
            Ok(told) => message(&told?),
            Err(_) => Bytes::from_static(BEAT_MESSAGE),
        };
        Some((Ok(message), changes))
    })
}

fn wanted(query: Option<&str>) -> Result<Wanted, Fault> {
    let (mut sql, mut after, mut parameters) = (None, None, vec![]);
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned() {
        let is_given_twice = match name.as_str() {
            "sql" => sql.replace(value).is_some(),
            "after" => after.replace(value).is_some(),
            _ if parameters.iter().any(|(known, _)| *known == name) => true,
            _ => {
                parameters.push((name.clone(), value));
                false
            }
        };
        if is_given_twice {
            return Err(Fault::invalid(format!("parameter \"{name}\" is given twice")));
        }
    }
    let sql = sql.ok_or_else(|| Fault::invalid("what is to be told is missing").hint(SHAPE))?;
    Ok(Wanted { sql, after, parameters })
}

fn message(told: &Told) -> Bytes {
    let (event, id, data) = match told {
        Told::Rows(rows) => ("rows", None, rows.clone()),
        Told::Mark { token, epoch } => {
            ("mark", Some(token.as_str()), changes::mark(token, *epoch).to_string().into())
        }
        Told::End => ("end", Some(ENDED), Bytes::from_static(b"{}")),
        Told::Fault(fault) => ("fault", None, fault.text().into()),
    };
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let mut message = format!("event: {event}\n{id}data: ").into_bytes();
    message.extend_from_slice(&data);
    message.extend_from_slice(b"\n\n");
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_alone_have_an_id_to_go_on_from() {
        let text = |told: &Told| String::from_utf8(message(told).to_vec()).unwrap();
        assert_eq!(text(&Told::Rows("[{}]".into())), "event: rows\ndata: [{}]\n\n");
        let mark = Told::Mark { token: "a-1".into(), epoch: 1 };
        assert_eq!(text(&mark), "event: mark\nid: a-1\ndata: {\"epoch\":1,\"token\":\"a-1\"}\n\n");
        assert!(text(&Told::Fault(Fault::invalid("no"))).starts_with("event: fault\ndata: {\"error\":"));
    }

    #[test]
    fn an_address_says_what_and_from_where() {
        let Wanted { sql, after, parameters } =
            wanted(Some("sql=SUBSCRIBE+TO%20v+WHERE+c=$c&after=a-1&c=%27x")).unwrap();
        assert_eq!((sql.as_str(), after.as_deref()), ("SUBSCRIBE TO v WHERE c=$c", Some("a-1")));
        assert_eq!(parameters, [("c".to_owned(), "'x".to_owned())]);
        for wrong in [None, Some("after=a-1"), Some("sql=a&c=1&c=2"), Some("sql=a&sql=b")] {
            assert!(wanted(wrong).is_err(), "{wrong:?}");
        }
    }
}
