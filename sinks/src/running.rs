//! One sink: it follows its view, sends what has closed, and waits for whoever does not take it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_engine::ErrorKind;
use thalweg_engine::checkpoint::Step;
use thalweg_engine::ids::Epoch;
use thalweg_engine::source::Transactions;
use thalweg_sql::session::{Changed, Database, DeadLetter, Follower, Into, Sink, SinkState, Unit, Webhook};
use thalweg_sql::{Error, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::World;
use crate::board::Board;
use crate::json;
use crate::keep::{Begun, Keep, Place};
use crate::topic::{self, Topic};
use crate::webhook::{self, Answer, Delivery, Poster};

/// Between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// As long as the other side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A topic knows its place by itself, as long as it has it.
const NOTED_EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(1)];
/// Whoever waits longer for a broker says so.
const SAID_AFTER: Duration = Duration::from_secs(3);
/// A topic that nothing is sent into is looked for.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(5);
/// More than these, or than these bytes, are more than somebody would look through.
const DEAD_LETTERS_MAX: usize = 10_000;
const DEAD_BYTES_MAX: usize = 64 << 20;

/// What a sink was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub paused: bool,
    pub leaves: bool,
    /// How often it was told to go on, and to send again what was refused.
    pub resumed: u64,
    pub resent: u64,
}

pub struct Running {
    database: Database,
    world: Arc<World>,
    sink: Arc<Sink>,
    keep: Keep,
    board: Arc<Board>,
    wanted: watch::Receiver<Wanted>,
    place: Place,
    noted: (Place, Instant),
    /// The order to send again that was last carried out.
    resent: u64,
}

/// Why it does not go on just now.
enum Stop {
    /// It begins anew at once: it was told something, or finds that what it counts is not as it was.
    Anew,
    Failed(Error),
    /// Trying again would change nothing.
    Ever(Error),
}

/// What became of a delivery.
enum Outcome {
    Taken,
    Buried,
}

/// After so many attempts.
fn pause(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT)
}

/// The data is older than what was sent of it: what closes now closes in epochs that others had.
fn set_back() -> Error {
    Error::new(ErrorKind::BadData, "the topic has rows that this data does not know: the data was set back").hint(
        "DROP SINK and CREATE it again, with snapshot = false if the topic has all that has closed so far",
    )
}

impl From<Error> for Stop {
    /// A row that is as it is for good fails each time.
    fn from(error: Error) -> Stop {
        match error.kind() {
            ErrorKind::BadData => Stop::Ever(error),
            _ => Stop::Failed(error),
        }
    }
}

impl Running {
    pub fn new(
        database: &Database,
        world: &Arc<World>,
        sink: &Arc<Sink>,
        place: Place,
        board: Arc<Board>,
        wanted: watch::Receiver<Wanted>,
    ) -> Running {
        Running {
            database: database.clone(),
            world: Arc::clone(world),
            sink: Arc::clone(sink),
            keep: Keep::of(&world.root, sink.id),
            board,
            wanted,
            noted: (place.clone(), Instant::now()),
            place,
            resent: 0,
        }
    }

    pub async fn run(mut self) {
        let mut failures = 0;
        loop {
            let wanted = *self.wanted.borrow_and_update();
            if wanted.leaves {
                break;
            }
            if wanted.paused {
                self.set_state(SinkState::Paused);
                if self.wanted.changed().await.is_err() {
                    break;
                }
                continue;
            }
            let before = self.place.clone();
            let Err(stop) = self.go_on().await;
            if self.place != before {
                failures = 0;
            }
            let noting = self.note(true).await;
            match stop {
                Stop::Anew => failures = 0,
                Stop::Failed(error) => {
                    self.failed(&error, SinkState::Retrying);
                    let wait = pause(failures);
                    failures += 1;
                    // Whatever it is told, it tries at once.
                    let _ = tokio::time::timeout(wait, self.wanted.changed()).await;
                }
                Stop::Ever(error) => {
                    self.failed(&error, SinkState::Failed);
                    if self.wanted.changed().await.is_err() {
                        break;
                    }
                }
            }
            if let Err(error) = noting {
                tracing::warn!(sink = self.sink.name, %error, "how far a sink has come can't be noted");
            }
        }
        if let Err(error) = self.note(true).await {
            tracing::warn!(sink = self.sink.name, %error, "how far a sink has come is not noted");
        }
    }

