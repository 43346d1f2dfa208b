//! Which windows of a view have left with rows: a few spans of their starts.
//!
//! While watermarks rise, `closed_through` says all of it. Once a statement has set one back
//! (`ALTER STREAM … SET WATERMARK`), windows that end behind it may have left already, and none leaves twice (INV-4): rows
//! of such windows alone are late, as they were before.

use serde::{Deserialize, Serialize};

use crate::ids::Micros;
use crate::spec::Window;

/// Beyond that the two that are nearest become one, with what lies between them.
const SPANS: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left(Vec<(Micros, Micros)>);

impl Left {
    /// All windows that end at or before an instant: what is known of a view that remembers no more.
    pub fn through(closed: Option<Micros>, window: Option<Window>) -> Left {
        let span =
            closed.zip(window).map(|(closed, window)| (Micros::MIN, closed.saturating_sub(window.size)));
        Left(span.into_iter().collect())
    }

    /// Adds the windows that start at these instants.
    pub fn add(&mut self, starts: impl IntoIterator<Item = Micros>, window: Window) {
        self.0.extend(starts.into_iter().map(|start| (start, start)));
        self.0.sort_unstable();
        let mut spans: Vec<(Micros, Micros)> = vec![];
        for (first, last) in std::mem::take(&mut self.0) {
            match spans.last_mut() {
                Some(before) if first <= before.1.saturating_add(window.slide) => {
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

    pub fn holds(&self, start: Micros) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&start))
    }

    /// What of it ends after an instant, which is nothing unless a watermark was set back.
    pub fn ending_after(&self, through: Option<Micros>, window: Window) -> Left {
        let after =
            |(_, last): &&(Micros, Micros)| through.is_some_and(|through| last + window.size > through);
        Left(self.0.iter().filter(after).copied().collect())
    }

    /// Whether a row has windows that end after an instant, and all of them have left.
    pub fn holds_row(&self, time: Micros, through: Micros, window: Window) -> bool {
        let last = window.last_end_of_row(time) - window.size;
        let starts = std::iter::successors(Some(last), |start| Some(start - window.slide));
        let mut open = starts.take_while(|start| *start + window.size > time.max(through)).peekable();
        open.peek().is_some() && open.all(|start| self.holds(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUMBLE: Window = Window { size: 10, slide: 10, expanded: false };
    const HOP: Window = Window { size: 10, slide: 5, expanded: false };

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
        assert!(some.holds_row(7, 0, HOP) && !some.holds_row(12, 0, HOP));
        some.add([10], HOP);
        assert!(some.holds_row(12, 0, HOP) && some.holds_row(12, 15, HOP));
        assert!(!left(&[0]).holds_row(10, 0, TUMBLE) && left(&[0]).holds_row(9, 0, TUMBLE));
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
}
