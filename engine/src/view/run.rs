//! What is durable of a view's state, as it lies in state files: sections, in runs that merge when they are many.

use std::sync::Arc;

use crate::checkpoint::manifest::StateFile;
use crate::view::part::Part;

/// Runs of one level before they merge into one of the next: at most 7 a level stay behind.
const FAN: usize = 8;

/// Durable parts that were made at once.
#[derive(Debug)]
pub struct Run {
    pub level: u32,
    /// A large one has several, each of some groups.
    pub sections: Vec<Arc<Section>>,
}

/// Parts as they are in one section of a state file.
#[derive(Debug)]
pub struct Section {
    pub file: StateFile,
    pub parts: Vec<Part>,
}

impl Run {
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.sections.iter().flat_map(|section| &section.parts)
    }
}

impl Section {
    /// In memory.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Where it lies on the store.
    pub fn place(&self) -> (String, u64) {
        (self.file.path.clone(), self.file.offset)
    }
}

/// The runs that should merge now, as a range of `runs`, and the level of the merged one.
pub fn due_merge(runs: &[Arc<Run>]) -> Option<(std::ops::Range<usize>, u32)> {
    let level = runs.last()?.level;
    let first = runs.iter().rposition(|run| run.level != level).map_or(0, |before| before + 1);
    (runs.len() - first >= FAN).then(|| (first..runs.len(), level + 1))
}
