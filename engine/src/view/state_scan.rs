//! The leaf of every upper half: the finished rows of one cut, standing where the aggregate stood in the query. Planned,
//! it is the cut's `Final` over the parts that each run finds in its context, so one plan serves any number of runs.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchemaRef, Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

/// Stands for `AggregateExec(Final)` over the partial batches of cut number `cut`; `schema` is the aggregate's.
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
    pub finals: Vec<Arc<dyn ExecutionPlan>>,
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
        let plan = self.finals.get(scan.cut).ok_or_else(|| {
            internal_datafusion_err!("an upper half reads a cut that the view has not. cut={}", scan.cut)
        })?;
        Ok(Some(Arc::clone(plan)))
    }
}

/// Partial batches by cut: what one run of an upper half reads, put into its context with
/// `SessionConfig::with_extension`.
#[derive(Debug)]
pub struct States(pub Vec<Vec<RecordBatch>>);

/// Reads the [`States`] of one cut. Like the leaf of a lower half it declares no ordering and no statistics.
#[derive(Debug)]
pub struct StatesExec {
    cut: usize,
    properties: Arc<PlanProperties>,
}

impl StatesExec {
    pub fn new(cut: usize, schema: SchemaRef) -> StatesExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        StatesExec { cut, properties: Arc::new(properties) }
    }
}

impl DisplayAs for StatesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatesExec: cut={}", self.cut)
    }
}

impl ExecutionPlan for StatesExec {
    fn name(&self) -> &'static str {
        "StatesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let states = context.session_config().get_extension::<States>();
        let batches = states.as_ref().and_then(|states| states.0.get(self.cut));
        let batches = batches.ok_or_else(|| {
            internal_datafusion_err!("an upper half was run without the states of cut {}", self.cut)
        })?;
        Ok(Box::pin(MemoryStream::try_new(batches.clone(), self.schema(), None)?))
    }
}
