//! A query from its tree to a plan and to rows, over one pinned snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{ExplainOption, Expr, LogicalPlan, LogicalPlanBuilder, Volatility};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Expr as Expression, Ident, Query, SelectItem, SetExpr, Statement};

use super::answer::{self, Answer, Bounds, Task};
use super::database::Shared;
use super::references::Names;
use super::registry::Ticket;
use super::settings::Settings;
use super::{limits, parameters};
use crate::tables::Pinned;
use crate::{Error, Result, plan};

/// A query, and where it is asked.
#[derive(Clone)]
pub(crate) struct Request {
    pub shared: Arc<Shared>,
    /// Where bare names are looked up.
    pub schema: String,
    /// Bounds of the session.
    pub settings: Settings,
    pub query: Query,
    pub explain: Option<ExplainOption>,
    /// What it sees; without it the tables of this instant.
    pub pinned: Option<Arc<Pinned>>,
}

/// A query as it is now: over the tables of this instant.
pub(crate) struct Planned {
    pub state: SessionState,
    pub bounds: Bounds,
    /// What it was planned of, by which errors are told their place.
    pub query: Box<Query>,
    pub plan: LogicalPlan,
    /// The columns of the answer.
    pub rows: SchemaRef,
    pub parameters: SchemaRef,
    /// The views that all of the answer comes from; `None` when anything else has a part in it.
    pub reads: Option<BTreeSet<String>>,
}

impl Request {
    /// Plans on the queries' runtime. Without values parameters stay open, and their types are what the query says.
    pub async fn plan(self, values: Option<Vec<ScalarValue>>) -> Result<Planned> {
        let runtime = self.shared.runtime.clone();
        let limit = self.settings.query_deadline;
        let planning = Task::spawn(&runtime, async move { self.plan_here(values.as_deref()).await });
        tokio::time::timeout(limit, planning.join()).await.map_err(|_| answer::deadline_passed(limit))??
    }

    async fn plan_here(mut self, values: Option<&[ScalarValue]>) -> Result<Planned> {
        limits::check_query(&self.query)?;
        let views = self.shared.plain_views();
        if views.names().next().is_some() {
            views.inline(&mut self.query)?;
            limits::check_query(&self.query)?;
        }
        let count = parameters::number(&mut self.query)?;
        name_casts(&mut self.query);
        let pinned = self.pinned.unwrap_or_else(|| self.shared.pin());
        let state = self.shared.state(&pinned, &self.schema, self.settings.query_memory_bytes)?;
        let query = Box::new(self.query);
        let mut written = query.clone();
        plan::heed_nulls_of_rows(&mut written)?;
        let statement = Statement::Query(written);
        let names = Names { engine: &*self.shared.engine, pinned: &pinned, schema: &self.schema };
        names.check(&statement, &state)?;
        let views = names.views(&statement)?;
        plan::check_executed(&query, &state)?;
        let plan = state.statement_to_plan(DataFusionStatement::Statement(Box::new(statement))).await;
        let plan = plan.map_err(|error| plan::at_name(error.into(), &query, &state))?;
        read_only().verify_plan(&plan)?;
        let placed = |error: Error| plan::at_name(error, &query, &state);
        plan::check_correlated(&plan, &query).map_err(placed)?;
        plan::check_dated(&plan, &query).map_err(placed)?;
        let plan = plan::heed_ranges(plan).and_then(plan::heed_nulls).map_err(|it| placed(it.into()))?;
        let reads = views.filter(|_| is_timeless(&plan));
        let parameters = parameters::schema(&plan, count)?;
        let mut plan = match values {
            Some(values) => plan.replace_params_with_values(&parameters::values(&parameters, values)?)?,
            None => plan,
        };
        if let Some(option) = self.explain {
            plan = LogicalPlanBuilder::from(plan).explain_option_format(option)?.build()?;
        }
        let rows = answer_schema(&state, &plan, values.is_none() && count > 0).map_err(placed)?;
        limits::check_columns(&rows)?;
        let bounds = Bounds::of(&self.settings);
        Ok(Planned { state, bounds, query, plan, rows, parameters, reads })
    }
}

/// DataFusion calls a cast by what is cast, and so takes it for the column by which the rows are to be ordered.
fn name_casts(query: &mut Query) {
    let (true, SetExpr::Select(select)) = (query.order_by.is_some(), query.body.as_mut()) else { return };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr @ Expression::Cast { .. }) = item {
            let alias = Ident::with_quote('"', expr.to_string());
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

/// Whether the same rows always give the same answer: no clock, no chance.
fn is_timeless(plan: &LogicalPlan) -> bool {
    let changes = |expr: &Expr| {
        Ok(match expr {
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            _ => false,
        })
    };
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(changes)?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    walked.is_ok() && !found
}

/// The columns of the answer, as they are once types have been made to fit (the columns of a `UNION`, say).
fn answer_schema(state: &SessionState, plan: &LogicalPlan, has_open_parameters: bool) -> Result<SchemaRef> {
    let checked = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
    match checked {
        Ok(checked) => Ok(Arc::new(checked.schema().as_arrow().clone())),
        // Types may only fit once the parameters have theirs.
        Err(_) if has_open_parameters => Ok(Arc::new(plan.schema().as_arrow().clone())),
        Err(error) => Err(error.into()),
    }
}

impl Planned {
    /// Starts the query on the queries' runtime.
    pub async fn start(self, shared: &Shared, mut ticket: Ticket) -> Result<Answer> {
        let bounds = self.bounds;
        let time = bounds.time;
        let rows = Arc::clone(&self.rows);
        let starting = Task::spawn(&shared.runtime, async move {
            let physical = self.state.create_physical_plan(&self.plan).await;
            let physical =
                physical.map_err(|error| plan::at_name(bounds.explain(error), &self.query, &self.state))?;
            Ok::<_, Error>(execute_stream(physical, self.state.task_ctx())?)
        });
        let starting = async {
            match tokio::time::timeout(time, starting.join()).await {
                Ok(joined) => joined.flatten(),
                Err(_) => Err(answer::deadline_passed(time)),
            }
        };
        let started = ticket.unless_stopped(starting).await;
        match started {
            Ok(stream) => Ok(Answer::Rows(answer::start(&shared.runtime, rows, stream, bounds, ticket))),
            Err(error) => {
                ticket.finish(Err(&error));
                Err(error)
            }
        }
    }
}

/// The parser gives us queries alone; this is the second lock.
fn read_only() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}
