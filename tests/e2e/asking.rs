//! Questions over HTTP, as the tests of that side ask them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(60);

pub struct Answer {
    pub status: StatusCode,
    pub head: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn reason(&self) -> Result<String> {
        let json = self.json()?;
        let error = &json["error"];
        ensure!(error["message"].is_string(), "an error has a message: {json}");
        Ok(format!("{} {}", self.status.as_u16(), error["message"].as_str().unwrap_or_default()))
    }
}

pub async fn ask(address: &str, request: Request<Full<Bytes>>) -> Result<Answer> {
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response: Response<_> = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, head: head.headers, body: body.collect().await?.to_bytes() })
    };
    tokio::time::timeout(WITHIN, asking).await.context("no answer")?
}

pub async fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut request = Request::builder().uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(address, request.body(Full::default())?).await
}

pub async fn post(address: &str, path: &str, kind: &str, body: &str) -> Result<Answer> {
    let request = Request::builder().method(Method::POST).uri(path).header("host", address);
    ask(address, request.header("content-type", kind).body(Full::from(body.to_owned()))?).await
}

/// A `POST` with headers of one's own.
pub async fn send(address: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut request = Request::builder().method(Method::POST).uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(address, request.body(Full::from(body.to_vec()))?).await
}
