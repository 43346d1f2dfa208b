//! What a view remembers: parts filed by epoch until that epoch is durable, then in runs that mirror the state files.
//!
//! Owns: which parts are open, which windows may close, when runs merge. Leaves to others: files, epochs, locks.
//! INV-3: a part never joins a pane all of whose windows have left. INV-4: a window leaves once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::ids::{Epoch, Micros};
use crate::spec::{Reach, Unit, ViewShape, ViewSpec, Window};
use crate::view::left::Left;
use crate::view::part::Part;
use crate::view::pieces::Weighed;
use crate::view::run::{Run, Section};
use crate::view::session;
use crate::view::sharing::Sharing;
use crate::view::upper::WindowPart;
use crate::view::{Above, Extent, Finishing, Room, Stretch};
use crate::{Error, Result};

/// What one run of a lower half made, shared by the panes of every view that it is of and by every snapshot that saw it.
pub type Filed = Arc<Vec<Part>>;

#[derive(Debug, Clone)]
pub struct Panes {
    /// `None` for a copy.
    unit: Option<Unit>,
    /// By cut; empty unless units look around.
    reaches: Vec<Reach>,
    /// Parts whose epoch is not durable yet.
    filed: BTreeMap<Epoch, Vec<Filed>>,
    runs: Vec<Arc<Run>>,
    /// Windows ending at or before this instant have left.
    pub closed_through: Option<Micros>,
    /// Only windows that start after this instant are emitted.
    pub born_after: Option<Micros>,
    /// Windows that have left with rows.
    pub left: Left,
    /// When next something durable leaves.
    leaves_at: Option<Micros>,
    bytes: usize,
    mapped_bytes: usize,
    filed_bytes: usize,
}

impl Panes {
    pub fn new(spec: &ViewSpec, born_after: Option<Micros>) -> Panes {
        let unit = match &spec.shape {
            ViewShape::Copy { .. } => None,
            ViewShape::Units { unit, .. } => Some(*unit),
        };
        let reaches = match &spec.shape {
            ViewShape::Units { cuts, .. } if spec.shape.looks_around() => {
                cuts.iter().map(|cut| cut.reach).collect()
            }
            _ => vec![],
        };
        Panes {
            unit,
            reaches,
            filed: BTreeMap::new(),
            runs: vec![],
            closed_through: None,
            born_after,
            left: Left::default(),
            leaves_at: None,
            bytes: 0,
            mapped_bytes: 0,
            filed_bytes: 0,
        }
    }

    /// Where it keeps what is open by windows that close.
    fn window(&self) -> Option<Window> {
        match self.unit {
            Some(Unit::Window(window)) => Some(window),
            Some(Unit::Session(_) | Unit::Ever(_)) | None => None,
        }
    }

    /// The windows in which the rows of a cut count.
    fn extent(&self, window: Window, cut: u32) -> Extent {
        Extent { window, reach: self.reaches.get(cut as usize).copied().unwrap_or_default() }
    }

    /// By when all has closed that a pane of a cut counts in, where it closes at all.
    fn last_end_of(&self, cut: u32, pane: Micros) -> Option<Micros> {
        match self.unit? {
            Unit::Window(window) => Some(self.extent(window, cut).last_end(pane)),
            unit => unit.session().map(|session| session.last_end(pane)),
        }
    }

    pub fn restore(&mut self, runs: Vec<Run>, closed_through: Option<Micros>) {
        self.runs = runs.into_iter().map(Arc::new).collect();
        self.closed_through = closed_through;
        self.count();
    }

    /// As a reader sees them: what is open, whatever of it is durable.
    pub fn restore_open(&mut self, parts: Vec<Part>, closed_through: Option<Micros>, left: Left) {
        self.filed = BTreeMap::from([(Epoch::default(), vec![Arc::new(parts)])]);
        self.closed_through = closed_through;
        self.left = left;
        self.count();
    }

    /// A watermark was set by a statement, and the legs have come to an instant: what ends behind it is open, but for the
    /// windows that have left.
    pub fn set_back(&mut self, through: Micros) {
        let session = self.unit.and_then(Unit::session);
        let closed = session.map_or(through, |session| session.closed_through(through));
        self.closed_through = self.closed_through.map(|known| known.min(closed));
        self.born_after = self.born_after.map(|born| born.min(through));
        self.count();
    }

    /// Up to where all has left once its legs have come to an instant.
    pub fn closed_with(&self, through: Option<Micros>) -> Option<Micros> {
        match self.unit? {
            Unit::Window(_) => self.closed_through.max(through),
            unit => {
                let session = unit.session()?;
                self.closed_through.max(through.map(|through| session.closed_through(through)))
            }
        }
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
        self.count();
    }

