//! How many events each sender may bring a second: of every sender one instant is kept, at which all that it has brought
//! so far would have come at its rate. It may be ahead by a second's worth.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use uuid::Uuid;

use crate::fault::Fault;

/// What a sender may bring at once.
const AHEAD: Duration = Duration::from_secs(1);
/// Then those that have been silent for long enough are forgotten.
const SENDERS_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Rates(Mutex<BTreeMap<(Uuid, Sender), Instant>>);

/// Whom a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sender {
    Address(IpAddr),
    /// By its place among the endpoint's.
    Key(usize),
}

impl Rates {
    /// Takes room for one event of a sender, if there is any.
    pub(super) fn enter(&self, endpoint: Uuid, sender: Sender, per_second: f64) -> Result<(), Fault> {
        self.enter_at(endpoint, sender, per_second, Instant::now())
    }

    /// Who has entered brings all that they have; the next one waits until it is paid.
    pub(super) fn owe(&self, endpoint: Uuid, sender: Sender, per_second: f64, events: usize) {
        self.owe_at(endpoint, sender, per_second, events, Instant::now());
    }

    fn enter_at(&self, endpoint: Uuid, sender: Sender, per_second: f64, now: Instant) -> Result<(), Fault> {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= SENDERS_MAX {
            senders.retain(|_, at| *at > now);
            if senders.len() >= SENDERS_MAX {
                return Err(too_many());
            }
        }
        let at = senders.entry((endpoint, sender)).or_insert(now);
        let begun = (*at).max(now);
        let next = begun + Duration::from_secs_f64(1.0 / per_second);
        // At less than one a second the first is taken too.
        if next > now + AHEAD && begun > now {
            return Err(too_many());
        }
        *at = next;
        Ok(())
    }

    fn owe_at(&self, endpoint: Uuid, sender: Sender, per_second: f64, events: usize, now: Instant) {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = senders.entry((endpoint, sender)).or_insert(now);
        *at = (*at).max(now) + Duration::from_secs_f64(events as f64 / per_second);
    }
}

fn too_many() -> Fault {
    Fault::new(StatusCode::TOO_MANY_REQUESTS, "more events a second than a sender may bring")
        .with(header::RETRY_AFTER, "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_its_rate_and_others_have_theirs() {
        let (rates, start, endpoint) = (Rates::default(), Instant::now(), Uuid::from_u128(1));
        let sender = |name: u8| Sender::Address(IpAddr::from([10, 0, 0, name]));
        let enter = |name, per_second, ms| {
            rates.enter_at(endpoint, sender(name), per_second, start + Duration::from_millis(ms)).is_ok()
        };
        assert!((0..10).all(|_| enter(1, 10.0, 0)), "a second's worth at once");
        assert!(!enter(1, 10.0, 0));
        assert!(enter(2, 10.0, 0), "others are not held back");
        assert!(enter(1, 10.0, 100) && !enter(1, 10.0, 100), "one more after a tenth of a second");
        let bring = |name, events| rates.owe_at(endpoint, sender(name), 10.0, events, start);
        assert!(enter(3, 10.0, 0));
        bring(3, 49);
        assert!(!enter(3, 10.0, 3000) && enter(3, 10.0, 5000), "a large batch is taken, and paid for");
        assert!(enter(4, 0.1, 0) && !enter(4, 0.1, 9000) && enter(4, 0.1, 10_000), "less than one a second");
    }
}
