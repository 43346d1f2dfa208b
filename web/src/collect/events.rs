//! A body to events: decompressed, and cut where one ends and the next begins. What an event says is its stream's to
//! judge.

use std::io::Read;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use sonic_rs::JsonValueTrait;

use super::too_large;
use crate::fault::Fault;

/// Events of one request.
const EVENTS_MAX: usize = 10_000;
/// How deep an event may nest within a body: a stream takes less, and what reads it once more goes down as deep.
const DEPTH_MAX: usize = 128;

pub(super) fn decompressed(headers: &HeaderMap, body: Bytes, most: usize) -> Result<Bytes, Fault> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    let encoding = encoding.map(str::to_ascii_lowercase);
    match encoding.as_deref() {
        None | Some("identity" | "") => Ok(body),
        Some("gzip" | "x-gzip") => expanded(MultiGzDecoder::new(&body[..]), most),
        Some("zstd") => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&body[..]);
            expanded(decoder.map_err(|error| damaged(&error))?, most)
        }
        Some(other) => Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body's encoding is not known. encoding={other:?}"),
        )
        .hint("encodings are gzip and zstd")),
    }
}

fn expanded(mut decoder: impl Read, most: usize) -> Result<Bytes, Fault> {
    let mut plain = vec![];
    decoder.by_ref().take(most as u64 + 1).read_to_end(&mut plain).map_err(|error| damaged(&error))?;
    if plain.len() > most {
        return Err(too_large("decompressed body", most));
    }
    Ok(plain.into())
}

fn damaged(error: &std::io::Error) -> Fault {
    Fault::invalid(format!("the body can't be decompressed: {error}"))
}

/// One object, an array of them, or one on each line.
pub(super) fn split<'a>(body: &'a [u8], kind: &str) -> Result<Vec<&'a [u8]>, Fault> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Fault::invalid(format!("the body is not UTF-8. at={}", error.valid_up_to())))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(
            Fault::invalid("the body is empty").hint("send a JSON object, an array, or one on each line")
        );
    }
    if nests_too_deep(text.as_bytes()) {
        return Err(Fault::invalid(format!("the body nests deeper than {DEPTH_MAX} levels")));
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let events: Vec<&str> = if text.starts_with('[') && !kind.starts_with("application/x-ndjson") {
        let (mut events, mut end) = (vec![], 1);
        for element in sonic_rs::to_array_iter(text) {
            let element = element.map_err(|error| {
                Fault::invalid(format!("the array is no JSON: {}", first_line(&error.to_string())))
            })?;
            let raw = element.as_raw_str();
            // It lies within the body, whose part it is.
            let start = raw.as_ptr() as usize - text.as_ptr() as usize;
            end = start + raw.len();
            events.push(&text[start..end]);
        }
        let behind = text[end..].trim_start().strip_prefix(']').map(str::trim_start);
        if behind.is_none_or(|behind| !behind.is_empty()) {
            return Err(Fault::invalid("something stands behind the array")
                .hint("send one array, or events on a line each as application/x-ndjson"));
        }
        events
    } else if kind.starts_with("application/x-ndjson") || is_one_on_each_line(text) {
        lines().collect()
    } else {
        vec![text]
    };
    if events.len() > EVENTS_MAX {
        return Err(Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("more events than one request may bring. events={}, most={EVENTS_MAX}", events.len()),
        ));
    }
    Ok(events.into_iter().map(str::as_bytes).collect())
}

/// One object over several lines has none on its first line. Where that has a whole one, each line is one, and those that
/// are none are refused by themselves.
fn is_one_on_each_line(text: &str) -> bool {
    let Some((first, rest)) = text.split_once('\n') else { return false };
    let first = first.trim_end();
    !rest.trim().is_empty()
        && first.starts_with('{')
        && first.ends_with('}')
        && sonic_rs::from_str::<sonic_rs::LazyValue>(first).is_ok()
}

/// Whatever it is. Few bodies have so many braces that it takes a look at each.
fn nests_too_deep(body: &[u8]) -> bool {
    if memchr::memchr2_iter(b'[', b'{', body).take(DEPTH_MAX + 1).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in body {
        match (in_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The field that decides to which partition an event goes; text without its quotes.
pub(super) fn key(event: &[u8], field: &str) -> Option<Vec<u8>> {
    let value = sonic_rs::get(event, [field]).ok()?;
    match value.as_str() {
        Some(text) => Some(text.as_bytes().to_vec()),
        None if value.is_null() => None,
        None => Some(value.as_raw_str().as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn cut(body: &str, kind: &str) -> Vec<String> {
        let events = split(body.as_bytes(), kind).unwrap();
        events.into_iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_body_is_one_event_an_array_or_lines() {
        assert_eq!(cut(" {\"a\": 1} ", "application/json"), ["{\"a\": 1}"]);
        assert_eq!(cut("{\n\"a\": 1\n}", "text/plain"), ["{\n\"a\": 1\n}"]);
        assert_eq!(cut("[{\"a\": [1]}, {\"b\":\"},{\"} ]", ""), ["{\"a\": [1]}", "{\"b\":\"},{\"}"]);
        assert_eq!(cut("[]", ""), Vec::<String>::new());
        assert_eq!(cut("{\"a\":1}\r\n\n{\"a\":2}\n", ""), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(cut("{\"a\":1}\nnone", "application/x-ndjson"), ["{\"a\":1}", "none"]);
        assert_eq!(cut("{\"a\":1}\n{\"a\":\n{\"a\":2}", "text/plain"), ["{\"a\":1}", "{\"a\":", "{\"a\":2}"]);
        assert_eq!(cut("{\"a\":{}\n}", "text/plain"), ["{\"a\":{}\n}"]);
        for wrong in ["", " \n", "[{\"a\":1}", "[1,,2]", "[{\"a\":1}]\n[{\"a\":2}]", "[1] x", "[] x"] {
            assert!(split(wrong.as_bytes(), "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_nests_deep_is_refused_before_anybody_goes_down_there() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(split(nested(DEPTH_MAX).as_bytes(), "").is_ok());
        for deep in [nested(DEPTH_MAX + 1), "[".repeat(500_000), "{\"a\":".repeat(500_000)] {
            assert!(split(deep.as_bytes(), "").is_err());
        }
        let many = format!("[{}]", vec!["{\"a\":\"[[{\\\"\"}"; 1000].join(","));
        assert_eq!(cut(&many, "").len(), 1000);
    }

    #[test]
    fn what_grows_too_large_is_refused_before_it_is_there() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        let body = Bytes::from(encoder.finish().unwrap());
        assert!(body.len() < 1 << 16);
        assert!(decompressed(&headers, body.clone(), 1 << 16).is_err());
        assert_eq!(decompressed(&headers, body, 1 << 20).unwrap().len(), 1 << 20);
        headers.insert(header::CONTENT_ENCODING, "zstd".parse().unwrap());
        let body = zstd::encode_all(&b"{}"[..], 1).unwrap();
        assert_eq!(&decompressed(&headers, body.into(), 10).unwrap()[..], b"{}");
        assert!(decompressed(&headers, Bytes::from_static(b"none"), 10).is_err());
    }

    #[test]
    fn a_key_is_text_or_any_other_value() {
        assert_eq!(key(br#"{"a":{"u":1},"u":"x\u00e9"}"#, "u").unwrap(), "xé".as_bytes());
        assert_eq!(key(br#"{"u": 17}"#, "u").unwrap(), b"17");
        assert_eq!(key(br#"{"u": null}"#, "u"), None);
        assert_eq!(key(br#"{"v": 1}"#, "u"), None);
    }
}
