//! What takes the place of a window below the aggregate: rows marked with the bounds of their pane (a pane is shared by
//! all windows that overlap it), or, where something there looks at the window, one row for each of its windows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use thalweg_engine::spec::LAST_INSTANT;

use super::functions::{bounds_of_mark, pane_end, pane_start, shift, window_marks};
use super::node::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowNode};

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
    let end = shift(window.time.clone(), window.layout.longest());
    marked(window, window.time.clone(), end)
}

fn rows_per_pane(window: &WindowNode) -> Result<LogicalPlan> {
    let start = pane_start(window.time.clone(), window.layout);
    let end = pane_end(start.clone(), window.layout);
    marked(window, start, end)
}

fn marked(window: &WindowNode, start: Expr, end: Expr) -> Result<LogicalPlan> {
    let last = last_instant(window, end.clone());
    let bounds = [start.alias(WINDOW_START), end.alias(WINDOW_END)];
    let columns = columns_of(window).into_iter().chain(bounds).chain(last);
    LogicalPlanBuilder::from(window.input.clone()).project(columns.collect::<Vec<_>>())?.build()
}

fn rows_per_window(window: &WindowNode) -> Result<LogicalPlan> {
    let columns = columns_of(window);
    let marks = window_marks(window.time.clone(), window.layout).alias(WINDOW_START);
    let mark = Column::new_unqualified(WINDOW_START);
    let (start, end) = bounds_of_mark(Expr::Column(mark.clone()), window.layout);
    let last = last_instant(window, end.clone());
    let with_marks = columns.iter().cloned().chain([marks]).collect::<Vec<_>>();
    let bounds = [start.alias(WINDOW_START), end.alias(WINDOW_END)];
    let with_both = columns.into_iter().chain(bounds).chain(last).collect::<Vec<_>>();
    LogicalPlanBuilder::from(Arc::new(window.input.clone()))
        .project(with_marks)?
        .unnest_column(mark)?
        .project(with_both)?
        .build()
}
