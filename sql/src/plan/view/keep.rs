//! A view without a window that keeps a group only as long as rows of it come: beside what is asked of a group, its newest
//! time is kept, by which it grows old.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_engine::spec::TIME_COLUMN;

use super::inputs::Known;
use super::shape::Checker;
use super::{carry, legs, syntax};
use crate::error::{Error, Result};
use crate::parse::CreateView;

const NEWEST: &str = "__newest";

/// The plan with the newest time as the last of what its one aggregate keeps.
pub(super) fn with_newest(
    plan: LogicalPlan,
    create: &CreateView,
    checker: &Checker<'_>,
) -> Result<LogicalPlan> {
    let refused = |text: &str, hint: &str| {
        Err(Error::invalid(text).at(syntax::place_of_query(&create.query)).hint(hint))
    };
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
        return refused(
            "groups of several inputs can't grow old together",
            "leave out keep, or make a view with keep of each and join them in the query that reads them",
        );
    };
    let branches = legs::branches(&aggregate.input)?;
    let [rows] = &branches[..] else {
        return refused(
            "groups of several inputs can't grow old together",
            "leave out keep, or have a view copy both streams and group the rows of that",
        );
    };
    let mut scan = rows;
    while let [input] = scan.inputs().as_slice() {
        scan = input;
    }
    let columns = scan.schema().columns();
    let time = match legs::known_of(rows, checker)? {
        Known::Stream(stream) => match stream.event_time {
            Some(time) => Expr::Column(columns[time.column].clone()),
            None => {
                return refused(
                    &format!("stream {} has no event time, by which groups grow old", stream.name),
                    "declare a WATERMARK in its CREATE STREAM",
                );
            }
        },
        Known::View(view) => legs::start_of_row(view, &columns)
            .ok_or_else(|| Error::internal("rows of a view without a window"))?,
    };
    let all = columns.into_iter().map(Expr::Column).chain([time.alias(TIME_COLUMN)]).collect::<Vec<_>>();
    let timed = LogicalPlanBuilder::from(scan.clone()).project(all)?.build()?;
    let timed = carry::carry_time(rows, scan, &timed)?;
    let newest = max(Expr::Column(carry::time_of(&timed)?)).alias(NEWEST);
    let columns = aggregate.schema.columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let asked = aggregate.aggr_expr.iter().cloned().chain([newest]).collect();
    let with_newest = Aggregate::try_new(Arc::new(timed), aggregate.group_expr.clone(), asked)?;
    let with_newest =
        LogicalPlanBuilder::from(LogicalPlan::Aggregate(with_newest)).project(columns)?.build()?;
    let replaced = plan.transform_up(|node| match &node {
        LogicalPlan::Aggregate(known) if known == aggregate => Ok(Transformed::yes(with_newest.clone())),
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(replaced.data)
}
