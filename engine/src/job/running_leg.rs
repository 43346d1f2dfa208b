//! A leg of a view as one worker runs it: what arrived rows become in it. Legs that make the same parts of the same rows
//! run as one. The worker joins what comes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::Result;
use crate::job::intake::Accepted;
use crate::job::ledger::ViewTerms;
use crate::job::refused::{RefusedRow, RefusedRows};
use crate::source::RawBatch;
use crate::spec::ViewSpec;
use crate::view::arrived::Arrived;
use crate::view::left::Left;
use crate::view::lower::{FailedRow, LowerHalf, Lowered};
use crate::view::panes::Filed;
use crate::view::watermark::Observed;

pub struct RunningLeg {
    /// One, or several with the same lower half.
    specs: Vec<Arc<ViewSpec>>,
    /// Which place of theirs reads the worker's stream here.
    leg: usize,
    half: LowerHalf,
    left: Left,
}

/// What arrived rows became in each of the views, or why these can't go on.
pub struct Share {
    pub views: Vec<Arc<ViewSpec>>,
    pub leg: usize,
    pub made: Result<Made>,
}

pub struct Made {
    pub parts: Filed,
    pub terms: ViewTerms,
    pub failed: Vec<FailedRow>,
}

impl RunningLeg {
    /// `left`: windows of some views that have left although they end behind the watermark.
    pub fn of(
        views: &[Arc<ViewSpec>],
        stream: &str,
        left: &BTreeMap<String, Left>,
    ) -> Result<Vec<RunningLeg>> {
        let mut running: Vec<RunningLeg> = vec![];
        // Comparing each of a thousand with all others takes long.
        let mut alike: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
        for spec in views {
            let left = left.get(&spec.name).cloned().unwrap_or_default();
            for leg in spec.legs_of_stream(stream) {
                let shares = |known: &RunningLeg| {
                    known.left == left && known.specs[0].shape.shares_lower_half(&spec.shape, leg)
                };
                let hash = spec.shape.hash_of_lower_half(leg);
                let known = hash.and_then(|hash| alike.get(&(leg, hash)));
                match known.into_iter().flatten().copied().find(|known| shares(&running[*known])) {
                    Some(known) => running[known].specs.push(Arc::clone(spec)),
                    None => {
                        if let Some(hash) = hash {
                            alike.entry((leg, hash)).or_default().push(running.len());
                        }
                        let half = LowerHalf::new(&spec.shape, leg)?.without(left.clone());
                        let left = left.clone();
                        running.push(RunningLeg { specs: vec![Arc::clone(spec)], leg, half, left });
                    }
                }
            }
        }
        Ok(running)
    }

    pub fn take_in(&mut self, arrived: &Arrived) -> Share {
        Share { views: self.specs.clone(), leg: self.leg, made: self.make(arrived) }
    }

    fn make(&mut self, arrived: &Arrived) -> Result<Made> {
        let lowered = futures::executor::block_on(self.half.take_in(arrived))?;
        let terms = ViewTerms::of(arrived.batch.num_rows(), &lowered);
        let Lowered { parts, failed, .. } = lowered;
        Ok(Made { parts: Arc::new(parts), terms, failed })
    }

    /// Tells of the rows that the lower half will leave out, or that others alone will see. A view that reads its stream in
    /// several places is told of a row once: `told` are the view and the row.
    pub fn tell_late(
        &self,
        raw: &RawBatch,
        accepted: &Accepted,
        observed: &Observed,
        told: &mut BTreeSet<(Uuid, usize)>,
        late: &mut RefusedRows,
    ) {
        for (row, why) in self.half.late_rows(observed) {
            let index = accepted.records[row] as usize;
            for spec in self.specs.iter().filter(|spec| told.insert((spec.id, row))) {
                late.push(RefusedRow {
                    view: Some(spec.name.clone()),
                    event_time: Some(observed.time(row)),
                    watermark: Some(observed.before(row)),
                    ..RefusedRow::of(raw, index, why.into())
                });
            }
        }
    }
}
