//! How long a worker leaves its source alone between two micro-batches.
//!
//! Each micro-batch costs something whatever its rows: buffers, a lock, waking up. Taken one record at a time,
//! a thousand records a second would keep a core busy with that. So after one the worker rests, for so long that the
//! fixed cost stays a small share of its time, but never longer than the bound, and not at all when there is more to
//! take. What it costs is measured as it runs: a straight line through (rows, time), older micro-batches fading.

use std::time::Duration;

/// Of a worker's time, what may go into the fixed cost of micro-batches.
const SHARE: f64 = 0.006;

/// What is left of a micro-batch's weight in the line after the next.
const FADE: f64 = 0.98;

/// So often a worker does not rest. At a steady rate micro-batches would all be alike otherwise, and nobody could tell
/// what of their time is the rows'.
const TRIAL_EVERY: u32 = 16;

#[derive(Debug)]
pub struct Pace {
    linger: Duration,
    line: Line,
    taken: u32,
    /// On the clock's elapsed time: when the source is looked at again.
    ready: Duration,
}

impl Pace {
    pub fn new(linger: Duration) -> Pace {
        Pace { linger, line: Line::default(), taken: 0, ready: Duration::ZERO }
    }

    /// A micro-batch was taken in and took so long; there may be more already.
    pub fn took(&mut self, rows: usize, spent: Duration, more: bool, now: Duration) {
        self.line.add(rows as f64, spent.as_secs_f64());
        let rest = Duration::from_secs_f64(self.line.fixed() * (1.0 - SHARE) / SHARE);
        self.taken = self.taken.wrapping_add(1);
        let at_once = more || self.taken.is_multiple_of(TRIAL_EVERY);
        self.ready = if at_once { now } else { now + rest.min(self.linger) };
    }

    /// How long the source is still to be left alone.
    pub fn rest(&self, now: Duration) -> Duration {
        self.ready.saturating_sub(now)
    }
}

/// How many rows views are given at a time: as many as they are done with in a moment, for no order is looked at meanwhile,
/// that of a DROP neither. A view that takes a hundredth of a second for a row is slow, and no more than that.
#[derive(Debug)]
pub struct Portion {
    rows: usize,
}

/// Before anything is known of them.
const ROWS_AT_FIRST: usize = 16;
const ROWS_MOST: usize = 1 << 20;
const MOMENT: Duration = Duration::from_millis(250);

impl Default for Portion {
    fn default() -> Portion {
        Portion { rows: ROWS_AT_FIRST }
    }
}

impl Portion {
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Views were given so many rows, and were done with them in so long.
    pub fn took(&mut self, rows: usize, spent: Duration) {
        // What few rows take says little of many.
        let most = (rows * 8).clamp(self.rows, ROWS_MOST);
        self.rows = match spent < MOMENT / 4 {
            true => most,
            false => {
                let in_a_moment = rows as f64 * MOMENT.as_secs_f64() / spent.as_secs_f64();
                (in_a_moment as usize).clamp(1, most)
            }
        };
    }
}

/// Least squares.
#[derive(Debug, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        for sum in [&mut self.weight, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy] {
            *sum *= FADE;
        }
        self.weight += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// What no row costs: where the line begins, or the mean where the rows were too alike to tell.
    fn fixed(&self) -> f64 {
        let (x, y) = (self.x / self.weight, self.y / self.weight);
        let spread = self.xx / self.weight - x * x;
        if spread < 0.01 * x * x {
            return y;
        }
        let slope = (self.xy / self.weight - x * y) / spread;
        (y - slope * x).clamp(0.0, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(10);

    /// The rest after many micro-batches of rows that cost 40 µs and 100 ns a row.
    fn rest(rows: impl Iterator<Item = usize>) -> Duration {
        let mut pace = Pace::new(LINGER);
        for rows in rows {
            let spent = Duration::from_nanos(40_000 + 100 * rows as u64);
            pace.took(rows, spent, false, Duration::ZERO);
        }
        pace.rest(Duration::ZERO)
    }

    #[test]
    fn the_fixed_cost_decides_and_not_the_rows() {
        let expected = Duration::from_micros(40).mul_f64((1.0 - SHARE) / SHARE);
        for size in [10, 100, 10_000] {
            let rest = rest((0..201).map(|number| size + size * (number % 7) / 3));
            assert!(rest.abs_diff(expected) < expected / 10, "{rest:?}");
        }
        assert_eq!(rest(std::iter::repeat_n(10_000, 201)), LINGER, "who cannot tell rests as long as may be");
    }

    #[test]
    fn views_that_are_slow_are_given_few_rows() {
        let mut portion = Portion::default();
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let spent = Duration::from_millis(16) * portion.rows() as u32;
            longest = longest.max(spent);
            portion.took(portion.rows(), spent);
        }
        assert_eq!(portion.rows(), 15);
        assert!(longest < Duration::from_secs(1));
        // And more, as soon as they are not.
        let mut runs = 0;
        while portion.rows() < 16 << 10 {
            portion.took(portion.rows(), Duration::from_micros(100) * portion.rows() as u32 / 1000);
            runs += 1;
        }
        assert!(runs < 7, "{runs}");
        portion.took(1, Duration::from_micros(50));
        assert!(portion.rows() >= 5_000, "a few rows have a fixed cost");
    }

    #[test]
    fn who_has_more_to_take_does_not_rest() {
        let mut pace = Pace::new(LINGER);
        let now = Duration::from_secs(5);
        pace.took(10, Duration::from_millis(1), false, now);
        assert_eq!((pace.rest(now), pace.rest(now + LINGER / 2)), (LINGER, LINGER / 2));
        pace.took(10, Duration::from_millis(1), true, now);
        assert_eq!(pace.rest(now), Duration::ZERO);
    }
}
