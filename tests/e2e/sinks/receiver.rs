//! A receiver of posts that is slow, fails, answers late, dies, and remembers all that it was sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::net::TcpListener;

#[derive(Clone, Copy)]
pub struct Manners {
    /// What it does is drawn from this.
    bad: Option<u64>,
    /// A body with this text is refused for good.
    refused: Option<&'static str>,
}

impl Manners {
    pub const GOOD: Manners = Manners { bad: None, refused: None };

    pub fn bad(seed: u64) -> Manners {
        Manners { bad: Some(seed), refused: None }
    }

    pub fn refusing(text: &'static str) -> Manners {
        Manners { bad: None, refused: Some(text) }
    }
}

pub struct Receiver {
    address: String,
    inner: Arc<Inner>,
}

struct Inner {
    manners: Mutex<(Manners, StdRng)>,
    away: AtomicBool,
    /// Keys and bodies, as they came; those that were refused are left out.
    taken: Mutex<Vec<(String, Bytes)>>,
    requests: Mutex<BTreeMap<&'static str, u64>>,
}

/// What becomes of a request.
enum Whim {
    Take,
    /// It is taken, and the answer is lost.
    TakeAndHang,
    Fail(StatusCode),
    Hang,
}

impl Receiver {
    pub async fn start(manners: Manners) -> Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let random = StdRng::seed_from_u64(manners.bad.unwrap_or_default());
        let inner = Arc::new(Inner {
            manners: Mutex::new((manners, random)),
            away: AtomicBool::new(false),
            taken: Mutex::default(),
            requests: Mutex::default(),
        });
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if serving.away.load(Ordering::Relaxed) {
                    continue;
                }
                let inner = Arc::clone(&serving);
                let answer = service_fn(move |request| answer(Arc::clone(&inner), request));
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        Ok(Receiver { address, inner })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behave(&self, manners: Manners) {
        self.inner.manners.lock().unwrap_or_else(PoisonError::into_inner).0 = manners;
    }

    /// Whoever connects is cut off.
    pub async fn stop_for(&self, time: Duration) {
        self.inner.away.store(true, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        self.inner.away.store(false, Ordering::Relaxed);
    }

    pub fn told(&self) -> String {
        format!("{:?}", self.inner.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All rows, each key's once: a key has one body.
    pub fn rows(&self) -> Result<Vec<String>> {
        let mut bodies: BTreeMap<&str, &Bytes> = BTreeMap::new();
        let taken = self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, body) in taken.iter() {
            let known = bodies.insert(key, body);
            ensure!(
                known.is_none_or(|known| known == body),
                "{key} came with two bodies: {known:?}, {body:?}"
            );
        }
        let mut rows = vec![];
        for body in bodies.values() {
            let body: Value = serde_json::from_slice(body)?;
            ensure!(body["sink"] == "seconds" && body["view"] == "by_second", "{body}");
            for row in body["rows"].as_array().context("a delivery has rows")? {
                let text = |column: &str| row[column].as_str().map_or(row[column].to_string(), str::to_owned);
                rows.push(["window_start", "country", "events"].map(text).join("|"));
            }
        }
        Ok(rows)
    }

    /// The same, once it is clear that what came for the first time came in order.
    pub fn in_order(&self) -> Result<Vec<String>> {
        {
            let taken = self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let mut known: Vec<(u64, u64)> = vec![];
            for (key, _) in taken.iter() {
                let mut parts = key.rsplit('-').skip(1);
                let mut number = || {
                    parts.next().context("a key ends in numbers")?.parse::<u64>().map_err(anyhow::Error::from)
                };
                let (number, epoch) = (number()?, number()?);
                let place = (epoch, number);
                if !known.contains(&place) {
                    ensure!(
                        known.last().is_none_or(|last| *last < place),
                        "{place:?} comes behind {:?}",
                        known.last()
                    );
                    known.push(place);
                }
            }
        }
        self.rows()
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (key, signature) = (header("webhook-id"), header("webhook-signature"));
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let respond = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        Ok(response)
    };
    if key.is_empty() || !signature.starts_with("v1,") {
        return respond(StatusCode::BAD_REQUEST, "neither key nor signature");
    }
    let whim = {
        let (manners, random) = &mut *inner.manners.lock().unwrap_or_else(PoisonError::into_inner);
        if manners.refused.is_some_and(|text| String::from_utf8_lossy(&body).contains(text)) {
            return respond(StatusCode::BAD_REQUEST, "not here");
        }
        match manners.bad.map(|_| random.random_range(0..100)) {
            Some(0..10) => Whim::Fail(StatusCode::INTERNAL_SERVER_ERROR),
            Some(10..15) => Whim::Fail(StatusCode::TOO_MANY_REQUESTS),
            Some(15..17) => Whim::Hang,
            Some(17..19) => Whim::TakeAndHang,
            _ => Whim::Take,
        }
    };
    let named = match whim {
        Whim::Take => "taken",
        Whim::TakeAndHang => "taken, no answer",
        Whim::Fail(_) => "failed",
        Whim::Hang => "no answer",
    };
    *inner.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(named).or_default() += 1;
    if matches!(whim, Whim::Take | Whim::TakeAndHang) {
        inner.taken.lock().unwrap_or_else(PoisonError::into_inner).push((key, body));
    }
    match whim {
        Whim::Take => respond(StatusCode::OK, ""),
        Whim::Fail(status) => respond(status, "try later"),
        Whim::Hang | Whim::TakeAndHang => {
            // Longer than the sink of these tests waits.
            tokio::time::sleep(Duration::from_secs(3)).await;
            respond(StatusCode::OK, "")
        }
    }
}
