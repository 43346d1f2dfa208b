//! Sends the final rows of views on: into topics by transactions, and to addresses by POST.
//!
//! Owns: that each sink has come as far as it says, what it has sent being there before that is noted; that it waits for
//! whoever does not take its rows, stands still when told to, and never holds up anything else: it reads what is durable
//! already, from where it stands. Leaves to others: which rows, in which order (`thalweg_sql::session::Follower`).
//!
//! ```text
//! Sinks ─ one task a sink ─ Follower: what closed after the place ─┬─ topic: a transaction with rows and place
//!                                                                  └─ webhook: deliveries in order, each with a key
//! ```

mod board;
mod json;
mod keep;
mod running;
mod topic;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thalweg_engine::checkpoint::DataRoot;
use thalweg_engine::clock::Clock;
use thalweg_engine::ids::Epoch;
use thalweg_engine::secrets::Secrets;
use thalweg_engine::source::{FilesRoots, Transactions};
use thalweg_sql::parse::Order;
use thalweg_sql::session::{Database, DeadLetter, Into, Sending, Sink, SinkState, SinkStatus};
use thalweg_sql::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use board::Board;
use keep::{Keep, Place};
use running::{Running, Wanted};

/// What sinks need of the world.
pub struct World {
    pub root: DataRoot,
    pub secrets: Secrets,
    /// Where files lie that a statement may name.
    pub files_roots: FilesRoots,
    pub clock: Arc<dyn Clock>,
    /// Addresses that rows may be posted to: these, and what lies below them.
    pub webhooks: Vec<Url>,
    /// Of this process, by which it knows what it has written itself.
    pub instance: Uuid,
    /// The newest epoch when it began: no other can have sent what closed later.
    pub since: Epoch,
    /// Where rows are made and sent, apart from the threads of ingest.
    pub runtime: Handle,
}

/// All sinks of a database.
pub struct Sinks {
    database: Database,
    world: Arc<World>,
    tasks: Mutex<BTreeMap<Uuid, Task>>,
    changed: Notify,
}

struct Task {
    sink: Arc<Sink>,
    wanted: watch::Sender<Wanted>,
    board: Arc<Board>,
    handle: JoinHandle<()>,
}

