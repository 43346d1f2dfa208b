//! Into a topic, or, while Kafka is away, into a spool on the local disk that is sent on in order.
//!
//! ```text
//!  put ─┬─► producer ─► topic                           as long as Kafka answers
//!       └─► spool (synced) ─► courier, by transactions  from the first silence until the spool is empty
//! ```
//!
//! When Kafka falls silent, what its producer still holds comes back and goes into the spool, and another producer takes its
//! place; only what has left already is waited for.
//!
//! Invariant INV-31. What was put has been acknowledged by Kafka or synced to the spool. A record is in the spool only if it is
//! known not to be in the topic. While something is in the spool nothing goes past it, and the courier begins when nothing is
//! on the direct way any more: so records of a key that were put one after another stay so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::ids::{Micros, PartitionId};
use crate::source::{Courier, Log, Outgoing, Producer, Sent, Underway};
use crate::spec::{KafkaSpec, StreamSpec};
use crate::{Error, Result};

/// Kafka counts as away when it has not answered for so long; then nobody else waits for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// And a producer that has just begun, which first connects and is given its number.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(1);
/// Between two tries to send on.
const PAUSE: Duration = Duration::from_millis(250);
/// For those on the direct way to have ended, and for those on their way into the spool.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// One transaction.
const CARRIED_RECORDS: usize = 10_000;
const CARRIED_BYTES: usize = 4 << 20;
/// A state that lasts is warned of again after this long.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Way {
    stream: String,
    spec: KafkaSpec,
    /// Whoever sends holds it for reading meanwhile, so that nothing goes to one that has given back what it held.
    producer: RwLock<Arc<Producer>>,
    spool: Option<Spool>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Told when nothing need wait for the spool any more.
    opened: watch::Sender<()>,
}

struct Spool {
    log: Arc<Log>,
    /// By which the broker knows how far it was sent on.
    id: String,
}

#[derive(Default)]
struct State {
    /// Everything goes into the spool.
    is_away: bool,
    /// Calls on the direct way.
    direct: usize,
    /// Calls on their way into the spool.
    spooling: usize,
    /// How the last one on the direct way ended: with an acknowledgement.
    answers: bool,
    /// The spool is about to be empty, and who comes waits for that.
    is_closing: bool,
    has_courier: bool,
    /// Producers that gave back what they held. They end on the courier's thread, for that may take a while.
    retired: Vec<Arc<Producer>>,
}

/// What waits in a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolStatus {
    pub is_away: bool,
    pub records: u64,
    pub bytes: u64,
}

impl Way {
    pub fn open(
        stream: &StreamSpec,
        spec: KafkaSpec,
        spool: Option<Log>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Way>> {
        let spool = spool
            .map(|log| {
                // Its offsets begin anew in another file, and so must the count of what was sent.
                let id = format!("thalweg-spool-{}-{}", stream.id, log.made(clock.wall())?);
                Ok::<_, Error>(Spool { log: Arc::new(log), id })
            })
            .transpose()?;
        let producer = RwLock::new(Arc::new(Producer::new(&spec, Arc::clone(&clock))?));
        let (stream, state) = (stream.name.clone(), Mutex::default());
        let opened = watch::Sender::new(());
        let way = Arc::new(Way { stream, spec, producer, spool, clock, state, opened });
        if way.spool().is_some_and(|spool| spool.records > 0) {
            way.state().is_away = true;
            way.send_on();
        }
        Ok(way)
    }

    /// Returns when all of them are durable. After an error some may be, and others not.
    pub async fn put(self: &Arc<Self>, records: Vec<Outgoing>, now: Micros) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let direct = match self.enter().await {
            Entry::Direct(direct) => direct,
            Entry::Spool(spooling) => return self.into_spool(spooling, records, now).await,
        };
        let (producer, underway) = self.send(records, now);
        let mut end = std::pin::pin!(underway.end());
        let patience = if producer.has_been_answered() { PATIENCE } else { PATIENCE_AT_FIRST };
        let sent = match tokio::time::timeout(patience, &mut end).await {
            Ok(sent) => sent?,
            Err(_) => {
                self.is_silent(&producer);
                end.await?
            }
        };
        self.state().answers = matches!(sent, Sent::All);
        drop(producer);
        drop(direct);
        match sent {
            Sent::All => Ok(()),
            Sent::Kept { records, .. } if self.spool.is_some() => {
                let spooling = self.spooling(&mut self.state());
                self.into_spool(spooling, records, now).await
            }
            Sent::Kept { reason, .. } | Sent::Unsure(reason) => Err(Error::Unavailable(format!(
                "Kafka did not take the records. topic={:?}, reason={reason:?}",
                self.spec.topic
            ))),
        }
    }

