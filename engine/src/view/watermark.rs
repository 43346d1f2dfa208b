//! How far event time has come: the watermark of a partition, and the frontier of a stream.
//!
//! Lateness is judged row by row, against the running maximum of the row's own partition before that row, and its
//! floor. So the verdict does not depend on how batches were cut, on threads, or on other partitions.
//! INV-2: a partition's watermark and a stream's frontier never fall.

use arrow::array::{Array, BooleanArray, TimestampMicrosecondArray};

use crate::ids::{END_OF_TIME, Micros};
use crate::spec::Window;

/// The event time of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionTime {
    pub delay: Micros,
    /// Largest event time seen.
    pub event_time_max: Option<Micros>,
    /// The frontier adopted when the partition was found or came back from idleness.
    pub floor: Option<Micros>,
}

impl PartitionTime {
    pub fn watermark(&self) -> Option<Micros> {
        let own = self.event_time_max.map(|max| max.saturating_sub(self.delay));
        own.max(self.floor)
    }

    /// Takes in the event times of consecutive rows and tells the watermark that stood before each of them. INV-7: it
    /// looks at nothing else, so a row's verdict is the same however batches were cut.
    pub fn observe(&mut self, times: &TimestampMicrosecondArray) -> Observed {
        debug_assert_eq!(times.null_count(), 0, "rows without an event time are rejected before");
        let mut max = self.event_time_max.unwrap_or(Micros::MIN);
        let floor = self.floor.unwrap_or(Micros::MIN);
        let delay = self.delay;
        let before = times
            .values()
            .iter()
            .map(|&time| {
                let watermark = max.saturating_sub(delay).max(floor);
                max = max.max(time);
                watermark
            })
            .collect();
        if !times.is_empty() {
            self.event_time_max = Some(max);
        }
        Observed { before }
    }
}

/// The watermark before each row of a batch.
#[derive(Debug)]
pub struct Observed {
    before: Vec<Micros>,
}

impl Observed {
    /// Which rows are late for a view: all their windows had passed, allowed lateness included. `None` if no row is.
    pub fn late(
        &self,
        times: &TimestampMicrosecondArray,
        window: Window,
        allowed_lateness: Micros,
    ) -> Option<BooleanArray> {
        let passed = |time: Micros, watermark: Micros| {
            window.last_end_of_row(time).saturating_add(allowed_lateness) <= watermark
        };
        let rows = || times.values().iter().zip(&self.before);
        // The earliest row against the highest watermark settles nearly every batch with one comparison.
        let earliest = times.values().iter().min().copied()?;
        let highest = self.before.last().copied()?;
        if !passed(earliest, highest) || !rows().any(|(time, watermark)| passed(*time, *watermark)) {
            return None;
        }
        Some(rows().map(|(time, watermark)| Some(passed(*time, *watermark))).collect())
    }

    pub fn before(&self, row: usize) -> Micros {
        self.before[row]
    }
}

/// What a partition said at a barrier, as far as the frontier is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its watermark holds the frontier; `None` before its first event.
    Active(Option<Micros>),
    /// At its end and silent: holds nothing back. Has reached this watermark.
    Idle(Option<Micros>),
    /// A bounded source that has given its last record.
    Ended,
}

/// The frontier after a barrier: the least watermark of the active partitions. When all are silent it advances by the
/// time elapsed since the last record, so that the last window closes without one more event and a replay of old data
/// does not jump to today.
pub fn frontier(previous: Option<Micros>, standings: &[Standing], silence: Micros) -> Option<Micros> {
    let mut least: Option<Option<Micros>> = None;
    let mut reached = None;
    for standing in standings {
        match *standing {
            Standing::Active(watermark) => {
                least = Some(least.map_or(watermark, |least| least.min(watermark)));
            }
            Standing::Idle(watermark) => reached = reached.max(watermark),
            Standing::Ended => {}
        }
    }
    let now = match least {
        Some(watermark) => watermark,
        None if standings.is_empty() => None,
        None if standings.iter().all(|standing| *standing == Standing::Ended) => Some(END_OF_TIME),
        None => reached.map(|watermark: Micros| watermark.saturating_add(silence)),
    };
    previous.max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUMBLE: Window = Window { size: 10, slide: 10, expanded: false };

    fn late(cuts: &[&[Micros]]) -> Vec<Micros> {
        let mut partition = PartitionTime { delay: 2, event_time_max: None, floor: None };
        let mut late = vec![];
        for cut in cuts {
            let times = TimestampMicrosecondArray::from(cut.to_vec());
            let observed = partition.observe(&times);
            if let Some(mask) = observed.late(&times, TUMBLE, 0) {
                late.extend((0..times.len()).filter(|row| mask.value(*row)).map(|row| times.value(row)));
            }
        }
        late
    }

    #[test]
    fn a_verdict_does_not_depend_on_how_batches_are_cut() {
        let rows = [3, 11, 8, 12, 9, 25, 13, 7, 24, 40, 26];
        let whole = late(&[&rows]);
        assert_eq!(whole, [9, 13, 7, 26]);
        for cut in 1..rows.len() {
            assert_eq!(late(&[&rows[..cut], &rows[cut..]]), whole);
        }
    }

    #[test]
    fn a_floor_makes_old_rows_late() {
        let mut partition = PartitionTime { delay: 2, event_time_max: None, floor: Some(20) };
        let times = TimestampMicrosecondArray::from(vec![9, 21]);
        let mask = partition.observe(&times).late(&times, TUMBLE, 0).expect("the first row is late");
        assert_eq!(mask, BooleanArray::from(vec![true, false]));
        assert_eq!(partition.watermark(), Some(20));
    }

    #[test]
    fn the_frontier_waits_for_the_slowest_and_not_for_the_idle() {
        use Standing::{Active, Ended, Idle};
        assert_eq!(frontier(None, &[Active(Some(5)), Active(Some(9))], 0), Some(5));
        assert_eq!(frontier(Some(4), &[Active(None), Active(Some(9))], 0), Some(4));
        assert_eq!(frontier(None, &[Idle(Some(5)), Active(Some(9)), Ended], 0), Some(9));
        assert_eq!(frontier(Some(7), &[Active(Some(5))], 0), Some(7), "it never falls");
        assert_eq!(frontier(Some(3), &[Idle(Some(5)), Idle(None)], 30), Some(35));
        assert_eq!(frontier(None, &[Idle(None)], 30), None);
        assert_eq!(frontier(None, &[Ended, Ended], 0), Some(END_OF_TIME));
    }
}
