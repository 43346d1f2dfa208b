//! Views that read views: in which order tables close, how far the frontier of a leg has come when its input has closed,
//! and how far streams have to come for a view to close.

use std::collections::BTreeMap;

use crate::ids::{CALENDAR, END_OF_TIME, Micros};
use crate::job::shared::{Table, Tables};
use crate::spec::{Input, ViewInput, ViewSpec};

impl ViewInput {
    /// Before which no row can come any more whose input has closed so far.
    pub fn frontier(&self, closed_through: Option<Micros>) -> Option<Micros> {
        let closed = closed_through?;
        if !CALENDAR.contains(&closed) {
            return Some(if closed > *CALENDAR.start() { END_OF_TIME } else { closed });
        }
        let next = self.window.map_or(closed, |window| window.next_end(closed));
        Some(next.saturating_sub(self.before_end))
    }

    /// How far before its time a row's window starts.
    pub fn reach(&self) -> Micros {
        self.window.map_or(0, |window| window.size.saturating_sub(self.before_end))
    }

    /// How far the input has to close for that frontier to come to an instant.
    fn closed_for(&self, frontier: Micros) -> Micros {
        let end = frontier.saturating_add(self.before_end);
        match self.window {
            // Its next window is to end there, or later.
            Some(window) => window.newest_end(window.next_end(end.saturating_sub(1)).saturating_sub(1)),
            None => end,
        }
    }
}

/// The tables by name, in steps: each reads only those of steps before it. Ours come last, for they tell what happened
/// in the others.
pub fn steps(tables: &Tables) -> Vec<Vec<String>> {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut steps: Vec<Vec<String>> = vec![];
    for table in tables.tables.values().filter(|table| !table.spec.is_system()) {
        let depth = depth(tables, &table.spec, &mut depths);
        steps.resize_with(steps.len().max(depth + 1), Vec::new);
        steps[depth].push(table.spec.name.clone());
    }
    let ours = tables.tables.values().filter(|table| table.spec.is_system());
    steps.push(ours.map(|table| table.spec.name.clone()).collect());
    steps
}

fn depth<'a>(tables: &'a Tables, spec: &'a ViewSpec, known: &mut BTreeMap<&'a str, usize>) -> usize {
    if let Some(depth) = known.get(spec.name.as_str()) {
        return *depth;
    }
    let inputs = spec.view_inputs().filter_map(|(_, input)| tables.tables.get(&input.name));
    let below: Vec<&Table> = inputs.collect();
    let depth = below.into_iter().map(|table| depth(tables, &table.spec, known) + 1).max().unwrap_or(0);
    known.insert(&spec.name, depth);
    depth
}

/// How far each stream has to come for all to close that is open now.
pub fn open_through(tables: &Tables) -> BTreeMap<String, Micros> {
    let mut needed = BTreeMap::new();
    for table in tables.tables.values() {
        if let Some(through) = table.open_through() {
            push_down(tables, &table.spec, through, &mut needed);
        }
    }
    needed
}

fn push_down(tables: &Tables, spec: &ViewSpec, through: Micros, needed: &mut BTreeMap<String, Micros>) {
    let lateness = spec.shape.allowed_lateness();
    for leg in &spec.legs {
        match &leg.input {
            Input::Stream(stream) => {
                let needed = needed.entry(stream.clone()).or_insert(Micros::MIN);
                *needed = (*needed).max(through.saturating_add(lateness));
            }
            Input::View(input) => {
                if let Some(table) = tables.tables.get(&input.name) {
                    push_down(tables, &table.spec, input.closed_for(through), needed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Window;

    fn input(window: Option<Window>, before_end: Micros) -> ViewInput {
        ViewInput { name: "v".into(), window, before_end }
    }

    #[test]
    fn rows_to_come_end_after_what_has_closed() {
        let tumble = Window { size: 60, slide: 60, expanded: false };
        let by_start = input(Some(tumble), 60);
        assert_eq!(by_start.frontier(Some(120)), Some(120));
        assert_eq!(by_start.frontier(Some(179)), Some(120), "the window from 120 may still give rows");
        assert_eq!(by_start.frontier(None), None);
        assert_eq!(by_start.frontier(Some(END_OF_TIME)), Some(END_OF_TIME));
        let hop = Window { size: 60, slide: 20, expanded: false };
        assert_eq!(input(Some(hop), 60).frontier(Some(120)), Some(80));
        assert_eq!(input(Some(hop), 0).frontier(Some(120)), Some(140));
        assert_eq!(input(None, 0).frontier(Some(125)), Some(125));
    }

    #[test]
    fn what_has_to_close_is_the_least_that_is_enough() {
        for (size, slide) in [(60, 60), (60, 20), (7, 2)] {
            let window = Window { size, slide, expanded: false };
            for before_end in [0, 1, size] {
                for input in [input(Some(window), before_end), input(None, before_end)] {
                    for wanted in -90..200 {
                        let least = (-400..600).find(|closed| input.frontier(Some(*closed)) >= Some(wanted));
                        assert_eq!(Some(input.closed_for(wanted)), least, "{wanted} in {input:?}");
                    }
                }
            }
        }
    }
}