/// What is on its way at a stop is waited for so long; what does not arrive is sent again by the next start.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How long the store is left alone after it could not be asked about sinks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Sinks {
    /// Sends on for all that there are and that come, until it is stopped.
    pub async fn start(database: Database, world: World) -> Result<Arc<Sinks>> {
        let there: Vec<Uuid> = database.sinks().iter().map(|sink| sink.id).collect();
        Keep::sweep(&world.root, &there).await?;
        let sinks = Arc::new(Sinks {
            database: database.clone(),
            world: Arc::new(world),
            tasks: Mutex::default(),
            changed: Notify::new(),
        });
        database.send_by(Arc::clone(&sinks) as _);
        let watching = Arc::clone(&sinks);
        sinks.world.runtime.spawn(async move { watching.watch().await });
        Ok(sinks)
    }

    /// As long as there are sinks, or might be.
    async fn watch(&self) {
        loop {
            match self.follow_catalog().await {
                Ok(()) => self.changed.notified().await,
                Err(error) => {
                    tracing::warn!(%error, "what sinks have noted can't be read");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    async fn follow_catalog(&self) -> Result<()> {
        let there = self.database.sinks();
        let gone: Vec<Task> = {
            let mut tasks = self.tasks();
            let gone: Vec<_> =
                tasks.keys().copied().filter(|id| there.iter().all(|it| it.id != *id)).collect();
            gone.iter().filter_map(|id| tasks.remove(id)).collect()
        };
        for task in gone {
            task.handle.abort();
            // Or it would note something behind our back.
            let _ = task.handle.await;
            Keep::of(&self.world.root, task.sink.id).forget().await?;
        }
        for sink in there {
            if self.tasks().contains_key(&sink.id) {
                continue;
            }
            let keep = Keep::of(&self.world.root, sink.id);
            let (paused, place) = (keep.is_paused().await?, keep.place().await?);
            let dead = keep.dead_letters(&sink.name).await?;
            let (wanted, heard) = watch::channel(Wanted { paused, ..Wanted::default() });
            let board = Arc::new(Board::new(&sink, place.after, dead));
            let running = Running::new(&self.database, &self.world, &sink, place, Arc::clone(&board), heard);
            let handle = self.world.runtime.spawn(running.run());
            self.tasks().insert(sink.id, Task { sink, wanted, board, handle });
        }
        Ok(())
    }

    /// Nothing more is begun, and what was sent is noted.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks.values() {
            task.wanted.send_modify(|wanted| wanted.leaves = true);
        }
        let ended = futures::future::join_all(tasks.into_values().map(|task| task.handle));
        if tokio::time::timeout(LEAVE_WITHIN, ended).await.is_err() {
            tracing::warn!("sinks are left while rows are on their way; the next start sends them again");
        }
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<Uuid, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sending for Sinks {
    fn check(&self, sink: &Sink) -> Result<()> {
        match &sink.into {
            Into::Kafka { topic, .. } => {
                let World { secrets, files_roots, .. } = &*self.world;
                Ok(Transactions::check(topic, secrets, files_roots, &topic::name_of(sink))?)
            }
            Into::Webhook(webhook) => webhook::check(webhook, &self.world),
        }
    }

    async fn find(&self, sink: &Sink) -> Result<()> {
        let Into::Kafka { topic, .. } = &sink.into else { return Ok(()) };
        let (topic, secrets) = (topic.clone(), self.world.secrets.clone());
        topic::waiting(move || Transactions::find(&topic, &secrets)).await
    }

    async fn begin(&self, sink: &Sink, after: Epoch) -> Result<()> {
        Keep::of(&self.world.root, sink.id).note(&Place::behind(after)).await
    }

    fn changed(&self) {
        self.changed.notify_one();
    }

    async fn order(&self, sink: Uuid, order: Order) -> Result<String> {
        let name = {
            let tasks = self.tasks();
            let task = tasks.get(&sink).ok_or_else(|| {
                Error::invalid("the sink is only just being started").hint("say it again in a moment")
            })?;
            if order == Order::Resend && !matches!(task.sink.into, Into::Webhook(_)) {
                return Err(Error::invalid("nothing that goes into a topic is refused for good")
                    .hint("system.sinks tells what it waits for"));
            }
            task.sink.name.clone()
        };
        let keep = Keep::of(&self.world.root, sink);
        match order {
            Order::Pause => keep.pause().await?,
            Order::Resume => keep.resume().await?,
            Order::Resend => {}
        }
        let tasks = self.tasks();
        let Some(task) = tasks.get(&sink) else { return Ok(format!("sink {name} was dropped")) };
        task.wanted.send_modify(|wanted| match order {
            Order::Pause => wanted.paused = true,
            Order::Resume => {
                wanted.paused = false;
                wanted.resumed += 1;
            }
            Order::Resend => wanted.resent += 1,
        });
        Ok(match order {
            Order::Pause => format!("sink {name} is paused; what closes waits in the lake"),
            Order::Resume => format!("sink {name} goes on"),
            Order::Resend => {
                let SinkStatus { dead_letters, state, .. } = task.board.status();
                let when =
                    if state == SinkState::Paused { " once it goes on: ALTER SINK … RESUME" } else { "" };
                format!("{dead_letters} dead letters of sink {name} are sent again{when}")
            }
        })
    }

    fn status(&self) -> Vec<SinkStatus> {
        let epoch = self.database.epoch();
        let tasks = self.tasks();
        let mut all: Vec<SinkStatus> =
            tasks.values().map(|task| SinkStatus { epoch, ..task.board.status() }).collect();
        all.sort_by(|a, b| a.sink.cmp(&b.sink));
        all
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        self.tasks().values().flat_map(|task| task.board.dead_letters()).collect()
    }
}
