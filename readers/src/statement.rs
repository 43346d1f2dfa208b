//! One question to a reader, over a connection of its own, as the engine's process sees it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
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

/// A question that was put, until its last reply. Dropping it gives it up.
pub struct Line {
    from: BufReader<OwnedReadHalf>,
    _to: OwnedWriteHalf,
    reader: Counted,
    _held: Arc<Held>,
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
        let put = async {
            let mut stream = UnixStream::connect(reader.0.address()).await?;
            let frame = Frame::new(&Hello::Statement(Box::new(request)), question.bodies.clone())?;
            frame.write(&mut stream).await?;
            stream.flush().await?;
            Ok::<_, std::io::Error>(stream.into_split())
        };
        let Ok((from, to)) = put.await else { return Err(Fate::Died(reader.0.end().await)) };
        let from = BufReader::with_capacity(BUFFER_BYTES, from);
        let mut line = Line { from, _to: to, reader, _held: held };
        let (reply, bodies) = line.reply().await?;
        drop(finishing);
        Ok((line, reply, bodies))
    }

    pub async fn reply(&mut self) -> Result<(Reply, Vec<Bytes>), Fate> {
        let frame = match Frame::read(&mut self.from, BODY_BYTES_MAX).await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) => return Err(Fate::Died(self.reader.0.end().await)),
        };
        match frame.message() {
            Ok(reply) => Ok((reply, frame.bodies)),
            Err(error) => {
                Err(Fate::Refused(Error::internal(format!("a reader can't be understood: {error}"))))
            }
        }
    }
}
