//! The page: files that `web/page/` builds and the binary carries. Whatever they show they ask by URL like anybody else.
//!
//! Each is kept once as it is and once compressed, with a tag of its content: a browser that has it is told so. What a
//! page may load is said in its headers, which is nothing from elsewhere.

use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::fault::Fault;

/// `script-src` and `style-src` without `unsafe-inline`: text that came from an event can't become code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Below this a header costs more than compression saves.
const COMPRESSED_FROM: usize = 1024;

struct File {
    paths: &'static [&'static str],
    kind: &'static str,
    plain: &'static [u8],
}

macro_rules! file {
    ($paths:expr, $kind:expr, $name:literal) => {
        File { paths: $paths, kind: $kind, plain: include_bytes!(concat!("../page/dist/", $name)) }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

static FILES: [File; 9] = [
    // One document; which of its pages is shown is the script's matter.
    file!(&["/", "/engine", "/sql", "/endpoints"], HTML, "index.html"),
    file!(&["/shop"], HTML, "shop.html"),
    file!(&["/page/app.js"], SCRIPT, "app.js"),
    file!(&["/page/sql.js"], SCRIPT, "sql.js"),
    file!(&["/page/shop.js"], SCRIPT, "shop.js"),
    file!(&["/page/app.css"], STYLE, "app.css"),
    file!(&["/page/shop.css"], STYLE, "shop.css"),
    file!(&["/page/icon.svg", "/favicon.ico"], "image/svg+xml", "icon.svg"),
    file!(&["/tracker.js"], SCRIPT, "tracker.js"),
];

struct Asset {
    file: &'static File,
    tag: HeaderValue,
    compressed: Option<Bytes>,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| FILES.iter().map(Asset::of).collect());

impl Asset {
    fn of(file: &'static File) -> Asset {
        let tag = format!("\"{:016x}\"", crate::ask::hash(file.plain));
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits are legal in a header");
        let compressed = (file.plain.len() >= COMPRESSED_FROM).then(|| {
            let mut encoder = GzEncoder::new(vec![], Compression::best());
            encoder
                .write_all(file.plain)
                .and_then(|()| encoder.finish())
                .expect("memory takes all bytes")
                .into()
        });
        Asset { file, tag, compressed }
    }
}

/// The file at the address, or that there is nothing.
pub(crate) async fn answer(request: Request) -> Result<Response, Fault> {
    let path = request.uri().path();
    let asset = ASSETS.iter().find(|asset| asset.file.paths.contains(&path));
    let asset =
        asset.ok_or_else(|| Fault::not_found("nothing is at this address").hint("GET /api lists what is"))?;
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Fault::method("GET"));
    }
    let headers = request.headers();
    let mut response = match names(headers, header::IF_NONE_MATCH, asset.tag.to_str().unwrap_or_default()) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => match asset.compressed.clone().filter(|_| names(headers, header::ACCEPT_ENCODING, "gzip")) {
            Some(compressed) => {
                ([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))], compressed).into_response()
            }
            None => Bytes::from_static(asset.file.plain).into_response(),
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.file.kind));
    headers.insert(header::ETAG, asset.tag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    // Any shop's page may load the tracker.
    if asset.file.paths.contains(&"/tracker.js") {
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    }
    Ok(response)
}

/// Whether the header lists the word.
fn names(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|each| {
        let each = each.split(';').next().unwrap_or_default().trim();
        each.strip_prefix("W/").unwrap_or(each) == word
    })
}
