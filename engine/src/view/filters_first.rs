//! What a WHERE leaves out is not computed. DataFusion swaps a projection with the filter below it where the projection
//! has fewer columns, so that `SELECT m / n … WHERE n <> 0` would divide first. The rule that does it swaps only where it
//! finds all of the filter's columns, so here each filter shows it one more.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

use super::by_row::Rules;

/// The rules, of which those that swap leave filters where they are.
pub(super) fn filters_first(rules: Rules) -> Rules {
    let kept = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| match rule.name() {
        "ProjectionPushdown" => Arc::new(FiltersKept(rule)) as _,
        _ => rule,
    };
    rules.into_iter().map(kept).collect()
}

struct FiltersKept(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl fmt::Debug for FiltersKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FiltersKept({})", self.0.name())
    }
}

impl PhysicalOptimizerRule for FiltersKept {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let kept = |filter: &FilterExec| {
            // Over no columns nothing has fewer.
            let has_columns = !filter.input().schema().fields().is_empty();
            let kept = || Arc::new(Kept::new(Arc::clone(filter.predicate()))) as Arc<dyn PhysicalExpr>;
            has_columns.then(kept)
        };
        let plan = plan.transform_up(|node| with_predicate(node, kept)).data()?;
        let plan = self.0.optimize(plan, config)?;
        let own = |filter: &FilterExec| {
            let kept = (filter.predicate().as_ref() as &dyn Any).downcast_ref::<Kept>();
            kept.map(|kept| Arc::clone(&kept.children[0]))
        };
        plan.transform_up(|node| with_predicate(node, own)).data()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// A filter with another predicate, if there is one.
fn with_predicate(
    node: Arc<dyn ExecutionPlan>,
    other: impl Fn(&FilterExec) -> Option<Arc<dyn PhysicalExpr>>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let filter = (node.as_ref() as &dyn Any).downcast_ref::<FilterExec>();
    match filter.and_then(|filter| Some((filter, other(filter)?))) {
        Some((filter, predicate)) => {
            let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
            Ok(Transformed::yes(Arc::new(filter)))
        }
        None => Ok(Transformed::no(node)),
    }
}

/// A predicate, and a column of a name that no projection has.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept {
    children: [Arc<dyn PhysicalExpr>; 2],
}

impl Kept {
    fn new(predicate: Arc<dyn PhysicalExpr>) -> Kept {
        Kept { children: [predicate, Arc::new(Column::new("\0kept", 0))] }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.children[0].fmt(f)
    }
}

impl PhysicalExpr for Kept {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.children[0].data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.children[0].nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.children[0].return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.children[0].evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.children.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match children.into_iter().next() {
            Some(predicate) => Ok(Arc::new(Kept::new(predicate))),
            None => internal_err!("a predicate is gone"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.children[0].fmt_sql(f)
    }
}
