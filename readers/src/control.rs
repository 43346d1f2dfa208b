//! One reader as the engine's process sees it: what it has been told, and the snapshots that statements share.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use bytes::Bytes;
use thalweg_engine::mirror::{Teller, Wanted};
use thalweg_engine::snapshot::Snapshot;
use thalweg_engine::spec::ViewSpec;
use thalweg_sql::Error;
use thalweg_sql::session::Engine;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::net::UnixStream;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::alike::Answers;
use crate::frame::Frame;
use crate::ipc;
use crate::message::{Catalog, Control, Entry, Hello};
use crate::process::End;
use crate::statement::Open;
use crate::watch::LastWords;

/// Who finishes open rows holds up others over the same tables for twice what the last two took, within these bounds: a
/// statement that plans for long, no longer.
const TURN_MAX: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(15)];
/// From a broken line until the process is known to have ended.
const END_KNOWN_WITHIN: Duration = Duration::from_secs(2);
const KEPT_MAX: usize = 16;
/// How often what is not needed any more is told.
const SWEPT_EACH: Duration = Duration::from_secs(1);

pub struct Connected {
    address: PathBuf,
    engine: Arc<dyn Engine>,
    /// Bytes of open windows that can be sent there.
    holds_most: usize,
    begun: Instant,
    telling: tokio::sync::Mutex<Telling>,
    told: mpsc::UnboundedSender<Message>,
    running: AtomicUsize,
    /// So that small questions need no new connection, and where there is no descriptor left some can still be put.
    kept: Mutex<Vec<Open>>,
    end: watch::Sender<Option<End>>,
    /// Orders what comes and what is taken.
    stamps: AtomicU64,
    turns: Mutex<BTreeMap<Wanted, Arc<tokio::sync::Mutex<Turn>>>>,
}

#[derive(Default)]
struct Telling {
    teller: Teller,
    /// Of all that is in the catalog.
    ids: Vec<Uuid>,
    last_snapshot: u64,
}

/// What is on its way, as it is in the engine: bytes are made of it when it is its turn. It holds nothing that the engine
/// does not hold, or has just let go of.
struct Message {
    control: Control,
    batches: Vec<RecordBatch>,
}

/// The newest snapshot of some tables.
#[derive(Default)]
struct Turn {
    newest: Option<(u64, Instant, Arc<Held>)>,
    last: Arc<Mutex<Last>>,
}

/// How long it took until open rows were finished, the last two times: one alone may have been a statement's own matter.
#[derive(Default, Clone, Copy)]
struct Last([Duration; 2]);

impl Last {
    fn took(&mut self, time: Duration) {
        self.0 = [time, self.0[0]];
    }

    fn turn_max(self) -> Duration {
        let [least, most] = TURN_MAX;
        (self.0[0].min(self.0[1]) * 2).clamp(least, most)
    }
}

/// A snapshot that the reader keeps as long as this is kept.
pub struct Held {
    pub number: u64,
    pub answers: Answers,
    told: mpsc::UnboundedSender<Message>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let control = Control::Release(vec![self.number]);
        _ = self.told.send(Message { control, batches: vec![] });
    }
}

/// To be dropped once open rows are finished: then others may take the next snapshot.
pub struct Finishing {
    told: Option<oneshot::Sender<()>>,
    begun: Instant,
    last: Arc<Mutex<Last>>,
}

impl Connected {
    /// Begins to tell a reader that has just been started.
    pub async fn new(
        address: PathBuf,
        engine: Arc<dyn Engine>,
        holds_most: usize,
    ) -> io::Result<Arc<Connected>> {
        let mut stream = UnixStream::connect(&address).await?;
        Frame::new(&Hello::Control, vec![])?.write(&mut stream).await?;
        let first = vec![Open::new(&address).await?];
        let (told, messages) = mpsc::unbounded_channel();
        tokio::spawn(tell(stream, messages));
        let connected = Arc::new(Connected {
            address,
            engine,
            holds_most,
            begun: Instant::now(),
            telling: tokio::sync::Mutex::default(),
            told,
            running: AtomicUsize::new(0),
            kept: Mutex::new(first),
            end: watch::Sender::new(None),
            stamps: AtomicU64::new(0),
            turns: Mutex::default(),
        });
        tokio::spawn(sweep(Arc::downgrade(&connected)));
        Ok(connected)
    }

