//! Rows to an address: deliveries in order, each with a key that it has again when it is sent again, signed as the Standard
//! Webhooks say (<https://www.standardwebhooks.com>), so that receivers can take a library of their language.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use ring::{digest, hmac};
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use thalweg_engine::ErrorKind;
use thalweg_engine::ids::{Epoch, Micros};
use thalweg_engine::secrets::Secrets;
use thalweg_sql::session::{Sink, Webhook, filled, holes};
use thalweg_sql::{Error, Result};
use url::Url;

use crate::World;

/// Of an answer that refuses, so much is told.
const REASON_BYTES_MAX: usize = 500;

pub struct Poster {
    client: Client,
    webhook: Webhook,
    key: Option<hmac::Key>,
    sink: String,
    view: String,
}

/// A body on its way.
pub struct Delivery {
    pub key: String,
    pub epoch: Epoch,
    pub body: String,
}

/// What the other side said.
pub enum Answer {
    Taken,
    /// It may take it later; not before this time, if it says so.
    Later(String, Option<Duration>),
    /// It will never take it.
    Refused(String),
}

/// Refuses what may not be posted to, and what can't be posted.
pub fn check(webhook: &Webhook, world: &World) -> Result<()> {
    if !world.webhooks.iter().any(|allowed| is_below(&webhook.url, allowed)) {
        // The rest of it may be a secret.
        let origin = webhook.url.origin().ascii_serialization();
        return Err(Error::invalid(format!("rows may not be posted to {origin}"))
            .hint(format!("whoever starts the server says where to: --webhooks {origin}/…")));
    }
    if let Some(template) = &webhook.template {
        if let Err(error) = serde_json::from_str::<Value>(&filled(template, |_| "0".into())) {
            return Err(Error::invalid(format!("the template is no JSON: {error}")).hint(
                "text has quotes around its braces: '{\"text\": \"{{product}} sold {{units}} times\"}'",
            ));
        }
        if holes(template).next().is_none() {
            return Err(Error::invalid("the template names no column")
                .hint("a column stands in two braces: {{revenue}}"));
        }
    }
    signing_key(webhook, &world.secrets).map(drop)
}

