//! One question to a reader, over a connection of its own, as the engine's process sees it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use thalweg_engine::ErrorKind;
use thalweg_sql::Error;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::control::{Broken, Connected, Held};
use crate::frame::Frame;
use crate::message::{Hello, Reply, Request, Text};
use crate::process::End;

/// The half of a message: one row is not cut.
const BODY_BYTES_MAX: u64 = 512 << 20;
const BUFFER_BYTES: usize = 64 << 10;

/// What is asked, as often as it has to be.
pub struct Question {
    pub request: Request,
    pub bodies: Vec<Bytes>,
    pub wanted: thalweg_engine::mirror::Wanted,
    /// Of its text and values.
    pub key: u64,
}

impl Question {
    /// It is of a statement that the engine's process plans, too.
    pub fn is_rehearsal(&self) -> bool {
        matches!(self.request.what, Text::Rehearsal(_))
    }
}

/// A connection over which one question is put at a time.
pub struct Open {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Open {
    pub async fn new(address: &Path) -> io::Result<Open> {
        let (from, to) = UnixStream::connect(address).await?.into_split();
        Ok(Open { from: BufReader::with_capacity(BUFFER_BYTES, from), to })
    }

    async fn put(&mut self, request: Request, bodies: Vec<Bytes>) -> io::Result<()> {
        let frame = Frame::new(&Hello::Statement(Box::new(request)), bodies)?;
        frame.write(&mut self.to).await?;
        self.to.flush().await
    }
}

/// A question that was put, until its last reply. Dropping it before gives it up.
pub struct Line {
    open: Option<Open>,
    reader: Counted,
    is_over: bool,
    _held: Arc<Held>,
}

impl Drop for Line {
    /// The next question may go the same way; hanging up on one that is not answered stops it.
    fn drop(&mut self) {
        if let Some(open) = self.open.take().filter(|open| self.is_over && open.from.buffer().is_empty()) {
            self.reader.0.keep(open);
        }
    }
}

struct Counted(Arc<Connected>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no reply.
pub enum Fate {
    Refused(Error),
    Died(End),
}

impl Line {
    /// Puts the question, and waits for the first reply: by then open rows are finished.
    pub async fn ask(reader: Arc<Connected>, question: &Question) -> Result<(Line, Reply, Vec<Bytes>), Fate> {
        reader.running().fetch_add(1, Ordering::Relaxed);
        let reader = Counted(reader);
        let (held, finishing) = match reader.0.snapshot(&question.wanted).await {
            Ok(snapshot) => snapshot,
            Err(Broken::Refused(error)) => return Err(Fate::Refused(error)),
            Err(Broken::Gone) => return Err(Fate::Died(reader.0.end().await)),
        };
        let request = Request { snapshot: held.number, ..question.request.clone() };
        let kept = reader.0.kept();
        let mut open = match kept {
            Some(open) => open,
            None => match Open::new(reader.0.address()).await {
                Ok(open) => open,
                // It is this process that lacks something.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                    return Err(Fate::Refused(
                        Error::new(
                            ErrorKind::Unavailable,
                            format!("there is no connection to the process that runs queries: {error}"),
                        )
                        .hint("try again; the limit of open files of the server (ulimit -n) is too low"),
                    ));
                }
                Err(_) => return Err(Fate::Died(reader.0.end().await)),
            },
        };
        if open.put(request, question.bodies.clone()).await.is_err() {
            return Err(Fate::Died(reader.0.end().await));
        }
        let mut line = Line { open: Some(open), reader, is_over: false, _held: held };
        let (reply, bodies) = line.reply().await?;
        drop(finishing);
        Ok((line, reply, bodies))
    }

    pub async fn reply(&mut self) -> Result<(Reply, Vec<Bytes>), Fate> {
        let read = match &mut self.open {
            Some(open) => Frame::read(&mut open.from, BODY_BYTES_MAX).await,
            None => Ok(None),
        };
        let frame = match read {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) => return Err(Fate::Died(self.reader.0.end().await)),
        };
        match frame.message() {
            Ok(reply) => {
                self.is_over = !matches!(reply, Reply::Started { .. } | Reply::Rows(_));
                Ok((reply, frame.bodies))
            }
            Err(error) => {
                Err(Fate::Refused(Error::internal(format!("a reader can't be understood: {error}"))))
            }
        }
    }
}
