//! `GET /api`: every endpoint as OpenAPI 3.1 describes it, made of the catalog as it is now.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use datafusion::common::ScalarValue;
use serde_json::{Map, Value, json};
use thalweg_sql::plain;
use thalweg_sql::session::{Client, Collect, Database, Endpoint, Parameter};

use super::format::Format;
use super::watch::WATCHED_MAX;
use crate::fault::Fault;
use crate::front::Front;

pub(crate) async fn described(State(front): State<Arc<Front>>) -> Result<Response, Fault> {
    let document = document(front.database()?).await;
    Ok(([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response())
}

async fn document(database: &Database) -> Value {
    let mut paths = Map::new();
    let session = database.session(Client::default());
    for endpoint in database.endpoints() {
        if let Some(collect) = endpoint.collect() {
            paths.insert(endpoint.path.clone(), json!({ "post": collecting(&endpoint, collect) }));
            continue;
        }
        // One whose view has gone is told with the reason.
        let columns = session.prepare_endpoint(&endpoint).await.map_err(|error| error.to_string());
        let rows = columns.map(|prepared| prepared.rows.as_deref().map(row_schema).unwrap_or_default());
        paths.insert(
            endpoint.path.clone(),
            json!({ "get": operation(&endpoint, rows), "delete": forgetting(&endpoint) }),
        );
    }
    paths.insert("/api/{path}".to_owned(), json!({ "put": keeping() }));
    paths.insert("/api/sql".to_owned(), json!({ "post": any_select() }));
    paths.insert("/api/subscribe".to_owned(), json!({ "get": any_changes() }));
    paths.insert("/api/watch".to_owned(), json!({ "get": any_answers() }));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Thalweg", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": { "Error": error_schema() } },
    })
}

fn operation(endpoint: &Endpoint, rows: Result<Value, String>) -> Value {
    let parameters: Vec<Value> = endpoint.parameters.iter().map(parameter).collect();
    let (row, summary) = match rows {
        Ok(row) => (row, None),
        Err(reason) => (json!({}), Some(format!("can't be asked now: {reason}"))),
    };
    let mut operation = json!({
        "operationId": name(endpoint),
        "description": endpoint.sql,
        "parameters": parameters,
        "responses": responses(row),
    });
    if let Some(summary) = summary {
        operation["summary"] = Value::from(summary);
    }
    operation
}

fn name(endpoint: &Endpoint) -> String {
    endpoint.path.trim_start_matches("/api/").replace(['/', '-'], "_")
}

fn forgetting(endpoint: &Endpoint) -> Value {
    json!({
        "operationId": format!("{}_drop", name(endpoint)),
        "description": "Drops the endpoint, as DROP ENDPOINT does.",
        "responses": {
            "200": { "description": "It is gone" },
            "400": fault("There is no such endpoint any more"),
            "403": fault("A page of another server asks"),
            "503": fault("The server is starting"),
        },
    })
}

fn keeping() -> Value {
    let kept = json!({ "type": "object", "required": ["sql"], "additionalProperties": false, "properties": {
        "sql": { "type": "string", "description": "A SELECT" },
        "parameters": { "type": "string", "description": "As in CREATE ENDPOINT: minutes INT DEFAULT 5" },
    } });
    json!({
        "operationId": "keep",
        "description": "Keeps a query at an address of its own, as CREATE ENDPOINT … AS does.",
        "parameters": [{
            "name": "path", "in": "path", "required": true,
            "description": "Up to 95 of a-z, 0-9, _, - and /",
            "schema": { "type": "string", "pattern": "^[a-z0-9_/-]+$" },
        }],
        "requestBody": { "required": true, "content": { "application/json": { "schema": kept } } },
        "responses": {
            "201": { "description": "It is durable, and can be asked" },
            "400": fault("The query or the address is wrong, or another query is there"),
            "403": fault("A page of another server asks"),
            "413": fault("The query is too long"),
            "503": fault("The server is starting"),
        },
    })
}

fn collecting(endpoint: &Endpoint, collect: &Collect) -> Value {
    let event = json!({ "type": "object" });
    json!({
        "operationId": name(endpoint),
        "description": format!("Events into stream {}: an object, an array, or one on each line; gzip and zstd.", collect.stream),
        "requestBody": { "required": true, "content": {
            "application/json": { "schema": { "oneOf": [event, { "type": "array", "items": event }] } },
            "application/x-ndjson": {},
            "text/plain": {},
        } },
        "responses": {
            "202": { "description": format!(
                "Those that were taken are {}; those that were refused are told with index, reason and place",
                if collect.is_queued { "queued in memory" } else { "durable" }
            ) },
            "400": { "description": "None of them can become a row" },
            "401": { "description": "It needs a key, where keys say who may send" },
            "403": { "description": "A page of an origin that is not listed sent it" },
            "413": { "description": "The body, or what it decompresses to, is too large" },
            "429": { "description": "More events a second than a sender may bring" },
            "503": { "description": "Neither Kafka nor the spool takes them; Retry-After says when to come again" },
        },
    })
}

