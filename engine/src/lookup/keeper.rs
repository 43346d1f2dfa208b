//! Keeps a table up to date with its source, on a thread of its own, until it is dropped.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::content::Content;
use super::files;
use super::topic::Topic;
use crate::secrets::Secrets;
use crate::source::{FilesRoots, Logs};
use crate::spec::{FileFormat, FilesSpec, KafkaSpec, LookupSource, LookupSpec};
use crate::{Error, Result};

const FIRST_AGAIN: Duration = Duration::from_secs(1);
const SELDOM_AGAIN: Duration = Duration::from_secs(60);

/// What sources may name, and read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub secrets: Secrets,
    pub roots: FilesRoots,
    pub logs: Logs,
    /// A topic that has outgrown its bound is read after a start all the same: views wait for it.
    pub first_of_any_size: bool,
}

/// What has come of looking, since it was last asked for.
#[derive(Debug, Default)]
pub struct News {
    /// The newest.
    pub content: Option<Content>,
    /// How the last look ended; `None` if there was none.
    pub outcome: Option<std::result::Result<(), Error>>,
    /// Of a topic: records that are no rows of the table, all in all, and why the last was not.
    pub refused: u64,
    pub reason: Option<String>,
}

/// Dropped, it ends its thread.
#[derive(Debug)]
pub struct Keeper {
    news: Arc<Mutex<News>>,
    _until_dropped: SyncSender<()>,
}

impl Keeper {
    /// `known` is the version of the content that is there already.
    pub fn start(spec: &Arc<LookupSpec>, sources: Sources, known: String) -> Result<Keeper> {
        let news = Arc::<Mutex<News>>::default();
        let (until_dropped, dropped) = sync_channel(0);
        let work = Work { spec: Arc::clone(spec), sources, news: Arc::clone(&news), dropped };
        std::thread::Builder::new()
            .name(format!("table-{}", spec.name))
            .spawn(move || work.run(known))
            .map_err(|error| Error::Unavailable(format!("cannot start a table's thread: {error}")))?;
        Ok(Keeper { news, _until_dropped: until_dropped })
    }

    pub fn take(&self) -> News {
        let mut news = lock(&self.news);
        let (refused, reason) = (news.refused, news.reason.clone());
        std::mem::replace(&mut *news, News { refused, reason, ..News::default() })
    }
}

fn lock(news: &Mutex<News>) -> std::sync::MutexGuard<'_, News> {
    news.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work {
    spec: Arc<LookupSpec>,
    sources: Sources,
    news: Arc<Mutex<News>>,
    dropped: Receiver<()>,
}

impl Work {
    fn run(self, known: String) {
        match &self.spec.source {
            LookupSource::Files { files, format, refresh } => self.look_at(files, *format, *refresh, known),
            LookupSource::Topic(topic) => self.follow(topic),
            LookupSource::Unplanned(_) => {}
        }
    }

    /// False once nobody wants to know any more.
    fn wait(&self, time: Duration) -> bool {
        matches!(self.dropped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    fn tell(&self, content: Option<Content>, outcome: std::result::Result<(), Error>) {
        let mut news = lock(&self.news);
        if content.is_some() {
            news.content = content;
        }
        news.outcome = Some(outcome);
    }

    fn look_at(&self, files: &FilesSpec, format: FileFormat, refresh: Duration, mut known: String) {
        let mut again = Again::default();
        loop {
            let wait = match files::load(&self.spec, files, format, &self.sources, &known) {
                Ok(content) => {
                    if let Some(content) = &content {
                        known = content.version.clone();
                    }
                    self.tell(content, Ok(()));
                    again = Again::default();
                    refresh
                }
                Err(error) => {
                    self.tell(None, Err(error));
                    again.after().min(refresh)
                }
            };
            if !self.wait(wait) {
                return;
            }
        }
    }

    fn follow(&self, topic: &KafkaSpec) {
        let mut again = Again::default();
        loop {
            match self.follow_once(topic, &mut again) {
                Ok(()) => return,
                Err(error) => self.tell(None, Err(error)),
            }
            if !self.wait(again.after()) {
                return;
            }
        }
    }

    /// Until nobody wants to know any more.
    fn follow_once(&self, topic: &KafkaSpec, again: &mut Again) -> Result<()> {
        let mut topic = Topic::open(&self.spec, topic, &self.sources)?;
        let mut is_first = true;
        while self.wait(Duration::ZERO) {
            let content = topic.follow(is_first)?;
            {
                let mut news = lock(&self.news);
                (news.refused, news.reason) = (topic.refused, topic.reason.clone());
            }
            if content.is_some() {
                is_first = false;
                *again = Again::default();
                self.tell(content, Ok(()));
            }
        }
        Ok(())
    }
}

/// Ever more seldom.
#[derive(Debug, Default)]
struct Again {
    failures: u32,
}

impl Again {
    fn after(&mut self) -> Duration {
        self.failures += 1;
        FIRST_AGAIN.saturating_mul(1 << (self.failures - 1).min(10)).min(SELDOM_AGAIN)
    }
}
