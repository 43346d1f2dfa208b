//! Views that read views: in which order tables close, how far the frontier of a leg has come when its input has closed,
//! and how far streams have to come for a view to close.

use std::collections::BTreeMap;

use crate::ids::{CALENDAR, END_OF_TIME, Micros};
use crate::job::shared::{Table, Tables};
use crate::spec::{Input, LAST_INSTANT, RowTime, ViewInput, ViewSpec, Window};

impl ViewInput {
    /// Before which no row can come any more whose input has closed so far.
    pub fn frontier(&self, closed_through: Option<Micros>) -> Option<Micros> {
        let closed = closed_through?;
        if !CALENDAR.contains(&closed) {
            return Some(if closed > *CALENDAR.start() { END_OF_TIME } else { closed });
        }
        let Some(Window { layout, .. }) = self.window else { return Some(self.instant_of(closed, closed)) };
        let next = layout.next_end(closed);
        Some(self.instant_of(layout.start_of_end(next), next))
    }

    /// The time of a row whose window has these bounds, the earliest there may be.
    fn instant_of(&self, start: Micros, end: Micros) -> Micros {
        match self.time {
            RowTime::Start | RowTime::Own => start,
            RowTime::End => end,
            RowTime::Last => end.saturating_sub(LAST_INSTANT),
        }
    }

    /// How far before its time a row's window starts, at most.
    pub fn reach(&self) -> Micros {
        self.window.map_or(0, |window| match self.time {
            RowTime::Own => window.layout.longest(),
            _ => self.instant_of(0, window.layout.longest()),
        })
    }

    /// How far the input has to close for that frontier to come to an instant.
    pub fn closed_for(&self, frontier: Micros) -> Micros {
        let end = match self.time {
            RowTime::Last => frontier.saturating_add(LAST_INSTANT),
            RowTime::Start | RowTime::End | RowTime::Own => frontier,
        };
        // The window that is next to close then.
        match (self.window, self.time) {
            (None, _) => end,
            (Some(Window { layout, .. }), RowTime::Start | RowTime::Own) => {
                layout.newest_end(layout.first_end_from(frontier).saturating_sub(1))
            }
            (Some(Window { layout, .. }), _) => {
                layout.newest_end(layout.next_end(end.saturating_sub(1)).saturating_sub(1))
            }
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

/// The views over a view, directly or through others.
pub fn readers(tables: &Tables, name: &str) -> Vec<String> {
    let comes_of = |table: &&Table| comes_of(tables, &table.spec, name);
    tables.tables.values().filter(comes_of).map(|table| table.spec.name.clone()).collect()
}

fn comes_of(tables: &Tables, spec: &ViewSpec, name: &str) -> bool {
    let below = |input: &ViewInput| tables.tables.get(&input.name);
    spec.view_inputs().any(|(_, input)| {
        input.name == name || below(input).is_some_and(|it| comes_of(tables, &it.spec, name))
    })
}

/// A view has begun anew, and what closed meanwhile is not in it (INV-32): the views over it give no windows that would lack
/// that, as it gives none itself.
pub fn begin_behind(tables: &mut Tables, name: &str) {
    let Some(born) = tables.tables.get(name).and_then(|table| table.panes.born_after) else { return };
    let reach = |table: &Table| {
        let of_it = table.spec.view_inputs().filter(|(_, input)| input.name == name);
        of_it.map(|(_, input)| input.reach()).max()
    };
    let over: Vec<(String, Micros)> =
        tables.tables.values().filter_map(|table| Some((table.spec.name.clone(), reach(table)?))).collect();
    for (view, reach) in over {
        if let Some(table) = tables.tables.get_mut(&view) {
            let behind = Some(born.saturating_add(reach));
            tracing::warn!(
                view,
                input = name,
                "windows that would lack rows of a view that has begun anew are not emitted"
            );
            table.panes.born_after = table.panes.born_after.max(behind);
        }
        begin_behind(tables, &view);
    }
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
    let through = through.saturating_add(spec.shape.hold());
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
    use crate::spec::Layout;

    fn input(layout: Option<Layout>, time: RowTime) -> ViewInput {
        let window = layout.map(|layout| Window { layout, expanded: false });
        ViewInput { name: "v".into(), window, time }
    }

    #[test]
    fn rows_to_come_end_after_what_has_closed() {
        let by_start = input(Some(Layout::hop(60, 60)), RowTime::Start);
        assert_eq!(by_start.frontier(Some(120)), Some(120));
        assert_eq!(by_start.frontier(Some(179)), Some(120), "the window from 120 may still give rows");
        let within = input(Some(Layout::hop(60, 60)), RowTime::Own);
        assert_eq!(within.frontier(Some(179)), Some(120), "rows of any instant since 120 may come");
        assert_eq!(by_start.frontier(None), None);
        assert_eq!(by_start.frontier(Some(END_OF_TIME)), Some(END_OF_TIME));
        assert_eq!(input(Some(Layout::hop(60, 20)), RowTime::Start).frontier(Some(120)), Some(80));
        assert_eq!(input(Some(Layout::hop(60, 20)), RowTime::End).frontier(Some(120)), Some(140));
        assert_eq!(input(None, RowTime::End).frontier(Some(125)), Some(125));
        let growing = Layout::Cumulate { size: 60, step: 20, offset: 0 };
        assert_eq!(input(Some(growing), RowTime::Start).frontier(Some(100)), Some(60));
        assert_eq!(input(Some(growing), RowTime::End).frontier(Some(100)), Some(120));
    }

    #[test]
    fn what_has_to_close_is_the_least_that_is_enough() {
        let growing = Layout::Cumulate { size: 60, step: 20, offset: 10 };
        let hops = [(60, 60, 0), (60, 20, 7), (7, 2, 0)];
        let hops = hops.map(|(size, slide, offset)| Layout::Hop { size, slide, offset });
        for layout in hops.into_iter().chain([growing]) {
            for time in [RowTime::Start, RowTime::End, RowTime::Own] {
                for input in [input(Some(layout), time), input(None, RowTime::End)] {
                    for wanted in -90..200 {
                        let least = (-400..600).find(|closed| input.frontier(Some(*closed)) >= Some(wanted));
                        assert_eq!(Some(input.closed_for(wanted)), least, "{wanted} in {input:?}");
                    }
                }
            }
        }
    }
}