    /// What the state of the view weighs in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it weighs wherever it is.
    pub fn weight(&self) -> usize {
        self.bytes + self.mapped_bytes
    }

    /// Of these what lies on disk.
    pub fn mapped_bytes(&self) -> usize {
        self.mapped_bytes
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
        self.runs.iter().flat_map(|run| run.parts()).chain(filed)
    }

    /// All that a reader has to see, with `fresh` parts that are filed nowhere yet.
    pub fn open<'a>(&'a self, of: Above<'a>, fresh: &'a [Part], room: &'a Room) -> Result<Finishing<'a>> {
        let parts = self.all_and(fresh);
        let labelled = match self.unit {
            Some(Unit::Window(window)) => return Ok(self.finishing(window, of, parts, None, room)),
            Some(Unit::Session(session)) => {
                let born_after = self.born_after.map(|born| session.born_after(born));
                session::labelled(session, of.cuts, &parts, born_after)?
            }
            Some(unit) if unit.session().is_some() => session::of_ever(unit, of.cuts, parts)?,
            _ => {
                let parts = parts.into_iter().map(|part| (part.cut, part.weighed())).collect();
                return Ok(Finishing::Each(of.stretches(parts, room)));
            }
        };
        // These were copied together.
        let parts: Vec<_> = labelled.into_iter().map(|part| (part.cut, Weighed::of(part.batch))).collect();
        let copied = room.hold(parts.iter().map(|(_, part)| part.bytes).sum())?;
        let stretches = of.stretches(parts, room);
        Ok(Finishing::Each(Box::new(stretches.inspect(move |_| _ = &copied))))
    }

