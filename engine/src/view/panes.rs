//! What a view remembers: parts filed by epoch until that epoch is durable, then in runs that mirror the state files.
//!
//! Owns: which parts are open, which windows may close, when runs merge. Leaves to others: files, epochs, locks.
//! INV-3: a part never joins a pane all of whose windows have left. INV-4: a window leaves once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::checkpoint::manifest::StateFile;
use crate::ids::{Epoch, Micros};
use crate::spec::{Unit, ViewShape, ViewSpec, Window};
use crate::view::left::Left;
use crate::view::part::Part;
use crate::view::upper::WindowPart;
use crate::{Error, Result};

/// Runs of one level before they merge into one of the next: at most 7 a level stay behind.
const FAN: usize = 8;

/// Durable parts, in memory as they are in one state file.
#[derive(Debug)]
pub struct Run {
    pub level: u32,
    pub file: StateFile,
    pub parts: Vec<Part>,
}

/// What one run of a lower half made, shared by the panes of every view that it is of and by every snapshot that saw it.
pub type Filed = Arc<Vec<Part>>;

#[derive(Debug, Clone)]
pub struct Panes {
    /// `None` for a copy.
    unit: Option<Unit>,
    /// Parts whose epoch is not durable yet.
    filed: BTreeMap<Epoch, Vec<Filed>>,
    runs: Vec<Arc<Run>>,
    /// Windows ending at or before this instant have left.
    pub closed_through: Option<Micros>,
    /// Only windows that start after this instant are emitted.
    pub born_after: Option<Micros>,
    /// Windows that have left with rows.
    pub left: Left,
    bytes: usize,
    filed_bytes: usize,
}

impl Panes {
    pub fn new(spec: &ViewSpec, born_after: Option<Micros>) -> Panes {
        let unit = match &spec.shape {
            ViewShape::Copy { .. } => None,
            ViewShape::Units { unit, .. } => Some(*unit),
        };
        Panes {
            unit,
            filed: BTreeMap::new(),
            runs: vec![],
            closed_through: None,
            born_after,
            left: Left::default(),
            bytes: 0,
            filed_bytes: 0,
        }
    }

    /// Where it keeps what is open by windows that close.
    fn window(&self) -> Option<Window> {
        match self.unit {
            Some(Unit::Window(window)) => Some(window),
            Some(Unit::Session(_) | Unit::Ever) | None => None,
        }
    }

    /// By when all has closed that a pane is of, where it closes at all.
    fn last_end_of(&self, pane: Micros) -> Option<Micros> {
        match self.unit? {
            Unit::Window(window) => Some(window.last_end(pane)),
            Unit::Session(session) => Some(session.last_end(pane)),
            Unit::Ever => None,
        }
    }

    pub fn restore(&mut self, runs: Vec<Run>, closed_through: Option<Micros>) {
        self.runs = runs.into_iter().map(Arc::new).collect();
        self.closed_through = closed_through;
        self.count_bytes();
    }

    /// A watermark was set by a statement, and the legs have come to an instant: what ends behind it is open, but for the
    /// windows that have left.
    pub fn set_back(&mut self, through: Micros) {
        let closed = match self.unit {
            Some(Unit::Session(session)) => session.closed_through(through),
            _ => through,
        };
        self.closed_through = self.closed_through.map(|known| known.min(closed));
        self.born_after = self.born_after.map(|born| born.min(through));
    }

    /// The windows that have left although they end after those that have closed.
    pub fn left_behind(&self) -> Left {
        self.window().map_or_else(Left::default, |window| self.left.ending_after(self.closed_through, window))
    }

    pub fn file(&mut self, epoch: Epoch, parts: Filed) {
        let bytes = parts.iter().map(Part::bytes).sum::<usize>();
        self.bytes += bytes;
        self.filed_bytes += bytes;
        self.filed.entry(epoch).or_default().push(parts);
    }

    /// Nothing of what is open is kept.
    pub fn clear(&mut self) {
        self.filed.clear();
        self.runs.clear();
        self.count_bytes();
    }

    /// What the state of the view weighs in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of these, what waits for its manifest.
    pub fn filed_bytes(&self) -> usize {
        self.filed_bytes
    }

