//! All readers: which one is asked, who starts them anew, whose question is put again, and what is not put any more.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use thalweg_engine::ErrorKind;
use thalweg_sql::session::{Asked, Away, Elsewhere, Engine, Prepared};
use thalweg_sql::travel::{Encoded, Form};
use thalweg_sql::{Error, Result};
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::Connected;
use crate::ipc;
use crate::message::{Reply, Request, Run};
use crate::process::{End, Launch, Process};
use crate::statement::{Fate, Line, Question};
use crate::watch::LastWords;

/// What ended a reader is not run again for so long.
const REFUSED_FOR: Duration = Duration::from_secs(600);
const REFUSED_MAX: usize = 1000;
/// So long a question waits for a reader to be there.
const READER_WITHIN: Duration = Duration::from_secs(10);
const LOOKS_EACH: Duration = Duration::from_millis(2);
/// One that ends at once is not started more often than this.
const STARTED_EACH: Duration = Duration::from_millis(300);

/// Cheap to clone.
#[derive(Clone)]
pub struct Readers(Arc<Inner>);

struct Inner {
    readers: Vec<watch::Receiver<Option<Arc<Connected>>>>,
    memory_bytes: usize,
    last_number: AtomicU64,
    /// By question: until when, and why.
    refused: Mutex<BTreeMap<u64, (Instant, String)>>,
}

type Started = oneshot::Sender<io::Result<Process>>;

impl Readers {
    /// Starts so many, and starts each again when it ends.
    pub fn start(count: usize, launch: Launch, engine: Arc<dyn Engine>) -> io::Result<Readers> {
        let memory_bytes = launch.memory_bytes;
        let (starts, mut wanted) = mpsc::channel::<Started>(count.max(1));
        // The system ends a process with the thread that has started it, so that is one that stays.
        std::thread::Builder::new().name("readers".to_owned()).spawn(move || {
            while let Some(started) = wanted.blocking_recv() {
                _ = started.send(launch.start());
            }
        })?;
        let mut readers = vec![];
        for number in 0..count {
            let (now, reader) = watch::channel(None);
            tokio::spawn(keep_one(number, starts.clone(), Arc::clone(&engine), now));
            readers.push(reader);
        }
        let refused = Mutex::default();
        let last_number = AtomicU64::new(0);
        Ok(Readers(Arc::new(Inner { readers, memory_bytes, last_number, refused })))
    }
}

async fn keep_one(
    number: usize,
    starts: mpsc::Sender<Started>,
    engine: Arc<dyn Engine>,
    now: watch::Sender<Option<Arc<Connected>>>,
) {
    loop {
        let begun = Instant::now();
        let (started, process) = oneshot::channel();
        if starts.send(started).await.is_err() || now.is_closed() {
            return;
        }
        match process.await.unwrap_or_else(|_| Err(io::Error::other("nobody starts readers any more"))) {
            Ok(process) => keep_started(number, process, &engine, &now).await,
            Err(error) => tracing::error!(reader = number, %error, "a reader can't be started"),
        }
        tokio::time::sleep(STARTED_EACH.saturating_sub(begun.elapsed())).await;
    }
}

/// Until it ends.
async fn keep_started(
    number: usize,
    process: Process,
    engine: &Arc<dyn Engine>,
    now: &watch::Sender<Option<Arc<Connected>>>,
) {
    let id = process.id();
    let connected = match Connected::new(process.address.clone(), Arc::clone(engine)).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::error!(reader = number, process = id, %error, "a reader can't be reached");
            return;
        }
    };
    tracing::info!(reader = number, process = id, "a reader was started");
    now.send_replace(Some(Arc::clone(&connected)));
    let end = process.end().await;
    tracing::warn!(reader = number, process = id, words = ?end.words, status = end.status, "a reader has ended");
    now.send_replace(None);
    connected.ended(end);
}

#[async_trait]
impl Elsewhere for Readers {
    async fn prepare(&self, asked: Asked) -> Result<Prepared> {
        let question = self.0.question(asked, None)?;
        let (_, reply, bodies) = self.0.put(&question, &mut Tries::default()).await?;
        match (reply, bodies.as_slice()) {
            (Reply::Prepared, [rows, parameters]) => {
                let schema = |bytes| ipc::schema(bytes).map_err(not_understood);
                Ok(Prepared { rows: Some(schema(rows)?), parameters: schema(parameters)? })
            }
            (Reply::Failed(error), _) => Err(error.into()),
            _ => Err(not_understood("another answer was to come")),
        }
    }

    async fn run(&self, asked: Asked, form: Form) -> Result<Away> {
        let question = self.0.question(asked, Some(form))?;
        let mut tries = Tries::default();
        let (line, reply, bodies) = self.0.put(&question, &mut tries).await?;
        let reads = match reply {
            Reply::Started { reads } => reads,
            Reply::Failed(error) => return Err(error.into()),
            _ => return Err(not_understood("another answer was to come")),
        };
        let [planned, schema] = bodies.as_slice() else {
            return Err(not_understood("columns are missing"));
        };
        let told = bodies.clone();
        let (planned, schema) =
            (ipc::schema(planned).map_err(not_understood)?, ipc::schema(schema).map_err(not_understood)?);
        let answer = Answer { pool: Arc::clone(&self.0), question, line, told, tries, has_rows: false };
        Ok(Away { planned, schema, reads, messages: answer.messages() })
    }
}

/// How often a question was put to a reader that then ended.
#[derive(Default)]
struct Tries(u32);

