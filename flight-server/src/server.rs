//! Listens, and stops in good order.
//!
//! When `shutdown` resolves no new call is taken, running queries get a moment to end, and then they are cancelled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::backend::Backend;
use crate::connections::{Bounds, connections};
use crate::running::Running;
use crate::service::Service;

/// From being accepted to the first byte of a connection.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// A connection without an open call for so long gives way where there is no room.
const IDLE_MIN: Duration = Duration::from_secs(30);

/// What one server will take on at once.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Beyond it the idlest give way, or others wait to be accepted.
    pub connections_max: usize,
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
            connections_max: 1024,
            calls_per_connection_max: 64,
            message_bytes_max: 4 * 1024 * 1024,
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
    let running = Running::default();
    let service = FlightServiceServer::new(Service::new(Arc::clone(&backend), running.clone()))
        .max_decoding_message_size(limits.message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let bounds =
        Bounds { connections_max: limits.connections_max, silent_max: SILENT_MAX, idle_min: IDLE_MIN };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::builder()
        .max_concurrent_streams(limits.calls_per_connection_max)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming_shutdown(connections(listener, backend, bounds), async {
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
