//! What is computed of one row alone, above a join or an OVER, is computed below it too: there a row that an expression
//! can't take is left out alone (INV-17), and above it the whole view would fail. What it comes to is not kept, so a view
//! keeps the same as without this.
//!
//! Looks at what is computed of every row that comes out of a step, not at what stands behind a condition; of what an ON
//! compares, behind those of its conditions that look at the same side alone.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as PlannerResult, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, Window, cast,
};

use super::legs::is_rows;
use super::shape::Checker;
use crate::error::Result;

pub(super) fn judged_below(plan: &LogicalPlan, checker: &Checker<'_>) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().map(Expr::Column);
    judged(plan, in_microseconds(columns, plan.schema())?, checker)
}

/// Times of other precisions become microseconds, as a view has them, in which not all can be told.
fn in_microseconds(exprs: impl Iterator<Item = Expr>, schema: &DFSchema) -> PlannerResult<Vec<Expr>> {
    let mut found = vec![];
    for expr in exprs {
        let zone = match expr.get_type(schema)? {
            DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => zone,
            DataType::Date64 => None,
            _ => continue,
        };
        found.push(cast(expr, DataType::Timestamp(TimeUnit::Microsecond, zone)));
    }
    Ok(found)
}

/// `of_each`: what is computed of each row that comes out of the plan.
fn judged(plan: &LogicalPlan, of_each: Vec<Expr>, checker: &Checker<'_>) -> Result<LogicalPlan> {
    if is_rows(plan) {
        return rows(plan, of_each, checker);
    }
    let inputs = match plan {
        // Cut through, so that its arguments are computed below.
        LogicalPlan::Aggregate(aggregate) if is_rows(&aggregate.input) => {
            let times = in_microseconds(computed_by(aggregate), aggregate.input.schema())?;
            vec![rows(&aggregate.input, times, checker)?]
        }
        LogicalPlan::Projection(projection) => {
            let below = |column: &Column| {
                let index = projection.schema.maybe_index_of_column(column)?;
                Some(projection.expr[index].clone().unalias())
            };
            let below = moved(of_each, below)?.into_iter().chain(projection.expr.iter().cloned());
            vec![judged(&projection.input, below.collect(), checker)?]
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let columns = alias.input.schema().columns();
            let below = |column: &Column| {
                let index = alias.schema.maybe_index_of_column(column)?;
                Some(Expr::Column(columns[index].clone()))
            };
            vec![judged(&alias.input, moved(of_each, below)?, checker)?]
        }
        LogicalPlan::Window(window) => {
            let below = of_each.into_iter().chain(looked_at(window));
            let below = of_side(below, window.input.schema());
            vec![judged(&window.input, below, checker)?]
        }
        LogicalPlan::Join(join) => {
            let side = |input: &LogicalPlan, keys: Vec<Expr>| {
                let computed = of_each.iter().cloned().chain(keys).chain(of_on(join, input.schema())?);
                judged(input, of_side(computed, input.schema()), checker)
            };
            let (left, right) = join.on.iter().cloned().unzip();
            vec![side(&join.left, left)?, side(&join.right, right)?]
        }
        LogicalPlan::Aggregate(aggregate) => {
            vec![judged(&aggregate.input, computed_by(aggregate).collect(), checker)?]
        }
        other => {
            let inputs = other.inputs().into_iter().map(|input| judged(input, vec![], checker));
            inputs.collect::<Result<_>>()?
        }
    };
    match inputs.iter().eq(plan.inputs()) {
        true => Ok(plan.clone()),
        false => Ok(plan.with_new_exprs(plan.expressions(), inputs)?),
    }
}

/// Its keys, and the arguments of its functions.
fn computed_by(aggregate: &Aggregate) -> impl Iterator<Item = Expr> + '_ {
    let computed = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned();
    computed.flat_map(|expr| match expr.unalias() {
        Expr::AggregateFunction(function) => function.params.args,
        Expr::GroupingSet(_) => vec![],
        other => vec![other],
    })
}

/// The rows that the expressions can take.
fn rows(plan: &LogicalPlan, of_each: Vec<Expr>, checker: &Checker<'_>) -> Result<LogicalPlan> {
    let schema = plan.schema();
    let shape = checker.shape(plan)?;
    let mut judged: Vec<Expr> = vec![];
    for expr in of_each.into_iter().map(Expr::unalias) {
        // What looks at a bound would be asked of a pane.
        let asked = may_fail(&expr, schema)? && !shape.mentions_bound(&expr, schema);
        if asked && !expr.column_refs().is_empty() && !judged.contains(&expr) {
            judged.push(expr);
        }
    }
    if judged.is_empty() {
        return Ok(plan.clone());
    }
    Ok(LogicalPlan::Filter(Filter::try_new(takes(judged), Arc::new(plan.clone()))?))
}

