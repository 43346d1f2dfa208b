//! `PUT /api/…` keeps a query at an address, and `DELETE` forgets it: `CREATE ENDPOINT … AS` and `DROP ENDPOINT` for who
//! has a page in hand and no Flight SQL.
//!
//! Nothing else is changed over HTTP. A browser asks before it sends these methods for a page of another server, and is
//! not answered; an `Origin` of somebody else's is refused all the same.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use thalweg_sql::parse::{self, EndpointWork, Statement};
use thalweg_sql::session::Answer;

use super::own_pages_alone;
use crate::fault::Fault;
use crate::front::Front;

const SHAPE: &str = "write {\"sql\": \"SELECT …\", \"parameters\": \"minutes INT DEFAULT 5\"}";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    sql: String,
    /// As they stand between the parentheses of `CREATE ENDPOINT`.
    #[serde(default)]
    parameters: String,
}

pub(crate) async fn keep(
    State(front): State<Arc<Front>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    own_pages_alone(&headers)?;
    let kept: Kept = serde_json::from_slice(&super::text(&headers, body).await?)
        .map_err(|error| Fault::invalid(format!("the query is not as it should be: {error}")).hint(SHAPE))?;
    let parameters = match kept.parameters.trim() {
        "" => String::new(),
        declared => format!(" ({declared})"),
    };
    // On a line of its own, so that errors tell the line of the query and one more.
    let sql = format!("CREATE ENDPOINT {}{parameters} AS\n{}", quoted(&path), kept.sql);
    let session = front.database()?.session(super::client(&headers));
    // It knows the bounds of a text, which come before any reading of it.
    session.prepare(&sql, None).await.map_err(|error| Fault::from(error).a_line_up())?;
    let statement = parse::statement(&sql)?.statement;
    let asks = |statement: &Statement| matches!(statement, Statement::CreateEndpoint(create) if matches!(create.work, EndpointWork::Ask { .. }));
    if !asks(&statement) {
        return Err(Fault::invalid("only a query is kept at an address over HTTP").hint(SHAPE));
    }
    carry_out(&front, &headers, &sql, StatusCode::CREATED).await.map_err(Fault::a_line_up)
}

pub(crate) async fn forget(
    State(front): State<Arc<Front>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    own_pages_alone(&headers)?;
    // Whoever may send may not stop all others from sending.
    match front.database()?.endpoint(&format!("/api/{path}"))? {
        None => return Err(Fault::not_found(format!("there is no endpoint /api/{path}"))),
        Some(endpoint) if endpoint.collect().is_some() => {
            return Err(Fault::method_of(&endpoint)
                .hint("what takes events is dropped over Flight SQL, by DROP ENDPOINT"));
        }
        Some(_) => {}
    }
    carry_out(&front, &headers, &format!("DROP ENDPOINT {}", quoted(&path)), StatusCode::OK).await
}

fn quoted(path: &str) -> String {
    format!("'/api/{}'", path.replace('\'', "''"))
}

async fn carry_out(
    front: &Front,
    headers: &HeaderMap,
    sql: &str,
    done: StatusCode,
) -> Result<Response, Fault> {
    match front.database()?.session(super::client(headers)).execute(sql, &[]).await? {
        Answer::Done(message) => {
            let told = json!({ "done": message }).to_string();
            Ok((done, [(header::CONTENT_TYPE, "application/json")], told).into_response())
        }
        Answer::Rows(_) => Err(Fault::internal("what changes the catalog answered with rows")),
    }
}