    async fn go_on(&mut self) -> Result<Infallible, Stop> {
        let sink = Arc::clone(&self.sink);
        let mut follower = self.database.follow(&sink).await?;
        let view = follower.view().to_owned();
        self.board.lock().0.view.clone_from(&view);
        match &sink.into {
            Into::Kafka { topic, key } => {
                if self.keep.was_set_back().await? {
                    return Err(Stop::Ever(set_back()));
                }
                let opening = Topic::open(&sink, (topic, key.as_deref()), &view, &self.world);
                let (mut topic, written) = opening.await?;
                let known = self.keep.topic().await?;
                let is_noted = known.is_some();
                // Before anything is in it.
                if let Some(id) = topic.goes_on_in(known).await?.filter(|_| !is_noted) {
                    self.keep.note_topic(&id).await?;
                }
                let place = written.and_then(|written| u64::try_from(written.place).ok()).unwrap_or_default();
                let is_ours = written.is_some_and(|written| written.by == Some(self.world.instance));
                // Whoever was here before can't have sent what was not durable when we took over.
                if !is_ours && Epoch(place) > self.world.since {
                    self.await_commit().await?;
                    self.keep.note_set_back().await?;
                    return Err(Stop::Ever(set_back()));
                }
                let known = Epoch(place).max(self.place.after);
                self.place = Place::behind(known);
                self.feed_topic(&mut follower, &mut topic).await
            }
            Into::Webhook(webhook) => {
                let poster = Poster::new(&sink, webhook, &view, &self.world).map_err(Stop::Ever)?;
                self.feed_address(&mut follower, webhook, &poster).await
            }
        }
    }

    /// An instance that was replaced, and does not know it yet, finds a topic ahead of itself, too: but it commits no more.
    async fn await_commit(&mut self) -> Result<(), Stop> {
        let epoch = self.database.epoch();
        while self.database.epoch() == epoch {
            if tokio::time::timeout(LOOK_AGAIN, self.wanted.changed()).await.is_ok() {
                return Err(Stop::Anew);
            }
        }
        Ok(())
    }

    async fn feed_topic(&mut self, follower: &mut Follower, topic: &mut Topic) -> Result<Infallible, Stop> {
        let writer = topic.writer();
        if self.sink.live {
            self.waited(&writer, topic.begin_anew(self.place.after)).await?;
        }
        let mut looked = Instant::now();
        loop {
            self.heed()?;
            let unit = follower.next(self.place.after, topic::ROWS).await?;
            // What is open is told with the last of what has closed by then: so all that was told adds up.
            let is_last = unit.as_ref().is_none_or(|unit| unit.is_last());
            let changes = if self.sink.live && is_last { follower.changes().await? } else { vec![] };
            if unit.is_none() && changes.is_empty() {
                if looked.elapsed() >= LOOKED_AT_EVERY {
                    topic.is_still_there().await?;
                    looked = Instant::now();
                }
                self.rest(follower).await?;
                continue;
            }
            let through = unit.as_ref().map_or(self.place.after, |unit| unit.through);
            let rows = self.waited(&writer, topic.send(follower, changes, unit, through)).await?;
            self.place = Place::behind(through);
            self.arrived(rows);
            self.note(false).await?;
        }
    }

    /// What takes long is waited for, and said.
    async fn waited<T>(&self, writer: &Transactions, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let mut asked = std::pin::pin!(asked);
        loop {
            match tokio::time::timeout(SAID_AFTER, &mut asked).await {
                Ok(answer) => return answer,
                Err(_) => self.troubled(&writer.waits().into(), SinkState::Retrying),
            }
        }
    }

    async fn feed_address(
        &mut self,
        follower: &mut Follower,
        webhook: &Webhook,
        poster: &Poster,
    ) -> Result<Infallible, Stop> {
        self.send_again(poster).await?;
        let mut begun = None;
        loop {
            self.heed()?;
            // One epoch at a time, for its deliveries are counted.
            if let Some(unit) = follower.next(self.place.after, 1).await? {
                self.send_closed(follower, unit, webhook, poster).await?;
                continue;
            }
            let changes = if self.sink.live { follower.changes().await? } else { vec![] };
            if changes.is_empty() {
                self.rest(follower).await?;
                continue;
            }
            let begun = begun.get_or_insert_with(|| Uuid::new_v4().simple().to_string());
            self.send_changes(follower.epoch(), changes, begun, webhook, poster).await?;
        }
    }

