//! Statements to specs: `CREATE STREAM` to a source with typed columns, `CREATE MATERIALIZED VIEW` to the two halves of
//! a plan.

mod column_type;
mod explain;
mod fingerprint;
mod stream;
mod values;
mod view;
mod window;

pub use explain::explain;
pub use stream::plan_stream;
pub use view::plan_view;

#[cfg(test)]
mod tests;
