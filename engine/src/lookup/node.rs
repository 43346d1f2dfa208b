//! A lookup in a logical plan, and how it is planned.
#![expect(clippy::disallowed_types, reason = "the planner's own trait has a set by hash")]

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference, plan_err};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::content::Content;
use super::exec::LookupExec;
use crate::spec::LookupSpec;

/// Each row of its input, with columns of the table's row that has its key, and whether there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LookupNode {
    pub input: LogicalPlan,
    pub table: String,
    /// As which its columns are known above.
    pub alias: TableReference,
    /// One for each column of the primary key, of its type.
    pub keys: Vec<Expr>,
    /// Which columns of the table it adds.
    pub columns: Vec<usize>,
    row: SchemaRef,
    key: Vec<usize>,
    schema: DFSchemaRef,
}

impl LookupNode {
    /// The name of its last column.
    pub const FOUND: &str = "__found";

    pub fn try_new(
        input: LogicalPlan,
        table: &LookupSpec,
        alias: TableReference,
        keys: Vec<Expr>,
        columns: Vec<usize>,
    ) -> Result<LookupNode> {
        let (row, key) = (Arc::clone(&table.schema), table.key.clone());
        LookupNode::over(input, table.name.clone(), alias, keys, columns, row, key)
    }

    fn over(
        input: LogicalPlan,
        table: String,
        alias: TableReference,
        keys: Vec<Expr>,
        columns: Vec<usize>,
        row: SchemaRef,
        key: Vec<usize>,
    ) -> Result<LookupNode> {
        let all = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let mut fields: Vec<_> = all.collect();
        for column in &columns {
            let field = row.field(*column).clone().with_nullable(true);
            fields.push((Some(alias.clone()), Arc::new(field)));
        }
        let found = Field::new(LookupNode::FOUND, DataType::Boolean, false);
        fields.push((Some(alias.clone()), Arc::new(found)));
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(LookupNode { input, table, alias, keys, columns, row, key, schema: Arc::new(schema) })
    }

    fn added(&self) -> impl Iterator<Item = String> + '_ {
        let columns = self.columns.iter().map(|column| self.row.field(*column).name().clone());
        columns.chain([LookupNode::FOUND.to_string()])
    }
}

impl PartialOrd for LookupNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for LookupNode {
    fn name(&self) -> &str {
        "Lookup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.clone()
    }

    /// A filter of what the input has already may be looked at before.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.added().collect()
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let of_input = self.input.schema().fields().len();
        Some(vec![output.iter().copied().filter(|column| *column < of_input).collect()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|key| key.to_string()).collect();
        write!(f, "Lookup: table={}, keys=[{}]", self.table, keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Some(input) = inputs.pop() else { return plan_err!("a lookup has an input") };
        let LookupNode { table, alias, columns, row, key, .. } = self.clone();
        LookupNode::over(input, table, alias, exprs, columns, row, key)
    }
}

/// Plans lookups over nothing: a plan is given what its tables hold before it runs
/// ([`Contents`](super::Contents)).
#[derive(Debug)]
pub struct LookupPlanner;

#[async_trait]
impl ExtensionPlanner for LookupPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        inputs: &[&LogicalPlan],
        planned: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(lookup) = node.as_any().downcast_ref::<LookupNode>() else { return Ok(None) };
        let ([input], [below]) = (inputs, planned) else { return plan_err!("a lookup has one input") };
        let keys = lookup.keys.iter();
        let keys = keys.map(|key| planner.create_physical_expr(key, input.schema(), session, context));
        let content = Content::empty(&lookup.row, &lookup.key);
        // What is planned below may know better which columns can be NULL.
        let added = lookup.schema.fields().iter().skip(input.schema().fields().len());
        let fields: Vec<_> = below.schema().fields().iter().chain(added).cloned().collect();
        Ok(Some(Arc::new(LookupExec::new(
            Arc::clone(below),
            lookup.table.as_str().into(),
            Arc::new(content),
            keys.collect::<Result<_>>()?,
            lookup.columns.as_slice().into(),
            Arc::new(arrow::datatypes::Schema::new(fields)),
        ))))
    }
}
