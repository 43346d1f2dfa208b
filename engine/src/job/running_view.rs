//! A view as one worker runs it: what a micro-batch becomes in it, by its lower half and of the rows that are in time. The
//! worker joins what comes of it.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, TimestampMicrosecondArray};
use datafusion::execution::runtime_env::RuntimeEnv;

use crate::Result;
use crate::job::intake::Accepted;
use crate::job::ledger::ViewTerms;
use crate::job::refused::{RefusedRow, RefusedRows};
use crate::source::RawBatch;
use crate::spec::{ViewShape, ViewSpec};
use crate::view::lower::LowerHalf;
use crate::view::part::Part;
use crate::view::plain_planning_state;
use crate::view::watermark::Observed;

pub struct RunningView {
    spec: Arc<ViewSpec>,
    half: LowerHalf,
}

/// The records of one partition that are taken in at once.
pub struct Arrivals<'a> {
    pub raw: &'a RawBatch,
    pub accepted: &'a Accepted,
    /// When each row happened, and the watermark that it met; absent if the stream has no event time.
    pub times: Option<(&'a TimestampMicrosecondArray, &'a Observed)>,
}

/// What a micro-batch became in the view.
pub struct Share {
    pub view: Arc<ViewSpec>,
    pub parts: Vec<Part>,
    pub terms: ViewTerms,
}

impl RunningView {
    pub fn new(spec: &Arc<ViewSpec>, runtime: &Arc<RuntimeEnv>) -> Result<RunningView> {
        let config = plain_planning_state().config().clone();
        let half = LowerHalf::new(spec, config, Arc::clone(runtime))?;
        Ok(RunningView { spec: Arc::clone(spec), half })
    }

    /// Rows that are too late for the view go to `late`.
    pub fn take_in(&mut self, arrivals: &Arrivals<'_>, late: &mut RefusedRows) -> Result<Share> {
        let rows = &arrivals.accepted.batch;
        let mut terms = ViewTerms { decoded: rows.num_rows() as u64, ..ViewTerms::default() };
        let mut parts = vec![];
        if let (ViewShape::Windowed { window, allowed_lateness, .. }, Some((times, observed))) =
            (&self.spec.shape, arrivals.times)
            && let Some(verdicts) = observed.verdicts(times, *window, *allowed_lateness)
        {
            terms.late = verdicts.late.true_count() as u64;
            self.keep_late(arrivals, times, observed, &verdicts.late, late);
            for (after, some) in verdicts.in_time(rows)? {
                for part in lower(&mut self.half, &some, &mut terms)? {
                    parts.extend(part.ending_after(after, *window)?);
                }
            }
        } else {
            parts = lower(&mut self.half, rows, &mut terms)?;
        }
        Ok(Share { view: Arc::clone(&self.spec), parts, terms })
    }

    fn keep_late(
        &self,
        arrivals: &Arrivals<'_>,
        times: &TimestampMicrosecondArray,
        observed: &Observed,
        mask: &BooleanArray,
        late: &mut RefusedRows,
    ) {
        for row in (0..mask.len()).filter(|row| mask.value(*row)) {
            let index = arrivals.accepted.records[row] as usize;
            late.push(RefusedRow {
                view: Some(self.spec.name.clone()),
                event_time: Some(times.value(row)),
                watermark: Some(observed.before(row)),
                ..RefusedRow::of(arrivals.raw, index, "all its windows had closed".into())
            });
        }
    }
}

fn lower(half: &mut LowerHalf, rows: &RecordBatch, terms: &mut ViewTerms) -> Result<Vec<Part>> {
    let lowered = futures::executor::block_on(half.run(rows))?;
    terms.aggregated += (lowered.counts.aggregated as i64 - lowered.counts.expanded) as u64;
    terms.filtered += lowered.counts.filtered;
    Ok(lowered.parts)
}
