//! How many events each sender may bring a second: of every sender one instant is kept, at which all that it has brought
//! so far would have come at its rate. It may be ahead by a second's worth.
//!
//! A request is let in by one event, for how many it brings is known only when it has been read; then it has room for all of
//! them or is refused. One that has more than a second's worth is taken from a sender that owes nothing, and paid for after.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
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
    /// Or a network: who has one address of an IPv6 network has all that end otherwise.
    Address(IpAddr),
    /// By its place among the endpoint's.
    Key(usize),
}

impl Sender {
    pub fn at(address: IpAddr) -> Sender {
        const OF_A_NETWORK: u128 = !0 << 64;
        Sender::Address(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & OF_A_NETWORK).into(),
            address => address,
        })
    }
}

/// What a sender may bring to an endpoint, in events a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub sender: Sender,
    pub per_second: f64,
}

impl Limit {
    /// Rounded down, or the last of a second's worth would not fit.
    fn time(&self, events: usize) -> Duration {
        Duration::from_nanos((events as f64 / self.per_second * 1e9) as u64)
    }
}

impl Rates {
    /// Takes room for one event, where there is some under every limit.
    pub(super) fn enter(&self, endpoint: Uuid, limits: &[Limit]) -> Result<(), Fault> {
        self.take(endpoint, limits, 0, 1, Instant::now())
    }

    /// Takes room for the events of one who has entered: that one among them has it already.
    pub(super) fn bring(&self, endpoint: Uuid, limits: &[Limit], events: usize) -> Result<(), Fault> {
        self.take(endpoint, limits, 1, events, Instant::now())
    }

    fn take(
        &self,
        endpoint: Uuid,
        limits: &[Limit],
        has: usize,
        events: usize,
        now: Instant,
    ) -> Result<(), Fault> {
        if limits.is_empty() || events <= has {
            return Ok(());
        }
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.len() >= SENDERS_MAX {
            senders.retain(|_, at| *at > now);
            if senders.len() >= SENDERS_MAX {
                return Err(too_many(AHEAD));
            }
        }
        let at = |senders: &BTreeMap<_, Instant>, limit: &Limit| {
            senders.get(&(endpoint, limit.sender)).map_or(now, |at| (*at).max(now))
        };
        // Who is refused under one limit is not charged under another.
        for limit in limits {
            let at = at(&senders, limit);
            let owed = at.saturating_duration_since(now).saturating_sub(limit.time(has));
            let ahead = (at + limit.time(events - has)).saturating_duration_since(now + AHEAD);
            // Until it fits, or, where it never does, until nothing is owed.
            let wait = owed.min(ahead);
            if !wait.is_zero() {
                return Err(too_many(wait));
            }
        }
        for limit in limits {
            let next = at(&senders, limit) + limit.time(events - has);
            senders.insert((endpoint, limit.sender), next);
        }
        Ok(())
    }
}

fn too_many(wait: Duration) -> Fault {
    Fault::new(StatusCode::TOO_MANY_REQUESTS, "more events a second than a sender may bring").after(wait)
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use axum::response::IntoResponse;

    use super::*;

    struct Sending {
        rates: Rates,
        start: Instant,
        limits: Vec<Limit>,
    }

    impl Sending {
        fn at(rates: &[f64]) -> Sending {
            let limit = |(key, &per_second)| Limit { sender: Sender::Key(key), per_second };
            let limits = rates.iter().enumerate().map(limit).collect();
            Sending { rates: Rates::default(), start: Instant::now(), limits }
        }

        /// A request of so many events, or after how many seconds it may come again.
        fn send(&self, ms: u64, events: usize) -> Result<(), String> {
            let now = self.start + Duration::from_millis(ms);
            let take = |has, events| self.rates.take(Uuid::nil(), &self.limits, has, events, now);
            take(0, 1).and_then(|()| take(1, events)).map_err(|fault| {
                fault.into_response().headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
            })
        }

        /// How many requests of so many events are taken in one moment.
        fn taken(&self, ms: u64, events: usize) -> usize {
            (0..1000).take_while(|_| self.send(ms, events).is_ok()).count()
        }
    }

    #[test]
    fn an_ipv6_network_is_one_sender() {
        let at = |address: &str| Sender::at(address.parse().unwrap());
        assert_eq!(at("2001:db8:1:2::17"), at("2001:db8:1:2:ffff::"));
        assert_ne!(at("2001:db8:1:2::17"), at("2001:db8:1:3::17"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.2"), at("10.0.0.1"));
    }

    #[test]
    fn a_second_s_worth_is_taken_at_once_and_no_more() {
        for per_second in [1.0, 3.0, 6.0, 7.0, 10.0, 200.0, 999.0] {
            let sending = Sending::at(&[per_second]);
            assert_eq!(sending.taken(0, 1) as f64, per_second, "{per_second} a second");
            assert_eq!(sending.taken(5000, 1) as f64, per_second, "who was silent has no more");
        }
        let sending = Sending::at(&[10.0]);
        assert_eq!((sending.taken(0, 1), sending.taken(100, 1), sending.taken(450, 1)), (10, 1, 3));
        assert_eq!(Sending::at(&[0.1]).taken(0, 1), 1, "less than one a second");
    }

    #[test]
    fn a_batch_fits_or_is_refused() {
        let sending = Sending::at(&[20.0]);
        assert_eq!(sending.send(0, 19), Ok(()));
        assert!(sending.send(0, 19).is_err(), "there is room for one, and not for nineteen");
        let sending = Sending::at(&[20.0]);
        assert_eq!((sending.taken(0, 1), sending.taken(900, 9), sending.taken(1000, 1)), (20, 2, 2));
    }

    #[test]
    fn a_large_batch_is_taken_from_who_owes_nothing_and_paid_for() {
        let sending = Sending::at(&[10.0]);
        assert_eq!(sending.send(0, 1), Ok(()));
        assert_eq!(sending.send(0, 50), Err("1".to_owned()), "it owes one");
        assert_eq!(sending.send(1000, 50), Ok(()));
        assert_eq!(sending.send(1000, 1), Err("5".to_owned()), "Retry-After is when it may come");
        assert_eq!(sending.send(5000, 1), Err("1".to_owned()));
        assert_eq!(sending.send(5100, 1), Ok(()));
        let each = Sending::at(&[0.1]);
        assert_eq!((each.taken(0, 1), each.taken(9000, 1), each.taken(10_000, 1)), (1, 0, 1));
    }

    #[test]
    fn one_limit_charges_nothing_for_what_another_refuses() {
        let sending = Sending::at(&[10.0, 3.0]);
        assert_eq!(sending.taken(0, 1), 3);
        assert!((0..50).all(|_| sending.send(0, 1).is_err()));
        let first = Sending { limits: vec![sending.limits[0]], ..sending };
        assert_eq!(first.taken(0, 1), 7);
    }
}
