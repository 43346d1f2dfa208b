//! Statements to specs: `CREATE STREAM` to a source with typed columns, `CREATE MATERIALIZED VIEW` to the two halves of
//! a plan.

mod column_type;
mod explain;
mod replan;
mod stream;
pub mod values;
mod view;
mod window;

pub use explain::explain;
pub use replan::replan;
pub(crate) use replan::replan_view;
pub use stream::plan_stream;
pub(crate) use stream::start as stream_start;
pub use view::plan_view;

#[cfg(test)]
mod tests;
