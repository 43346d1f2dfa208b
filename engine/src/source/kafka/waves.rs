//! Records leave in waves: what comes while some are on their way waits here until all of those have arrived.
//!
//! A partition's records that may be sent twice must not overtake each other, so librdkafka has few of them on their way
//! at once, and its broker thread turns without a pause for as long as others wait for that (40 % of what it cost to take
//! clicks in). Here they wait for nothing, and the next wave is as large as what has come meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::producer::{Delivery, Outgoing};
use crate::ids::Micros;

/// Of one wave: what comes behind these leaves in the next.
const WAVE_RECORDS: usize = 20_000;
const WAVE_BYTES: usize = 16 << 20;
/// What waits for its wave, beside what the client holds.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Who waits longer for a wave is told so, as librdkafka tells those who wait for the broker.
const WAITS_AT_MOST: Duration = Duration::from_secs(5);

/// The records of one call.
pub(super) struct Call {
    pub records: Vec<Outgoing>,
    pub timestamp: Micros,
    pub delivery: Arc<Delivery>,
    /// As the clock's time that passes.
    pub since: Duration,
}

#[derive(Default)]
pub(super) struct Waves {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Call>,
    waiting_bytes: usize,
    /// Records of the last wave that have not arrived.
    on_their_way: usize,
    /// Some of a wave are not yet with the client.
    is_sending: bool,
    /// Nothing is sent any more.
    has_ended: bool,
}

impl Waves {
    /// Gives a call back that there is no room for, with the reason.
    pub fn join(&self, call: Call) -> Result<(), (Call, &'static str)> {
        let mut state = self.state();
        if state.has_ended {
            return Err((call, "the producer has ended"));
        }
        if state.waiting_bytes > WAITING_BYTES_MAX {
            return Err((call, "more waits for the broker than may"));
        }
        state.waiting_bytes += call.bytes();
        state.waiting.push_back(call);
        if state.on_their_way == 0 {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Whose turn it is, once all of the wave before have arrived, with those who have waited too long; `None` when nothing
    /// is sent any more.
    pub fn next(&self, now: impl Fn() -> Duration) -> Option<Wave> {
        let mut state = self.state();
        loop {
            if state.has_ended {
                return None;
            }
            let late = state.late(now());
            if !late.is_empty() || (state.on_their_way == 0 && !state.waiting.is_empty()) {
                let calls = if state.on_their_way == 0 { state.wave() } else { vec![] };
                state.on_their_way += calls.iter().map(|call| call.records.len()).sum::<usize>();
                state.is_sending = true;
                return Some(Wave { calls, late });
            }
            let waited = self.changed.wait_timeout(state, WAITS_AT_MOST / 10);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All of a wave is with the client.
    pub fn sent(&self) {
        self.state().is_sending = false;
        self.changed.notify_all();
    }

    pub fn arrived(&self, records: usize) {
        let mut state = self.state();
        state.on_their_way -= records;
        if state.on_their_way == 0 {
            self.changed.notify_all();
        }
    }

    /// Gives back what has not left. Once it returns, nothing more is given to the client.
    pub fn end(&self) -> Vec<Call> {
        let mut state = self.state();
        state.has_ended = true;
        state.waiting_bytes = 0;
        self.changed.notify_all();
        while state.is_sending {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.drain(..).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Wave {
    pub calls: Vec<Call>,
    pub late: Vec<Call>,
}

impl State {
    fn wave(&mut self) -> Vec<Call> {
        let (mut calls, mut records, mut bytes) = (vec![], 0, 0);
        while records < WAVE_RECORDS
            && bytes < WAVE_BYTES
            && let Some(call) = self.take_first()
        {
            records += call.records.len();
            bytes += call.bytes();
            calls.push(call);
        }
        calls
    }

    fn late(&mut self, now: Duration) -> Vec<Call> {
        let mut late = vec![];
        while self.waiting.front().is_some_and(|call| now.saturating_sub(call.since) > WAITS_AT_MOST) {
            late.extend(self.take_first());
        }
        late
    }

    fn take_first(&mut self) -> Option<Call> {
        let call = self.waiting.pop_front()?;
        self.waiting_bytes -= call.bytes();
        Some(call)
    }
}

impl Call {
    fn bytes(&self) -> usize {
        let of = |it: &Outgoing| it.value.len() + it.key.as_ref().map_or(0, Vec::len) + size_of::<Outgoing>();
        self.records.iter().map(of).sum()
    }

    /// None of its records has left.
    pub fn give_back(self, reason: &str) {
        self.delivery.give_back(reason, self.records.into_iter().enumerate());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(waves: &Waves, values: &[&str], since: Duration) -> Arc<Delivery> {
        let (delivery, _) = Delivery::of(values.len());
        let record = |value: &&str| Outgoing { key: None, value: value.as_bytes().to_vec() };
        let records = values.iter().map(record).collect();
        let call = Call { records, timestamp: 0, delivery: Arc::clone(&delivery), since };
        assert!(waves.join(call).is_ok());
        delivery
    }

    fn values(calls: &[Call]) -> Vec<String> {
        let records = calls.iter().flat_map(|call| &call.records);
        records.map(|record| String::from_utf8(record.value.clone()).unwrap()).collect()
    }

    #[test]
    fn what_comes_meanwhile_is_the_next_wave() {
        let (waves, now) = (Waves::default(), Duration::ZERO);
        join(&waves, &["a", "b"], now);
        assert_eq!(values(&waves.next(|| now).unwrap().calls), ["a", "b"]);
        waves.sent();
        join(&waves, &["c"], now);
        join(&waves, &["d", "e"], now);
        waves.arrived(1);
        assert!(waves.state().on_their_way == 1, "b is still on its way");
        waves.arrived(1);
        assert_eq!(values(&waves.next(|| now).unwrap().calls), ["c", "d", "e"]);
        waves.sent();
        join(&waves, &["f"], now);
        assert_eq!(values(&waves.end()), ["f"], "it has not left");
        assert!(waves.next(|| now).is_none());
        let (delivery, _) = Delivery::of(0);
        let late = Call { records: vec![], timestamp: 0, delivery, since: now };
        assert!(waves.join(late).is_err(), "nothing is sent any more");
    }

    #[test]
    fn who_waits_too_long_is_told_so_though_nothing_arrives() {
        let (waves, now) = (Waves::default(), Duration::ZERO);
        join(&waves, &["a"], now);
        waves.next(|| now).unwrap();
        waves.sent();
        join(&waves, &["b"], now);
        let now = 2 * WAITS_AT_MOST;
        join(&waves, &["c"], now);
        let Wave { calls, late } = waves.next(|| now).unwrap();
        assert_eq!((values(&calls), values(&late)), (vec![], vec!["b".to_owned()]));
        assert_eq!(values(&waves.state().waiting.make_contiguous()[..]), ["c"]);
    }

    #[test]
    fn a_wave_has_bounds() {
        let (waves, now) = (Waves::default(), Duration::ZERO);
        let large = "x".repeat(WAVE_BYTES / 2);
        for _ in 0..3 {
            join(&waves, &[&large], now);
        }
        assert_eq!(waves.next(|| now).unwrap().calls.len(), 2);
        let large = "x".repeat(WAITING_BYTES_MAX);
        join(&waves, &[&large], now);
        let (delivery, _) = Delivery::of(0);
        let call = Call { records: vec![], timestamp: 0, delivery, since: now };
        assert!(waves.join(call).is_err_and(|(_, reason)| reason.contains("more waits")));
    }
}