    fn send(&self, records: Vec<Outgoing>, now: Micros) -> (Arc<Producer>, Underway) {
        let producer = self.producer.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&producer), producer.send(records, now))
    }

    /// Those who come from now on need not wait, nor those whose records have not left; somebody looks when it answers again.
    fn is_silent(self: &Arc<Self>, silent: &Arc<Producer>) {
        if self.spool.is_none() {
            return;
        }
        self.state().answers = false;
        self.tell_away();
        self.retire(silent);
        self.send_on();
    }

    fn retire(&self, silent: &Arc<Producer>) {
        let mut producer = self.producer.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&producer, silent) {
            return;
        }
        match Producer::new(&self.spec, Arc::clone(&self.clock)) {
            Ok(fresh) => {
                let silent = std::mem::replace(&mut *producer, Arc::new(fresh));
                silent.give_back();
                self.state().retired.push(silent);
            }
            // What it holds is waited for.
            Err(error) => tracing::warn!(stream = self.stream, %error, "a producer has no successor"),
        }
    }

    fn tell_away(&self) {
        if !std::mem::replace(&mut self.state().is_away, true) {
            tracing::warn!(stream = self.stream, "Kafka is away, and what comes waits in the spool");
        }
    }

    /// A place on the direct way, or one into the spool while Kafka is away. Where the spool is about to be empty this waits
    /// for that, but not for long.
    async fn enter(self: &Arc<Self>) -> Entry {
        let mut opened = self.opened.subscribe();
        if let Some(entry) = self.entry(false) {
            return entry;
        }
        let _ = tokio::time::timeout(PATIENCE, opened.changed()).await;
        self.entry(true).expect("who does not wait is given one")
    }

    /// `None`: wait, and ask again; who does not wait any more has the spool stay in use.
    fn entry(self: &Arc<Self>, at_once: bool) -> Option<Entry> {
        let mut state = self.state();
        if !state.is_away {
            state.direct += 1;
            return Some(Entry::Direct(Direct(Arc::clone(self))));
        }
        if state.is_closing && !at_once {
            return None;
        }
        state.is_closing = false;
        Some(Entry::Spool(self.spooling(&mut state)))
    }

    fn spooling(self: &Arc<Self>, state: &mut State) -> Spooling {
        state.spooling += 1;
        Spooling(Arc::clone(self))
    }

    async fn into_spool(
        self: &Arc<Self>,
        spooling: Spooling,
        records: Vec<Outgoing>,
        now: Micros,
    ) -> Result<()> {
        self.tell_away();
        // It ends, though whoever waits for it may go.
        let put = tokio::spawn(async move {
            let way = &spooling.0;
            let spool = way.spool.as_ref().expect("only what has a spool comes here");
            spool.log.put(records, now).await
        });
        let put = put.await.map_err(|error| Error::Internal(format!("a spool panicked: {error}")))?;
        put.map_err(|error| {
            Error::Unavailable(format!("Kafka is away, and the spool (--spool-max) takes no more: {error}"))
        })
    }

    /// Has somebody send on what waits, until nothing does.
    fn send_on(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().has_courier, true) {
            return;
        }
        let way = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name(format!("{}-spool", self.stream));
        if let Err(error) = thread.spawn(move || carry(&way)) {
            tracing::error!(stream = self.stream, %error, "a spool's thread could not be started");
            self.state().has_courier = false;
        }
    }

    /// Whether the spool is empty; then the direct way is open again.
    fn carry_some(&self, carrying: &mut Option<Carrying>) -> Result<bool> {
        let spool = self.spool.as_ref().expect("only what has a spool has a courier");
        if self.state().direct > 0 {
            std::thread::sleep(LOOK_AGAIN);
            return Ok(false);
        }
        // Nobody waits for them any more.
        let retired = std::mem::take(&mut self.state().retired);
        drop(retired);
        // Kafka was slow, and no more: nothing has come into the spool.
        let was_slow = carrying.is_none() && self.state().answers;
        if was_slow && self.opens(spool) {
            return Ok(true);
        }
        let Carrying { courier, next } = match carrying {
            Some(carrying) => carrying,
            None => carrying.insert(self.courier(spool)?),
        };
        let parcels = spool.log.waiting(*next, CARRIED_RECORDS, CARRIED_BYTES)?;
        if parcels.is_empty() {
            let opens = self.opens(spool);
            if !opens {
                std::thread::sleep(LOOK_AGAIN);
            }
            return Ok(opens);
        }
        if parcels.len() < CARRIED_RECORDS {
            // Nearly there. As long as others come it is never empty, so they wait for this one.
            self.state().is_closing = true;
        }
        let place = *next + parcels.len() as i64;
        courier.carry(&parcels, place)?;
        *next = place;
        spool.log.let_go(place)?;
        Ok(false)
    }

    /// Opens the direct way if nothing is in the spool, nor on its way there; then nobody sends on any more.
    fn opens(&self, spool: &Spool) -> bool {
        let mut state = self.state();
        let opens =
            state.spooling == 0 && spool.log.range(PartitionId(0)).is_ok_and(|range| range.is_empty());
        if opens {
            (state.is_away, state.is_closing, state.has_courier) = (false, false, false);
            self.opened.send_replace(());
        }
        opens
    }

    fn courier(&self, spool: &Spool) -> Result<Carrying> {
        let (courier, place) = Courier::open(&self.spec, &spool.id)?;
        let range = spool.log.range(PartitionId(0))?;
        let next = place.unwrap_or(range.start).clamp(range.start, range.end);
        spool.log.let_go(next)?;
        Ok(Carrying { courier, next })
    }

    pub fn spool(&self) -> Option<SpoolStatus> {
        let log = &self.spool.as_ref()?.log;
        let range = log.range(PartitionId(0)).ok()?;
        let records = u64::try_from(range.end - range.start).unwrap_or(0);
        Some(SpoolStatus { is_away: self.state().is_away, records, bytes: log.bytes() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Carrying {
    courier: Courier,
    next: i64,
}

/// Until nothing waits, or nobody needs the way any more. What stays is sent on by the next one.
fn carry(way: &Weak<Way>) {
    let mut carrying = None;
    let mut warned: Option<Duration> = None;
    loop {
        let Some(way) = way.upgrade() else { return };
        match way.carry_some(&mut carrying) {
            Ok(true) => {
                tracing::info!(stream = way.stream, "Kafka has what waited in the spool");
                return;
            }
            Ok(false) => {}
            Err(error) => {
                carrying = None;
                way.state().is_closing = false;
                way.opened.send_replace(());
                let now = way.clock.elapsed();
                if warned.is_none_or(|warned| now.saturating_sub(warned) > WARN_EVERY) {
                    warned = Some(now);
                    tracing::warn!(stream = way.stream, %error, "the spool can't be sent on yet");
                }
                drop(way);
                std::thread::sleep(PAUSE);
            }
        }
    }
}

enum Entry {
    Direct(Direct),
    Spool(Spooling),
}

/// Somebody on the direct way, who may stop waiting at any time.
struct Direct(Arc<Way>);

impl Drop for Direct {
    fn drop(&mut self) {
        self.0.state().direct -= 1;
    }
}

/// Somebody on their way into the spool; once they are there, they are sent on.
struct Spooling(Arc<Way>);

impl Drop for Spooling {
    fn drop(&mut self) {
        self.0.state().spooling -= 1;
        self.0.send_on();
    }
}
