//! The leaves of both halves. They hold no data: each run finds what they read in the session config of its context, so
//! one plan serves any number of runs.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use datafusion::prelude::SessionConfig;

/// What one run reads, put into its context with `SessionConfig::with_extension`.
#[derive(Debug)]
pub struct MicroBatch(pub RecordBatch);

/// Partial batches by cut: what one run of an upper half reads, likewise.
#[derive(Debug)]
pub struct States(pub Vec<Vec<RecordBatch>>);

/// Reads what its run gives it. It declares no ordering and no statistics; with exact ones `count(*)` would become a
/// literal.
#[derive(Debug)]
pub struct LeafExec {
    reads: Reads,
    properties: Arc<PlanProperties>,
}

#[derive(Debug, Clone, Copy)]
enum Reads {
    /// The columns of the schema, by name, from the [`MicroBatch`]: it has the columns that any view of the stream needs,
    /// and which they are changes when a view is added.
    MicroBatch,
    /// The [`States`] of one cut.
    States { cut: usize },
}

impl LeafExec {
    pub fn of_micro_batch(schema: SchemaRef) -> LeafExec {
        LeafExec::reading(Reads::MicroBatch, schema)
    }

    pub fn of_states(cut: usize, schema: SchemaRef) -> LeafExec {
        LeafExec::reading(Reads::States { cut }, schema)
    }

    fn reading(reads: Reads, schema: SchemaRef) -> LeafExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        LeafExec { reads, properties: Arc::new(properties) }
    }

    /// The columns of a micro-batch that are read here.
    pub fn columns_of(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = self.schema();
        let place = |field: &FieldRef| batch.schema_ref().index_of(field.name());
        let columns = schema.fields().iter().map(place).collect::<Result<Vec<_>, _>>()?;
        Ok(batch.project(&columns)?)
    }

    fn batches(&self, config: &SessionConfig) -> Result<Vec<RecordBatch>> {
        match self.reads {
            Reads::MicroBatch => {
                let batch = config
                    .get_extension::<MicroBatch>()
                    .ok_or_else(|| internal_datafusion_err!("a lower half was run without a micro-batch"))?;
                Ok(vec![self.columns_of(&batch.0)?])
            }
            Reads::States { cut } => {
                let states = config.get_extension::<States>();
                let batches = states.as_ref().and_then(|states| states.0.get(cut)).cloned();
                batches.ok_or_else(|| {
                    internal_datafusion_err!("an upper half was run without the states of cut {cut}")
                })
            }
        }
    }
}

impl DisplayAs for LeafExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reads {
            Reads::MicroBatch => {
                let schema = self.schema();
                let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                write!(f, "MicroBatchExec: columns=[{}]", names.join(", "))
            }
            Reads::States { cut } => write!(f, "StatesExec: cut={cut}"),
        }
    }
}

impl ExecutionPlan for LeafExec {
    fn name(&self) -> &'static str {
        match self.reads {
            Reads::MicroBatch => "MicroBatchExec",
            Reads::States { .. } => "StatesExec",
        }
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
        let batches = self.batches(context.session_config())?;
        Ok(Box::pin(MemoryStream::try_new(batches, self.schema(), None)?))
    }
}
