//! Accepts connections and gives each request to its route, within bounds that a slow or a greedy client can't pass.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Incoming;
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
    let door = Arc::new(Door { router: router(Arc::clone(&front)), front, hosts, proxies: limits.proxies });
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
        let until_it_closes = (permit, door.front.counts.connection());
        let door = Arc::clone(&door);
        let service = hyper::service::service_fn(move |request| {
            let door = Arc::clone(&door);
            async move { Ok::<_, Infallible>(door.answer(address.ip(), request).await) }
        });
        let connection =
            builder.serve_connection(TokioIo::new(Patient::new(stream, TAKE_TIME)), service).with_upgrades();
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let _until_it_closes = until_it_closes;
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

/// What all connections share.
struct Door {
    front: Arc<Front>,
    hosts: Hosts,
    proxies: Arc<[Network]>,
    router: Router,
}

impl Door {
    /// Counts the request, answers it if it is for this server, and says of every answer what browsers should make of it.
    async fn answer(&self, address: IpAddr, request: hyper::Request<Incoming>) -> Response {
        let begun = Instant::now();
        let peer = Peer(proxies::sender(address, request.headers(), &self.proxies));
        let known = ROUTES.into_iter().find(|path| request.uri().path() == *path);
        let (told, mut response) = match self.hosts.check(request.headers()) {
            Err(fault) => (None, fault.into_response()),
            Ok(()) if known.is_none() && brings_events(&request) => {
                collect::take(&self.front, peer, request).await
            }
            Ok(()) => self.routed(peer, request).await,
        };
        let route = told.unwrap_or_else(|| Route(known.unwrap_or("other").to_owned()));
        self.front.counts.request(route.0, response.status().as_u16(), begun.elapsed());
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
        // Figures of a moment: a cache asks whether they are still the same.
        headers.entry(header::CACHE_CONTROL).or_insert(header::HeaderValue::from_static("no-cache"));
        response
    }

    async fn routed(&self, peer: Peer, mut request: hyper::Request<Incoming>) -> (Option<Route>, Response) {
        request.extensions_mut().insert(peer);
        // A router is always ready, and never fails.
        let Ok(mut response) = self.router.clone().call(request).await;
        (response.extensions_mut().remove(), response)
    }
}

/// Events come by the ten thousand a second, and a way through the router costs half as much as an event itself.
fn brings_events(request: &hyper::Request<Incoming>) -> bool {
    *request.method() == Method::POST && request.uri().path().starts_with("/api/")
}

fn router(front: Arc<Front>) -> Router {
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
                .options(collect::preflight)
                .put(ask::keep)
                .delete(ask::forget)
                .fallback(ask::not_so),
        )
        .fallback(page::answer)
        .with_state(front)
}

/// Addresses that are counted each by itself, besides the endpoints.
const ROUTES: [&str; 8] =
    ["/health/live", "/health/ready", "/metrics", "/api", "/api/sql", "/api/watch", "/api/subscribe", "/ws"];
