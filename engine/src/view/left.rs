//! Which windows of a view have left with rows: a few spans of their marks.
//!
//! While watermarks rise, `closed_through` says all of it. Once a statement has set one back
//! (`ALTER STREAM … SET WATERMARK`), windows that end behind it may have left already, and none leaves twice (INV-4): rows
//! of such windows alone are late, as they were before.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::Micros;
use crate::spec::Window;
use crate::view::Extent;

/// Beyond that the two that are nearest become one, with what lies between them.
const SPANS: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left(Vec<(Micros, Micros)>);

impl Left {
    /// All windows that end at or before an instant: what is known of a view that remembers no more.
    pub fn through(closed: Option<Micros>, window: Option<Window>) -> Left {
        let span = closed.zip(window).map(|(closed, window)| {
            let layout = window.layout;
            (Micros::MIN, layout.mark_of_end(layout.newest_end(closed)))
        });
        Left(span.into_iter().collect())
    }

    /// Adds the windows that have these marks.
    pub fn add(&mut self, marks: impl IntoIterator<Item = Micros>, window: Window) {
        let layout = window.layout;
        self.0.extend(marks.into_iter().map(|mark| (mark, mark)));
        self.0.sort_unstable();
        let mut spans: Vec<(Micros, Micros)> = vec![];
        for (first, last) in std::mem::take(&mut self.0) {
            match spans.last_mut() {
                Some(before) if first <= layout.mark_of_end(layout.next_end(layout.end_of(before.1))) => {
                    before.1 = before.1.max(last)
                }
                _ => spans.push((first, last)),
            }
        }
        while spans.len() > SPANS {
            let gap = |at: &usize| spans[at + 1].0.saturating_sub(spans[*at].1);
            let nearest = (0..spans.len() - 1).min_by_key(gap).expect("there are several spans");
            let (_, last) = spans.remove(nearest + 1);
            spans[nearest].1 = last;
        }
        self.0 = spans;
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn holds(&self, mark: Micros) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&mark))
    }

    /// What of it ends after an instant, which is nothing unless a watermark was set back.
    pub fn ending_after(&self, through: Option<Micros>, window: Window) -> Left {
        let after = |(_, last): &&(Micros, Micros)| {
            through.is_some_and(|through| window.layout.end_of(*last) > through)
        };
        Left(self.0.iter().filter(after).copied().collect())
    }

    /// Whether a row counts in units that end after an instant, and all of them have left.
    pub fn holds_row(&self, time: Micros, through: Micros, extent: Extent) -> bool {
        let layout = extent.window.layout;
        let mut open = extent.marks_of_row(time).filter(|mark| layout.end_of(*mark) > through).peekable();
        open.peek().is_some() && open.all(|mark| self.holds(mark))
    }

    /// A stretch of time without the units side by side that have left.
    pub fn without(&self, stretch: Range<Micros>, window: Window) -> Vec<Range<Micros>> {
        let mut left = vec![];
        let mut from = stretch.start;
        for (first, last) in &self.0 {
            let end = window.layout.end_of(*last);
            if end <= from || *first >= stretch.end {
                continue;
            }
            if *first > from {
                left.push(from..*first);
            }
            from = end;
        }
        if from < stretch.end {
            left.push(from..stretch.end);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Layout;

    const TUMBLE: Window = Window { layout: Layout::hop(10, 10), expanded: false };
    const HOP: Window = Window { layout: Layout::hop(10, 5), expanded: false };

    fn left(starts: &[Micros]) -> Left {
        let mut left = Left::default();
        starts.iter().for_each(|start| left.add([*start], TUMBLE));
        left
    }

    #[test]
    fn windows_side_by_side_are_one_span() {
        assert_eq!(left(&[20, 0, 10]).0, [(0, 20)]);
        assert_eq!(left(&[0, 10, 1000, 1010, 40]).0, [(0, 10), (40, 40), (1000, 1010)]);
    }

    #[test]
    fn the_nearest_of_too_many_spans_become_one() {
        let starts: Vec<Micros> = (0..SPANS as Micros).map(|n| n * 1000).chain([7050]).collect();
        let left = left(&starts);
        assert_eq!(left.0.len(), SPANS);
        assert!(left.holds(7000) && left.holds(7020) && left.holds(7050) && !left.holds(6500));
    }

    #[test]
    fn a_row_is_gone_with_all_of_its_windows() {
        let mut some = Left::default();
        some.add([0, 5], HOP);
        // Of 7 the windows are 0..10 and 5..15, of 12 they are 5..15 and 10..20.
        assert!(some.holds_row(7, 0, Extent::within(HOP)) && !some.holds_row(12, 0, Extent::within(HOP)));
        some.add([10], HOP);
        assert!(some.holds_row(12, 0, Extent::within(HOP)) && some.holds_row(12, 15, Extent::within(HOP)));
        assert!(
            !left(&[0]).holds_row(10, 0, Extent::within(TUMBLE))
                && left(&[0]).holds_row(9, 0, Extent::within(TUMBLE))
        );
    }

    #[test]
    fn only_what_ends_behind_the_watermark_matters() {
        let all = left(&[0, 10, 1000]);
        assert_eq!(all.ending_after(Some(2000), TUMBLE), Left::default());
        assert_eq!(all.ending_after(None, TUMBLE), Left::default());
        assert_eq!(all.ending_after(Some(20), TUMBLE).0, [(1000, 1000)]);
        assert_eq!(all.ending_after(Some(15), TUMBLE).0, [(0, 10), (1000, 1000)]);
    }

    #[test]
    fn what_an_older_version_closed_has_left_as_a_whole() {
        let all = Left::through(Some(100), Some(TUMBLE));
        assert!(all.holds(-7) && all.holds(90) && !all.holds(100));
        assert!(Left::through(None, Some(TUMBLE)).is_empty());
    }

    #[test]
    fn what_has_left_is_cut_out_of_a_stretch() {
        let without = |left: &Left, stretch| {
            let pieces = left.without(stretch, TUMBLE).into_iter();
            pieces.map(|piece| (piece.start, piece.end)).collect::<Vec<_>>()
        };
        let left = left(&[10, 20, 50]);
        assert_eq!(without(&left, 0..80), [(0, 10), (30, 50), (60, 80)]);
        assert_eq!(without(&left, 15..55), [(30, 50)]);
        assert_eq!(without(&left, 10..30), []);
        assert_eq!(without(&Left::default(), 0..20), [(0, 20)]);
    }
}
