//! Arithmetic of windows and panes: which windows a pane's rows belong to, and when the last of them ends. Half-open, in
//! integer microseconds of UTC.

use crate::ids::Micros;
use crate::spec::Window;

impl Window {
    /// Windows of which no pane is shared carry their own bounds.
    pub fn owns_panes(&self) -> bool {
        self.expanded || self.size == self.slide
    }

    /// The length of a pane.
    pub fn pane(&self) -> Micros {
        if self.owns_panes() { self.size } else { gcd(self.size, self.slide) }
    }

    /// The starts of the windows that a pane lies in, ascending.
    pub fn starts_over(&self, pane: Micros) -> impl Iterator<Item = Micros> + use<> {
        let (first, last) = if self.owns_panes() {
            (pane, pane)
        } else {
            let last = pane.div_euclid(self.slide) * self.slide;
            let first = (pane + self.pane() - self.size).div_euclid(self.slide) * self.slide;
            let fits = first + self.size >= pane + self.pane() && first <= pane;
            (if fits { first } else { first + self.slide }, last)
        };
        let slide = self.slide;
        std::iter::successors(Some(first), move |start| Some(start + slide))
            .take_while(move |start| *start <= last)
    }

    /// When the last window over a pane ends.
    pub fn last_end(&self, pane: Micros) -> Micros {
        if self.owns_panes() {
            pane + self.size
        } else {
            pane.div_euclid(self.slide) * self.slide + self.size
        }
    }

    /// When the last window of any row of a pane ends. Later than the pane's own windows where rows were expanded: a
    /// row has shares in windows that have left and in windows that have not.
    pub fn last_end_of_rows_in(&self, pane: Micros) -> Micros {
        self.last_end_of_row(pane + self.pane() - 1)
    }

    /// When the first window of a row with this event time ends.
    pub fn first_end_of_row(&self, event_time: Micros) -> Micros {
        (event_time - self.size).div_euclid(self.slide) * self.slide + self.slide + self.size
    }

    /// The end of the newest window that has ended at an instant.
    pub fn newest_end(&self, instant: Micros) -> Micros {
        (instant - self.size).div_euclid(self.slide) * self.slide + self.size
    }

    /// The end of the first window that ends after an instant.
    pub fn next_end(&self, instant: Micros) -> Micros {
        self.newest_end(instant).saturating_add(self.slide)
    }

    /// When the last window of a row with this event time ends.
    pub fn last_end_of_row(&self, event_time: Micros) -> Micros {
        event_time.div_euclid(self.slide) * self.slide + self.size
    }
}

fn gcd(a: Micros, b: Micros) -> Micros {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(size: Micros, slide: Micros, pane: Micros) -> Vec<Micros> {
        Window { size, slide, expanded: false }.starts_over(pane).collect()
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
        // A slide longer than the window leaves panes in no window.
        assert_eq!(starts(4, 10, 4), Vec::<Micros>::new());
        assert_eq!(starts(4, 10, 2), [0]);
    }

    #[test]
    fn the_ends_of_a_rows_windows() {
        for (size, slide) in [(10, 10), (10, 5), (10, 4), (7, 2)] {
            let window = Window { size, slide, expanded: false };
            for time in -30..30 {
                let ends =
                    (-50..50).map(|n| n * slide).filter(|start| (*start..start + size).contains(&time));
                let ends: Vec<Micros> = ends.map(|start| start + size).collect();
                assert_eq!(ends.first(), Some(&window.first_end_of_row(time)), "{time} in {window:?}");
                assert_eq!(ends.last(), Some(&window.last_end_of_row(time)), "{time} in {window:?}");
                let newest = (-50..50).map(|n| n * slide + size).filter(|end| *end <= time).max();
                assert_eq!(newest, Some(window.newest_end(time)), "{time} in {window:?}");
            }
        }
    }

    #[test]
    fn an_expanded_row_has_shares_in_windows_that_have_left() {
        let window = Window { size: 10, slide: 5, expanded: true };
        // A row at 12 lies in the windows from 5 and from 10; at watermark 16 only the first has left.
        assert_eq!(window.last_end(5), 15);
        assert_eq!(window.last_end_of_rows_in(5), 20);
        let tumble = Window { size: 10, slide: 10, expanded: false };
        assert_eq!(tumble.last_end_of_rows_in(20), tumble.last_end(20));
        let shared = Window { size: 10, slide: 4, expanded: false };
        assert_eq!(shared.last_end_of_rows_in(6), shared.last_end(6));
    }
}
