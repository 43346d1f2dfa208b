//! Accepts connections and gives each request to its route, within bounds that a slow or a greedy client can't pass.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use crate::fault::Fault;
use crate::front::Front;
use crate::hosts::{HostName, Hosts};
use crate::patient::{Patient, TAKE_TIME};
use crate::proxies::{self, Network};
use crate::{ask, collect, health, metrics, page};

/// After a failed accept: out of file handles, most likely, and some will be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct Limits {
    /// More wait to be accepted.
    pub connections_max: usize,
    /// From the first byte of a request until its headers are there.
    pub header_time: Duration,
    /// Of all headers of a request.
    pub header_bytes_max: usize,
    /// What runs when the server is told to stop may go on so long.
    pub grace: Duration,
    /// Whose word on the sender of a request is believed.
    pub proxies: Arc<[Network]>,
    /// Names by which the server is asked, besides those that are its own anyway.
    pub hosts: Vec<HostName>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4096,
            header_time: Duration::from_secs(10),
            header_bytes_max: 64 << 10,
            grace: Duration::from_secs(2),
            proxies: Arc::default(),
            hosts: vec![],
        }
    }
}

/// Who has sent it, behind all proxies that are known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub IpAddr);

/// Which address a request was for, as metrics call it: a known set of names, whatever is asked.
#[derive(Debug, Clone)]
pub(crate) struct Route(pub String);

/// Serves until `shutdown` resolves and what then runs has ended, or has had its grace.
pub async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let address = listener.local_addr().ok();
    if address.is_some_and(|address: SocketAddr| !address.ip().is_loopback()) {
        tracing::warn!(?address, "http listens beyond this machine, without passwords and in clear");
    }
    let hosts = Hosts::new(address.map(|address| address.ip()), limits.hosts);
    let router = router(Arc::clone(&front), Arc::new(hosts));
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let (stop, stopped) = watch::channel(());
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_time);
    builder.max_buf_size(limits.header_bytes_max);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, address, permit)) = accepted else { continue };
        let (router, proxies) = (router.clone(), Arc::clone(&limits.proxies));
        let service =
            hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
                let sender = proxies::sender(address.ip(), request.headers(), &proxies);
                request.extensions_mut().insert(Peer(sender));
                // A router is always ready.
                router.clone().call(request)
            });
        let connection =
            builder.serve_connection(TokioIo::new(Patient::new(stream, TAKE_TIME)), service).with_upgrades();
        let (front, mut stopped) = (Arc::clone(&front), stopped.clone());
        tokio::spawn(async move {
            let _until_it_closes = (permit, front.counts.connection());
            let mut connection = std::pin::pin!(connection);
            // A client that breaks off is no event of ours.
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(stop);
    // Watchers and long downloads never end by themselves; what is cut off can be asked for again.
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.grace, room.acquire_many(all)).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            // Small answers leave at once; without it the connection works, only slower.
            let _ = stream.set_nodelay(true);
            Some((stream, address, permit))
        }
        Err(_) => {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn router(front: Arc<Front>, hosts: Arc<Hosts>) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::answer))
        .route("/api", get(ask::described))
        .route("/api/watch", get(ask::watch).fallback(|| async { Fault::method("GET") }))
        .route("/api/subscribe", get(ask::subscribe).fallback(|| async { Fault::method("GET") }))
        .route("/ws", get(ask::socket))
        .route("/api/sql", post(ask::sql).fallback(|| async { Fault::method("POST") }))
        .route(
            "/api/{*path}",
            get(ask::endpoint)
                .post(collect::take)
                .options(collect::preflight)
                .put(ask::keep)
                .delete(ask::forget)
                .fallback(|| async { Fault::method("GET, POST, PUT, DELETE") }),
        )
        .fallback(page::answer)
        .layer(middleware::from_fn_with_state((Arc::clone(&front), hosts), counted))
        .with_state(front)
}

/// Addresses that are counted each by itself, besides the endpoints.
const ROUTES: [&str; 8] =
    ["/health/live", "/health/ready", "/metrics", "/api", "/api/sql", "/api/watch", "/api/subscribe", "/ws"];

/// Counts the request, answers it if it is for this server, and says of every answer what browsers should make of it.
async fn counted(
    State((front, hosts)): State<(Arc<Front>, Arc<Hosts>)>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let route = ROUTES.into_iter().find(|path| request.uri().path() == *path).unwrap_or("other");
    let mut response = match hosts.check(request.headers()) {
        Ok(()) => next.run(request).await.into_response(),
        Err(fault) => fault.into_response(),
    };
    let route = response.extensions_mut().remove().unwrap_or_else(|| Route(route.to_owned()));
    front.counts.request(route.0, response.status().as_u16(), begun.elapsed());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    // Figures of a moment: a cache asks whether they are still the same.
    headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-cache"));
    response
}
