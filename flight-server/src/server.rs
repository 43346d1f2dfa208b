//! Listens, and stops in good order.
//!
//! When `shutdown` resolves no new call is taken, running queries get a moment to end, and then they are cancelled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::backend::Backend;
use crate::running::Running;
use crate::service::Service;
use crate::session::{Connection, Session};

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one server will take on at once.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Queries whose rows are flowing.
    pub queries_max: usize,
    /// Calls that one connection may have open.
    pub calls_per_connection_max: u32,
    /// The largest message taken from a client.
    pub message_bytes_max: usize,
    /// How long running queries may go on after the server was asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queries_max: 64,
            calls_per_connection_max: 64,
            message_bytes_max: 16 * 1024 * 1024,
            grace: Duration::from_secs(2),
        }
    }
}

/// Serves `backend` on `listener` until `shutdown` resolves and the running queries have ended.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let address = listener.local_addr().ok();
    if address.is_some_and(|address| !is_loopback(address)) {
        tracing::warn!(?address, "flight sql listens beyond this machine, without passwords and in clear");
    }
    let running = Running::new(limits.queries_max);
    let service = FlightServiceServer::new(Service::new(Arc::clone(&backend), running.clone()))
        .max_decoding_message_size(limits.message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::builder()
        .max_concurrent_streams(limits.calls_per_connection_max)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming_shutdown(connections(listener, backend), async {
            // A dropped sender means that nobody is left to ask, so stop too.
            let _ = stopped.await;
        });
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        biased;
        ended = &mut serving => return ended,
        () = shutdown => {}
    }
    drop(stop);
    let ended = tokio::time::timeout(limits.grace, &mut serving).await;
    if let Ok(ended) = ended {
        return ended;
    }
    running.cancel_all();
    // Connections that idle on are closed by leaving.
    tokio::time::timeout(limits.grace, serving).await.unwrap_or(Ok(()))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().is_loopback()
}

fn connections(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
) -> impl stream::Stream<Item = std::io::Result<Connection>> {
    stream::unfold(listener, move |listener| {
        let backend = Arc::clone(&backend);
        async move {
            let accepted = listener.accept().await.map(|(stream, _)| {
                // Small answers leave at once; without it the connection works, only slower.
                let _ = stream.set_nodelay(true);
                Connection { stream, session: Session::new(backend.defaults()) }
            });
            if accepted.is_err() {
                // Out of file handles, most likely: some will be free again.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Some((accepted, listener))
        }
    })
}
