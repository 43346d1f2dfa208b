//! What stands for `TUMBLE(…)` in a plan until it is known how rows are shared: its input's columns, then
//! `window_start` and `window_end`, and `window_time` where the query names it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use thalweg_engine::ids::Micros;
use thalweg_engine::spec::{Calendar, CalendarLength, Layout};

use crate::error::Position;
use crate::plan::column_type::moment;

pub(crate) const WINDOW_START: &str = "window_start";
pub(crate) const WINDOW_END: &str = "window_end";
pub(crate) const WINDOW_TIME: &str = "window_time";

/// For people.
pub(super) fn layout_text(layout: Layout) -> String {
    let from = |offset: Micros| if offset == 0 { String::new() } else { format!(", offset={offset}µs") };
    match layout {
        Layout::Hop { size, slide, offset } => format!("size={size}µs, slide={slide}µs{}", from(offset)),
        Layout::Cumulate { size, step, offset } => format!("size={size}µs, step={step}µs{}", from(offset)),
        Layout::Calendar(Calendar { length, zone }) => match length {
            CalendarLength::Days(days) => format!("{days} days of {zone}"),
            CalendarLength::Months(months) => format!("{months} months of {zone}"),
        },
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowNode {
    pub input: LogicalPlan,
    /// The column of the descriptor.
    pub time: Expr,
    /// Of sessions, windows as long as the gap.
    pub layout: Layout,
    /// Of sessions the columns of the keys by which they are told apart.
    pub session: Option<Vec<Expr>>,
    /// Whether it has a column `window_time`.
    pub with_last: bool,
    /// Where the function stands in the text.
    pub position: Option<Position>,
    pub schema: DFSchemaRef,
}

impl WindowNode {
    pub fn try_new(
        input: LogicalPlan,
        time: Expr,
        layout: Layout,
        session: Option<Vec<Expr>>,
        with_last: bool,
        position: Option<Position>,
    ) -> Result<WindowNode> {
        // A column of that name is the input's own.
        let with_last = with_last && !input.schema().has_column_with_unqualified_name(WINDOW_TIME);
        let all = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let mut fields: Vec<_> = all.filter(|(_, field)| !is_bound(field.name())).collect();
        let last = with_last.then_some(WINDOW_TIME);
        for name in [WINDOW_START, WINDOW_END].into_iter().chain(last) {
            fields.push((None, Arc::new(Field::new(name, moment(), true))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(WindowNode { input, time, layout, session, with_last, position, schema: Arc::new(schema) })
    }

    /// The columns of its input that it passes on. Bounds that these have already, those of a view, give way to its own.
    pub fn kept_columns(&self) -> Vec<usize> {
        let fields = self.input.schema().fields().iter().enumerate();
        fields.filter(|(_, field)| !is_bound(field.name())).map(|(index, _)| index).collect()
    }
}

fn is_bound(name: &str) -> bool {
    [WINDOW_START, WINDOW_END].contains(&name)
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
        std::iter::once(&self.time).chain(self.session.iter().flatten()).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.session {
            Some(_) => write!(f, "Session: time={}, gap={}µs", self.time, self.layout.longest()),
            None => write!(f, "Window: time={}, {}", self.time, layout_text(self.layout)),
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        match (exprs.next(), inputs.pop()) {
            (Some(time), Some(input)) => {
                let session = self.session.is_some().then(|| exprs.collect());
                WindowNode::try_new(input, time, self.layout, session, self.with_last, self.position)
            }
            _ => plan_err!("a window has one input and one time"),
        }
    }
}
