//! What a table keeps open after an epoch, and where: its parts become a run, runs of one level merge when they are many, and
//! what memory has no room for lies on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Result;
use crate::checkpoint::manifest::StateFile;
use crate::ids::Micros;
use crate::job::epoch::TableEpoch;
use crate::job::shared::Tables;
use crate::memory::{Memory, Purpose};
use crate::spec::{ViewShape, ViewSpec};
use crate::view::panes::Panes;
use crate::view::part::Part;
use crate::view::run::{Run, Section, due_merge};
use crate::view::session;
use crate::view::upper::Reducing;

/// Sections by where they lie.
pub type Places = BTreeSet<(String, u64)>;

impl TableEpoch {
    /// The runs after this epoch, and the bytes written for them: the epoch's parts as a run of level 0, runs without
    /// an open pane gone, runs of one level merged when they are many.
    pub(super) async fn runs(
        &mut self,
        panes: &Panes,
        spec: &ViewSpec,
        fresh: &[Part],
        closed_through: Option<Micros>,
    ) -> Result<(Vec<Arc<Run>>, u64)> {
        let mut written = 0;
        let mut runs: Vec<Arc<Run>> = vec![];
        for run in panes.runs() {
            let Some(mut run) = panes.staying_run(run, closed_through)? else { continue };
            if run.sections.iter().any(|section| self.moves(section) || self.spills(section)) {
                run = Arc::new(self.elsewhere(&run, &mut written).await?);
            }
            runs.push(run);
        }
        let staying = panes.staying(fresh, closed_through)?;
        if !staying.is_empty() {
            let mut run = RunInMaking::default();
            for part in staying {
                self.add(&mut run, part).await?;
            }
            runs.push(Arc::new(self.end(run, 0, &mut written).await?));
        }
        while let Some((range, level)) = due_merge(&runs) {
            let ViewShape::Units { cuts, unit, .. } = &spec.shape else { break };
            if unit.session().is_some() && !session::are_worth_merging(cuts, &runs[range.clone()])? {
                break;
            }
            let merging: Vec<Part> =
                runs[range.clone()].iter().flat_map(|run| run.parts().cloned()).collect();
            let mut run = RunInMaking::default();
            let room = self.room.clone();
            let mut reducing = Reducing::of(cuts, *unit, &merging, &room)?;
            while let Some(part) = reducing.next().await? {
                self.made.add(part.bytes());
                self.add(&mut run, part).await?;
            }
            let run = self.end(run, level, &mut written).await?;
            runs.splice(range, [Arc::new(run)]);
        }
        Ok((runs, written))
    }

    /// Whether it leaves a file that is to be emptied.
    fn moves(&self, section: &Section) -> bool {
        self.emptied.contains(&section.file.path)
    }

    fn spills(&self, section: &Section) -> bool {
        !self.spilled.is_empty() && self.spilled.contains(&section.place())
    }

    /// The same run with some sections where they had better be.
    async fn elsewhere(&mut self, run: &Run, written: &mut u64) -> Result<Run> {
        let mut sections = vec![];
        for section in &run.sections {
            let mut section = Arc::clone(section);
            if self.moves(&section) {
                let file = self.write(&section.parts).await?;
                *written += file.bytes;
                section = Arc::new(Section { file, parts: section.parts.clone() });
            }
            if self.spills(&section) {
                let parts = section.parts.iter().map(|part| part.spilled(self.memory.spill())).collect();
                section = Arc::new(Section { file: section.file.clone(), parts });
            }
            sections.push(section);
        }
        Ok(Run { level: run.level, sections })
    }

    async fn add(&mut self, run: &mut RunInMaking, part: Part) -> Result<()> {
        let weighs = part.weight();
        if run.weight > 0 && run.weight + weighs > self.room.piece_bytes {
            self.end_section(run).await?;
        }
        run.weight += weighs;
        run.parts.push(part);
        Ok(())
    }

    async fn end_section(&mut self, run: &mut RunInMaking) -> Result<()> {
        run.weight = 0;
        let parts = std::mem::take(&mut run.parts);
        let file = self.write(&parts).await?;
        let spilled = |part: Part| {
            let spills = part.bytes() >= self.memory.spill().least()
                && self.memory.open_too_much(self.made.bytes()) > 0;
            let spilled = if spills { part.spilled(self.memory.spill()) } else { part.clone() };
            self.made.sub(part.bytes() - spilled.bytes());
            spilled
        };
        let parts = parts.into_iter().map(spilled).collect();
        run.sections.push(Arc::new(Section { file, parts }));
        Ok(())
    }

    async fn end(&mut self, mut run: RunInMaking, level: u32, written: &mut u64) -> Result<Run> {
        if !run.parts.is_empty() {
            self.end_section(&mut run).await?;
        }
        *written += run.sections.iter().map(|section| section.file.bytes).sum::<u64>();
        Ok(Run { level, sections: run.sections })
    }

    pub(super) async fn write(&self, parts: &[Part]) -> Result<StateFile> {
        let _encoding = self.memory.hold(Purpose::Encoding, parts.iter().map(Part::weight).sum());
        self.file.add(parts).await
    }
}

/// A run whose last parts are in no section yet.
#[derive(Default)]
struct RunInMaking {
    sections: Vec<Arc<Section>>,
    parts: Vec<Part>,
    weight: usize,
}

impl Tables {
    /// Which of what views have open had better lie on disk: the largest, as far as all of it is more than its share.
    pub(super) fn to_spill(&self, memory: &Memory) -> Places {
        let mut too_much = memory.open_too_much(0);
        if too_much == 0 {
            return Places::new();
        }
        let runs = self.tables.values().flat_map(|table| table.panes.runs());
        let sections = runs.flat_map(|run| &run.sections);
        let mut sections: Vec<(usize, &Arc<Section>)> = sections
            .map(|section| (section.bytes(), section))
            .filter(|(bytes, _)| *bytes >= memory.spill().least())
            .collect();
        sections.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut places = Places::new();
        for (bytes, section) in sections {
            if too_much == 0 {
                break;
            }
            too_much = too_much.saturating_sub(bytes);
            places.insert(section.place());
        }
        places
    }
}