    async fn send_closed(
        &mut self,
        follower: &mut Follower,
        mut unit: Unit,
        webhook: &Webhook,
        poster: &Poster,
    ) -> Result<(), Stop> {
        let mut number = 0;
        let mut waiting: Vec<Bytes> = vec![];
        loop {
            let more = follower.rows(&mut unit).await?;
            let is_last = more.is_none();
            if let Some((_, rows)) = more {
                waiting.extend(json::objects(&rows)?);
            }
            let ready = |waiting: &[Bytes]| waiting.len() >= webhook.batch || is_last && !waiting.is_empty();
            while ready(&waiting) {
                let rows: Vec<Bytes> = waiting.drain(..webhook.batch.min(waiting.len())).collect();
                let sent = self.place.sent_of(unit.through);
                let delivery = poster.delivery(&self.sink, unit.through, number, &rows)?;
                if number + 1 == sent && self.place.is_other(&delivery.key) {
                    return Err(self.count_anew());
                }
                if number >= sent {
                    let outcome = self.deliver(poster, &delivery).await?;
                    self.place.begun =
                        Some(Begun { epoch: unit.through, sent: number + 1, last: delivery.key });
                    match outcome {
                        Outcome::Taken => self.arrived(rows.len() as u64),
                        Outcome::Buried => self.stop_at_too_many()?,
                    }
                    self.note(false).await?;
                }
                number += 1;
            }
            if is_last {
                break;
            }
        }
        if number < self.place.sent_of(unit.through) {
            return Err(self.count_anew());
        }
        self.place = Place::behind(unit.through);
        self.note(false).await?;
        Ok(())
    }

    /// Some of an epoch's rows have left the lake since its deliveries were counted: those that are left come once more.
    fn count_anew(&mut self) -> Stop {
        self.place.begun = None;
        Stop::Anew
    }

    /// Of open rows nothing is kept: whoever refuses what becomes of them is told all of them anew, and later.
    async fn send_changes(
        &mut self,
        epoch: Epoch,
        changes: Vec<Changed>,
        begun: &str,
        webhook: &Webhook,
        poster: &Poster,
    ) -> Result<(), Stop> {
        let mut all = vec![];
        for Changed { come, rows } in changes {
            let sum = if come { 1 } else { -1 };
            all.extend(json::objects(&rows)?.iter().map(|row| webhook::change(sum, false, row)));
        }
        for some in all.chunks(webhook.batch) {
            let key = format!("{}-live-{}", self.sink.id.simple(), Uuid::new_v4().simple());
            let delivery = poster.of_changes(key, epoch, Some(begun), some);
            if let Some(reason) = self.post(poster, &delivery.key, &delivery.body).await? {
                return Err(Stop::Failed(Error::new(ErrorKind::Unavailable, reason)));
            }
            self.arrived(some.len() as u64);
        }
        Ok(())
    }

    /// All that has closed is sent: waits for more.
    async fn rest(&mut self, follower: &mut Follower) -> Result<(), Stop> {
        if follower.epoch() > self.place.after {
            self.place = Place::behind(follower.epoch());
        }
        {
            let mut board = self.board.lock();
            board.0.state = SinkState::Running;
            board.0.confirmed = self.place.after;
        }
        self.note(false).await?;
        tokio::select! {
            waited = follower.wait() => Ok(waited?),
            _ = self.wanted.changed() => Err(Stop::Anew),
        }
    }

    fn heed(&mut self) -> Result<(), Stop> {
        match self.wanted.has_changed() {
            Ok(false) => Ok(()),
            _ => Err(Stop::Anew),
        }
    }

    /// Until it is taken, or refused for good and kept as a dead letter.
    async fn deliver(&mut self, poster: &Poster, delivery: &Delivery) -> Result<Outcome, Stop> {
        let Some(reason) = self.post(poster, &delivery.key, &delivery.body).await? else {
            return Ok(Outcome::Taken);
        };
        let letter = DeadLetter {
            sink: self.sink.name.clone(),
            delivery: delivery.key.clone(),
            epoch: delivery.epoch,
            at: self.world.clock.wall(),
            reason,
            body: delivery.body.clone(),
        };
        self.keep.bury(&letter).await?;
        let letters = &mut self.board.lock().1;
        letters.retain(|known| known.delivery != letter.delivery);
        letters.push(letter);
        Ok(Outcome::Buried)
    }

