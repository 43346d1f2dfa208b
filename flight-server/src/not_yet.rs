//! Before the server serves: who calls is told why nobody answers yet, where a silent port would keep them waiting.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::Server;

/// Nobody stays who has been told.
const CONNECTION_MAX: Duration = Duration::from_secs(5);
/// Until the last answers have left.
const GRACE: Duration = Duration::from_millis(500);
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What is said instead of an answer.
pub type Reason = Arc<dyn Fn() -> String + Send + Sync>;

/// Says so on `listener` until `until` resolves.
pub async fn not_yet(listener: &TcpListener, reason: Reason, until: impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::builder().max_connection_age(CONNECTION_MAX).serve_with_incoming_shutdown(
        NotYet(reason),
        calls(listener),
        async {
            let _ = stopped.await;
        },
    );
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        biased;
        () = until => {}
        // It takes calls for as long as it is not stopped.
        _ = &mut serving => return,
    }
    drop(stop);
    let _ = tokio::time::timeout(GRACE, serving).await;
}

fn calls(listener: &TcpListener) -> impl Stream<Item = Result<TcpStream, Infallible>> {
    stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), listener)),
                // No descriptor is left, for example.
                Err(_) => tokio::time::sleep(REFUSED_PAUSE).await,
            }
        }
    })
}

/// Of every call there is.
#[derive(Clone)]
struct NotYet(Reason);

impl Service<http::Request<Body>> for NotYet {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(Status::unavailable((self.0)()).into_http()))
    }
}