impl Inner {
    fn question(&self, asked: Asked, form: Option<Form>) -> Result<Question> {
        let mut hasher = DefaultHasher::new();
        asked.what.text().hash(&mut hasher);
        let mut bodies = vec![];
        if let Some(values) = &asked.values {
            let bytes = ipc::of_values(values).map_err(not_understood)?;
            bytes.hash(&mut hasher);
            bodies.push(bytes);
        }
        let key = hasher.finish();
        self.refuse_known(key)?;
        let run = form.as_ref().map(|form| Run {
            has_schema: form.schema.is_some(),
            compression: form.compression.name().to_owned(),
        });
        if let Some(schema) = form.and_then(|form| form.schema) {
            bodies.push(ipc::of_schema(&schema).map_err(not_understood)?);
        }
        for batch in asked.facts.values() {
            bodies.push(ipc::of_batch(batch).map_err(not_understood)?);
        }
        let request = Request {
            number: self.last_number.fetch_add(1, Ordering::Relaxed) + 1,
            snapshot: 0,
            what: asked.what.into(),
            schema: asked.schema,
            has_values: asked.values.is_some(),
            run,
            facts: asked.facts.into_keys().collect(),
        };
        Ok(Question { request, bodies, wanted: asked.wanted, key })
    }

    /// To the reader that has least to do; to another one if that ends, once.
    async fn put(&self, question: &Question, tries: &mut Tries) -> Result<(Line, Reply, Vec<Bytes>)> {
        loop {
            match Line::ask(self.reader().await?, question).await {
                Ok(answered) => return Ok(answered),
                Err(Fate::Refused(error)) => return Err(error),
                Err(Fate::Died(end)) => self.again(question, tries, &end)?,
            }
        }
    }

    /// Whether it is put once more.
    fn again(&self, question: &Question, tries: &mut Tries, end: &End) -> Result<()> {
        tries.0 += 1;
        let culprit = end.words.culprit();
        if culprit == Some(question.request.number) || (culprit.is_none() && tries.0 > 1) {
            return Err(self.remember(question, end));
        }
        match tries.0 {
            1 => Ok(()),
            _ => Err(others_fault()),
        }
    }

    async fn reader(&self) -> Result<Arc<Connected>> {
        let begun = Instant::now();
        loop {
            let there = self.readers.iter().filter_map(|reader| reader.borrow().clone());
            if let Some(idlest) = there.min_by_key(|reader| reader.running().load(Ordering::Relaxed)) {
                return Ok(idlest);
            }
            if begun.elapsed() > READER_WITHIN {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("no process that runs queries came up within {READER_WITHIN:?}"),
                )
                .hint("the server's log says why; --readers 0 runs queries beside ingest"));
            }
            tokio::time::sleep(LOOKS_EACH).await;
        }
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<u64, (Instant, String)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_known(&self, key: u64) -> Result<()> {
        let mut refused = self.refused();
        refused.retain(|_, (until, _)| *until > Instant::now());
        match refused.get(&key) {
            None => Ok(()),
            Some((until, why)) => {
                let left = Duration::from_secs(until.saturating_duration_since(Instant::now()).as_secs());
                Err(Error::invalid(format!("this statement is not run again for {left:?}: {why}"))
                    .hint("ask for less at a time; --reader-memory allows more"))
            }
        }
    }

    fn remember(&self, question: &Question, end: &End) -> Error {
        let why = match end.words {
            LastWords::Stuck(_) => "it went on computing after it was to stop".to_owned(),
            _ => format!(
                "it ended the process that ran it, most likely for want of memory. limit_bytes={}, {}",
                self.memory_bytes, end.status
            ),
        };
        let mut refused = self.refused();
        if refused.len() >= REFUSED_MAX {
            refused.pop_first();
        }
        refused.insert(question.key, (Instant::now() + REFUSED_FOR, why.clone()));
        Error::invalid(format!("the statement was given up: {why}")).hint(format!(
            "ask for less at a time; --reader-memory allows more; it is not run again for {REFUSED_FOR:?}"
        ))
    }
}

fn others_fault() -> Error {
    Error::new(ErrorKind::Unavailable, "the process that ran this query ended because of another query")
        .hint("run it again")
}

fn not_understood(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("a reader can't be understood: {error}"))
}

/// The rows of a question, whichever reader they come from.
struct Answer {
    pool: Arc<Inner>,
    question: Question,
    line: Line,
    /// The columns, which are to stay.
    told: Vec<Bytes>,
    tries: Tries,
    has_rows: bool,
}

impl Answer {
    fn messages(self) -> BoxStream<'static, Result<Encoded>> {
        stream::try_unfold(self, |mut answer| async move {
            Ok(answer.next().await?.map(|message| (message, answer)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Encoded>> {
        loop {
            match self.line.reply().await {
                Ok((Reply::Rows(rows), bodies)) => {
                    let [header, body]: [Bytes; 2] =
                        bodies.try_into().map_err(|_| not_understood("a message has two halves"))?;
                    self.has_rows = true;
                    return Ok(Some(Encoded { header, body, rows }));
                }
                Ok((Reply::End, _)) => return Ok(None),
                Ok((Reply::Failed(error), _)) => return Err(error.into()),
                Ok(_) => return Err(not_understood("rows were to come")),
                Err(Fate::Refused(error)) => return Err(error),
                Err(Fate::Died(end)) => {
                    self.pool.again(&self.question, &mut self.tries, &end)?;
                    if self.has_rows {
                        return Err(others_fault());
                    }
                    let (line, reply, bodies) = self.pool.put(&self.question, &mut self.tries).await?;
                    match reply {
                        Reply::Started { .. } if bodies == self.told => self.line = line,
                        Reply::Failed(error) => return Err(error.into()),
                        _ => return Err(others_fault()),
                    }
                }
            }
        }
    }
}