/// In terms of the step below.
fn moved(exprs: Vec<Expr>, below: impl Fn(&Column) -> Option<Expr>) -> PlannerResult<Vec<Expr>> {
    let moved = exprs.into_iter().map(|expr| {
        let moved = expr.transform_up(|each| match &each {
            Expr::Column(column) => {
                Ok(below(column).map_or_else(|| Transformed::no(each.clone()), Transformed::yes))
            }
            _ => Ok(Transformed::no(each)),
        });
        moved.map(|moved| moved.data)
    });
    moved.collect()
}

/// Those that are computed of one side alone.
fn of_side(exprs: impl IntoIterator<Item = Expr>, schema: &DFSchema) -> Vec<Expr> {
    exprs.into_iter().filter(|expr| is_of(expr, schema)).collect()
}

fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    expr.column_refs().into_iter().all(|column| schema.maybe_index_of_column(column).is_some())
}

fn looked_at(window: &Window) -> Vec<Expr> {
    let mut found = vec![];
    for expr in &window.window_expr {
        if let Expr::WindowFunction(function) = expr.clone().unalias() {
            let params = function.params;
            found.extend(params.args.into_iter().chain(params.partition_by));
            found.extend(params.order_by.into_iter().map(|order| order.expr));
        }
    }
    found
}

/// What an ON compares of one side, each behind the conditions that are of that side alone.
fn of_on(join: &Join, schema: &DFSchema) -> PlannerResult<Vec<Expr>> {
    let conditions: Vec<&Expr> = join.filter.iter().flat_map(split_conjunction).collect();
    let (own, others): (Vec<&Expr>, Vec<&Expr>) =
        conditions.into_iter().partition(|condition| is_of(condition, schema));
    let compared = others.into_iter().flat_map(|condition| match condition {
        Expr::BinaryExpr(it) if it.op.supports_propagation() => vec![it.left.as_ref(), it.right.as_ref()],
        Expr::Between(it) => vec![it.expr.as_ref(), it.low.as_ref(), it.high.as_ref()],
        _ => vec![],
    });
    let guard = conjunction(own.into_iter().cloned());
    let mut found = vec![];
    for expr in compared.filter(|expr| is_of(expr, schema)) {
        if may_fail(expr, schema)? {
            found.push(match &guard {
                Some(guard) => guard.clone().and(takes(vec![expr.clone()])),
                None => expr.clone(),
            });
        }
    }
    Ok(found)
}

/// Whether there may be a row that it can't be computed of. What it looks up elsewhere is not asked.
fn may_fail(expr: &Expr, schema: &DFSchema) -> PlannerResult<bool> {
    let (mut fails, mut elsewhere) = (false, false);
    expr.apply(|each| {
        match each {
            Expr::ScalarFunction(_) => fails = true,
            Expr::BinaryExpr(it) => fails |= op_may_fail(it.op),
            Expr::Cast(cast) => fails |= !is_wider(&cast.expr.get_type(schema)?, cast.field.data_type()),
            Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..) => elsewhere = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(fails && !elsewhere)
}

/// Patterns need not compile, and times and lengths of time may add up to what is none.
fn op_may_fail(op: Operator) -> bool {
    use Operator::{
        Divide, Minus, Modulo, Multiply, Plus, RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch,
    };
    matches!(
        op,
        Plus | Minus | Multiply | Divide | Modulo | RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch
    )
}

/// A cast that no value fails.
fn is_wider(from: &DataType, to: &DataType) -> bool {
    match to {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Float64 => from.is_numeric(),
        DataType::Int64 => from.is_signed_integer(),
        _ => from == to,
    }
}

/// True of each row of which the expressions can be computed; of the others they fail.
fn takes(exprs: Vec<Expr>) -> Expr {
    let signature = Signature::variadic_any(Volatility::Immutable);
    ScalarUDF::from(Takes { signature }).call(exprs)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Takes {
    signature: Signature,
}

impl ScalarUDFImpl for Takes {
    fn name(&self) -> &str {
        "takes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlannerResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> PlannerResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
    }
}
