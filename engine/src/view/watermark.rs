//! How far event time has come: the watermark of a partition, and the frontier of a stream.
//!
//! Lateness is judged row by row and window by window, against the running maximum of the row's own partition before
//! that row, and its floor. So the verdict does not depend on how batches were cut, on threads, on other partitions, or
//! on which windows have left already.
//! INV-2: a partition's watermark and a stream's frontier never fall, but where a statement sets them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use crate::ids::{END_OF_TIME, Micros};
use crate::view::Extent;
use crate::view::left::Left;
use crate::{Error, Result};

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

    /// By a statement alone: from here on this is the watermark, until events raise it.
    pub fn set(&mut self, watermark: Micros) {
        let highest = watermark.saturating_add(self.delay);
        self.event_time_max = self.event_time_max.map(|max| max.min(highest));
        self.floor = Some(watermark);
    }

    /// Takes in the event times of consecutive rows of the partition and tells, behind what has been told, the watermark
    /// that stood before each of them. INV-7: it looks at nothing else, so a row's verdict is the same however batches
    /// were cut.
    pub fn observe(&mut self, times: &[Micros], before: &mut Vec<Micros>) {
        let mut max = self.event_time_max.unwrap_or(Micros::MIN);
        let floor = self.floor.unwrap_or(Micros::MIN);
        let delay = self.delay;
        before.extend(times.iter().map(|&time| {
            let watermark = max.saturating_sub(delay).max(floor);
            max = max.max(time);
            watermark
        }));
        if !times.is_empty() {
            self.event_time_max = Some(max);
        }
    }
}

/// When each row of a batch happened, and the watermark that it met.
#[derive(Debug, Clone)]
pub struct Observed {
    times: TimestampMicrosecondArray,
    before: Vec<Micros>,
}

impl Observed {
    pub fn new(times: TimestampMicrosecondArray, before: Vec<Micros>) -> Observed {
        assert_eq!(times.null_count(), 0, "rows without an event time are rejected before");
        assert_eq!(times.len(), before.len(), "each row met a watermark");
        Observed { times, before }
    }

    /// For whoever takes it elsewhere.
    pub fn as_batch(&self) -> Result<RecordBatch> {
        let before = Int64Array::from(self.before.clone());
        Ok(RecordBatch::try_from_iter([
            ("time", Arc::new(self.times.clone()) as ArrayRef),
            ("before", Arc::new(before)),
        ])?)
    }

    /// What [`Observed::as_batch`] made.
    pub fn of_batch(batch: &RecordBatch) -> Result<Observed> {
        let times =
            batch.columns().first().and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let before = batch.columns().get(1).and_then(|before| before.as_primitive_opt::<Int64Type>());
        match (times, before) {
            (Some(times), Some(before)) => Ok(Observed::new(times.clone(), before.values().to_vec())),
            _ => Err(Error::Internal("times and watermarks are not what they were".into())),
        }
    }