    pub fn address(&self) -> &Path {
        &self.address
    }

    /// A connection that has served a question before.
    pub fn kept(&self) -> Option<Open> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub fn keep(&self, open: Open) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(open);
        }
    }

    pub fn running(&self) -> &AtomicUsize {
        &self.running
    }

    pub fn ended(&self, end: End) {
        self.end.send_replace(Some(end));
    }

    /// How it ended, once its line is broken.
    pub async fn end(&self) -> End {
        let mut end = self.end.subscribe();
        let known = tokio::time::timeout(END_KNOWN_WITHIN, end.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(|known| known.ok().and_then(|end| end.clone()));
        known.unwrap_or_else(|| End { words: LastWords::None, status: "it does not answer".to_owned() })
    }

    /// What a statement is to see: taken after it came. Where somebody finishes the open rows of the same tables, all who
    /// come meanwhile share the next snapshot, and with it those rows.
    pub async fn snapshot(&self, wanted: &Wanted) -> Result<(Arc<Held>, Option<Finishing>), Broken> {
        if !wanted.reads_open() {
            return Ok((self.take(wanted).await?, None));
        }
        let came = self.stamps.fetch_add(1, Ordering::SeqCst);
        let turn = Arc::clone(self.turns().entry(wanted.clone()).or_default());
        let mut turn = turn.lock_owned().await;
        if let Some((taken, _, held)) = &turn.newest
            && *taken > came
        {
            return Ok((Arc::clone(held), None));
        }
        let taken = self.stamps.fetch_add(1, Ordering::SeqCst);
        let held = self.take(wanted).await?;
        turn.newest = Some((taken, Instant::now(), Arc::clone(&held)));
        let last = Arc::clone(&turn.last);
        let longest = last.lock().unwrap_or_else(PoisonError::into_inner).turn_max();
        let (finished, finishing) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let _turn: OwnedMutexGuard<Turn> = turn;
            _ = tokio::time::timeout(longest, finishing).await;
        });
        Ok((held, Some(Finishing { told: Some(finished), begun: Instant::now(), last })))
    }

    async fn take(&self, wanted: &Wanted) -> Result<Arc<Held>, Broken> {
        let mut telling = self.telling.lock().await;
        // The catalog after the snapshot, for it has to know all that is in it.
        let snapshot = self.engine.snapshot();
        self.check_room(wanted, &snapshot)?;
        let views = self.engine.views();
        let ids = ids(&*self.engine, &views);
        if ids != telling.ids {
            let columns = columns(&views).map_err(|error| Error::internal(error.to_string()))?;
            self.tell(Control::Catalog(catalog(&*self.engine, &views)), vec![columns])?;
            telling.ids = ids;
        }
        let told = telling.teller.tell(&snapshot, wanted, self.begun.elapsed()).map_err(Error::from)?;
        for (number, piece) in telling.teller.fresh() {
            self.tell(Control::Piece { number, head: piece.head }, piece.batches)?;
        }
        telling.last_snapshot += 1;
        let number = telling.last_snapshot;
        self.tell(Control::Snapshot { number, told: Box::new(told) }, vec![])?;
        Ok(Arc::new(Held { number, answers: Answers::default(), told: self.told.clone() }))
    }

    /// More than a process can hold would end it, and whatever it is at.
    fn check_room(&self, wanted: &Wanted, snapshot: &Snapshot) -> Result<(), Broken> {
        let opened = wanted.views.iter().filter(|(_, parts)| parts.open);
        let weight =
            |(name, _): (&String, _)| snapshot.views.get(name).map_or(0, |table| table.open.weight());
        let bytes: usize = opened.map(weight).sum();
        if bytes <= self.holds_most {
            return Ok(());
        }
        Err(Broken::Refused(
            Error::invalid(format!(
                "what the query reads of open windows is more than the process that runs queries may hold. \
                 bytes={bytes}, most={}",
                self.holds_most
            ))
            .hint("--reader-memory allows more; history.… of a view reads what has closed alone"),
        ))
    }

    fn tell(&self, control: Control, batches: Vec<RecordBatch>) -> Result<(), Broken> {
        self.told.send(Message { control, batches }).map_err(|_| Broken::Gone)
    }

    fn turns(&self) -> MutexGuard<'_, BTreeMap<Wanted, Arc<tokio::sync::Mutex<Turn>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sweep(&self) -> Result<(), Broken> {
        self.turns().retain(|_, turn| match turn.try_lock() {
            Ok(turn) => turn.newest.as_ref().is_some_and(|(_, taken, _)| taken.elapsed() < SWEPT_EACH),
            Err(_) => true,
        });
        let mut telling = self.telling.lock().await;
        let forgotten = telling.teller.forget(self.begun.elapsed());
        match forgotten.is_empty() {
            true => Ok(()),
            false => self.tell(Control::Forget(forgotten), vec![]),
        }
    }
}

