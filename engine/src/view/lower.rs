//! The lower half of one view, as a worker runs it, and a reader for what no worker has run it on yet: arrived rows in,
//! parts and counts out.
//!
//! Owns: running the plan again and again, leaving out late rows. Leaves to others: where the parts go.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};

use crate::ids::Micros;
use crate::spec::{Cut, ViewShape, Window};
use crate::view::arrived::Arrived;
use crate::view::compact::compacted;
use crate::view::leaf::MicroBatch;
use crate::view::part::Part;
use crate::view::running::running_context;
use crate::view::tally::{Counts, Tallies, as_aggregate};
use crate::{Error, Result};

pub struct LowerHalf {
    plans: Vec<Plan>,
    /// With how late a row may be; `None` for a view without a window.
    window: Option<(Window, Micros)>,
}

struct Plan {
    plan: Arc<dyn ExecutionPlan>,
    tallies: Tallies,
    /// `None` for a view without a window.
    cut: Option<(Cut, Window)>,
}

/// What the rows that arrived became: `aggregated + filtered + late` of them.
#[derive(Debug, Default)]
pub struct Lowered {
    pub parts: Vec<Part>,
    pub aggregated: u64,
    pub filtered: u64,
    pub late: u64,
}

impl LowerHalf {
    pub fn new(shape: &ViewShape) -> Result<LowerHalf> {
        Ok(match shape {
            ViewShape::Copy { lower } => {
                LowerHalf { plans: vec![Plan::new(Arc::clone(lower), None)?], window: None }
            }
            ViewShape::Windowed { window, allowed_lateness, cuts, .. } => {
                let plan = |cut: &Cut| Plan::new(partial_of(&cut.aggregate)?, Some((cut.clone(), *window)));
                let plans = cuts.iter().map(plan).collect::<Result<_>>()?;
                LowerHalf { plans, window: Some((*window, *allowed_lateness)) }
            }
        })
    }

    /// Runs over the rows but those that are late.
    pub async fn take_in(&mut self, arrived: &Arrived) -> Result<Lowered> {
        let mut lowered = Lowered::default();
        if let (Some((window, lateness)), Some(observed)) = (self.window, &arrived.observed)
            && let Some(verdicts) = observed.verdicts(window, lateness)
        {
            lowered.late = verdicts.late.true_count() as u64;
            for (after, some) in verdicts.in_time(&arrived.batch)? {
                for part in self.run(&some, &mut lowered).await? {
                    lowered.parts.extend(part.ending_after(after, window)?);
                }
            }
        } else {
            lowered.parts = self.run(&arrived.batch, &mut lowered).await?;
        }
        Ok(lowered)
    }

    /// Runs every cut over the rows. The cuts must agree on what became of them.
    async fn run(&mut self, batch: &RecordBatch, lowered: &mut Lowered) -> Result<Vec<Part>> {
        let context = running_context(MicroBatch(batch.clone()));
        let mut parts = vec![];
        let mut counts = None;
        for (number, plan) in self.plans.iter_mut().enumerate() {
            let batches = plan.run(Arc::clone(&context)).await?;
            match &plan.cut {
                Some((cut, window)) => parts.extend(Part::of_batches(number as u32, &batches, cut, *window)?),
                None => {
                    for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
                        parts.push(Part::of_one_pane(0, 0, compacted(batch)?));
                    }
                }
            }
            let seen = plan.tallies.take();
            conserved(batch.num_rows(), seen)?;
            counts.get_or_insert(seen);
        }
        let Counts { aggregated, filtered, expanded } = counts.unwrap_or_default();
        lowered.aggregated += (aggregated as i64 - expanded) as u64;
        lowered.filtered += filtered;
        Ok(parts)
    }
}

/// INV-9: rows into a lower half = aggregated + filtered, each counted where it happens.
fn conserved(rows: usize, counts: Counts) -> Result<()> {
    let accounted = counts.aggregated as i64 - counts.expanded + counts.filtered as i64;
    if accounted != rows as i64 {
        return Err(Error::Internal(format!(
            "a lower half lost rows. in={rows}, aggregated={}, expanded={}, filtered={}",
            counts.aggregated, counts.expanded, counts.filtered
        )));
    }
    Ok(())
}

impl Plan {
    fn new(plan: Arc<dyn ExecutionPlan>, cut: Option<(Cut, Window)>) -> Result<Plan> {
        let (plan, tallies) = Tallies::instrument(plan)?;
        Ok(Plan { plan, tallies, cut })
    }

    async fn run(&mut self, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        // Each run would otherwise leave its metrics behind in the plan.
        self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        Ok(collect(Arc::clone(&self.plan), context).await?)
    }
}

/// The Partial node below a cut's Final.
pub fn partial_of(aggregate: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let partial = aggregate.children().first().map(|child| Arc::clone(child));
    partial
        .filter(|plan| as_aggregate(plan).is_some())
        .ok_or_else(|| Error::Internal("a cut is not Final over Partial".into()))
}