    fn stop_at_too_many(&self) -> Result<(), Stop> {
        let letters = &self.board.lock().1;
        let (count, bytes) = (letters.len(), letters.iter().map(|it| it.body.len()).sum::<usize>());
        if count < DEAD_LETTERS_MAX && bytes < DEAD_BYTES_MAX {
            return Ok(());
        }
        let text = format!("{count} deliveries were refused for good");
        Err(Stop::Ever(
            Error::new(ErrorKind::Unavailable, text)
                .hint("see system.dead_letters; ALTER SINK … RESEND sends them again once they are taken"),
        ))
    }

    /// Until it is taken, or refused for good for the reason that is given.
    async fn post(&mut self, poster: &Poster, key: &str, body: &str) -> Result<Option<String>, Stop> {
        let mut failures = 0;
        loop {
            let answer = tokio::select! {
                answer = poster.post(key, body, self.world.clock.wall()) => answer,
                _ = self.wanted.changed() => return Err(Stop::Anew),
            };
            let (reason, wait) = match answer {
                Answer::Taken => {
                    self.world.root.failpoints().hit(Step::SinkSent);
                    let mut board = self.board.lock();
                    (board.0.state, board.0.deliveries) = (SinkState::Running, board.0.deliveries + 1);
                    return Ok(None);
                }
                Answer::Refused(reason) => return Ok(Some(reason)),
                Answer::Later(reason, wait) => (reason, wait),
            };
            self.failed(&Error::new(ErrorKind::Unavailable, reason), SinkState::Retrying);
            let wait = wait.unwrap_or_default().min(LONGEST_ASKED).max(pause(failures));
            failures += 1;
            if tokio::time::timeout(wait, self.wanted.changed()).await.is_ok() {
                return Err(Stop::Anew);
            }
        }
    }

    /// What was refused, if that was asked for: what is taken now is dead no more.
    async fn send_again(&mut self, poster: &Poster) -> Result<(), Stop> {
        let asked = self.wanted.borrow().resent;
        if asked == self.resent {
            return Ok(());
        }
        for letter in self.board.dead_letters() {
            if let Some(reason) = self.post(poster, &letter.delivery, &letter.body).await? {
                tracing::warn!(sink = self.sink.name, delivery = letter.delivery, reason, "refused again");
                continue;
            }
            self.keep.dig_up(&letter).await?;
            self.arrived(json::rows_of(&letter.body));
            self.board.lock().1.retain(|known| known.delivery != letter.delivery);
        }
        self.resent = asked;
        Ok(())
    }

    fn arrived(&self, rows: u64) {
        let mut board = self.board.lock();
        board.0.state = SinkState::Running;
        board.0.rows += rows;
        if matches!(self.sink.into, Into::Kafka { .. }) {
            board.0.deliveries += 1;
            board.0.confirmed = self.place.after;
        }
    }

    /// INV-30: how far it has come, where that is due.
    async fn note(&mut self, now: bool) -> Result<()> {
        let (place, at) = &self.noted;
        let every = match self.sink.into {
            Into::Kafka { .. } => NOTED_EVERY[0],
            Into::Webhook(_) => NOTED_EVERY[1],
        };
        if *place == self.place || !now && at.elapsed() < every {
            return Ok(());
        }
        self.keep.note(&self.place).await?;
        self.noted = (self.place.clone(), Instant::now());
        self.board.lock().0.confirmed = self.place.after;
        Ok(())
    }

    fn failed(&self, error: &Error, state: SinkState) {
        self.troubled(error, state);
        self.board.lock().0.retries += u64::from(state == SinkState::Retrying);
    }

    fn troubled(&self, error: &Error, state: SinkState) {
        let mut board = self.board.lock();
        if board.0.state != state {
            tracing::warn!(sink = self.sink.name, %error, "a sink can't send on");
        }
        board.0.state = state;
        board.0.last_error = Some(error.to_string());
        board.0.last_error_at = Some(self.world.clock.wall());
    }

    fn set_state(&self, state: SinkState) {
        self.board.lock().0.state = state;
    }
}
