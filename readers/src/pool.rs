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
use thalweg_sql::session::{Asked, Away, Elsewhere, Engine, Made, Prepared, What};
use thalweg_sql::travel::{Encoded, Form};
use thalweg_sql::{Error, Result};
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::control::Connected;
use crate::ipc;
use crate::keep::{Now, Starter};
use crate::message::{Reply, Request, Run};
use crate::process::{End, Launch};
use crate::statement::{Fate, Line, Question};
use crate::watch::{LastWords, Verdict};

/// What ended a reader is not run again for so long.
const REFUSED_FOR: Duration = Duration::from_secs(600);
const REFUSED_MAX: usize = 1000;
/// So long a question waits for a reader to be there.
const READER_WITHIN: Duration = Duration::from_secs(30);
const LOOKS_EACH: Duration = Duration::from_millis(2);
/// So long a suspect waits for those before it.
const APART_WITHIN: Duration = Duration::from_secs(20);
/// What a view may take that ingest is to run: less than a query, for many run at a time, and ingest has no limit of its own.
const REHEARSAL_BYTES_MAX: usize = 512 << 20;

/// Cheap to clone.
#[derive(Clone)]
pub struct Readers(Arc<Inner>);

struct Inner {
    readers: Vec<Now>,
    memory_bytes: usize,
    /// Where what is then planned here is planned before.
    rehearsal: Now,
    rehearsal_wanted: Arc<Notify>,
    rehearsal_bytes: usize,
    /// Where suspects are put again, with nobody beside them.
    trial: Now,
    trial_wanted: Arc<Notify>,
    last_number: AtomicU64,
    /// Those whose reader ended, and who are not known to be without fault, are put again one after the other.
    suspects: Arc<tokio::sync::Mutex<()>>,
    /// By question: until when, and why.
    refused: Mutex<BTreeMap<u64, (Instant, String)>>,
}

impl Readers {
    /// Starts so many, and starts each again when it ends. An error says that none can be started here.
    pub async fn start(count: usize, launch: Launch, engine: Arc<dyn Engine>) -> io::Result<Readers> {
        let starter = Starter::new(engine)?;
        let mut first = Some(starter.start(&launch).await?);
        let always = |number| starter.clone().always(number, launch.clone(), first.take());
        let readers = (0..count).map(always).collect();
        let memory_bytes = launch.memory_bytes;
        let rehearsing =
            Launch { memory_bytes: memory_bytes.min(REHEARSAL_BYTES_MAX), in_haste: true, ..launch.clone() };
        let (wanted, trial_wanted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        Ok(Readers(Arc::new(Inner {
            readers,
            memory_bytes,
            rehearsal_bytes: rehearsing.memory_bytes,
            rehearsal: starter.clone().on_demand(count, rehearsing, Arc::clone(&wanted)),
            rehearsal_wanted: wanted,
            trial: starter.on_demand(count + 1, launch, Arc::clone(&trial_wanted)),
            trial_wanted,
            last_number: AtomicU64::new(0),
            suspects: Arc::default(),
            refused: Mutex::default(),
        })))
    }
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
            Reply::Started { reads, .. } => reads,
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

    async fn rehearse(&self, asked: Asked) -> Result<()> {
        let question = self.0.question(asked, None)?;
        match self.0.put(&question, &mut Tries::default()).await?.1 {
            Reply::Rehearsed | Reply::Failed(_) => Ok(()),
            _ => Err(not_understood("another answer was to come")),
        }
    }

    async fn make(&self, asked: Asked) -> Result<Result<Made>> {
        let question = self.0.question(asked, None)?;
        let (_, reply, bodies) = self.0.put(&question, &mut Tries::default()).await?;
        match (reply, bodies.as_slice()) {
            (Reply::Made(view), [rows]) => {
                Ok(Ok(Made { view, rows: ipc::batch(rows).map_err(not_understood)? }))
            }
            (Reply::Failed(error), _) => Ok(Err(error.into())),
            _ => Err(not_understood("another answer was to come")),
        }
    }
}

/// What has come of putting a question.
#[derive(Default)]
struct Tries {
    /// Its reader ended by another's fault.
    was_beside: bool,
    /// Nobody could say whose fault it was.
    is_suspect: bool,
    /// Held by a suspect until it has rows: what its reader ends of once more is its own fault.
    apart: Option<OwnedMutexGuard<()>>,
}

impl Inner {
    fn question(&self, asked: Asked, form: Option<Form>) -> Result<Question> {
        let mut hasher = DefaultHasher::new();
        asked.what.text().hash(&mut hasher);
        if let What::RowByRow { given, .. } = &asked.what {
            given.hash(&mut hasher);
        }
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
        let has_rows = asked.rows.is_some();
        if let Some(rows) = &asked.rows {
            bodies.push(ipc::of_batch(rows).map_err(not_understood)?);
        }
        let request = Request {
            number: self.last_number.fetch_add(1, Ordering::Relaxed) + 1,
            snapshot: 0,
            what: asked.what.into(),
            schema: asked.schema,
            has_values: asked.values.is_some(),
            memory_bytes: asked.memory_bytes,
            run,
            facts: asked.facts.into_keys().collect(),
            has_rows,
        };
        let is_alone = request.run.is_some() && request.facts.is_empty() && !request.has_rows;
        let alike = (asked.repeats && is_alone).then(|| alike(&request, &bodies)).transpose();
        let alike = alike.map_err(not_understood)?;
        Ok(Question { request, bodies, wanted: asked.wanted, key, alike })
    }

