//! Statements to specs: `CREATE STREAM` to a source with typed columns, `CREATE MATERIALIZED VIEW` to the two halves of
//! a plan.

mod column_type;
mod stream;
mod values;

pub use stream::plan_stream;

#[cfg(test)]
mod tests;
