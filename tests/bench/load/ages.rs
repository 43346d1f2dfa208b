//! How old events are when somebody hears of them.
//!
//! A row tells of what it knows: `newest`, when the newest of its events arrived, and `window_end`. Who hears that something
//! newer counts now hears of all that arrived between; who is told a final row hears it so long after the frontier could have
//! passed its end.

use chrono::Utc;
use std::time::Duration;

use crate::times::Times;

/// A class of [`Times`] is wider.
const STEP: i64 = 1000;
/// What comes first is of long ago.
const BETWEEN_MAX: i64 = 10_000_000;

/// What is looked at, and for how long.
#[derive(clap::Args)]
pub struct Span {
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Not counted
    #[arg(long, default_value_t = 5)]
    pub warm_up: u64,
    /// How far the watermark stays behind, in seconds
    #[arg(long, default_value_t = 5)]
    pub delay: u64,
}

#[derive(Default)]
pub struct Ages {
    /// Of events, by rows that may still change.
    pub open: Times,
    /// Of rows that do not, since their window was over.
    pub closed: Times,
    newest: Option<i64>,
}

pub fn now() -> i64 {
    Utc::now().timestamp_micros()
}

impl Ages {
    /// Open rows came, and the newest event in them arrived then.
    pub fn hear(&mut self, newest: i64) {
        let now = now();
        let Some(before) = self.newest.replace(newest.max(self.newest.unwrap_or(newest))) else { return };
        if newest - before > BETWEEN_MAX {
            return;
        }
        for arrived in (before + 1..=newest).step_by(STEP as usize) {
            self.open.add(Duration::from_micros((now - arrived).max(0) as u64));
        }
    }

    /// A final row came, whose window could have closed then.
    pub fn hear_final(&mut self, over: i64) {
        self.closed.add(Duration::from_micros((now() - over).max(0) as u64));
    }

    pub fn add_all(&mut self, other: &Ages) {
        self.open.add_all(&other.open);
        self.closed.add_all(&other.closed);
    }

    pub fn tell(&self) {
        println!("event to open row:   {}", self.open.told());
        println!("end to final row:    {}", self.closed.told());
    }
}
