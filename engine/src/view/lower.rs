//! The lower half of one view in one worker: micro-batches in, parts and counts out.
//!
//! Owns: running the plan again and again. Leaves to others: which rows are late, where the parts go.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionConfig;

use crate::spec::{Cut, ViewShape, ViewSpec, Window};
use crate::view::compact::compacted;
use crate::view::micro_batch::MicroBatch;
use crate::view::part::Part;
use crate::view::tally::{Counts, Tallies, as_aggregate};
use crate::{Error, Result};

pub struct LowerHalf {
    plans: Vec<Plan>,
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
}

struct Plan {
    plan: Arc<dyn ExecutionPlan>,
    tallies: Tallies,
    /// `None` for a view without a window.
    cut: Option<(Cut, Window)>,
}

/// What one micro-batch became.
#[derive(Debug)]
pub struct Lowered {
    pub parts: Vec<Part>,
    pub counts: Counts,
}

impl LowerHalf {
    pub fn new(view: &ViewSpec, config: SessionConfig, runtime: Arc<RuntimeEnv>) -> Result<LowerHalf> {
        let plans = match &view.shape {
            ViewShape::Copy { lower } => vec![Plan::new(Arc::clone(lower), None)?],
            ViewShape::Windowed { window, cuts, .. } => cuts
                .iter()
                .map(|cut| Plan::new(partial_of(&cut.aggregate)?, Some((cut.clone(), *window))))
                .collect::<Result<_>>()?,
        };
        Ok(LowerHalf { plans, config, runtime })
    }

    /// Runs every cut over the rows. The cuts must agree on what became of them.
    pub async fn run(&mut self, batch: &RecordBatch) -> Result<Lowered> {
        let config = self.config.clone().with_extension(Arc::new(MicroBatch(batch.clone())));
        let context = Arc::new(
            TaskContext::default().with_session_config(config).with_runtime(Arc::clone(&self.runtime)),
        );
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
        Ok(Lowered { parts, counts: counts.unwrap_or_default() })
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
