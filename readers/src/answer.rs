//! Statements within a reader, each from its request to its last message. Hanging up gives one up.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{StreamExt, stream};
use thalweg_sql::session::{Prepared, Session, What};
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
use crate::rooms::{Room, Rooms};
use crate::watch::{Marks, Statement};

/// Small messages leave together.
const BUFFER_BYTES: usize = 64 << 10;
/// Of a request's values, or of rows; what is whole in the engine is whole here.
const BODY_BYTES_MAX: u64 = 1 << 40;

/// Then it waits where it is.
const MOVES_MAX: u32 = 16;

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
        let mut answering = Answering { to, common: common.clone(), marks: statement.marks() };
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
    marks: Arc<Marks>,
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
        let over = |room: &Room, facts| {
            room.database.session_over(&seen, facts, &request.schema, request.memory_bytes)
        };
        if let Some(run) = request.run {
            let values = values.unwrap_or_default();
            let asked = Asked { what: &what, values: &values, advertised, compression: &run.compression };
            return self.run(asked, |room| over(room, facts.clone())).await;
        }
        if !matches!(what, What::Rehearsal(_) | What::RowByRow { .. }) {
            let prepared = self.prepared(&what, values.as_deref(), |room| over(room, facts.clone())).await?;
            let rows = prepared.rows.ok_or_else(|| Error::internal("a query has no rows"))?;
            let schemas = vec![ipc::of_schema(&rows)?, ipc::of_schema(&prepared.parameters)?];
            return Ok(self.say(&Reply::Prepared, schemas).await?);
        }
        let room = match &what {
            // What makes rows is kept for the next ones.
            What::RowByRow { .. } => self.common.rooms.apart()?,
            _ => self.common.rooms.enter()?,
        };
        let session = over(&room, facts)?;
        drop(seen);
        let rows = request.has_rows.then(&mut next).transpose()?;
        let rows = rows.map(|rows| ipc::batch(&rows)).transpose().map_err(damaged)?;
        if let What::RowByRow { text, given } = what {
            let maker = self.common.makers.of(&session, &request.schema, text, given).await?;
            let made = maker.make(rows).await?;
            return Ok(self.say(&Reply::Made(made.view), vec![ipc::of_batch(&made.rows)?]).await?);
        }
        session.rehearse(what.text()).await?;
        Ok(self.say(&Reply::Rehearsed, vec![]).await?)
    }

    /// What comes of some work, or nothing where it had better be begun anew elsewhere.
    async fn unless_kept_out<T>(&self, room: &Room, moved: u32, work: impl Future<Output = T>) -> Option<T> {
        match moved {
            MOVES_MAX => Some(work.await),
            _ => room.unless_kept_out(&self.marks, work).await,
        }
    }

    async fn prepared(
        &self,
        what: &What,
        values: Option<&[ScalarValue]>,
        session: impl Fn(&Room) -> thalweg_sql::Result<Session>,
    ) -> Result<Prepared, Broken> {
        for moved in 0..=MOVES_MAX {
            let room = self.common.rooms.enter()?;
            let session = session(&room)?;
            let prepared = self.unless_kept_out(&room, moved, session.prepare_asked(what, values)).await;
            if let Some(prepared) = prepared {
                return Ok(prepared?);
            }
        }
        Err(Error::internal("a query was begun nowhere").into())
    }

    /// Begun anew elsewhere, as long as nobody has seen a row of it, where others keep all threads.
    async fn run(
        &mut self,
        asked: Asked<'_>,
        session: impl Fn(&Room) -> thalweg_sql::Result<Session>,
    ) -> Result<(), Broken> {
        let Asked { what, values, advertised, compression } = asked;
        let mut told = None;
        for moved in 0..=MOVES_MAX {
            let room = self.common.rooms.enter()?;
            let session = session(&room)?;
            let begun = self.unless_kept_out(&room, moved, session.run_asked(what, values)).await;
            let Some(begun) = begun else { continue };
            let (mut rows, reads) = begun?;
            let planned = rows.schema();
            let schema = advertised.clone().unwrap_or_else(|| Arc::new(plain::schema(&planned, false)));
            if told.is_none() {
                let started = vec![ipc::of_schema(&planned)?, ipc::of_schema(&schema)?];
                let finishes = session.finishes_as_it_reads();
                self.say(&Reply::Started { reads, finishes }, started).await?;
                told = Some(planned);
            } else if told.as_ref() != Some(&planned) {
                return Err(Error::internal("a query has other columns than before").into());
            }
            let Some(first) = self.unless_kept_out(&room, moved, rows.next()).await else { continue };
            let encoder = Encoder::new(schema, Compression::of(compression)).map_err(Error::from)?;
            let mut rows = stream::iter(first).chain(rows);
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(Error::from)?;
                for message in encoder.encode(&batch).map_err(Error::from)? {
                    self.say(&Reply::Rows(message.rows), vec![message.header, message.body]).await?;
                }
            }
            return Ok(self.say(&Reply::End, vec![]).await?);
        }
        Err(Error::internal("a query was begun nowhere").into())
    }
}

/// A query that is to run.
struct Asked<'a> {
    what: &'a What,
    values: &'a [ScalarValue],
    /// The columns that its client was promised.
    advertised: Option<SchemaRef>,
    compression: &'a str,
}
