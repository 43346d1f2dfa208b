//! What all who subscribe to one view have in common: its open rows are finished once for each state that is told, and
//! what has changed since the one before is worked out once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use thalweg_engine::ids::Epoch;
use thalweg_engine::sink::OpenedFiles;
use thalweg_engine::snapshot::{Snapshot, TableSnapshot};
use tokio::sync::{OnceCell, watch};
use uuid::Uuid;

use super::changes::{self, Change};
use crate::session::answer::Task;
use crate::session::database::Shared;
use crate::session::making::Identity;
use crate::tables::{Pinned, StatusSource, stamp};
use crate::{Error, Result};

/// It is not looked more often; what comes after a while of nothing is told at once.
const PACE: Duration = Duration::from_millis(20);
/// With many who listen each is told less often, so that telling them all leaves time for everything else.
const PACE_OF_EACH: Duration = Duration::from_micros(50);
/// Not all that ends a view, or empties it, is told of.
const LOOK: Duration = Duration::from_millis(250);
/// A view whose rows take long is finished less often: it rests so many times what that took.
const REST: u32 = 4;
/// Open rows that can't be read for so long are a reason to end.
const UNREAD_FOR: Duration = Duration::from_secs(10);

/// The feeds that somebody listens to, by their views.
#[derive(Default)]
pub(crate) struct Feeds(Mutex<BTreeMap<Kind, Weak<Feed>>>);

/// One of a view with its open rows, and one without for those who want final ones alone.
type Kind = (Uuid, bool);

pub(crate) struct Feed {
    pub news: watch::Receiver<News>,
    /// Files that are read by those who have just come.
    pub opened: OpenedFiles,
    asked: Mutex<Asked>,
    _task: Task<()>,
}

/// Queries that are asked of it, known by numbers for as long as somebody asks.
#[derive(Default)]
struct Asked {
    numbers: HashMap<Identity, Weak<u64>>,
    last: u64,
}

impl Feed {
    /// The same for all who ask the same.
    pub fn number_of(&self, query: &Identity) -> Arc<u64> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = asked.numbers.get(query).and_then(Weak::upgrade) {
            return known;
        }
        asked.last += 1;
        let number = Arc::new(asked.last);
        asked.numbers.retain(|_, known| known.strong_count() > 0);
        asked.numbers.insert(query.clone(), Arc::downgrade(&number));
        number
    }
}

#[derive(Clone)]
pub(crate) enum News {
    /// Nothing has been looked at yet.
    None,
    State(Arc<State>),
    /// The view is told of no more.
    Ended(Error),
}

/// A view at one instant.
pub(crate) struct State {
    pub number: u64,
    /// All that had closed by then is told.
    pub epoch: Epoch,
    pub table: Arc<TableSnapshot>,
    pub live: Vec<RecordBatch>,
    /// What has become of the open rows of the state before.
    pub changed: Vec<RecordBatch>,
    pub told: Told,
}

/// What queries, by their numbers, make of all that has changed since the state before: once for all who ask the same.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<u64, Arc<OnceCell<RecordBatch>>>>);

impl Told {
    pub fn of(&self, query: u64) -> Arc<OnceCell<RecordBatch>> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(told.entry(query).or_default())
    }
}

impl Feeds {
    pub(crate) fn of(&self, shared: &Arc<Shared>, view: &str, live: bool) -> Result<Arc<Feed>> {
        let snapshot = shared.engine.snapshot();
        let table = snapshot.views.get(view).ok_or_else(|| gone(view))?;
        let id = table.version.view;
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let known = feeds.get(&(id, live)).and_then(Weak::upgrade);
        // One that has ended is held by whoever does not take notice of that.
        if let Some(feed) = known.filter(|feed| !matches!(*feed.news.borrow(), News::Ended(_))) {
            return Ok(feed);
        }
        let (teller, news) = watch::channel(News::None);
        let teller = Teller { shared: Arc::clone(shared), view: view.to_owned(), id, live, teller };
        let task = Task::spawn(&shared.runtime, teller.run());
        let feed =
            Arc::new(Feed { news, opened: OpenedFiles::default(), asked: Mutex::default(), _task: task });
        feeds.insert((id, live), Arc::downgrade(&feed));
        Ok(feed)
    }
}

fn gone(view: &str) -> Error {
    Error::invalid(format!("view {view} was dropped"))
}

/// Why a view can't be told of.
enum Unread {
    /// Its open rows can't be read as they are now.
    Now(Error),
    Ever(Error),
}

