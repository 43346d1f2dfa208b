//! What takes the place of a window below the aggregate: rows marked with the bounds of their pane (a pane is shared by
//! all windows that overlap it), or, where something there looks at the window, one row for each of its windows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_engine::ids::Micros;

use super::functions::{pane_start, shift, window_starts};
use super::node::{WINDOW_END, WINDOW_START, WindowLength, WindowNode};

/// The longest slice of time that every window is made of whole ones.
pub(crate) fn pane_length(length: WindowLength) -> Micros {
    let (mut a, mut b) = (length.size, length.slide);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Replaces each window of the plan.
pub(crate) fn resolve(plan: LogicalPlan, expanded: bool) -> Result<LogicalPlan> {
    let resolved = plan.transform_up(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        let Some(window) = extension.node.as_any().downcast_ref::<WindowNode>() else {
            return Ok(Transformed::no(node));
        };
        let replacement = if expanded { rows_per_window(window)? } else { rows_per_pane(window)? };
        Ok(Transformed::yes(replacement))
    })?;
    Ok(resolved.data)
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

fn rows_per_pane(window: &WindowNode) -> Result<LogicalPlan> {
    let pane = pane_length(window.length);
    let start = pane_start(window.time.clone(), pane);
    let end = shift(start.clone(), pane);
    let columns =
        columns_of(&window.input).into_iter().chain([start.alias(WINDOW_START), end.alias(WINDOW_END)]);
    LogicalPlanBuilder::from(window.input.clone()).project(columns.collect::<Vec<_>>())?.build()
}

fn rows_per_window(window: &WindowNode) -> Result<LogicalPlan> {
    let WindowLength { size, slide } = window.length;
    let columns = columns_of(&window.input);
    let starts = window_starts(window.time.clone(), size, slide).alias(WINDOW_START);
    let start = Column::new_unqualified(WINDOW_START);
    let end = shift(Expr::Column(start.clone()), size).alias(WINDOW_END);
    let with_starts = columns.iter().cloned().chain([starts]).collect::<Vec<_>>();
    let with_both = columns.into_iter().chain([Expr::Column(start.clone()), end]).collect::<Vec<_>>();
    LogicalPlanBuilder::from(Arc::new(window.input.clone()))
        .project(with_starts)?
        .unnest_column(start)?
        .project(with_both)?
        .build()
}