    pub fn concat<'a>(pieces: impl Iterator<Item = &'a Observed>) -> Observed {
        let (mut times, mut before) = (vec![], vec![]);
        for piece in pieces {
            times.extend_from_slice(piece.times.values());
            before.extend_from_slice(&piece.before);
        }
        Observed::new(TimestampMicrosecondArray::from(times), before)
    }

    /// Which windows take each row in: those that had not passed, allowed lateness included, nor `left` before a
    /// watermark was set back. `None` if no window of any row had.
    pub fn verdicts(&self, extent: Extent, allowed_lateness: Micros, left: &Left) -> Option<Verdicts> {
        let passed = |end: Micros, watermark: Micros| end.saturating_add(allowed_lateness) <= watermark;
        let touched = |time: Micros, watermark: Micros| passed(extent.first_end_of_row(time), watermark);
        let rows = || self.times.values().iter().copied().zip(self.before.iter().copied());
        // The earliest row against the highest watermark settles nearly every batch with one comparison.
        let earliest = self.times.values().iter().min().copied()?;
        let highest = self.before.iter().max().copied()?;
        let gone = |time: Micros, watermark: Micros| {
            !left.is_empty() && left.holds_row(time, watermark.saturating_sub(allowed_lateness), extent)
        };
        let none_touched =
            || !rows().any(|(time, watermark)| touched(time, watermark) || gone(time, watermark));
        if (left.is_empty() && !touched(earliest, highest)) || none_touched() {
            return None;
        }
        let late = rows().map(|(time, watermark)| {
            Some(passed(extent.last_end_of_row(time), watermark) || gone(time, watermark))
        });
        let after = rows().map(|(time, watermark)| match touched(time, watermark) {
            true => extent.window.layout.newest_end(watermark.saturating_sub(allowed_lateness)),
            false => Micros::MIN,
        });
        Some(Verdicts { late: late.collect(), after: after.collect() })
    }

    /// Which rows lie behind the watermark, allowed lateness included. `None` if none does.
    pub fn behind(&self, allowed_lateness: Micros) -> Option<Verdicts> {
        let rows = || self.times.values().iter().copied().zip(self.before.iter().copied());
        let late = |(time, watermark): (Micros, Micros)| time < watermark.saturating_sub(allowed_lateness);
        if !rows().any(late) {
            return None;
        }
        let late = rows().map(|row| Some(late(row))).collect();
        Some(Verdicts { late, after: vec![Micros::MIN; self.before.len()] })
    }

    pub fn time(&self, row: usize) -> Micros {
        self.times.value(row)
    }

    pub fn before(&self, row: usize) -> Micros {
        self.before[row]
    }
}

/// Of a batch of which some row came after some window of its own had passed.
#[derive(Debug)]
pub struct Verdicts {
    /// All windows of the row had passed.
    pub late: BooleanArray,
    /// The row counts in those of its windows that end after this instant.
    after: Vec<Micros>,
}

