//! A failure as HTTP tells it: a status, and JSON with the reason, the place and what to do.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use thalweg_engine::ErrorKind;
use thalweg_sql::session::Endpoint;
use thalweg_sql::{Error, Position};

/// Seconds after which a request that found no room is worth another try.
const RETRY_AFTER: &str = "1";

#[derive(Debug, Clone)]
pub(crate) struct Fault {
    status: StatusCode,
    text: Box<Text>,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone, Default)]
struct Text {
    message: String,
    position: Option<Position>,
    detail: Option<String>,
    hint: Option<String>,
}

impl Fault {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Fault {
        let text = Text { message: message.into(), ..Text::default() };
        Fault { status, text: Box::new(text), header: None }
    }

    pub fn invalid(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, message)
    }

    pub fn internal(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, message).with(header::RETRY_AFTER, RETRY_AFTER)
    }

    /// Another method than an endpoint has, which is kept and dropped over HTTP only where it answers.
    pub fn method_of(endpoint: &Endpoint) -> Fault {
        Fault::method(if endpoint.collect().is_some() { "POST, OPTIONS" } else { "GET, HEAD, PUT, DELETE" })
    }

    pub fn method(allowed: &'static str) -> Fault {
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, format!("this address takes {allowed}"))
            .with(header::ALLOW, allowed)
    }

    /// Whether the same may be answered a moment later.
    pub fn will_pass(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.text.hint = Some(hint.into());
        self
    }

    /// Of a text that began with a line which its sender did not write.
    pub fn a_line_up(mut self) -> Fault {
        if let Some(position) = &mut self.text.position {
            position.line = position.line.saturating_sub(1).max(1);
        }
        self
    }

    pub fn with(mut self, name: HeaderName, value: &'static str) -> Fault {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// When the same is worth another try.
    pub fn after(mut self, wait: Duration) -> Fault {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        self.header = Some((header::RETRY_AFTER, seconds.into()));
        self
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let mut fault = match error.kind {
            ErrorKind::Invalid => Fault::invalid(error.message),
            ErrorKind::Unavailable | ErrorKind::Fenced => Fault::unavailable(error.message),
            ErrorKind::BadData | ErrorKind::Internal => Fault::internal(error.message),
            ErrorKind::Stopped => Fault::new(StatusCode::CONFLICT, error.message),
        };
        fault.text.position = error.position;
        fault.text.detail = error.detail;
        fault.text.hint = error.hint;
        fault
    }
}

impl Fault {
    /// What is told, as JSON.
    pub fn text(&self) -> String {
        let Text { message, position, detail, hint } = &*self.text;
        let mut error = Map::new();
        error.insert("message".into(), Value::from(message.as_str()));
        if let Some(position) = position {
            error.insert("line".into(), Value::from(position.line));
            error.insert("column".into(), Value::from(position.column));
        }
        for (name, text) in [("detail", detail), ("hint", hint)] {
            error.extend(text.as_deref().map(|text| (name.into(), Value::from(text))));
        }
        json!({ "error": error }).to_string()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}
