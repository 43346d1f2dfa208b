//! Statements within a reader, each from its request to its last message. Hanging up gives one up.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use thalweg_sql::session::What;
use thalweg_sql::travel::{Compression, Encoder};
use thalweg_sql::{Error, plain};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::frame::Frame;
use crate::ipc;
use crate::makers::Makers;
use crate::message::{Hello, Reply, Request, Run};
use crate::mirror::Snapshots;
use crate::rooms::Rooms;
use crate::watch::Statement;

/// Small messages leave together.
const BUFFER_BYTES: usize = 64 << 10;
/// Of a request's values, or of rows; what is whole in the engine is whole here.
const BODY_BYTES_MAX: u64 = 1 << 40;

/// What all statements have in common.
#[derive(Clone)]
pub struct Common {
    pub rooms: Arc<Rooms>,
    pub snapshots: Arc<Snapshots>,
    pub makers: Arc<Makers>,
}

/// One statement after the other, until the other side hangs up; in the middle of one that gives it up.
pub async fn answer(stream: UnixStream, common: Common) {
    let (from, to) = stream.into_split();
    let mut from = BufReader::new(from);
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, to);
    loop {
        let frame = match Frame::read(&mut from, BODY_BYTES_MAX).await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(_) => return,
        };
        let Ok(Hello::Statement(request)) = frame.message() else { return };
        let statement = Statement::begin(request.number);
        let mut answering = Answering { to, common: common.clone() };
        let work = statement.mark(async move {
            if let Err(error) = answering.all(*request, frame.bodies).await {
                match error {
                    // Nobody is there to hear it.
                    Broken::Line => return None,
                    Broken::Statement(error) => {
                        answering.say(&Reply::Failed(error.into()), vec![]).await.ok()?;
                    }
                }
            }
            Some(answering.to)
        });
        to = tokio::select! {
            biased;
            done = work => match done {
                Some(to) => to,
                None => return,
            },
            () = gone(&mut from) => return,
        };
    }
}

/// Resolves when the other side has hung up. What it asks next stays where it is.
async fn gone(from: &mut BufReader<OwnedReadHalf>) {
    if from.fill_buf().await.is_ok_and(|asked| !asked.is_empty()) {
        std::future::pending().await
    }
}

enum Broken {
    Line,
    Statement(Error),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken::Line
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::Statement(error)
    }
}

struct Answering {
    to: BufWriter<OwnedWriteHalf>,
    common: Common,
}

impl Answering {
    async fn say(&mut self, reply: &Reply, bodies: Vec<Bytes>) -> io::Result<()> {
        Frame::new(reply, bodies)?.write(&mut self.to).await?;
        self.to.flush().await
    }

    async fn all(&mut self, request: Request, bodies: Vec<Bytes>) -> Result<(), Broken> {
        let damaged = |error: io::Error| Error::internal(format!("a request is damaged: {error}"));
        let mut bodies = bodies.into_iter();
        let mut next = || bodies.next().ok_or_else(|| Error::internal("a request is cut short"));
        let values = match request.has_values {
            true => Some(ipc::values(&next()?).map_err(damaged)?),
            false => None,
        };
        let advertised = match &request.run {
            Some(Run { has_schema: true, .. }) => Some(ipc::schema(&next()?).map_err(damaged)?),
            _ => None,
        };
        let mut facts = BTreeMap::new();
        for name in request.facts {
            facts.insert(name, ipc::batch(&next()?).map_err(damaged)?);
        }
        let seen = self.common.snapshots.get(request.snapshot).await.map_err(Error::internal)?;
        let what = What::from(request.what);
        let room = match &what {
            // What makes rows is kept for the next ones.
            What::RowByRow { .. } => self.common.rooms.apart()?,
            _ => self.common.rooms.enter()?,
        };
        let session = room.database.session_over(&seen, facts, &request.schema, request.memory_bytes)?;
        drop(seen);
        let rows = request.has_rows.then(&mut next).transpose()?;
        let rows = rows.map(|rows| ipc::batch(&rows)).transpose().map_err(damaged)?;
        let what = match what {
            What::Rehearsal(text) => {
                session.rehearse(&text).await?;
                return Ok(self.say(&Reply::Rehearsed, vec![]).await?);
            }
            What::RowByRow { text, given } => {
                let maker = self.common.makers.of(&session, &request.schema, text, given).await?;
                let made = maker.make(rows).await?;
                return Ok(self.say(&Reply::Made(made.view), vec![ipc::of_batch(&made.rows)?]).await?);
            }
            what => what,
        };
        let Some(run) = request.run else {
            let prepared = session.prepare_asked(&what, values.as_deref()).await?;
            let rows = prepared.rows.ok_or_else(|| Error::internal("a query has no rows"))?;
            let schemas = vec![ipc::of_schema(&rows)?, ipc::of_schema(&prepared.parameters)?];
            return Ok(self.say(&Reply::Prepared, schemas).await?);
        };
        let (mut rows, reads) = session.run_asked(&what, values.as_deref().unwrap_or_default()).await?;
        let planned = rows.schema();
        let schema = advertised.unwrap_or_else(|| Arc::new(plain::schema(&planned, false)));
        let started = vec![ipc::of_schema(&planned)?, ipc::of_schema(&schema)?];
        let finishes = session.finishes_as_it_reads();
        self.say(&Reply::Started { reads, finishes }, started).await?;
        let encoder = Encoder::new(schema, Compression::of(&run.compression)).map_err(Error::from)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(Error::from)?;
            for message in encoder.encode(&batch).map_err(Error::from)? {
                self.say(&Reply::Rows(message.rows), vec![message.header, message.body]).await?;
            }
        }
        Ok(self.say(&Reply::End, vec![]).await?)
    }
}