fn any_select() -> Value {
    let statement = json!({ "type": "object", "required": ["sql"], "properties": {
        "sql": { "type": "string" },
        "format": { "enum": Format::ALL.map(Format::suffix) },
    } });
    json!({
        "operationId": "sql",
        "description": "Any SELECT, SHOW, DESCRIBE or EXPLAIN.",
        "requestBody": { "required": true, "content": {
            "application/json": { "schema": statement },
            "text/plain": { "schema": { "type": "string" } },
        } },
        "responses": responses(json!({ "type": "object" })),
    })
}

fn any_changes() -> Value {
    let text = |name: &str, required: bool, description: &str| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "query", "required": required, "description": description, "schema": schema })
    };
    json!({
        "operationId": "subscribe",
        "description": "The changes of a view as they happen, by SUBSCRIBE TO view: server-sent events rows, mark, fault, end and beat.",
        "parameters": [
            text("sql", true, "SUBSCRIBE TO view, with WHERE and WITH (snapshot, live, every); $name stands for another parameter of the address"),
            text("after", false, "The token of a mark, to go on from there; Last-Event-ID comes before it"),
        ],
        "responses": {
            "200": { "description": "It goes on until the client leaves", "content": { "text/event-stream": {} } },
            "204": { "description": "The end was told already" },
            "400": fault("The statement is wrong, or the token is another view's"),
            "503": fault("Too many subscriptions run, or the server is starting"),
        },
    })
}

fn any_answers() -> Value {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "string" }, "minProperties": 1, "maxProperties": WATCHED_MAX });
    json!({
        "operationId": "watch",
        "description": "Several answers over one connection, each again when it has changed: server-sent events rows, fault and beat.",
        "parameters": [{
            "name": "watched", "in": "query", "required": true, "style": "form", "explode": true,
            "description": "By any name the path of an endpoint with its parameters, or a SELECT",
            "schema": schema,
        }],
        "responses": {
            "200": { "description": "It goes on until the client leaves", "content": { "text/event-stream": {} } },
            "400": fault("Nothing is watched, or too much"),
            "503": fault("The server is starting"),
        },
    })
}

fn fault(description: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn responses(row: Value) -> Value {
    let mut content = Map::new();
    for format in Format::ALL {
        let media = match format {
            Format::Json => json!({ "schema": { "type": "array", "items": row } }),
            _ => json!({}),
        };
        content.insert(format.content_type().to_owned(), media);
    }
    json!({
        "200": { "description": "The rows, in the form that Accept or the end of the path names", "content": content },
        "304": { "description": "The rows are those of the given ETag" },
        "400": fault("A parameter or the statement is wrong"),
        "503": fault("All places are taken, or the server is starting"),
    })
}

fn parameter(parameter: &Parameter) -> Value {
    let mut schema = type_schema(&parameter.kind);
    if let Some(default) = parameter.default.as_ref().filter(|default| !default.is_null()) {
        schema["default"] = match default {
            ScalarValue::Boolean(Some(value)) => Value::from(*value),
            number if number.data_type().is_integer() => {
                Value::from(parameter.default_text.as_deref().and_then(|text| text.parse::<i64>().ok()))
            }
            number if number.data_type().is_floating() => {
                Value::from(parameter.default_text.as_deref().and_then(|text| text.parse::<f64>().ok()))
            }
            _ => Value::from(parameter.default_text.clone()),
        };
    }
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.default.is_none(),
        "schema": schema,
    })
}

fn row_schema(rows: &Schema) -> Value {
    object_schema(plain::schema(rows, false).fields().iter().map(AsRef::as_ref))
}

fn object_schema<'a>(fields: impl Iterator<Item = &'a Field>) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = type_schema(field.data_type());
        if let Some(kind) = schema.get("type").filter(|_| field.is_nullable()).cloned() {
            schema["type"] = json!([kind, "null"]);
        }
        properties.insert(field.name().clone(), schema);
    }
    json!({ "type": "object", "properties": properties })
}

fn type_schema(kind: &DataType) -> Value {
    match kind {
        DataType::Boolean => json!({ "type": "boolean" }),
        DataType::Int64 | DataType::UInt64 => json!({ "type": "integer", "format": "int64" }),
        kind if kind.is_integer() => json!({ "type": "integer", "format": "int32" }),
        kind if kind.is_numeric() => json!({ "type": "number" }),
        DataType::Timestamp(..) => json!({ "type": "string", "format": "date-time" }),
        DataType::Date32 | DataType::Date64 => json!({ "type": "string", "format": "date" }),
        DataType::List(item) => json!({ "type": "array", "items": type_schema(item.data_type()) }),
        DataType::Struct(fields) => object_schema(fields.iter().map(AsRef::as_ref)),
        _ => json!({ "type": "string" }),
    }
}

fn error_schema() -> Value {
    json!({ "type": "object", "required": ["error"], "properties": { "error": {
        "type": "object",
        "required": ["message"],
        "properties": {
            "message": { "type": "string" },
            "line": { "type": "integer" },
            "column": { "type": "integer" },
            "detail": { "type": "string" },
            "hint": { "type": "string" },
        },
    } } })
}
