//! Arithmetic of windows and panes: which windows a pane's rows belong to, and when the last of them ends. Half-open, in
//! integer microseconds of UTC.
//!
//! A window is known by its *mark*: its start, but where windows of several ends share one. Of those that grow it is as
//! far before the end as the longest of them is long.

use crate::ids::Micros;
use crate::spec::{Layout, Window};

impl Layout {
    pub const fn hop(size: Micros, slide: Micros) -> Layout {
        Layout::Hop { size, slide, offset: 0 }
    }

    /// Whether each instant lies in one window.
    pub fn tumbles(&self) -> bool {
        match *self {
            Layout::Hop { size, slide, .. } => size == slide,
            Layout::Cumulate { size, step, .. } => size == step,
            Layout::Calendar(_) => true,
        }
    }

    /// How long a pane is that several windows share, and where one starts.
    pub fn shared_pane(&self) -> (Micros, Micros) {
        match *self {
            Layout::Hop { size, slide, offset } => (gcd(size, slide), offset),
            Layout::Cumulate { step, offset, .. } => (step, offset),
            Layout::Calendar(_) => unreachable!("each instant lies in one window of a calendar"),
        }
    }

    /// The panes of its windows, as windows of their own.
    pub fn panes(&self) -> Layout {
        if self.tumbles() {
            return *self;
        }
        let (pane, offset) = self.shared_pane();
        Layout::Hop { size: pane, slide: pane, offset: offset.rem_euclid(pane) }
    }

    /// No window is longer.
    pub fn longest(&self) -> Micros {
        const DAY: Micros = 86_400_000_000;
        match *self {
            Layout::Hop { size, .. } | Layout::Cumulate { size, .. } => size,
            // Two days more than any has, for zones whose clocks were moved across the date line.
            Layout::Calendar(calendar) => (calendar.length.days_at_most() + 2) * DAY,
        }
    }

    pub fn end_of(&self, mark: Micros) -> Micros {
        match *self {
            Layout::Hop { size, .. } | Layout::Cumulate { size, .. } => mark.saturating_add(size),
            Layout::Calendar(calendar) => calendar.end_of(mark),
        }
    }

    pub fn start_of(&self, mark: Micros) -> Micros {
        match *self {
            Layout::Hop { .. } | Layout::Calendar(_) => mark,
            Layout::Cumulate { .. } => self.start_of_end(self.end_of(mark)),
        }
    }

    pub fn mark_of_end(&self, end: Micros) -> Micros {
        match *self {
            Layout::Hop { size, .. } | Layout::Cumulate { size, .. } => end.saturating_sub(size),
            Layout::Calendar(calendar) => calendar.start_of(end.saturating_sub(1)),
        }
    }

    /// The start of the window that ends at an instant.
    pub fn start_of_end(&self, end: Micros) -> Micros {
        match *self {
            Layout::Hop { size, .. } => end.saturating_sub(size),
            Layout::Cumulate { size, offset, .. } => floor(end.saturating_sub(1), size, offset),
            Layout::Calendar(calendar) => calendar.start_of(end.saturating_sub(1)),
        }
    }

    /// The end of the newest window that has ended at an instant.
    pub fn newest_end(&self, instant: Micros) -> Micros {
        match *self {
            Layout::Hop { size, slide, offset } => {
                floor(instant.saturating_sub(size), slide, offset).saturating_add(size)
            }
            Layout::Cumulate { step, offset, .. } => floor(instant, step, offset),
            Layout::Calendar(calendar) => calendar.start_of(instant),
        }
    }

    /// The end of the first window that ends after an instant.
    pub fn next_end(&self, instant: Micros) -> Micros {
        match *self {
            Layout::Hop { slide, .. } => self.newest_end(instant).saturating_add(slide),
            Layout::Cumulate { step, .. } => self.newest_end(instant).saturating_add(step),
            Layout::Calendar(calendar) => calendar.end_of(instant),
        }
    }

