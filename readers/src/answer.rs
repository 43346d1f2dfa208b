//! One statement within a reader: from its request to its last message. Hanging up gives it up.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use thalweg_sql::session::{Database, What};
use thalweg_sql::travel::{Compression, Encoder};
use thalweg_sql::{Error, plain};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;

use crate::frame::Frame;
use crate::ipc;
use crate::makers::Makers;
use crate::message::{Reply, Request, Run};
use crate::mirror::Snapshots;
use crate::watch::Statement;

/// Small messages leave together.
const BUFFER_BYTES: usize = 64 << 10;

pub async fn answer(
    stream: UnixStream,
    request: Request,
    bodies: Vec<Bytes>,
    database: Database,
    snapshots: Arc<Snapshots>,
    makers: Arc<Makers>,
) {
    let (mut hangs_up, to) = stream.into_split();
    let statement = Statement::begin(request.number);
    let mut answering =
        Answering { to: BufWriter::with_capacity(BUFFER_BYTES, to), database, snapshots, makers };
    let work = statement.mark(async move {
        if let Err(error) = answering.all(request, bodies).await {
            match error {
                // Nobody is there to hear it.
                Broken::Line => return,
                Broken::Statement(error) => _ = answering.say(&Reply::Failed(error.into()), vec![]).await,
            }
        }
        _ = answering.to.shutdown().await;
    });
    tokio::select! {
        biased;
        () = work => {}
        // Nothing more is ever said on this side.
        _ = hangs_up.read_u8() => {}
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
    database: Database,
    snapshots: Arc<Snapshots>,
    makers: Arc<Makers>,
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
        let seen = self.snapshots.get(request.snapshot).await.map_err(Error::internal)?;
        let session = self.database.session_over(&seen, facts, &request.schema)?;
        drop(seen);
        let rows = request.has_rows.then(&mut next).transpose()?;
        let rows = rows.map(|rows| ipc::batch(&rows)).transpose().map_err(damaged)?;
        let what = match What::from(request.what) {
            What::Rehearsal(text) => {
                session.rehearse(&text).await?;
                return Ok(self.say(&Reply::Rehearsed, vec![]).await?);
            }
            What::RowByRow { text, given } => {
                let maker = self.makers.of(&session, &request.schema, text, given).await?;
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
        self.say(&Reply::Started { reads }, started).await?;
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
