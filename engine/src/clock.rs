//! The only clock. Whatever transforms data is told the time by its caller; a simulation passes a clock of its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ids::Micros;

pub trait Clock: Send + Sync + 'static {
    /// Wall time in microseconds since 1970, for names, logs and `system.*`; never for a verdict about a row.
    fn wall(&self) -> Micros;
    /// Time since the clock was made, for measuring silences.
    fn elapsed(&self) -> Duration;
}

pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> Micros {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as Micros)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
