//! What all requests share: the database, once there is one, and the counts of what was asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use thalweg_sql::session::Database;
use tokio::sync::Semaphore;

use crate::ask::Feeds;
use crate::collect::Rates;
use crate::fault::Fault;
use crate::metrics::Counts;

const SOCKETS_MAX: usize = 1024;

/// The door is there before the house is: who asks early is told so.
pub struct Front {
    database: OnceLock<Database>,
    not_yet: Box<dyn Fn() -> String + Send + Sync>,
    leaving: AtomicBool,
    pub(crate) counts: Counts,
    pub(crate) rates: Rates,
    pub(crate) feeds: Feeds,
    /// Places of WebSockets, which are no longer counted as connections.
    pub(crate) sockets: Arc<Semaphore>,
}

impl Front {
    /// `not_yet` says why there is nobody to answer.
    pub fn new(not_yet: impl Fn() -> String + Send + Sync + 'static) -> Front {
        Front {
            database: OnceLock::new(),
            not_yet: Box::new(not_yet),
            leaving: AtomicBool::new(false),
            counts: Counts::default(),
            rates: Rates::default(),
            feeds: Feeds::default(),
            sockets: Arc::new(Semaphore::new(SOCKETS_MAX)),
        }
    }

    /// From now on there is somebody to answer.
    pub fn open(&self, database: Database) {
        // A second one would be another process's.
        self.database.set(database).unwrap_or_else(|_| panic!("a front is opened once"));
    }

    /// Answers go on; who spreads requests over servers is told to send no more.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn database_if_open(&self) -> Option<&Database> {
        self.database.get()
    }

    pub(crate) fn not_yet(&self) -> String {
        (self.not_yet)()
    }

    pub(crate) fn database(&self) -> Result<&Database, Fault> {
        self.database_if_open().ok_or_else(|| Fault::unavailable(self.not_yet()))
    }
}