/// The address itself, or one that lies below it.
fn is_below(url: &Url, allowed: &Url) -> bool {
    let (path, below) = (url.path(), allowed.path().trim_end_matches('/'));
    // The other side may read these as another place than they seem to be.
    let hidden = path.to_ascii_lowercase();
    if ["%2f", "%5c", "\\", "..", ";"].iter().any(|part| hidden.contains(part)) {
        return false;
    }
    let same_place = url.scheme() == allowed.scheme()
        && url.host() == allowed.host()
        && url.port_or_known_default() == allowed.port_or_known_default();
    same_place && path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn signing_key(webhook: &Webhook, secrets: &Secrets) -> Result<Option<hmac::Key>> {
    let Some(reference) = &webhook.secret else { return Ok(None) };
    let resolved = secrets.resolve(&BTreeMap::from([("secret".to_owned(), reference.clone())]))?;
    let secret = &resolved["secret"];
    let bytes = match secret.strip_prefix("whsec_") {
        Some(coded) => STANDARD
            .decode(coded)
            .map_err(|_| Error::invalid("the secret begins with whsec_, and what follows is no base64"))?,
        None => secret.as_bytes().to_vec(),
    };
    Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
}

impl Poster {
    pub fn new(sink: &Sink, webhook: &Webhook, view: &str, world: &World) -> Result<Poster> {
        // An older server may have been allowed more.
        check(webhook, world)?;
        let client = Client::builder()
            .timeout(webhook.timeout)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("thalweg/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::internal(format!("no HTTP client: {error}")))?;
        Ok(Poster {
            client,
            webhook: webhook.clone(),
            key: signing_key(webhook, &world.secrets)?,
            sink: sink.name.clone(),
            view: view.to_owned(),
        })
    }

    /// Of rows that are final, each an object.
    pub fn delivery(&self, sink: &Sink, epoch: Epoch, number: usize, rows: &[Bytes]) -> Result<Delivery> {
        // In data that was set back the same place may hold other rows, which are no repetition.
        let mut digest = digest::Context::new(&digest::SHA256);
        rows.iter().for_each(|row| digest.update(row));
        let digest = digest.finish();
        let digest = u64::from_be_bytes(std::array::from_fn(|byte| digest.as_ref()[byte]));
        let key = format!("{}-{}-{number}-{digest:016x}", sink.id.simple(), epoch.0);
        if sink.live {
            let changes: Vec<String> = rows.iter().map(|row| change(1, true, row)).collect();
            return Ok(self.of_changes(key, epoch, None, &changes));
        }
        let body = match (&self.webhook.template, rows) {
            (Some(template), [row]) => {
                let values: BTreeMap<String, &RawValue> = serde_json::from_slice(row)
                    .map_err(|error| Error::internal(format!("a row is no JSON: {error}")))?;
                let body =
                    filled(template, |column| values.get(column).map_or("null".into(), |it| text_of(it)));
                if serde_json::from_str::<IgnoredAny>(&body).is_err() {
                    return Err(Error::new(ErrorKind::BadData, "the template makes no JSON of a row")
                        .detail(format!("the body would be {body}"))
                        .hint("a column of text stands within quotes: \"{{product}}\""));
                }
                body
            }
            _ => {
                let (sink, view) = (Value::from(self.sink.as_str()), Value::from(self.view.as_str()));
                let rows: Vec<_> = rows.iter().map(|row| String::from_utf8_lossy(row)).collect();
                format!(
                    "{{\"sink\":{sink},\"view\":{view},\"delivery\":\"{key}\",\"epoch\":{},\"rows\":[{}]}}",
                    epoch.0,
                    rows.join(",")
                )
            }
        };
        Ok(Delivery { key, epoch, body })
    }

    /// Of what becomes of rows; what was told of open ones before `begun` was is to be forgotten.
    pub fn of_changes(&self, key: String, epoch: Epoch, begun: Option<&str>, changes: &[String]) -> Delivery {
        let (sink, view) = (Value::from(self.sink.as_str()), Value::from(self.view.as_str()));
        let begun = begun.map_or(String::new(), |begun| format!("\"begun\":\"{begun}\","));
        let body = format!(
            "{{\"sink\":{sink},\"view\":{view},\"delivery\":\"{key}\",\"epoch\":{},{begun}\"changes\":[{}]}}",
            epoch.0,
            changes.join(",")
        );
        Delivery { key, epoch, body }
    }

    pub async fn post(&self, key: &str, body: &str, now: Micros) -> Answer {
        let seconds = now.div_euclid(1_000_000);
        let mut request = self
            .client
            .post(self.webhook.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", key)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(signing) = &self.key {
            request = request.header("webhook-signature", signature(signing, key, seconds, body));
        }
        let answer = match request.body(body.to_owned()).send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::Later(said(&error), None),
        };
        let status = answer.status();
        if status.is_success() {
            return Answer::Taken;
        }
        let later = status.is_server_error()
            || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
                .contains(&status);
        let wait = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        let text = beginning(answer).await;
        let reason = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
        match later {
            true => Answer::Later(reason, wait.map(Duration::from_secs)),
            false => Answer::Refused(reason),
        }
    }
}

/// Of what the other side has to say, for it may never end.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = vec![];
    while bytes.len() < REASON_BYTES_MAX {
        match answer.chunk().await {
            Ok(Some(more)) => bytes.extend_from_slice(&more[..more.len().min(REASON_BYTES_MAX)]),
            Ok(None) | Err(_) => break,
        }
    }
    bytes.truncate(REASON_BYTES_MAX);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// What becomes of a row, which is an object.
pub fn change(change: i32, is_final: bool, row: &[u8]) -> String {
    format!("{{\"change\":{change},\"final\":{is_final},\"row\":{}}}", String::from_utf8_lossy(row))
}

/// `v1,` and the code of `id.timestamp.body`.
fn signature(key: &hmac::Key, id: &str, seconds: i64, body: &str) -> String {
    let signed = hmac::sign(key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(signed))
}

/// Without the address, of which a part may be a secret.
fn said(error: &reqwest::Error) -> String {
    let mut text = match () {
        () if error.is_timeout() => "no answer in time".to_owned(),
        () if error.is_connect() => "no connection".to_owned(),
        () => "the request failed".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if std::error::Error::source(error).is_none() {
            text = format!("{text}: {error}");
        }
        cause = std::error::Error::source(error);
    }
    text
}

/// A value within JSON: of a text what stands between its quotes, and of what is made of several values their text, which
/// would have quotes of its own; a number with all of its digits.
fn text_of(value: &RawValue) -> String {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => text[1..text.len() - 1].to_owned(),
        Some(b'{' | b'[') => {
            let quoted = Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn deliveries_are_signed_as_receivers_expect() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let body = r#"{"test": 2432232314}"#;
        assert_eq!(
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_template_is_filled_with_what_json_needs() {
        let row = r#"{"product":"a \"b\"","n":12345678901234567890.0123456789,"at":null}"#;
        let row: BTreeMap<String, &RawValue> = serde_json::from_str(row).unwrap();
        let template = r#"{"text": "{{ product }} × {{n}} {{at}} {{", "n": {{n}}}"#;
        assert_eq!(
            filled(template, |column| text_of(row[column])),
            r#"{"text": "a \"b\" × 12345678901234567890.0123456789 null {{", "n": 12345678901234567890.0123456789}"#
        );
    }

    #[test]
    fn addresses_below_an_allowed_one_are_allowed() {
        let url = |text: &str| Url::parse(text).unwrap();
        for (at, allowed, is) in [
            ("https://a.example/x/y", "https://a.example", true),
            ("https://a.example/x/y", "https://a.example/x/", true),
            ("https://a.example/x", "https://a.example/x", true),
            ("https://a.example/xy", "https://a.example/x", false),
            ("https://a.example.org/x", "https://a.example", false),
            ("http://a.example/x", "https://a.example", false),
            ("https://a.example:444/x", "https://a.example", false),
            ("https://a.example:443/x", "https://a.example", true),
            ("https://a.example/x/../y", "https://a.example/x", false),
            ("https://a.example/x/..%2fy", "https://a.example/x", false),
            ("https://a.example/x/%2e%2e/y", "https://a.example/x", false),
            ("https://a.example/x/..;/y", "https://a.example/x", false),
        ] {
            assert_eq!(is_below(&url(at), &url(allowed)), is, "{at} below {allowed}");
        }
    }
}