    pub fn rows(&self) -> usize {
        self.parts().map(|part| part.batch.num_rows()).sum()
    }

    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// The parts of an epoch, as they were filed.
    pub fn of_epoch(&self, epoch: Epoch) -> Vec<Part> {
        self.filed.get(&epoch).into_iter().flatten().flat_map(|filed| filed.iter().cloned()).collect()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        let filed = self.filed.values().flatten().flat_map(|filed| filed.iter());
        self.runs.iter().flat_map(|run| run.parts.iter()).chain(filed)
    }

    /// Every part that a reader has to see, with `fresh` ones that are filed nowhere yet: where there are no windows.
    pub fn open_parts(&self, fresh: &[Part]) -> Vec<WindowPart> {
        self.parts().chain(fresh).map(whole).collect()
    }

    /// The shares of the windows that end after `after` and at or before `through`, likewise.
    pub fn open_shares(&self, fresh: &[Part], after: Option<Micros>, through: Micros) -> Vec<WindowPart> {
        self.shares(self.all_and(fresh), after, through)
    }

    /// The same of what is durable. `fresh` are the parts of the epoch that has become whole.
    pub fn closing_shares(&self, fresh: &[Part], after: Option<Micros>, through: Micros) -> Vec<WindowPart> {
        self.shares(self.durable_and(fresh), after, through)
    }

    fn shares(&self, parts: Vec<&Part>, after: Option<Micros>, through: Micros) -> Vec<WindowPart> {
        let Some(window) = self.window() else { return vec![] };
        let wanted = |end| end <= through && after.is_none_or(|after| end > after);
        parts.into_iter().flat_map(|part| self.windows_of(window, part, &wanted)).collect()
    }

    /// Instants through which open windows are read one after the other.
    pub fn open_steps(&self, fresh: &[Part], bytes: usize) -> Vec<Micros> {
        self.steps(self.all_and(fresh), Micros::MAX, bytes)
    }

    /// Instants through which windows close one after the other, the last of them `through`.
    pub fn closing_steps(&self, fresh: &[Part], through: Micros, bytes: usize) -> Vec<Micros> {
        self.steps(self.durable_and(fresh), through, bytes)
    }

    /// The shares of the windows between two steps weigh no more than `bytes`, as far as that can be: windows stay whole. A
    /// pane that many windows share weighs as much in each of them, for its rows get their bounds.
    fn steps(&self, parts: Vec<&Part>, through: Micros, bytes: usize) -> Vec<Micros> {
        let Some(window) = self.window() else { return vec![through] };
        let sharing = if window.owns_panes() { 1 } else { window.size / window.slide + 1 };
        let all: usize = parts.iter().map(|part| part.bytes()).sum();
        if all.saturating_mul(sharing as usize) <= bytes {
            return vec![through];
        }
        let wanted = |end: &Micros| *end <= through && self.closed_through.is_none_or(|closed| *end > closed);
        let mut weights: BTreeMap<Micros, usize> = BTreeMap::new();
        for part in parts {
            let of_row = part.bytes() / part.batch.num_rows().max(1);
            for pane in part.panes.iter() {
                for end in window.starts_over(pane.start).map(|start| start + window.size).filter(wanted) {
                    *weights.entry(end).or_default() += of_row * pane.rows as usize;
                }
            }
        }
        let (mut steps, mut weight, mut last) = (vec![], 0, through);
        for (end, of_window) in weights {
            if weight > 0 && weight + of_window > bytes {
                steps.push(last);
                weight = 0;
            }
            weight += of_window;
            last = end;
        }
        steps.push(through);
        steps
    }

    /// All parts, with those of the epoch that has become whole in place of all that are filed.
    pub fn durable_and<'a>(&'a self, fresh: &'a [Part]) -> Vec<&'a Part> {
        self.runs.iter().flat_map(|run| run.parts.iter()).chain(fresh).collect()
    }

    /// All parts, with `fresh` ones that are filed nowhere yet.
    pub fn all_and<'a>(&'a self, fresh: &'a [Part]) -> Vec<&'a Part> {
        self.parts().chain(fresh).collect()
    }

    fn windows_of(&self, window: Window, part: &Part, wanted: &dyn Fn(Micros) -> bool) -> Vec<WindowPart> {
        let wanted = |start: Micros| {
            let end = start + window.size;
            wanted(end)
                && end > part.after
                && self.born_after.is_none_or(|born| start > born)
                && !self.left.holds(start)
        };
        let cut = part.cut;
        if window.owns_panes() {
            let pieces = part.pieces(wanted).into_iter();
            return pieces.map(|batch| WindowPart { cut, batch, bounds: None }).collect();
        }
        let of_pane = |(pane, batch): (Micros, RecordBatch)| {
            let starts = window.starts_over(pane).filter(|start| wanted(*start));
            starts.map(move |start| WindowPart {
                cut,
                batch: batch.clone(),
                bounds: Some((start, start + window.size)),
            })
        };
        part.by_pane().flat_map(of_pane).collect()
    }

