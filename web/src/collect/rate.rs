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
pub(crate) struct Rates(Mutex<BTreeMap<(Uuid, IpAddr), Instant>>);

impl Rates {
    /// Takes room for so many events of one sender, or none.
    pub fn take(&self, endpoint: Uuid, sender: IpAddr, per_second: f64, events: usize) -> Result<(), Fault> {
        self.take_at(endpoint, sender, per_second, events, Instant::now())
    }

    fn take_at(
        &self,
        endpoint: Uuid,
        sender: IpAddr,
        per_second: f64,
        events: usize,
        now: Instant,
    ) -> Result<(), Fault> {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= SENDERS_MAX {
            senders.retain(|_, at| *at > now);
            if senders.len() >= SENDERS_MAX {
                return Err(too_many());
            }
        }
        let at = senders.entry((endpoint, sender)).or_insert(now);
        let begun = (*at).max(now);
        let next = begun + Duration::from_secs_f64(events as f64 / per_second);
        // A batch that is larger than a second's worth is taken where nothing was before it.
        if next > now + AHEAD && begun > now {
            return Err(too_many());
        }
        *at = next;
        Ok(())
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
        let take = |sender: &str, events, ms| {
            let sender = match sender {
                "a" => IpAddr::from([10, 0, 0, 1]),
                "b" => IpAddr::from([10, 0, 0, 2]),
                _ => IpAddr::from([10, 0, 0, 3]),
            };
            rates.take_at(endpoint, sender, 10.0, events, start + Duration::from_millis(ms)).is_ok()
        };
        assert!((0..10).all(|_| take("a", 1, 0)), "a second's worth at once");
        assert!(!take("a", 1, 0));
        assert!(take("b", 10, 0), "others are not held back");
        assert!(take("a", 1, 100) && !take("a", 1, 100), "one more after a tenth of a second");
        assert!(take("c", 50, 0) && !take("c", 1, 3000) && take("c", 1, 5000), "a large batch is paid for");
    }
}