    /// The end of the first window that starts at an instant or later.
    pub fn first_end_from(&self, instant: Micros) -> Micros {
        match *self {
            Layout::Hop { size, slide, offset } => {
                floor(instant.saturating_sub(1), slide, offset).saturating_add(slide).saturating_add(size)
            }
            Layout::Cumulate { size, step, offset } => {
                floor(instant.saturating_sub(1), size, offset).saturating_add(size).saturating_add(step)
            }
            Layout::Calendar(calendar) => calendar.end_of(calendar.end_of(instant.saturating_sub(1))),
        }
    }

    /// When the first window of a row with this event time ends.
    pub fn first_end_of_row(&self, event_time: Micros) -> Micros {
        self.next_end(event_time)
    }

    /// When the last window of a row with this event time ends.
    pub fn last_end_of_row(&self, event_time: Micros) -> Micros {
        match *self {
            Layout::Hop { size, slide, offset } => floor(event_time, slide, offset).saturating_add(size),
            Layout::Cumulate { size, offset, .. } => floor(event_time, size, offset).saturating_add(size),
            Layout::Calendar(calendar) => calendar.end_of(event_time),
        }
    }

    /// The marks of all windows of a row with this event time, ascending.
    pub fn marks_of_row(&self, event_time: Micros) -> impl Iterator<Item = Micros> + use<> {
        self.marks_between(self.first_end_of_row(event_time), self.last_end_of_row(event_time))
    }

    /// The marks of the windows from one that ends at `first` to those that end at `last`.
    pub fn marks_between(&self, first: Micros, last: Micros) -> impl Iterator<Item = Micros> + use<> {
        let layout = *self;
        // At the end of what can be told no window ends later than the one before.
        let next = move |end: &Micros| Some(layout.next_end(*end)).filter(|next| next > end);
        std::iter::successors(Some(first), next)
            .take_while(move |end| *end <= last)
            .map(move |end| layout.mark_of_end(end))
    }
}

impl Window {
    /// Windows of which no pane is shared carry their own bounds.
    pub fn owns_panes(&self) -> bool {
        self.expanded || self.layout.tumbles()
    }

    /// The pane of rows that were marked with the end of theirs.
    pub fn pane_of_end(&self, end: Micros) -> Micros {
        match self.owns_panes() {
            true => self.layout.mark_of_end(end),
            false => end.saturating_sub(self.layout.shared_pane().0),
        }
    }

    /// The pane of rows that were marked with its start; of units that look around, with any instant of it.
    pub fn pane_of_start(&self, start: Micros) -> Micros {
        match self.layout {
            Layout::Hop { size, slide, offset } if size == slide => floor(start, slide, offset),
            _ => start,
        }
    }

    /// Whether rows that were marked with a start alone are of one pane.
    pub fn start_tells_pane(&self) -> bool {
        !self.expanded || !matches!(self.layout, Layout::Cumulate { .. })
    }

    /// The marks of the windows of which a finished row may be that has this time, the start of its window, or of units
    /// that look around any instant of it.
    pub fn marks_of_closed(&self, time: Micros, closed: Micros) -> impl Iterator<Item = Micros> + use<> {
        let layout = self.layout;
        let grows = matches!(layout, Layout::Cumulate { .. });
        let of_start = (!grows).then(|| self.pane_of_start(time));
        let of_growing =
            layout.marks_of_row(time).filter(move |mark| grows && layout.end_of(*mark) <= closed);
        of_start.into_iter().chain(of_growing)
    }

    fn end_of_pane(&self, pane: Micros) -> Micros {
        match self.owns_panes() {
            true => self.layout.end_of(pane),
            false => pane.saturating_add(self.layout.shared_pane().0),
        }
    }

    /// When the first and the last of the windows end that a pane lies in and that end after an instant.
    pub fn ends_over(&self, pane: Micros, after: Micros) -> Option<(Micros, Micros)> {
        let (first, last) = match self.owns_panes() {
            true => (self.layout.end_of(pane), self.layout.end_of(pane)),
            false => (self.layout.next_end(pane.max(after)), self.layout.last_end_of_row(pane)),
        };
        (first <= last && last > after).then_some((first, last))
    }

