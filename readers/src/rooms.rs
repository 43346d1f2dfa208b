//! Threads that statements are planned and run on, within a reader.
//!
//! Planning has no pauses, nor has a step of a plan, so a statement may keep a thread for minutes, and as many as there are
//! threads may keep all of them. Then who comes next gets a room with threads of its own, and so does who was there and waits
//! for a thread, as long as nobody has seen a row of it. It is there as long as it is of use, for threads that do nothing take of
//! what a reader may have. A room all of whose threads are kept for long gives way to ingest, however many such rooms there
//! are, and nobody enters it any more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use thalweg_sql::session::Database;
use tokio::runtime::{Handle, Runtime};

use crate::crew::Crew;
use crate::watch::Marks;

/// With two threads in most of them, about as many statements as a server lets run at once can be busy for long.
const ROOMS_MAX: usize = 24;
const LOOKS_EACH: Duration = Duration::from_millis(50);
/// In a room that has not answered for so long nobody else begins.
const ANSWERS_WITHIN: Duration = Duration::from_millis(100);
/// One that has not answered for so long gives way.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(1);
/// Who waits for a thread that often, one look after the other, had better go elsewhere.
const KEPT_OUT_LOOKS: u32 = 4;
/// So long one that is not needed stays.
const STAYS: Duration = Duration::from_secs(10);

/// Starts threads: those that are always there, or others. Each joins the crew, and leaves it.
pub type Threads = Box<dyn Fn(Stay, Arc<Crew>) -> io::Result<Runtime> + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    Always,
    WhileNeeded,
}

pub struct Rooms {
    threads: Threads,
    database: Box<dyn Fn(Handle) -> io::Result<Database> + Send + Sync>,
    rooms: Mutex<Vec<Arc<Room>>>,
    /// Where rows are made, again and again; no statement is run there.
    apart: OnceLock<Arc<Room>>,
}

/// Whoever has it is in it.
pub struct Room {
    pub database: Database,
    /// Taken when it ends.
    runtime: Option<Runtime>,
    stay: Stay,
    crew: Arc<Crew>,
    answers: Arc<Answers>,
    /// When somebody was in it, as far as is known.
    used: Mutex<Instant>,
}

