//! Counts rows where they pass, inside a lower half: the ledger's terms come from here and are never derived from one
//! another.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

/// Rows seen by the counters of one lower half since they were last taken.
#[derive(Debug, Default)]
pub struct Tallies {
    into_filters: Arc<AtomicU64>,
    out_of_filters: Arc<AtomicU64>,
    into_unnests: Arc<AtomicU64>,
    out_of_unnests: Arc<AtomicU64>,
    /// Into the aggregate, or out of the plan where there is none.
    kept: Arc<AtomicU64>,
}

/// What became of the rows of some micro-batches in one lower half.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub aggregated: u64,
    pub filtered: u64,
    /// Rows that expanding into several windows added; they are part of `aggregated`.
    pub expanded: i64,
}

impl Tallies {
    /// Puts counters around every filter and expansion of `plan`, below its aggregate, and on top where it has none.
    pub fn instrument(plan: Arc<dyn ExecutionPlan>) -> Result<(Arc<dyn ExecutionPlan>, Tallies)> {
        let tallies = Tallies::default();
        let aggregates = as_aggregate(&plan).is_some();
        let plan = plan
            .transform_up(|node| {
                if (node.as_ref() as &dyn std::any::Any).is::<FilterExec>() {
                    tallies.around(node, &tallies.into_filters, &tallies.out_of_filters)
                } else if (node.as_ref() as &dyn std::any::Any).is::<UnnestExec>() {
                    tallies.around(node, &tallies.into_unnests, &tallies.out_of_unnests)
                } else if as_aggregate(&node).is_some() {
                    Ok(Transformed::yes(count_below(node, &tallies.kept)?))
                } else {
                    Ok(Transformed::no(node))
                }
            })
            .data()?;
        let plan = if aggregates { plan } else { TallyExec::over(plan, &tallies.kept) };
        Ok((plan, tallies))
    }

    fn around(
        &self,
        node: Arc<dyn ExecutionPlan>,
        below: &Arc<AtomicU64>,
        above: &Arc<AtomicU64>,
    ) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        Ok(Transformed::yes(TallyExec::over(count_below(node, below)?, above)))
    }

    pub fn take(&self) -> Counts {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counts {
            aggregated: take(&self.kept),
            filtered: take(&self.into_filters) - take(&self.out_of_filters),
            expanded: take(&self.out_of_unnests) as i64 - take(&self.into_unnests) as i64,
        }
    }
}

/// Whether it only counts what passes through it.
pub fn is_tally(plan: &Arc<dyn ExecutionPlan>) -> bool {
    (plan.as_ref() as &dyn std::any::Any).is::<TallyExec>()
}

pub fn as_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    (plan.as_ref() as &dyn std::any::Any).downcast_ref::<AggregateExec>()
}

fn count_below(node: Arc<dyn ExecutionPlan>, counter: &Arc<AtomicU64>) -> Result<Arc<dyn ExecutionPlan>> {
    let children =
        node.children().into_iter().map(|child| TallyExec::over(Arc::clone(child), counter)).collect();
    datafusion::physical_plan::execution_plan::replace_children_if_necessary(node, children)
}

/// Passes its input through and adds its rows to a counter.
#[derive(Debug)]
struct TallyExec {
    input: Arc<dyn ExecutionPlan>,
    counter: Arc<AtomicU64>,
}

impl TallyExec {
    fn over(input: Arc<dyn ExecutionPlan>, counter: &Arc<AtomicU64>) -> Arc<dyn ExecutionPlan> {
        Arc::new(TallyExec { input, counter: Arc::clone(counter) })
    }
}

impl DisplayAs for TallyExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TallyExec")
    }
}

impl ExecutionPlan for TallyExec {
    fn name(&self) -> &'static str {
        "TallyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(TallyExec::over(children.swap_remove(0), &self.counter))
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(TallyExec::over(children.swap_remove(0), &self.counter))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let counter = Arc::clone(&self.counter);
        let counted = self.input.execute(partition, context)?.inspect(move |batch| {
            if let Ok(batch) = batch {
                counter.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }
}
