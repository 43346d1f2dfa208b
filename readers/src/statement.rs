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

use crate::alike::{Hearer, Part, Said, Teller};
use crate::control::{Broken, Connected, Finishing, Held};
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
    /// All that its answer depends on besides the snapshot, where that is known: nothing of chance, no table of `system`.
    pub alike: Option<Vec<u8>>,
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
    /// Where others may hear the answer.
    teller: Option<Teller>,
    /// Open rows are not finished yet.
    finishing: Option<Finishing>,
    /// What another was told, and how far this one has come.
    heard: Option<(Arc<[Said]>, usize)>,
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
    /// Puts the question, and waits for the first reply: by then open rows are finished, or are when the next one comes.
    pub async fn ask(reader: Arc<Connected>, question: &Question) -> Result<(Line, Reply, Vec<Bytes>), Fate> {
        reader.running().fetch_add(1, Ordering::Relaxed);
        let reader = Counted(reader);
        let (held, mut finishing) = match reader.0.snapshot(&question.wanted).await {
            Ok(snapshot) => snapshot,
            Err(Broken::Refused(error)) => return Err(Fate::Refused(error)),
            Err(Broken::Gone) => return Err(Fate::Died(reader.0.end().await)),
        };
        let _held = Arc::clone(&held);
        let mut line =
            Line { open: None, reader, is_over: false, teller: None, finishing: None, heard: None, _held };
        let part = question.alike.as_ref().map(|alike| held.answers.part(alike));
        let (reply, bodies) = match part {
            Some(Part::Hear(hearer)) => {
                // Whoever tells it has a turn, and so may the next.
                drop(finishing.take());
                line.hear(hearer, held.number, question).await?
            }
            Some(Part::Ask(teller)) => {
                line.teller = Some(teller);
                line.put(held.number, question).await?
            }
            None => line.put(held.number, question).await?,
        };
        if let Reply::Started { finishes: true, .. } = reply {
            line.finishing = finishing;
        }
        Ok((line, reply, bodies))
    }

    async fn hear(&mut self, hearer: Hearer, snapshot: u64, question: &Question) -> Result<Said, Fate> {
        match hearer.whole().await {
            Some(said) => {
                self.heard = Some((said, 0));
                self.reply().await
            }
            None => self.put(snapshot, question).await,
        }
    }

    async fn put(&mut self, snapshot: u64, question: &Question) -> Result<Said, Fate> {
        let reader = &self.reader;
        let request = Request { snapshot, ..question.request.clone() };
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
        self.open = Some(open);
        self.reply().await
    }

    pub async fn reply(&mut self) -> Result<Said, Fate> {
        if let Some((said, next)) = &mut self.heard {
            let (reply, bodies) = said.get(*next).cloned().unwrap_or((Reply::End, vec![]));
            *next += 1;
            return Ok((reply, bodies));
        }
        if let Some(teller) = &self.teller {
            teller.is_asked(true);
        }
        let said = self.next().await?;
        if let Some(teller) = &mut self.teller {
            teller.says(&said.0, &said.1);
            teller.is_asked(false);
        }
        Ok(said)
    }

    async fn next(&mut self) -> Result<Said, Fate> {
        let read = match &mut self.open {
            Some(open) => Frame::read(&mut open.from, BODY_BYTES_MAX).await,
            None => Ok(None),
        };
        let frame = match read {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) => return Err(Fate::Died(self.reader.0.end().await)),
        };
        self.finishing = None;
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