    /// When the windows end that any of these panes lies in, each after an instant of its own, as far as they end at or
    /// before another: ascending.
    pub fn ends_over_any(
        &self,
        panes: impl IntoIterator<Item = (Micros, Micros)>,
        through: Micros,
    ) -> Vec<Micros> {
        let spans = panes.into_iter().filter_map(|(pane, after)| self.ends_over(pane, after));
        let mut spans: Vec<(Micros, Micros)> = spans.collect();
        spans.sort_unstable();
        let mut ends: Vec<Micros> = vec![];
        for (first, last) in spans {
            let told = ends.last().copied();
            if self.owns_panes() {
                ends.extend(Some(last).filter(|end| *end <= through && told != Some(*end)));
                continue;
            }
            let first = told.map_or(first, |told| first.max(self.layout.next_end(told)));
            let marks = self.layout.marks_between(first, last.min(through));
            ends.extend(marks.map(|mark| self.layout.end_of(mark)));
        }
        ends
    }

    /// How many there are, about.
    pub fn windows_over_a_pane(&self) -> Micros {
        match self.layout {
            _ if self.owns_panes() => 1,
            Layout::Hop { size, slide, .. } => size / slide + 1,
            Layout::Cumulate { size, step, .. } => size / step,
            Layout::Calendar(_) => 1,
        }
    }

    /// When the last window over a pane ends.
    pub fn last_end(&self, pane: Micros) -> Micros {
        match self.owns_panes() {
            true => self.layout.end_of(pane),
            false => self.layout.last_end_of_row(pane),
        }
    }

    /// When the last window of any row of a pane ends. Later than the pane's own windows where rows were expanded: a
    /// row has shares in windows that have left and in windows that have not.
    pub fn last_end_of_rows_in(&self, pane: Micros) -> Micros {
        self.layout.last_end_of_row(self.end_of_pane(pane).saturating_sub(1))
    }
}

/// The last of the instants `length` apart, one of which is `offset`, that is not after `instant`.
pub(crate) fn floor(instant: Micros, length: Micros, offset: Micros) -> Micros {
    instant.saturating_sub(instant.saturating_sub(offset).rem_euclid(length))
}