struct Teller {
    shared: Arc<Shared>,
    view: String,
    id: Uuid,
    /// Open rows too.
    live: bool,
    teller: watch::Sender<News>,
}

impl Teller {
    async fn run(self) {
        let mut last: Option<Arc<State>> = None;
        let mut unread: Option<Instant> = None;
        let mut changes = self.shared.engine.changes();
        loop {
            changes.borrow_and_update();
            let begun = Instant::now();
            match self.next(last.as_deref()).await {
                Ok(None) => {}
                Ok(Some(state)) => {
                    let state = Arc::new(state);
                    self.teller.send_replace(News::State(Arc::clone(&state)));
                    (last, unread) = (Some(state), None);
                }
                // Open rows may be read again when it is another number that is divided by; or the view will fail.
                Err(Unread::Now(error)) => {
                    let since = *unread.get_or_insert(begun);
                    if since.elapsed() > UNREAD_FOR {
                        self.teller.send_replace(News::Ended(error));
                        return;
                    }
                }
                Err(Unread::Ever(error)) => {
                    self.teller.send_replace(News::Ended(error));
                    return;
                }
            }
            let pace = PACE.max(PACE_OF_EACH * self.teller.receiver_count() as u32);
            tokio::time::sleep(pace.max(begun.elapsed() * REST)).await;
            // Without news, or without an engine, it is looked nevertheless.
            let _ = tokio::time::timeout(LOOK, changes.changed()).await;
        }
    }

    /// The view as it is now, if it is another than before.
    async fn next(&self, last: Option<&State>) -> Result<Option<State>, Unread> {
        let snapshot = self.shared.engine.snapshot();
        let table = snapshot.views.get(&self.view).filter(|table| table.version.view == self.id);
        let table = table.ok_or_else(|| Unread::Ever(gone(&self.view)))?;
        if let Some(failure) = &table.failure {
            let text = format!("view {} has failed: {}", self.view, failure.reason);
            let hint = "ALTER VIEW … RESTART has it begin anew; what has closed is in history";
            return Err(Unread::Ever(Error::invalid(text).hint(hint)));
        }
        let number = last.map_or(1, |last| last.number + 1);
        let (epoch, table) = (snapshot.epoch, Arc::clone(table));
        Ok(match last {
            Some(last) if last.table.version == table.version => (last.epoch != epoch).then(|| State {
                number,
                epoch,
                table,
                live: last.live.clone(),
                changed: vec![],
                told: Told::default(),
            }),
            _ => {
                let live = match self.live {
                    true => self.open_rows(&snapshot).await.map_err(Unread::Now)?,
                    false => vec![],
                };
                let before = last.map_or(&[][..], |last| &last.live);
                let changed = changes::between(before, &live).map_err(Unread::Ever)?;
                Some(State { number, epoch, table, live, changed, told: Told::default() })
            }
        })
    }

    /// Each time within what a query may use, whatever is held of earlier ones.
    async fn open_rows(&self, snapshot: &Snapshot) -> Result<Vec<RecordBatch>> {
        let pool: Arc<dyn MemoryPool> =
            Arc::new(GreedyMemoryPool::new(self.shared.settings.query_memory_bytes));
        let source: Arc<dyn StatusSource> = Arc::clone(&self.shared) as _;
        let pinned = Pinned::new(snapshot, source, &pool);
        let table = pinned.views.get(&self.view).ok_or_else(|| gone(&self.view))?;
        Ok(table.all_live(&pool).await?)
    }
}

impl State {
    /// What closed after an epoch, or all that ever did, and is not in Parquet.
    pub fn closed_since(&self, after: Option<Epoch>) -> Result<Vec<RecordBatch>> {
        let closed = self.table.tail.iter().filter(|closed| after.is_none_or(|after| closed.epoch > after));
        closed.map(|closed| Change::Final.of(&stamp::batch(&self.table.schema, &closed.rows)?)).collect()
    }

    /// Some rows of one of its files.
    pub fn closed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        Change::Final.of(&stamp::batch(&self.table.schema, rows)?)
    }

    /// It is the next after that one.
    pub fn follows(&self, other: &State) -> bool {
        other.number + 1 == self.number
    }

    /// What takes the open rows of one state to those of this one.
    pub fn changes_since(&self, other: &State) -> Result<Vec<RecordBatch>> {
        if self.follows(other) {
            return Ok(self.changed.clone());
        }
        changes::between(&other.live, &self.live)
    }
}
