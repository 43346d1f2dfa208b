//! Whether the process lives, and whether it is of use. Each says what is the matter.
//!
//! *Live* asks the engine for its state: one that can't say it within a time is stuck, and a new process is better.
//! *Ready* says whether there are answers: after the start, and until it is told to leave. What has failed alone, or a
//! store that is away, takes nobody's answers away and is listed as `degraded`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use thalweg_engine::collect::Collector;
use thalweg_engine::status::Status;
use thalweg_sql::session::{Database, SinkState};

use crate::front::Front;

/// The engine's state is under a lock that is held for microseconds.
const STATE_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn live(State(front): State<Arc<Front>>) -> Response {
    match status(&front).await {
        Ok(_) => told(StatusCode::OK, json!({ "status": "live" })),
        Err(reason) => told(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "stuck", "reason": reason })),
    }
}

pub(crate) async fn ready(State(front): State<Arc<Front>>) -> Response {
    let not = |reason: &str| {
        told(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "not ready", "reason": reason }))
    };
    if front.is_leaving() {
        return not("the server is stopping");
    }
    match status(&front).await {
        Err(reason) => not(&reason),
        Ok(None) => not(&front.not_yet()),
        Ok(Some(status)) => {
            let mut degraded = degraded(&status);
            degraded.extend(spooling(&front));
            degraded.extend(failed_sinks(&front));
            told(StatusCode::OK, json!({ "status": "ready", "degraded": degraded }))
        }
    }
}

/// `None` before the engine runs.
async fn status(front: &Arc<Front>) -> Result<Option<Status>, String> {
    let Some(database) = front.database_if_open().cloned() else { return Ok(None) };
    let asking = tokio::task::spawn_blocking(move || database.status());
    match tokio::time::timeout(STATE_TIME, asking).await {
        Ok(Ok(status)) => Ok(Some(status)),
        Ok(Err(error)) => Err(format!("the engine's state can't be read: {error}")),
        Err(_) => Err(format!("the engine did not tell its state within {STATE_TIME:?}")),
    }
}

/// What stands still while everything else goes on.
fn degraded(status: &Status) -> Vec<String> {
    let mut found = vec![];
    if status.store.away {
        let reason = status.store.last_error.as_deref().unwrap_or("it does not reply");
        found.push(format!("the store is away, and nothing becomes durable: {reason}"));
    }
    for stream in &status.streams {
        if let Some(failure) = &stream.failure {
            found.push(format!("stream {} has failed: {}", stream.stream, failure.reason));
        }
    }
    for view in &status.views {
        if let Some(failure) = &view.failure {
            found.push(format!("view {} has failed: {}", view.view, failure.reason));
        }
    }
    found
}

/// Streams whose events wait for Kafka.
fn spooling(front: &Front) -> Vec<String> {
    let collectors = front.database_if_open().map(Database::collectors).unwrap_or_default();
    let one = |collector: Arc<Collector>| {
        let (spool, stream) = (collector.spool()?, &collector.stream().name);
        let text =
            format!("Kafka is away for stream {stream}, and {} events wait in its spool", spool.records);
        spool.is_away.then_some(text)
    };
    collectors.into_iter().filter_map(one).collect()
}

fn failed_sinks(front: &Front) -> Vec<String> {
    let sinks = front.database_if_open().map(Database::sink_status).unwrap_or_default();
    let failed = sinks.into_iter().filter(|sink| sink.state == SinkState::Failed);
    failed.map(|it| format!("sink {} has failed: {}", it.sink, it.last_error.unwrap_or_default())).collect()
}

fn told(status: StatusCode, body: Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
