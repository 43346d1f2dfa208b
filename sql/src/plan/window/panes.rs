//! What takes the place of a window below the aggregate: rows marked with the bounds of their pane (a pane is shared by
//! all windows that overlap it), or, where something there looks at the window, one row for each of its windows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_engine::ids::Micros;

use super::functions::{pane_start, shift, window_starts};
use super::node::{LAST_INSTANT, WINDOW_END, WINDOW_START, WINDOW_TIME, WindowLength, WindowNode};

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
        let replacement = match &window.session {
            Some(_) => sessions_of_one(window)?,
            None if expanded => rows_per_window(window)?,
            None => rows_per_pane(window)?,
        };
        Ok(Transformed::yes(replacement))
    })?;
    Ok(resolved.data)
}

fn columns_of(window: &WindowNode) -> Vec<Expr> {
    let columns = window.input.schema().columns();
    window.kept_columns().into_iter().map(|index| Expr::Column(columns[index].clone())).collect()
}

fn last_instant(window: &WindowNode, end: Expr) -> Option<Expr> {
    window.with_last.then(|| shift(end, -LAST_INSTANT).alias(WINDOW_TIME))
}

/// Each row as a session of its own; the engine finds out which belong together.
fn sessions_of_one(window: &WindowNode) -> Result<LogicalPlan> {
    let end = shift(window.time.clone(), window.length.size);
    let last = last_instant(window, end.clone());
    let bounds = [window.time.clone().alias(WINDOW_START), end.alias(WINDOW_END)];
    let columns = columns_of(window).into_iter().chain(bounds).chain(last);
    LogicalPlanBuilder::from(window.input.clone()).project(columns.collect::<Vec<_>>())?.build()
}

fn rows_per_pane(window: &WindowNode) -> Result<LogicalPlan> {
    let pane = pane_length(window.length);
    let start = pane_start(window.time.clone(), pane);
    let end = shift(start.clone(), pane);
    let last = last_instant(window, end.clone());
    let bounds = [start.alias(WINDOW_START), end.alias(WINDOW_END)];
    let columns = columns_of(window).into_iter().chain(bounds).chain(last);
    LogicalPlanBuilder::from(window.input.clone()).project(columns.collect::<Vec<_>>())?.build()
}

fn rows_per_window(window: &WindowNode) -> Result<LogicalPlan> {
    let WindowLength { size, slide } = window.length;
    let columns = columns_of(window);
    let starts = window_starts(window.time.clone(), size, slide).alias(WINDOW_START);
    let start = Column::new_unqualified(WINDOW_START);
    let end = shift(Expr::Column(start.clone()), size);
    let last = last_instant(window, end.clone());
    let with_starts = columns.iter().cloned().chain([starts]).collect::<Vec<_>>();
    let bounds = [Expr::Column(start.clone()), end.alias(WINDOW_END)];
    let with_both = columns.into_iter().chain(bounds).chain(last).collect::<Vec<_>>();
    LogicalPlanBuilder::from(Arc::new(window.input.clone()))
        .project(with_starts)?
        .unnest_column(start)?
        .project(with_both)?
        .build()
}