    /// INV-3, when an epoch has become whole.
    pub fn check_joining(&self, view: &str, fresh: &[Part]) -> Result<()> {
        let Some(closed) = self.closed_through else { return Ok(()) };
        let passed = |pane: Micros| match self.unit {
            Some(Unit::Window(window)) => window.last_end_of_rows_in(pane) <= closed,
            Some(Unit::Session(session)) => session.last_end(pane) <= closed,
            Some(Unit::Ever) | None => false,
        };
        let mut panes = fresh.iter().flat_map(|part| part.panes.iter());
        match panes.find(|pane| passed(pane.start)) {
            None => Ok(()),
            Some(pane) => Err(Error::Internal(format!(
                "rows reached a window that has left. view={view:?}, pane={}, closed_through={closed}",
                pane.start
            ))),
        }
    }

    /// What stays of the parts when windows up to `through` leave.
    pub fn staying(&self, parts: &[Part], through: Option<Micros>) -> Result<Vec<Part>> {
        let (Some(_), Some(through)) = (self.unit, through) else { return Ok(parts.to_vec()) };
        let stays = |pane| self.last_end_of(pane).is_none_or(|end| end > through);
        let staying = parts.iter().map(|part| part.staying(stays));
        staying.filter_map(Result::transpose).collect()
    }

    /// Of a run likewise; one that stays whole is shared.
    pub fn staying_run(&self, run: &Arc<Run>, through: Option<Micros>) -> Result<Option<Arc<Run>>> {
        let parts = self.staying(&run.parts, through)?;
        let rows = |parts: &[Part]| parts.iter().map(|part| part.batch.num_rows()).sum::<usize>();
        Ok(match rows(&parts) {
            0 => None,
            left if left == rows(&run.parts) => Some(Arc::clone(run)),
            _ => Some(Arc::new(Run { level: run.level, file: run.file.clone(), parts })),
        })
    }

    /// What a durable manifest has decided: the epoch's parts become a run, or leave.
    pub fn install(&mut self, epoch: Epoch, runs: Vec<Arc<Run>>, closed_through: Option<Micros>) {
        self.filed = self.filed.split_off(&epoch.next());
        self.runs = runs;
        self.closed_through = closed_through;
        self.count_bytes();
    }

    fn count_bytes(&mut self) {
        self.bytes = self.parts().map(Part::bytes).sum();
        let filed = self.filed.values().flatten().flat_map(|filed| filed.iter());
        self.filed_bytes = filed.map(Part::bytes).sum();
    }

    /// The end of the last window that anything open is part of.
    pub fn last_end(&self) -> Option<Micros> {
        self.parts().filter_map(|part| self.last_end_of(part.panes.last()?.start)).max()
    }

    /// Distinct windows that are open; of sessions, the partial rows.
    pub fn open_windows(&self) -> usize {
        if let Some(Unit::Session(_)) = self.unit {
            return self.parts().filter(|part| part.cut == 0).map(|part| part.batch.num_rows()).sum();
        }
        let Some(window) = self.window() else { return 0 };
        let panes = self.parts().flat_map(|part| part.panes.iter().map(|pane| (pane.start, part.after)));
        let starts = panes.collect::<BTreeSet<_>>().into_iter().flat_map(|(pane, after)| {
            let least = self.closed_through.map_or(after, |closed| closed.max(after));
            window.starts_over(pane).filter(move |start| start + window.size > least)
        });
        starts.collect::<BTreeSet<Micros>>().len()
    }
}

/// The runs that should merge now, as a range of `runs`, and the level of the merged one.
pub fn due_merge(runs: &[Arc<Run>]) -> Option<(std::ops::Range<usize>, u32)> {
    let level = runs.last()?.level;
    let first = runs.iter().rposition(|run| run.level != level).map_or(0, |before| before + 1);
    (runs.len() - first >= FAN).then(|| (first..runs.len(), level + 1))
}

fn whole(part: &Part) -> WindowPart {
    WindowPart { cut: part.cut, batch: part.batch.clone(), bounds: None }
}
