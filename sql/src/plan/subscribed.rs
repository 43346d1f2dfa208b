//! A query whose changes are told: row by row over one view, so that what changes of it is what changes of the view, each
//! row by itself. Its plan is run over rows of the view that carry how they changed.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery, TableScan};
use datafusion::physical_plan::{ExecutionPlan, collect, execution_plan::reset_plan_states};
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::view::{MicroBatch, Room};

use super::view::{InputTable, place_of_relation};
use crate::error::{Error, Result};

/// What the plan passes on of each row: +1 or -1, and whether that is for good.
pub(crate) const CARRIED: [&str; 2] = ["__change", "__final"];

/// A query over one view, which makes each of its rows of one of the view's.
#[derive(Debug, Clone)]
pub(crate) struct RowByRow {
    pub view: String,
    /// Two that are equal make the same of each row.
    pub query: LogicalPlan,
    /// Its columns, and then those that are carried.
    pub schema: SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
}

impl RowByRow {
    /// `what` is what is to be told of the rows of the query, whose bare names are looked up in a schema.
    pub async fn of(
        plan: LogicalPlan,
        (public, written): (&str, &Query),
        state: &SessionState,
        what: &str,
    ) -> Result<RowByRow> {
        let view = the_view(&plan, (public, written), what)?;
        let query = plan.clone();
        let carrying = plan.transform_up(carry)?.data;
        let plan = state.create_physical_plan(&carrying).await?;
        Ok(RowByRow { view, query, schema: plan.schema(), plan })
    }

    /// What becomes of some of the view's rows, which have the columns that are carried.
    pub async fn run(&self, rows: RecordBatch) -> Result<Vec<RecordBatch>> {
        let plan = reset_plan_states(Arc::clone(&self.plan))?;
        Ok(collect(plan, Room::unbounded().context(MicroBatch(rows))).await?)
    }
}

/// The columns of a view's rows with those that are carried.
pub(crate) fn carrying(view: &Schema) -> SchemaRef {
    let fields = view.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let [change, is_final] = CARRIED;
    let carried =
        [Field::new(change, DataType::Int32, false), Field::new(is_final, DataType::Boolean, false)];
    Arc::new(Schema::new(fields.chain(carried).collect::<Vec<_>>()))
}

/// The view that a query reads row by row; an error if it is anything else.
fn the_view(plan: &LogicalPlan, (public, query): (&str, &Query), told: &str) -> Result<String> {
    let refused = |what: &str| {
        Error::invalid(format!("{what}: {told} is of one view, row by row"))
            .hint("make the query a materialized view, and read that")
    };
    let mut view = None;
    plan.apply(|node| {
        let refusal = match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
                let subqueries = |expr: &Expr| {
                    expr.exists(|each| {
                        Ok(matches!(
                            each,
                            Expr::ScalarSubquery(Subquery { .. })
                                | Expr::InSubquery(_)
                                | Expr::Exists(_)
                                | Expr::SetComparison(_)
                        ))
                    })
                };
                let mut found = false;
                node.apply_expressions(|expr| {
                    found |= subqueries(expr)?;
                    Ok(TreeNodeRecursion::Continue)
                })?;
                found.then(|| refused("a subquery looks at other rows"))
            }
            LogicalPlan::TableScan(scan) => match (schema_of(&scan.table_name, public), &view) {
                (_, Some(_)) => Some(refused("the query reads several relations")),
                ("public", None) => {
                    view = Some(scan.table_name.table().to_owned());
                    None
                }
                (schema, None) => {
                    let name = format!("{schema}.{}", scan.table_name.table());
                    Some(
                        Error::invalid(format!("the rows of schema {schema} are not told as they change"))
                            .at(place_of_relation(query, &name))
                            .hint(
                                "read the view itself, and its final rows are told: ON LIVE tells those of a sink that may still \
                                 change, and WITH (live = false) keeps them from a subscription",
                            ),
                    )
                }
            },
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                Some(refused("the query reads no view"))
            }
            LogicalPlan::Join(_) => Some(refused("a join looks at several rows")),
            LogicalPlan::Window(_) => Some(refused("OVER looks at several rows")),
            other => {
                let name = other.display().to_string();
                let name = name.split([':', ' ']).next().unwrap_or_default().to_lowercase();
                Some(refused(&format!("{name} looks at several rows")))
            }
        };
        match refusal {
            Some(error) => Err(error.into()),
            None => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    view.ok_or_else(|| refused("the query reads no view"))
}

fn schema_of<'a>(table: &'a TableReference, default: &'a str) -> &'a str {
    table.schema().unwrap_or(default)
}

/// The node over inputs that carry how their rows changed, passing it on.
fn carry(node: LogicalPlan) -> datafusion::common::Result<Transformed<LogicalPlan>> {
    Ok(match node {
        LogicalPlan::TableScan(TableScan { table_name, source, .. }) => {
            let table = Arc::new(InputTable { schema: carrying(&source.schema()) });
            let scan = LogicalPlanBuilder::scan(table_name, provider_as_source(table), None)?;
            Transformed::yes(scan.build()?)
        }
        LogicalPlan::Projection(projection) => {
            let input = projection.input.schema();
            let carried =
                input.columns().into_iter().filter(|column| CARRIED.contains(&column.name.as_str()));
            let columns =
                projection.expr.iter().cloned().chain(carried.map(Expr::Column)).collect::<Vec<_>>();
            let input = Arc::unwrap_or_clone(projection.input.clone());
            Transformed::yes(LogicalPlanBuilder::from(input).project(columns)?.build()?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = Arc::unwrap_or_clone(alias.input.clone());
            Transformed::yes(LogicalPlanBuilder::from(input).alias(alias.alias.clone())?.build()?)
        }
        other => {
            let inputs = other.inputs().into_iter().cloned().collect();
            Transformed::yes(other.with_new_exprs(other.expressions(), inputs)?)
        }
    })
}