    /// To the reader that has least to do; to another one if that ends, once.
    async fn put(&self, question: &Question, tries: &mut Tries) -> Result<(Line, Reply, Vec<Bytes>)> {
        loop {
            if tries.is_suspect && tries.apart.is_none() {
                let apart = Arc::clone(&self.suspects).lock_owned();
                let apart = tokio::time::timeout(APART_WITHIN, apart).await;
                tries.apart = Some(apart.map_err(|_| others_fault())?);
            }
            match Line::ask(self.reader(question, tries.is_suspect).await?, question).await {
                Ok(answered) => return Ok(answered),
                Err(Fate::Refused(error)) => return Err(error),
                Err(Fate::Died(end)) => self.again(question, tries, &end)?,
            }
        }
    }

    /// Whether it is put once more.
    fn again(&self, question: &Question, tries: &mut Tries, end: &End) -> Result<()> {
        match end.words.verdict(question.request.number) {
            Verdict::Suspect if !std::mem::replace(&mut tries.is_suspect, true) => Ok(()),
            // One that was tried before it is still there, sending its rows.
            Verdict::Suspect if end.words != LastWords::None => Err(others_fault()),
            Verdict::Guilty | Verdict::Suspect => Err(self.remember(question, end)),
            Verdict::Innocent if !std::mem::replace(&mut tries.was_beside, true) => Ok(()),
            Verdict::Innocent => Err(others_fault()),
        }
    }

    async fn reader(&self, question: &Question, is_suspect: bool) -> Result<Arc<Connected>> {
        let begun = Instant::now();
        let readers = if question.is_rehearsal() {
            self.rehearsal_wanted.notify_one();
            std::slice::from_ref(&self.rehearsal)
        } else if is_suspect {
            self.trial_wanted.notify_one();
            std::slice::from_ref(&self.trial)
        } else {
            &self.readers[..]
        };
        loop {
            let there = readers.iter().filter_map(|reader| reader.borrow().clone());
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
        let (limit, is_rehearsal) = match question.is_rehearsal() {
            true => (self.rehearsal_bytes, true),
            false => (self.memory_bytes, false),
        };
        let why = match end.words {
            LastWords::Stuck(_) => "it went on computing after it was to stop".to_owned(),
            _ => format!(
                "it ended the process that {} it, most likely for want of memory. limit_bytes={limit}, {}",
                if is_rehearsal { "tried" } else { "ran" },
                end.status
            ),
        };
        let mut refused = self.refused();
        if refused.len() >= REFUSED_MAX {
            refused.pop_first();
        }
        refused.insert(question.key, (Instant::now() + REFUSED_FOR, why.clone()));
        Error::invalid(format!("the statement was given up: {why}")).hint(match is_rehearsal {
            true => "make less of each row: ingest would run it over thousands at a time".to_owned(),
            false => format!(
                "ask for less at a time; --reader-memory allows more; it is not run again for {REFUSED_FOR:?}"
            ),
        })
    }
}

/// All of a question but its number.
fn alike(request: &Request, bodies: &[Bytes]) -> io::Result<Vec<u8>> {
    let mut all = serde_json::to_vec(&Request { number: 0, ..request.clone() })?;
    for body in bodies {
        all.extend((body.len() as u64).to_le_bytes());
        all.extend(body);
    }
    Ok(all)
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
                    self.tries.apart = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Planned;

    #[tokio::test]
    async fn what_can_not_be_started_is_said_at_once() {
        let launch = Launch {
            arguments: vec!["no process has a \0 in its line".to_owned()],
            memory_bytes: 1 << 30,
            statements_bytes: 1 << 29,
            in_haste: false,
        };
        let started = Readers::start(2, launch, Arc::new(Planned::default())).await;
        assert_eq!(started.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput));
    }
}
