//! The leaf of every upper half: the finished rows of one cut, standing where the aggregate stood in the query. Planned,
//! it is the cut's `Final` over the parts that each run finds in its context, so one plan serves any number of runs.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchemaRef, Result, internal_datafusion_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

/// Stands for the finished rows of cut number `cut`: those of `AggregateExec(Final)` over its partial batches, or the rows
/// that it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StateScan {
    pub cut: usize,
    pub schema: DFSchemaRef,
}

impl PartialOrd for StateScan {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StateScan {
    fn name(&self) -> &str {
        "StateScan"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateScan: cut={}", self.cut)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// Plans each [`StateScan`] to the given plan of its cut.
pub struct StateScanPlanner {
    pub finished: Vec<Arc<dyn ExecutionPlan>>,
}

#[async_trait]
impl ExtensionPlanner for StateScanPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(scan) = node.as_any().downcast_ref::<StateScan>() else { return Ok(None) };
        let plan = self.finished.get(scan.cut).ok_or_else(|| {
            internal_datafusion_err!("an upper half reads a cut that the view has not. cut={}", scan.cut)
        })?;
        Ok(Some(Arc::clone(plan)))
    }
}