/// Why a snapshot was not told.
pub enum Broken {
    Gone,
    Refused(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        Broken::Refused(error)
    }
}

async fn sweep(connected: std::sync::Weak<Connected>) {
    loop {
        tokio::time::sleep(SWEPT_EACH).await;
        let Some(connected) = connected.upgrade() else { return };
        if connected.sweep().await.is_err() {
            return;
        }
    }
}

async fn tell(stream: UnixStream, mut messages: mpsc::UnboundedReceiver<Message>) {
    let mut stream = BufWriter::with_capacity(1 << 20, stream);
    while let Some(message) = messages.recv().await {
        let frame = encoded(message);
        let told = async {
            frame?.write(&mut stream).await?;
            match messages.is_empty() {
                true => stream.flush().await,
                false => Ok(()),
            }
        };
        if let Err(error) = told.await {
            // Its end is told by who watches the process.
            tracing::debug!(%error, "a reader is told nothing more");
            return;
        }
    }
}

fn encoded(message: Message) -> io::Result<Frame> {
    let bodies = message.batches.iter().map(ipc::of_batch).collect::<io::Result<Vec<Bytes>>>()?;
    Frame::new(&message.control, bodies)
}

fn ids(engine: &dyn Engine, views: &[Arc<ViewSpec>]) -> Vec<Uuid> {
    let streams = engine.streams().into_iter().map(|stream| stream.id);
    let tables = engine.tables().into_iter().map(|table| table.id);
    let kept = engine.kept().into_iter().map(|kept| kept.id);
    streams.chain(tables).chain(views.iter().map(|view| view.id)).chain(kept).collect()
}

fn catalog(engine: &dyn Engine, views: &[Arc<ViewSpec>]) -> Catalog {
    let entry = |id, name: &str, sql: &str| Entry {
        id,
        name: name.to_owned(),
        sql: sql.to_owned(),
        inputs: vec![],
        fingerprint: String::new(),
    };
    let view = |view: &Arc<ViewSpec>| Entry {
        inputs: view.inputs(),
        fingerprint: view.fingerprint.clone(),
        ..entry(view.id, &view.name, &view.sql)
    };
    Catalog {
        streams: engine.streams().iter().map(|it| entry(it.id, &it.name, &it.sql)).collect(),
        tables: engine.tables().iter().map(|it| entry(it.id, &it.name, &it.sql)).collect(),
        views: views.iter().map(view).collect(),
        kept: engine.kept().iter().map(|it| entry(it.id, &it.name, &it.sql)).collect(),
    }
}

/// Of each view its schema.
fn columns(views: &[Arc<ViewSpec>]) -> io::Result<RecordBatch> {
    let schemas = views.iter().map(|view| ipc::of_schema(&view.schema)).collect::<io::Result<Vec<_>>>()?;
    let schemas: ArrayRef = Arc::new(BinaryArray::from_iter_values(schemas));
    RecordBatch::try_from_iter([("schema", schemas)]).map_err(io::Error::other)
}

impl Drop for Finishing {
    fn drop(&mut self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).took(self.begun.elapsed());
        if let Some(finished) = self.told.take() {
            _ = finished.send(());
        }
    }
}
