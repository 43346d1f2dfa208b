//! A view without a window that keeps a group only as long as rows of it come. Its rows are grouped as those of a session
//! are, by the bounds of what is known of them too; the engine finds out what belongs together, lets go what has ended, and
//! tells of each group its newest session.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{RowTime, TIME_COLUMN, ViewSpec};

use super::inputs::Known;
use super::shape::{BoundKeys, Checker};
use super::{carry, legs, syntax};
use crate::error::{Error, Result};
use crate::parse::CreateView;
use crate::plan::window::shift;

const START: &str = "__kept_start";
const END: &str = "__kept_end";

/// The plan with its one aggregate by those bounds too.
pub(super) fn by_session(
    plan: LogicalPlan,
    keep: Micros,
    create: &CreateView,
    checker: &Checker<'_>,
) -> Result<LogicalPlan> {
    let mut aggregates = vec![];
    plan.apply(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node
            && legs::is_rows(&aggregate.input)
        {
            aggregates.push(aggregate.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let [aggregate] = &aggregates[..] else {
        return Err(Error::invalid("groups that are joined can't grow old together")
            .at(syntax::place_of_query(&create.query))
            .hint(
                "leave out keep, or make a view with keep of each and join them in the query that reads them",
            ));
    };
    let rows = timed(&aggregate.input, create, checker)?;
    let time = Expr::Column(carry::time_of(&rows)?);
    let bounds = [time.clone().alias(START), shift(time, keep).alias(END)];
    let all = aggregate.input.schema().columns().into_iter().map(Expr::Column).chain(bounds);
    let rows = LogicalPlanBuilder::from(rows).project(all.collect::<Vec<_>>())?.build()?;
    let bound = |name| Expr::Column(Column::new_unqualified(name));
    let keys = carry::keys_with(&carry::keys_with(&aggregate.group_expr, bound(START)), bound(END));
    let columns = aggregate.schema.columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let by_session = Aggregate::try_new(Arc::new(rows), keys, aggregate.aggr_expr.clone())?;
    let by_session =
        LogicalPlanBuilder::from(LogicalPlan::Aggregate(by_session)).project(columns)?.build()?;
    let replaced = plan.transform_up(|node| match &node {
        LogicalPlan::Aggregate(known) if known == aggregate => Ok(Transformed::yes(by_session.clone())),
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(replaced.data)
}

/// Where the bounds lie among the columns of such an aggregate; all its other keys tell its groups apart.
pub(super) fn bounds_of(aggregate: &Aggregate) -> BoundKeys {
    let keys = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let place = |name: &str| aggregate.schema.fields().iter().position(|field| field.name() == name);
    let (start, end) = (place(START), place(END));
    let keys = (0..keys).filter(|key| ![start, end].contains(&Some(*key))).collect();
    BoundKeys { start, end, keys }
}

/// The rows with the time of each as their last column.
fn timed(rows: &LogicalPlan, create: &CreateView, checker: &Checker<'_>) -> Result<LogicalPlan> {
    let LogicalPlan::TableScan(_) = rows else {
        let inputs = rows.inputs().into_iter().map(|input| timed(input, create, checker));
        return Ok(carry::above(rows, inputs.collect::<Result<_>>()?)?);
    };
    let columns = rows.schema().columns();
    let time = match legs::known_of(rows, checker)? {
        Known::Stream(stream) => match stream.event_time {
            Some(time) => Expr::Column(columns[time.column].clone()),
            None => {
                return Err(Error::invalid(format!(
                    "stream {} has no event time, by which groups grow old",
                    stream.name
                ))
                .at(syntax::place_of_query(&create.query))
                .hint("declare a WATERMARK in its CREATE STREAM"));
            }
        },
        Known::View(view) => {
            end_of_row(view, &columns).ok_or_else(|| Error::internal("rows of a view without a window"))?
        }
    };
    let all = columns.into_iter().map(Expr::Column).chain([time.alias(TIME_COLUMN)]).collect::<Vec<_>>();
    Ok(LogicalPlanBuilder::from(rows.clone()).project(all)?.build()?)
}

/// The last instant of a view's row, or one near behind it.
fn end_of_row(view: &ViewSpec, columns: &[Column]) -> Option<Expr> {
    let find = |wanted| view.times.iter().position(|time| *time == Some(wanted));
    let column = |index: usize| Expr::Column(columns[index].clone());
    let length = view.shape.window().map_or(0, |window| window.layout.longest());
    find(RowTime::End)
        .or_else(|| find(RowTime::Last))
        .or_else(|| find(RowTime::Own))
        .map(column)
        .or_else(|| find(RowTime::Start).map(|start| shift(column(start), length)))
}
