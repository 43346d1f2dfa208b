//! A view as one worker runs it: what arrived rows become in it. The worker joins what comes of them.

use std::sync::Arc;

use crate::Result;
use crate::job::intake::Accepted;
use crate::job::ledger::ViewTerms;
use crate::job::refused::{RefusedRow, RefusedRows};
use crate::source::RawBatch;
use crate::spec::{ViewShape, ViewSpec};
use crate::view::arrived::Arrived;
use crate::view::lower::LowerHalf;
use crate::view::part::Part;
use crate::view::watermark::Observed;

pub struct RunningView {
    spec: Arc<ViewSpec>,
    half: LowerHalf,
}

/// What arrived rows became in the view.
pub struct Share {
    pub view: Arc<ViewSpec>,
    pub parts: Vec<Part>,
    pub terms: ViewTerms,
}

impl RunningView {
    pub fn new(spec: &Arc<ViewSpec>) -> Result<RunningView> {
        Ok(RunningView { spec: Arc::clone(spec), half: LowerHalf::new(&spec.shape)? })
    }

    pub fn take_in(&mut self, arrived: &Arrived) -> Result<Share> {
        let lowered = futures::executor::block_on(self.half.take_in(arrived))?;
        let terms = ViewTerms {
            decoded: arrived.batch.num_rows() as u64,
            aggregated: lowered.aggregated,
            filtered: lowered.filtered,
            late: lowered.late,
        };
        Ok(Share { view: Arc::clone(&self.spec), parts: lowered.parts, terms })
    }

    /// Tells of the rows that the lower half will leave out.
    pub fn tell_late(
        &self,
        raw: &RawBatch,
        accepted: &Accepted,
        observed: &Observed,
        late: &mut RefusedRows,
    ) {
        let ViewShape::Windowed { window, allowed_lateness, .. } = &self.spec.shape else { return };
        let Some(verdicts) = observed.verdicts(*window, *allowed_lateness) else { return };
        for row in (0..verdicts.late.len()).filter(|row| verdicts.late.value(*row)) {
            let index = accepted.records[row] as usize;
            late.push(RefusedRow {
                view: Some(self.spec.name.clone()),
                event_time: Some(observed.time(row)),
                watermark: Some(observed.before(row)),
                ..RefusedRow::of(raw, index, "all its windows had closed".into())
            });
        }
    }
}
