//! The connections of clients: how many there may be, and which one gives way when there is no room for another.
//!
//! Each is a descriptor, and the store needs some of its own. A connection that never says a word is closed soon; of
//! those that have no call open, the one that has been idle for longest is closed when somebody new comes, and clients open
//! another by themselves. When all are busy, whoever comes waits to be accepted.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::stream;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::backend::Backend;
use crate::session::Session;

/// After a failed accept: out of descriptors, most likely, and some will be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked who may give way, while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub connections_max: usize,
    /// From being accepted to the first byte.
    pub silent_max: Duration,
    /// Whoever has had no call open for so long gives way.
    pub idle_min: Duration,
}

pub(crate) fn connections(
    listener: TcpListener,
    backend: Arc<dyn Backend>,
    bounds: Bounds,
) -> impl stream::Stream<Item = io::Result<Connection>> {
    let room = Room {
        permits: Arc::new(Semaphore::new(bounds.connections_max)),
        lives: Arc::default(),
        begun: Instant::now(),
    };
    stream::unfold((listener, room, 0), move |(listener, room, number)| {
        let backend = Arc::clone(&backend);
        async move {
            let permit = room.permit(bounds.idle_min).await;
            let accepted = listener.accept().await.map(|(stream, _)| {
                // Small answers leave at once; without it the connection works, only slower.
                let _ = stream.set_nodelay(true);
                let life = Arc::new(Life::new(room.begun));
                let place = room.enter(number, Arc::clone(&life), permit);
                let silence = Some(Box::pin(tokio::time::sleep(bounds.silent_max)));
                let session = Session::new(backend.defaults()).of_connection(Arc::clone(&life));
                Connection { stream, session, life, silence, _place: place }
            });
            if accepted.is_err() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Some((accepted, (listener, room, number + 1)))
        }
    })
}

#[derive(Clone)]
struct Room {
    permits: Arc<Semaphore>,
    lives: Arc<Mutex<BTreeMap<u64, Arc<Life>>>>,
    begun: Instant,
}

impl Room {
    async fn permit(&self, idle_min: Duration) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return Some(permit);
            }
            self.close_the_idlest(idle_min);
            let waiting = Arc::clone(&self.permits).acquire_owned();
            if let Ok(permit) = tokio::time::timeout(LOOK_AGAIN, waiting).await {
                return permit.ok();
            }
        }
    }

    fn close_the_idlest(&self, idle_min: Duration) {
        let lives = lock(&self.lives);
        let idle = lives.values().filter_map(|life| Some((life.idle()?, life)));
        let idlest = idle.max_by_key(|(idle, _)| *idle).filter(|(idle, _)| *idle >= idle_min);
        if let Some((idle, life)) = idlest {
            tracing::debug!(?idle, "a connection gives way to another");
            life.close();
        }
    }

    fn enter(&self, number: u64, life: Arc<Life>, permit: Option<OwnedSemaphorePermit>) -> Place {
        lock(&self.lives).insert(number, life);
        Place { number, lives: Arc::clone(&self.lives), _permit: permit }
    }
}

struct Place {
    number: u64,
    lives: Arc<Mutex<BTreeMap<u64, Arc<Life>>>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.lives).remove(&self.number);
    }
}

fn lock(lives: &Mutex<BTreeMap<u64, Arc<Life>>>) -> MutexGuard<'_, BTreeMap<u64, Arc<Life>>> {
    lives.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a connection is doing.
pub(crate) struct Life {
    begun: Instant,
    calls: AtomicUsize,
    /// When the last call ended or began, in milliseconds.
    last: AtomicU64,
    is_closing: AtomicBool,
    waker: AtomicWaker,
}

impl Life {
    fn new(begun: Instant) -> Life {
        let life = Life {
            begun,
            calls: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        life.touch();
        life
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A call is open until what this gives is dropped.
    pub fn call(self: &Arc<Life>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Call(Arc::clone(self))
    }

    fn idle(&self) -> Option<Duration> {
        let is_idle = self.calls.load(Ordering::Relaxed) == 0 && !self.is_closing.load(Ordering::Relaxed);
        is_idle.then(|| Duration::from_millis(self.now() - self.last.load(Ordering::Relaxed).min(self.now())))
    }

    fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.waker.wake();
    }
}

pub(crate) struct Call(Arc<Life>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.touch();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A TCP connection that carries its session to every request that comes by it.
pub(crate) struct Connection {
    stream: TcpStream,
    session: Session,
    life: Arc<Life>,
    /// Until the first byte.
    silence: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = Session;

    fn connect_info(&self) -> Session {
        self.session.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.life.waker.register(ctx.waker());
        if self.life.is_closing.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(ctx, buffer);
        if polled.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(ctx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(ctx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(ctx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