fn gcd(a: Micros, b: Micros) -> Micros {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(size: Micros, slide: Micros, pane: Micros) -> Vec<Micros> {
        let ends = ends_of(Layout::hop(size, slide), &[(pane, Micros::MIN)], Micros::MAX);
        ends.iter().map(|end| end - size).collect()
    }

    fn ends_of(layout: Layout, panes: &[(Micros, Micros)], through: Micros) -> Vec<Micros> {
        Window { layout, expanded: false }.ends_over_any(panes.iter().copied(), through)
    }

    /// With their windows from -200 to 200.
    fn layouts() -> Vec<(Layout, Vec<(Micros, Micros)>)> {
        let mut all = vec![];
        for (size, slide, offset) in [(10, 10, 0), (10, 5, 0), (10, 4, 0), (7, 2, 0), (10, 10, 3), (9, 6, 5)]
        {
            let starts = (-50..50).map(|n| n * slide + offset);
            all.push((
                Layout::Hop { size, slide, offset },
                starts.map(|start| (start, start + size)).collect(),
            ));
        }
        for (size, step, offset) in [(12, 3, 0), (10, 10, 0), (8, 2, 5)] {
            let starts = (-20..20).map(|n| n * size + offset);
            let grow = |start| (1..=size / step).map(move |n| (start, start + n * step));
            all.push((Layout::Cumulate { size, step, offset }, starts.flat_map(grow).collect()));
        }
        all
    }

    #[test]
    fn a_pane_lies_in_the_windows_that_cover_it() {
        assert_eq!(starts(10, 10, 20), [20]);
        assert_eq!(starts(10, 5, 20), [15, 20]);
        assert_eq!(starts(10, 5, 0), [-5, 0]);
        // Panes of gcd(10, 4) = 2.
        assert_eq!(starts(10, 4, 6), [0, 4]);
        assert_eq!(starts(10, 4, 8), [0, 4, 8]);
        assert_eq!(starts(10, 4, 10), [4, 8]);
        assert_eq!(starts(10, 4, -2), [-8, -4]);
    }

    #[test]
    fn the_windows_of_a_row() {
        for (layout, windows) in layouts() {
            for time in -60..60 {
                let of_row: Vec<_> =
                    windows.iter().filter(|(start, end)| (*start..*end).contains(&time)).collect();
                let marked =
                    layout.marks_of_row(time).map(|mark| (layout.start_of(mark), layout.end_of(mark)));
                assert!(marked.eq(of_row.iter().map(|window| **window)), "{time} in {layout:?}");
                let ends = || of_row.iter().map(|(_, end)| *end);
                assert_eq!(ends().min(), Some(layout.first_end_of_row(time)), "{time} in {layout:?}");
                assert_eq!(ends().max(), Some(layout.last_end_of_row(time)), "{time} in {layout:?}");
            }
        }
    }

    #[test]
    fn the_windows_around_an_instant() {
        for (layout, windows) in layouts() {
            let ends = || windows.iter().map(|(_, end)| *end);
            for time in -60..60 {
                let newest = ends().filter(|end| *end <= time).max();
                assert_eq!(newest, Some(layout.newest_end(time)), "{time} in {layout:?}");
                let next = ends().filter(|end| *end > time).min();
                assert_eq!(next, Some(layout.next_end(time)), "{time} in {layout:?}");
                let from = windows.iter().filter(|(start, _)| *start >= time).map(|(_, end)| *end).min();
                assert_eq!(from, Some(layout.first_end_from(time)), "{time} in {layout:?}");
            }
            for (start, end) in windows.iter().filter(|(start, end)| *start > -60 && *end < 60) {
                let mark = layout.mark_of_end(*end);
                assert_eq!((layout.start_of(mark), layout.end_of(mark)), (*start, *end), "in {layout:?}");
                assert_eq!(layout.start_of_end(*end), *start);
            }
        }
    }

    #[test]
    fn the_windows_over_some_panes_are_told_once() {
        for (layout, windows) in layouts().into_iter().filter(|(layout, _)| !layout.tumbles()) {
            let (length, offset) = layout.shared_pane();
            let pane = |n: Micros| n * length + offset.rem_euclid(length);
            for (panes, through) in [
                (vec![(pane(0), Micros::MIN)], Micros::MAX),
                (vec![(pane(3), Micros::MIN), (pane(-2), 9)], 40),
                (vec![(pane(0), 15), (pane(2), Micros::MIN), (pane(9), 3), (pane(1), 60)], 21),
            ] {
                let is_over = |(start, end): &&(Micros, Micros)| {
                    let counts =
                        |(pane, after): &(Micros, Micros)| (*start..*end).contains(pane) && end > after;
                    *end <= through && panes.iter().any(counts)
                };
                let expected: Vec<Micros> = windows.iter().filter(is_over).map(|(_, end)| *end).collect();
                assert_eq!(ends_of(layout, &panes, through), expected, "{panes:?} of {layout:?}");
            }
        }
    }

    #[test]
    fn an_expanded_row_has_shares_in_windows_that_have_left() {
        let window = Window { layout: Layout::hop(10, 5), expanded: true };
        // A row at 12 lies in the windows from 5 and from 10; at watermark 16 only the first has left.
        assert_eq!(window.last_end(5), 15);
        assert_eq!(window.last_end_of_rows_in(5), 20);
        let tumble = Window { layout: Layout::hop(10, 10), expanded: false };
        assert_eq!(tumble.last_end_of_rows_in(20), tumble.last_end(20));
        let shared = Window { layout: Layout::hop(10, 4), expanded: false };
        assert_eq!(shared.last_end_of_rows_in(6), shared.last_end(6));
    }
}
