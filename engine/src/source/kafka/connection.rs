//! What librdkafka says of itself, from its own calls back: troubles with its brokers, and which topic it reads.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::ids::TopicId;

/// A state of the connection that lasts is warned of again after this long.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A topic that was deleted and created again goes on under its name, and records of it at the offsets where the other was
/// read. librdkafka says so in a line of its log, before it asks for the first of them, and nowhere else.
const CHANGED: &str = " changed id from ";

/// What must be on for that line.
pub(super) const LOGGED: &str = "metadata";

#[derive(Default)]
pub(super) struct Connection {
    last: Mutex<Option<Trouble>>,
    topic: Mutex<Option<TopicId>>,
}

#[derive(Clone)]
struct Trouble {
    code: RDKafkaErrorCode,
    reason: String,
    warned: Instant,
}

impl ClientContext for Connection {}

impl Connection {
    /// Warns when trouble begins and while it lasts, but not of each attempt to connect.
    #[allow(clippy::disallowed_methods)] // The clock decides about a line of the log and nothing else.
    pub(super) fn trouble(&self, code: RDKafkaErrorCode, reason: String) {
        let mut last = lock(&self.last);
        let recent = last.as_ref().map(|last| last.warned).filter(|warned| warned.elapsed() < WARN_EVERY);
        if recent.is_none() {
            tracing::warn!(?code, reason, "the Kafka connection is in trouble");
        }
        let warned = recent.unwrap_or_else(Instant::now);
        match &mut *last {
            // "All brokers are down" follows the reason, and would hide it.
            Some(last) if code == RDKafkaErrorCode::AllBrokersDown => last.warned = warned,
            last => *last = Some(Trouble { code, reason, warned }),
        }
    }

    pub(super) fn recovered(&self) {
        if lock(&self.last).take().is_some() {
            tracing::info!("the Kafka connection works again");
        }
    }

    /// The last trouble since the connection worked.
    pub(super) fn reason(&self) -> Option<(RDKafkaErrorCode, String)> {
        lock(&self.last).as_ref().map(|last| (last.code, last.reason.clone()))
    }

    pub(super) fn logged(&self, line: &str) {
        if let Some(topic) = told_topic(line) {
            *lock(&self.topic) = Some(topic);
        }
    }

    /// The topic that is read by now, where that has been said.
    pub(super) fn topic(&self) -> Option<TopicId> {
        lock(&self.topic).clone()
    }
}

fn told_topic(line: &str) -> Option<TopicId> {
    let (_, ids) = line.split_once(CHANGED)?;
    TopicId::told(ids.split_once(" to ")?.1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_is_told_by_a_line_of_the_log() {
        let connection = Connection::default();
        let first =
            "[thrd:main]: Topic clicks changed id from AAAAAAAAAAAAAAAAAAAAAA to +xYz0123456789abcdefg/";
        for (line, topic) in [
            ("[thrd:main]: Topic clicks [0] Leader 1 Epoch 0", None),
            (first, Some("-xYz0123456789abcdefg_")),
            (
                "[thrd:main]: Topic clicks changed id from x to AAAAAAAAAAAAAAAAAAAAAA",
                Some("-xYz0123456789abcdefg_"),
            ),
            (
                "[thrd:main]: Topic clicks changed id from x to 00000000000000000000aw",
                Some("00000000000000000000aw"),
            ),
        ] {
            connection.logged(line);
            assert_eq!(connection.topic(), topic.and_then(TopicId::told), "{line}");
        }
    }
}
