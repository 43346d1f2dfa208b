//! How long things took, each counted in a class that is at most a sixty-fourth wide: as good as a list, and as small as a
//! page.

use std::time::Duration;

const STEPS: u64 = 64;
const CLASSES: usize = 64 * 64;

pub struct Times {
    classes: Vec<u64>,
    count: u64,
    most: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { classes: vec![0; CLASSES], count: 0, most: Duration::ZERO }
    }
}

/// Up to 64 µs each microsecond; then 64 classes for each power of two.
fn class(micros: u64) -> usize {
    let shift = micros.max(1).ilog2().saturating_sub(STEPS.ilog2());
    let class = u64::from(shift) * STEPS + (micros >> shift);
    usize::try_from(class).unwrap_or(usize::MAX).min(CLASSES - 1)
}

/// The most that a class holds.
fn bound(class: usize) -> u64 {
    let class = class as u64;
    let shift = (class / STEPS).saturating_sub(1);
    (((class - shift * STEPS) + 1) << shift) - 1
}

impl Times {
    pub fn add(&mut self, took: Duration) {
        self.classes[class(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
        self.most = self.most.max(took);
    }

    pub fn add_all(&mut self, other: &Times) {
        self.classes.iter_mut().zip(&other.classes).for_each(|(own, more)| *own += more);
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// In milliseconds: what so large a share of them took, or less.
    pub fn at(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bound(class) as f64 / 1000.0;
            }
        }
        0.0
    }

    pub fn most(&self) -> f64 {
        self.most.as_secs_f64() * 1000.0
    }

    pub fn told(&self) -> String {
        format!(
            "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, most {:.0} ms",
            self.at(0.5),
            self.at(0.9),
            self.at(0.99),
            self.at(0.999),
            self.most()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_as_well_as_its_class_is_narrow() {
        for micros in [0, 1, 63, 64, 127, 128, 129, 1000, 99_999, 5_000_000] {
            let bound = bound(class(micros));
            assert!(bound >= micros && bound <= micros + micros / 64, "{micros} {bound}");
        }
        let mut times = Times::default();
        (1..=1000).for_each(|ms| times.add(Duration::from_millis(ms)));
        assert!((times.at(0.5) - 500.0).abs() < 9.0, "{}", times.at(0.5));
        assert!((times.at(0.99) - 990.0).abs() < 17.0, "{}", times.at(0.99));
        assert_eq!(times.most(), 1000.0);
    }
}
