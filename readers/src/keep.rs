//! Keeps processes running: those that queries run in for as long as the server runs, and one for rehearsals while somebody
//! needs it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thalweg_sql::session::Engine;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::control::Connected;
use crate::process::{Launch, Process};

/// One that ends at once is not started more often than this.
const STARTED_EACH: Duration = Duration::from_millis(300);
/// So long one stays that nobody needs.
const IDLE_MAX: Duration = Duration::from_secs(10);
const LOOKS_EACH: Duration = Duration::from_millis(500);

/// The process that is there now, if there is one.
pub type Now = watch::Receiver<Option<Arc<Connected>>>;

type Start = (Launch, oneshot::Sender<io::Result<Process>>);

/// Starts processes. Cheap to clone.
#[derive(Clone)]
pub struct Starter {
    starts: mpsc::Sender<Start>,
    engine: Arc<dyn Engine>,
}

impl Starter {
    pub fn new(engine: Arc<dyn Engine>) -> io::Result<Starter> {
        let (starts, mut wanted) = mpsc::channel::<Start>(1);
        // The system ends a process with the thread that has started it, so that is one that stays.
        std::thread::Builder::new().name("readers".to_owned()).spawn(move || {
            while let Some((launch, started)) = wanted.blocking_recv() {
                _ = started.send(launch.start());
            }
        })?;
        Ok(Starter { starts, engine })
    }

    pub async fn start(&self, launch: &Launch) -> io::Result<Process> {
        let nobody = || io::Error::other("nobody starts readers any more");
        let (started, process) = oneshot::channel();
        self.starts.send((launch.clone(), started)).await.map_err(|_| nobody())?;
        process.await.map_err(|_| nobody())?
    }

    /// One that is always there; the first has been started already.
    pub fn always(self, number: usize, launch: Launch, mut first: Option<Process>) -> Now {
        let (now, there) = watch::channel(None);
        tokio::spawn(async move {
            while !now.is_closed() {
                let begun = Instant::now();
                let process = match first.take() {
                    Some(process) => Ok(process),
                    None => self.start(&launch).await,
                };
                match process {
                    Ok(process) => {
                        self.keep(number, (process, launch.statements_bytes), &now, None).await;
                    }
                    Err(error) => tracing::error!(reader = number, %error, "a reader can't be started"),
                }
                tokio::time::sleep(STARTED_EACH.saturating_sub(begun.elapsed())).await;
            }
        });
        there
    }

    /// One that is there some moments after somebody has said so, and as long as it is needed.
    pub fn on_demand(self, number: usize, launch: Launch, wanted: Arc<Notify>) -> Now {
        let (now, there) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = now.closed() => return,
                    () = wanted.notified() => {}
                }
                match self.start(&launch).await {
                    Ok(process) => {
                        self.keep(number, (process, launch.statements_bytes), &now, Some(&*wanted)).await;
                    }
                    Err(error) => {
                        tracing::error!(reader = number, %error, "a reader can't be started");
                        tokio::time::sleep(STARTED_EACH).await;
                    }
                }
            }
        });
        there
    }

    /// Until it ends, or, where it is there for some, nobody wants it.
    async fn keep(
        &self,
        number: usize,
        (process, holds_most): (Process, usize),
        now: &watch::Sender<Option<Arc<Connected>>>,
        wanted: Option<&Notify>,
    ) {
        let id = process.id();
        let connected =
            match Connected::new(process.address.clone(), Arc::clone(&self.engine), holds_most).await {
                Ok(connected) => connected,
                Err(error) => {
                    tracing::error!(reader = number, process = id, %error, "a reader can't be reached");
                    return;
                }
            };
        tracing::info!(reader = number, process = id, "a reader was started");
        now.send_replace(Some(Arc::clone(&connected)));
        let end = tokio::select! {
            biased;
            end = process.end() => end,
            // Its process ends with it.
            () = unneeded(&connected, wanted) => {
                now.send_replace(None);
                tracing::info!(reader = number, process = id, "a reader is not needed any more");
                return;
            }
        };
        tracing::warn!(reader = number, process = id, words = ?end.words, status = end.status, "a reader has ended");
        now.send_replace(None);
        connected.ended(end);
    }
}

async fn unneeded(connected: &Connected, wanted: Option<&Notify>) {
    let Some(wanted) = wanted else { return std::future::pending().await };
    let mut since = Instant::now();
    while since.elapsed() < IDLE_MAX {
        if tokio::time::timeout(LOOKS_EACH, wanted.notified()).await.is_ok()
            || connected.running().load(Ordering::Relaxed) > 0
        {
            since = Instant::now();
        }
    }
}
