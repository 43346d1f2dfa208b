//! The leaf of every lower half. It holds no data: each run finds its batch in the session config of its context, so
//! one plan serves any number of micro-batches.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

/// What one run reads, put into its context with `SessionConfig::with_extension`.
#[derive(Debug)]
pub struct MicroBatch(pub RecordBatch);

/// Reads the columns of `schema`, by name, from the [`MicroBatch`] of its context: the batch has the columns that any
/// view of the stream needs, and which they are changes when a view is added.
///
/// It declares no ordering and no statistics; with exact ones `count(*)` would become a literal.
#[derive(Debug)]
pub struct MicroBatchExec {
    properties: Arc<PlanProperties>,
}

impl MicroBatchExec {
    pub fn new(schema: SchemaRef) -> MicroBatchExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        MicroBatchExec { properties: Arc::new(properties) }
    }
}

impl DisplayAs for MicroBatchExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "MicroBatchExec: columns=[{}]", names.join(", "))
    }
}

impl ExecutionPlan for MicroBatchExec {
    fn name(&self) -> &'static str {
        "MicroBatchExec"
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
        let batch = context
            .session_config()
            .get_extension::<MicroBatch>()
            .ok_or_else(|| internal_datafusion_err!("a lower half was run without a micro-batch"))?;
        let schema = self.schema();
        let columns = schema
            .fields()
            .iter()
            .map(|field| batch.0.schema_ref().index_of(field.name()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Box::pin(MemoryStream::try_new(vec![batch.0.project(&columns)?], schema, None)?))
    }
}