impl Verdicts {
    /// The rows that are not late, by the instant after which the windows end that they count in.
    pub fn in_time(&self) -> impl Iterator<Item = (Micros, UInt32Array)> + use<> {
        let mut rows: BTreeMap<Micros, Vec<u32>> = BTreeMap::from([(Micros::MIN, vec![])]);
        for (row, after) in self.after.iter().enumerate().filter(|(row, _)| !self.late.value(*row)) {
            rows.entry(*after).or_default().push(row as u32);
        }
        rows.into_iter().map(|(after, rows)| (after, UInt32Array::from(rows)))
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
/// time elapsed since the last row, so that the last window closes without one more event and a replay of old data
/// does not jump to today; but only until what is open has closed, at `open_through`. What a source held back meanwhile
/// is not late when it comes (INV-18).
pub fn frontier(
    previous: Option<Micros>,
    standings: &[Standing],
    silence: Micros,
    open_through: Option<Micros>,
) -> Option<Micros> {
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
        None => reached.map(|watermark: Micros| {
            let advanced = watermark.saturating_add(silence);
            advanced.min(open_through.unwrap_or(watermark)).max(watermark)
        }),
    };
    previous.max(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Layout, Reach, Window};

    const TUMBLE: Extent = hop(10, 10);

    const fn hop(size: Micros, slide: Micros) -> Extent {
        let window = Window { layout: Layout::hop(size, slide), expanded: false };
        Extent { window, reach: Reach { before: 0, after: 0 } }
    }

    fn observe(partition: &mut PartitionTime, times: &[Micros]) -> Observed {
        let mut before = vec![];
        partition.observe(times, &mut before);
        Observed::new(times.to_vec().into(), before)
    }

    fn late(cuts: &[&[Micros]]) -> Vec<Micros> {
        let mut partition = PartitionTime { delay: 2, event_time_max: None, floor: None };
        let mut late = vec![];
        for cut in cuts {
            let observed = observe(&mut partition, cut);
            if let Some(verdicts) = observed.verdicts(TUMBLE, 0, &Left::default()) {
                late.extend((0..cut.len()).filter(|row| verdicts.late.value(*row)).map(|row| cut[row]));
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
    fn a_row_counts_in_the_windows_that_had_not_passed() {
        let hop = hop(10, 5);
        let mut partition = PartitionTime { delay: 2, event_time_max: None, floor: None };
        let observed = observe(&mut partition, &[1, 13, 4, 18, 9, 12, 30, 3]);
        let verdicts = observed.verdicts(hop, 0, &Left::default()).expect("some windows had passed");
        // Before 4 the watermark was 11, and its windows end at 5 and 10; before 9 it was 16, and they end at 10 and 15.
        let late: Vec<bool> = verdicts.late.iter().flatten().collect();
        assert_eq!(late, [false, false, true, false, true, false, false, true]);
        // Before 12 it was 16 too, and its windows end at 15 and 20.
        const ALL: Micros = Micros::MIN;
        assert_eq!(verdicts.after[..2], [ALL, ALL]);
        assert_eq!((verdicts.after[3], verdicts.after[5], verdicts.after[6]), (ALL, 15, ALL));
    }

    #[test]
    fn a_floor_makes_old_rows_late() {
        let mut partition = PartitionTime { delay: 2, event_time_max: None, floor: Some(20) };
        let observed = observe(&mut partition, &[9, 21]);
        let verdicts = observed.verdicts(TUMBLE, 0, &Left::default()).expect("the first row is late");
        assert_eq!(verdicts.late, BooleanArray::from(vec![true, false]));
        assert_eq!(partition.watermark(), Some(20));
    }

    #[test]
    fn the_frontier_waits_for_the_slowest_and_not_for_the_idle() {
        use Standing::{Active, Ended, Idle};
        let frontier =
            |previous, standings: &[Standing], silence| frontier(previous, standings, silence, Some(30));
        assert_eq!(frontier(None, &[Active(Some(5)), Active(Some(9))], 0), Some(5));
        assert_eq!(frontier(Some(4), &[Active(None), Active(Some(9))], 0), Some(4));
        assert_eq!(frontier(None, &[Idle(Some(5)), Active(Some(9)), Ended], 0), Some(9));
        assert_eq!(frontier(Some(7), &[Active(Some(5))], 0), Some(7), "it never falls");
        assert_eq!(frontier(Some(3), &[Idle(Some(5)), Idle(None)], 20), Some(25));
        assert_eq!(
            frontier(Some(25), &[Idle(Some(5)), Idle(None)], 3600),
            Some(30),
            "what is open has closed"
        );
        assert_eq!(frontier(Some(30), &[Idle(Some(33)), Idle(None)], 3600), Some(33));
        assert_eq!(frontier(None, &[Idle(None)], 30), None);
        assert_eq!(frontier(None, &[Ended, Ended], 0), Some(END_OF_TIME));
    }
    #[test]
    fn a_watermark_that_was_set_holds_until_events_raise_it() {
        let mut partition = PartitionTime { delay: 2, event_time_max: Some(1000), floor: None };
        partition.set(30);
        assert_eq!(partition.watermark(), Some(30));
        // Of the windows behind it, the one of 1000 had left.
        let mut left = Left::default();
        left.add([1000], TUMBLE.window);
        let observed = observe(&mut partition, &[25, 35, 1001, 35]);
        let verdicts = observed.verdicts(TUMBLE, 0, &left).expect("some rows are late");
        assert_eq!(verdicts.late, BooleanArray::from(vec![true, false, true, true]));
        partition.set(2000);
        assert_eq!(
            (partition.watermark(), partition.event_time_max),
            (Some(2000), Some(1001)),
            "forward too"
        );
        let mut empty = PartitionTime { delay: 2, event_time_max: None, floor: None };
        empty.set(30);
        assert_eq!((empty.watermark(), empty.event_time_max), (Some(30), None));
    }
}
