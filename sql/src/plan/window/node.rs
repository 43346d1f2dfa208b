//! What stands for `TUMBLE(…)` in a plan until it is known how rows are shared: its input's columns, then
//! `window_start` and `window_end`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use thalweg_engine::ids::Micros;

use crate::error::Position;
use crate::plan::column_type::moment;

pub(crate) const WINDOW_START: &str = "window_start";
pub(crate) const WINDOW_END: &str = "window_end";

/// Windows of `size` every `slide`, aligned to the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WindowLength {
    pub size: Micros,
    pub slide: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowNode {
    pub input: LogicalPlan,
    /// The column of the descriptor.
    pub time: Expr,
    pub length: WindowLength,
    /// Where the function stands in the text.
    pub position: Option<Position>,
    pub schema: DFSchemaRef,
}

impl WindowNode {
    pub fn try_new(
        input: LogicalPlan,
        time: Expr,
        length: WindowLength,
        position: Option<Position>,
    ) -> Result<WindowNode> {
        let mut fields: Vec<_> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for name in [WINDOW_START, WINDOW_END] {
            fields.push((None, Arc::new(Field::new(name, moment(), true))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(WindowNode { input, time, length, position, schema: Arc::new(schema) })
    }
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.time.clone()]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WindowLength { size, slide } = self.length;
        write!(f, "Window: time={}, size={size}µs, slide={slide}µs", self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(time), Some(input)) => WindowNode::try_new(input, time, self.length, self.position),
            _ => plan_err!("a window has one input and one time"),
        }
    }
}
