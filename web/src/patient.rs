//! A connection whose other side has to take what is there for it, or is left: with it go its query, and what waits for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A client that takes nothing of what is there for it is left after this long.
pub(crate) const TAKE_TIME: Duration = Duration::from_secs(30);

pub(crate) struct Patient<S> {
    stream: S,
    /// How long the other side may take nothing of what is there.
    patience: Duration,
    /// Runs while the other side takes nothing.
    until: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl<S> Patient<S> {
    pub fn new(stream: S, patience: Duration) -> Patient<S> {
        Patient { stream, patience, until: Box::pin(tokio::time::sleep(patience)), is_waiting: false }
    }

    fn judged(&mut self, cx: &mut Context<'_>, taken: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if taken.is_ready() {
            self.is_waiting = false;
            return taken;
        }
        if !std::mem::replace(&mut self.is_waiting, true) {
            let due = Instant::now() + self.patience;
            self.until.as_mut().reset(due);
        }
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judged(cx, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judged(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_left_and_who_takes_a_little_is_not() {
        let patience = Duration::from_millis(500);
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Patient::new(ours, patience);
        ours.write_all(&[0; 16]).await.unwrap();
        let slow = tokio::spawn(async move {
            for _ in 0..6 {
                tokio::time::sleep(patience / 4).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
            // It stays, and takes no more.
            std::future::pending::<()>().await;
        });
        ours.write_all(&[0; 48]).await.unwrap();
        let left = ours.write_all(&[0; 8]).await.unwrap_err();
        assert_eq!(left.kind(), io::ErrorKind::TimedOut);
        slow.abort();
    }
}