    /// The windows that end after those that have left and at or before `through`, likewise. `fresh` are the parts of the
    /// epoch that has become whole.
    pub async fn closing<'a>(
        &'a self,
        of: Above<'a>,
        fresh: &'a [Part],
        through: Micros,
        room: &'a Room,
    ) -> Result<Finishing<'a>> {
        let Some(window) = self.window() else { return Ok(Finishing::Each(Box::new(std::iter::empty()))) };
        let parts = self.durable_and(fresh);
        let closes = self.closed_through.is_none_or(|closed| window.layout.newest_end(through) > closed);
        if self.shares_panes(window) && closes {
            Sharing::make_tiers(window, of.cuts, &parts, room).await?;
        }
        Ok(self.finishing(window, of, parts, Some(through), room))
    }

    /// Of the windows that have not left, those that end at or before `through`.
    fn finishing<'a>(
        &'a self,
        window: Window,
        of: Above<'a>,
        parts: Vec<&'a Part>,
        through: Option<Micros>,
        room: &'a Room,
    ) -> Finishing<'a> {
        if !self.reaches.is_empty() {
            let stretches = self.stretches_around(window, &parts, through);
            return Finishing::Each(Box::new(stretches.into_iter().map(Ok)));
        }
        let through = through.unwrap_or(Micros::MAX);
        if self.shares_panes(window) {
            let mut ends = self.ends(window, parts.iter().copied(), through);
            ends.retain(|end| self.is_wanted(window, window.layout.mark_of_end(*end)));
            return Finishing::Sharing(Sharing::new(window, of.cuts, &parts, ends, room));
        }
        let mut after = self.closed_through;
        let steps = self.steps(window, &parts, through, room.piece_bytes);
        Finishing::Each(Box::new(steps.into_iter().flat_map(move |step| {
            let wanted = |mark| {
                let end = window.layout.end_of(mark);
                end <= step && after.is_none_or(|after| end > after) && self.is_wanted(window, mark)
            };
            let step_of =
                |part: &&Part| windows_of(window, part, &wanted).map(|it| (part.cut, it)).collect::<Vec<_>>();
            let parts: Vec<(u32, Weighed)> = parts.iter().flat_map(step_of).collect();
            after = Some(step);
            of.stretches(parts, room)
        })))
    }

    fn shares_panes(&self, window: Window) -> bool {
        self.reaches.is_empty() && !window.owns_panes()
    }

    /// Whether a window is emitted that has not passed.
    fn is_wanted(&self, window: Window, mark: Micros) -> bool {
        self.born_after.is_none_or(|born| window.layout.start_of(mark) > born) && !self.left.holds(mark)
    }

    /// When the windows end that parts have rows of and that have not passed.
    fn ends<'a>(
        &self,
        window: Window,
        parts: impl IntoIterator<Item = &'a Part>,
        through: Micros,
    ) -> Vec<Micros> {
        let closed = self.closed_through.unwrap_or(Micros::MIN);
        let of_part =
            |part: &'a Part| part.panes.iter().map(move |pane| (pane.start, part.after.max(closed)));
        let panes: BTreeSet<(Micros, Micros)> = parts.into_iter().flat_map(of_part).collect();
        window.ends_over_any(panes, through)
    }

    /// Likewise of units that look around: one stretch for all of them, but where some have left, or rows of some of them
    /// were late for others.
    fn stretches_around(&self, window: Window, parts: &[&Part], through: Option<Micros>) -> Vec<Stretch> {
        let layout = window.layout;
        // What lies before its birth a unit would look for in vain.
        let before = self.reaches.iter().map(|reach| reach.before).max().unwrap_or(0).max(0);
        let born = self.born_after.map(|born| born.saturating_add(before).saturating_add(1));
        let born = born.map(|born| layout.start_of_end(layout.first_end_from(born)));
        let from = self.closed_through.map(|closed| layout.newest_end(closed)).max(born);
        let until = through.map_or(Micros::MAX, |through| layout.newest_end(through));
        let mut cuts: Vec<Micros> = parts.iter().map(|part| part.after).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut stretches = vec![];
        for open in self.left.without(from.unwrap_or(Micros::MIN)..until, window) {
            let within = cuts.iter().copied().filter(|cut| open.contains(cut));
            let starts: Vec<Micros> = [open.start].into_iter().chain(within).collect();
            let ends = starts.iter().copied().skip(1).chain([open.end]);
            for stretch in starts.iter().zip(ends).map(|(start, end)| *start..end) {
                let parts: Vec<WindowPart> =
                    parts.iter().flat_map(|part| self.pieces_of(window, part, &stretch)).collect();
                stretches.push(Stretch { within: Some(stretch), ..Stretch::of(parts) });
            }
        }
        stretches
    }

    /// What of a part counts in a stretch.
    fn pieces_of(&self, window: Window, part: &Part, stretch: &Range<Micros>) -> Vec<WindowPart> {
        if part.after > stretch.start {
            return vec![];
        }
        let extent = self.extent(window, part.cut);
        let pieces = part.pieces(|pane| extent.reaches(pane, stretch));
        pieces.into_iter().map(|batch| WindowPart { cut: part.cut, batch, bounds: None }).collect()
    }

    /// The windows between two steps weigh no more than `bytes`, as far as that can be: windows stay whole.
    fn steps(&self, window: Window, parts: &[&Part], through: Micros, bytes: usize) -> Vec<Micros> {
        let all: usize = parts.iter().map(|part| part.weight()).sum();
        if all <= bytes {
            return vec![through];
        }
        let wanted = |end: &Micros| *end <= through && self.closed_through.is_none_or(|closed| *end > closed);
        let mut weights: BTreeMap<Micros, usize> = BTreeMap::new();
        for part in parts {
            let of_row = part.weight() / part.batch.num_rows().max(1);
            for pane in part.panes.iter() {
                if let Some(end) = Some(window.last_end(pane.start)).filter(wanted) {
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
        self.runs.iter().flat_map(|run| run.parts()).chain(fresh).collect()
    }

    /// All parts, with `fresh` ones that are filed nowhere yet.
    pub fn all_and<'a>(&'a self, fresh: &'a [Part]) -> Vec<&'a Part> {
        self.parts().chain(fresh).collect()
    }

    /// INV-3, when an epoch has become whole.
    pub fn check_joining(&self, view: &str, fresh: &[Part]) -> Result<()> {
        let Some(closed) = self.closed_through else { return Ok(()) };
        let passed = |(cut, pane): (u32, Micros)| match self.unit {
            Some(Unit::Window(window)) => self.extent(window, cut).last_end_of_rows_in(pane) <= closed,
            Some(unit) => unit.session().is_some_and(|session| session.last_end(pane) <= closed),
            None => false,
        };
        let mut panes = fresh.iter().flat_map(|part| part.panes.iter().map(|pane| (part.cut, pane.start)));
        match panes.find(|pane| passed(*pane)) {
            None => Ok(()),
            Some((_, pane)) => Err(Error::Internal(format!(
                "rows reached a window that has left. view={view:?}, pane={pane}, closed_through={closed}"
            ))),
        }
    }

    /// What stays of the parts when windows up to `through` leave.
    pub fn staying(&self, parts: &[Part], through: Option<Micros>) -> Result<Vec<Part>> {
        let (Some(_), Some(through)) = (self.unit, through) else { return Ok(parts.to_vec()) };
        let staying = parts.iter().map(|part| {
            part.staying(|pane| self.last_end_of(part.cut, pane).is_none_or(|end| end > through))
        });
        staying.filter_map(Result::transpose).collect()
    }

    /// Of a run likewise; one that stays whole is shared.
    pub fn staying_run(&self, run: &Arc<Run>, through: Option<Micros>) -> Result<Option<Arc<Run>>> {
        let mut sections = vec![];
        for section in &run.sections {
            let parts = self.staying(&section.parts, through)?;
            let rows = |parts: &[Part]| parts.iter().map(|part| part.batch.num_rows()).sum::<usize>();
            match rows(&parts) {
                0 => {}
                left if left == rows(&section.parts) => sections.push(Arc::clone(section)),
                _ => sections.push(Arc::new(Section { file: section.file.clone(), parts })),
            }
        }
        let same = |(one, other): (&Arc<Section>, &Arc<Section>)| Arc::ptr_eq(one, other);
        Ok(match sections.len() == run.sections.len() && sections.iter().zip(&run.sections).all(same) {
            true => Some(Arc::clone(run)),
            false => (!sections.is_empty()).then(|| Arc::new(Run { level: run.level, sections })),
        })
    }

    /// What a durable manifest has decided: the epoch's parts become a run, or leave.
    pub fn install(&mut self, epoch: Epoch, runs: Vec<Arc<Run>>, closed_through: Option<Micros>) {
        self.filed = self.filed.split_off(&epoch.next());
        self.runs = runs;
        self.closed_through = closed_through;
        self.count();
    }

    /// Whether an epoch has brought anything.
    pub fn has_filed(&self, epoch: Epoch) -> bool {
        self.filed.contains_key(&epoch)
    }

    /// Whether something durable leaves when all has closed up to an instant.
    pub fn leave_at(&self, through: Micros) -> bool {
        self.leaves_at.is_some_and(|first| first <= through)
    }

    fn count(&mut self) {
        let durable = self.runs.iter().flat_map(|run| run.parts());
        self.leaves_at = durable.filter_map(|part| self.leaves_next(part)).min();
        self.bytes = self.parts().map(Part::bytes).sum();
        self.mapped_bytes = self.parts().filter(|part| part.is_mapped()).map(Part::weight).sum();
        let filed = self.filed.values().flatten().flat_map(|filed| filed.iter());
        self.filed_bytes = filed.map(Part::bytes).sum();
    }

    /// The end of the last window that anything open is part of. What is kept for others to look at opens none.
    pub fn last_end(&self) -> Option<Micros> {
        let last_end = |part: &Part| {
            let pane = part.panes.last()?.start;
            match self.window() {
                Some(window) => Some(window.last_end(pane)),
                None => self.last_end_of(part.cut, pane),
            }
        };
        self.parts().filter_map(last_end).max()
    }

    /// The end of the next unit that anything open is part of; of sessions, of the first that may end.
    pub fn next_end(&self) -> Option<Micros> {
        let ends = |part: &Part, pane: Micros| match self.unit {
            Some(Unit::Window(window)) => {
                let least = self.closed_through.map_or(part.after, |closed| closed.max(part.after));
                window.ends_over(pane, least).map(|(next, _)| next)
            }
            Some(unit) => unit.session().map(|session| session.last_end(pane)),
            None => None,
        };
        let panes = self.parts().flat_map(|part| part.panes.iter().map(move |pane| (part, pane.start)));
        panes.filter_map(|(part, pane)| ends(part, pane)).min()
    }

    /// Before when none of a part leaves: the windows over its first pane end first.
    fn leaves_next(&self, part: &Part) -> Option<Micros> {
        let pane = part.panes.first()?.start;
        match self.unit? {
            // What is looked at from elsewhere leaves when that has closed.
            Unit::Window(_) if !self.reaches.is_empty() => Some(Micros::MIN),
            Unit::Window(window) => {
                let closed = self.closed_through.map_or(part.after, |closed| closed.max(part.after));
                Some(window.layout.next_end(closed.max(pane)))
            }
            unit => unit.session().map(|session| session.last_end(pane)),
        }
    }

    /// Distinct windows that are open; of sessions, the partial rows.
    pub fn open_windows(&self) -> usize {
        if let Some(Unit::Session(_)) = self.unit {
            return self.parts().filter(|part| part.cut == 0).map(|part| part.batch.num_rows()).sum();
        }
        let Some(window) = self.window() else { return 0 };
        self.ends(window, self.parts(), Micros::MAX).len()
    }
}

/// What of a part is of windows that are wanted, which carry their own bounds.
fn windows_of<'a>(
    window: Window,
    part: &'a Part,
    wanted: &dyn Fn(Micros) -> bool,
) -> impl Iterator<Item = Weighed> + use<'a> {
    let of_row = part.weight() / part.batch.num_rows().max(1);
    let pieces = part.pieces(|mark| wanted(mark) && window.layout.end_of(mark) > part.after);
    pieces.into_iter().map(move |batch| Weighed {
        bytes: of_row * batch.num_rows(),
        batch,
        share: part.share,
    })
}