/// Whether anything is run that is brought to a room.
struct Answers {
    begun: Instant,
    /// Milliseconds since then: of the last question, and of the question that was answered last.
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Rooms {
    /// With one room, which stays, or is followed by another that does.
    pub fn new(
        threads: Threads,
        database: impl Fn(Handle) -> io::Result<Database> + Send + Sync + 'static,
    ) -> io::Result<Arc<Rooms>> {
        let rooms = Arc::new(Rooms {
            threads,
            database: Box::new(database),
            rooms: Mutex::default(),
            apart: OnceLock::new(),
        });
        let first = rooms.open(Stay::Always)?;
        rooms.all().push(first);
        let looking = Arc::downgrade(&rooms);
        std::thread::Builder::new().name("rooms".to_owned()).spawn(move || look(&looking))?;
        Ok(rooms)
    }

    /// One in which work begins at once, if there may be such a one.
    pub fn enter(&self) -> io::Result<Arc<Room>> {
        let mut rooms = self.all();
        if let Some(room) = rooms.iter().find(|room| room.is_prompt()) {
            return Ok(Arc::clone(room));
        }
        if rooms.len() < ROOMS_MAX {
            match self.open(Stay::WhileNeeded) {
                Ok(room) => {
                    rooms.push(Arc::clone(&room));
                    return Ok(room);
                }
                Err(error) => tracing::warn!(%error, "there are no threads for one more statement"),
            }
        }
        // Where the fewest are.
        let room = rooms.iter().min_by_key(|room| Arc::strong_count(room));
        room.cloned().ok_or_else(|| io::Error::other("a reader has no room"))
    }

    /// The one in which rows are made.
    pub fn apart(&self) -> io::Result<Arc<Room>> {
        if let Some(room) = self.apart.get() {
            return Ok(Arc::clone(room));
        }
        let room = self.open(Stay::WhileNeeded)?;
        Ok(Arc::clone(self.apart.get_or_init(|| room)))
    }

    fn open(&self, stay: Stay) -> io::Result<Arc<Room>> {
        // A runtime panics where there is no memory for its threads.
        let crew = Arc::new(Crew::default());
        let runtime = catch_unwind(AssertUnwindSafe(|| (self.threads)(stay, Arc::clone(&crew))));
        let runtime = runtime.unwrap_or_else(|_| Err(io::ErrorKind::OutOfMemory.into()))?;
        let database = (self.database)(runtime.handle().clone())?;
        let answers = Arc::new(Answers {
            begun: Instant::now(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let used = Mutex::new(Instant::now());
        Ok(Arc::new(Room { database, runtime: Some(runtime), stay, crew, answers, used }))
    }

    /// Looks after all rooms; what of them is not needed any more ends with whoever has it.
    fn look(&self) -> Option<Arc<Room>> {
        let mut all = self.all();
        all.iter().for_each(Room::look);
        // Those that are full are found first, so that the others become empty.
        let unneeded = all.iter().position(|room| room.may_go() && room.has_been_empty());
        let left = unneeded.map(|index| all.remove(index));
        if !all.iter().any(|room| room.stay == Stay::Always) {
            match self.open(Stay::Always) {
                Ok(room) => all.insert(0, room),
                // Those that are there do meanwhile.
                Err(error) => tracing::debug!(%error, "there are no threads for a room that stays"),
            }
        }
        left
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(rooms: &Weak<Rooms>) {
    loop {
        std::thread::sleep(LOOKS_EACH);
        let Some(rooms) = rooms.upgrade() else { return };
        let left = rooms.look();
        // It ends here, and not under the lock.
        drop(left);
    }
}

impl Room {
    /// What comes of some work of a statement, or nothing where it waits for a thread, and all that the room has are kept by
    /// others.
    pub async fn unless_kept_out<T>(&self, statement: &Marks, work: impl Future<Output = T>) -> Option<T> {
        let kept_out = async {
            let mut looks = 0;
            while looks < KEPT_OUT_LOOKS {
                tokio::time::sleep(LOOKS_EACH).await;
                let waits = !self.answers.within(ANSWERS_WITHIN) && !statement.is_at_work();
                looks = if waits { looks + 1 } else { 0 };
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = kept_out => None,
        }
    }

    fn is_prompt(&self) -> bool {
        self.answers.within(ANSWERS_WITHIN) && !self.crew.has_given_way()
    }

    fn may_go(&self) -> bool {
        self.stay == Stay::WhileNeeded || self.crew.has_given_way()
    }

    fn look(self: &Arc<Room>) {
        if !self.answers.within(GIVES_WAY_AFTER) {
            self.crew.give_way();
        }
        let is_used = Arc::strong_count(self) > 1;
        if is_used {
            *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        let answers = &self.answers;
        let is_answered = answers.answered.load(Ordering::Acquire) == answers.asked.load(Ordering::Acquire);
        if let (true, true, Some(runtime)) = (is_used, is_answered, &self.runtime) {
            let now = answers.now();
            answers.asked.store(now, Ordering::Release);
            let answers = Arc::clone(answers);
            runtime.spawn(async move { answers.answered.store(now, Ordering::Release) });
        }
    }

    fn has_been_empty(self: &Arc<Room>) -> bool {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::strong_count(self) == 1 && used.elapsed() > STAYS
    }
}

impl Answers {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the last question was answered, or is not as old as this.
    fn within(&self, bound: Duration) -> bool {
        let asked = self.asked.load(Ordering::Acquire);
        self.answered.load(Ordering::Acquire) == asked
            || Duration::from_millis(self.now().saturating_sub(asked)) < bound
    }
}

impl Drop for Room {
    /// What runs on, though nobody waits for it, is the watchdog's.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
