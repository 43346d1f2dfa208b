//! The operator: each row, and beside it the row of the table that has its key.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use super::content::Content;

/// As many rows as its input has, in their order, each with the columns of the table (NULL where no row has the key),
/// and last whether it was found.
#[derive(Debug)]
pub struct LookupExec {
    input: Arc<dyn ExecutionPlan>,
    table: Arc<str>,
    content: Arc<Content>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Which columns of the table it adds.
    columns: Arc<[usize]>,
    properties: Arc<PlanProperties>,
}

impl LookupExec {
    /// `schema` has the input's columns, those of the table, and the last.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        table: Arc<str>,
        content: Arc<Content>,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        columns: Arc<[usize]>,
        schema: SchemaRef,
    ) -> LookupExec {
        let below = input.properties();
        // The input's columns stay where they are, and its rows as they come: what was sorted is.
        let (orderings, equal) = (below.eq_properties.oeq_class(), below.eq_properties.eq_group());
        let mut known = EquivalenceProperties::new_with_orderings(schema, orderings.iter().cloned());
        // Constants and equalities are a help alone: without them something may be sorted again.
        let _ = known.add_equivalence_group(equal.clone());
        let properties = PlanProperties::new(
            known,
            below.output_partitioning().clone(),
            below.emission_type,
            below.boundedness,
        );
        LookupExec { input, table, content, keys, columns, properties: Arc::new(properties) }
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    pub fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// The same over another content.
    pub fn over(&self, content: Arc<Content>) -> LookupExec {
        LookupExec { content, ..self.with_input(Arc::clone(&self.input)) }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> LookupExec {
        LookupExec::new(
            input,
            Arc::clone(&self.table),
            Arc::clone(&self.content),
            self.keys.clone(),
            Arc::clone(&self.columns),
            self.schema(),
        )
    }

    pub fn keys(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.keys
    }

    /// The rows of its input with what is found of each.
    pub fn look_up(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        look_up(&self.content, &self.keys, &self.columns, &self.schema(), batch)
    }
}

fn look_up(
    content: &Content,
    keys: &[Arc<dyn PhysicalExpr>],
    columns: &[usize],
    schema: &Arc<Schema>,
    batch: &RecordBatch,
) -> Result<RecordBatch> {
    let count = batch.num_rows();
    let keys = keys.iter().map(|key| key.evaluate(batch)?.into_array(count));
    let keys = keys.collect::<Result<Vec<ArrayRef>>>()?;
    let found = content.find(&keys).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let mut all = batch.columns().to_vec();
    for column in columns {
        all.push(take(content.rows.column(*column), &found, None)?);
    }
    let was_found: BooleanArray = (0..count).map(|row| Some(found.is_valid(row))).collect();
    all.push(Arc::new(was_found));
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), all, &options)?)
}

impl DisplayAs for LookupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|key| key.to_string()).collect();
        write!(f, "LookupExec: table={}, keys=[{}]", self.table, keys.join(", "))
    }
}

impl ExecutionPlan for LookupExec {
    fn name(&self) -> &'static str {
        "LookupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_input(children.swap_remove(0))))
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_input(children.swap_remove(0))))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for key in &self.keys {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (content, keys, columns) =
            (Arc::clone(&self.content), self.keys.clone(), Arc::clone(&self.columns));
        let schema = self.schema();
        let found = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            look_up(&content, &keys, &columns, &schema, &batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), found)))
    }
}
