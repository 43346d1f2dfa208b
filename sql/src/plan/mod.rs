//! Statements to specs: `CREATE STREAM` to a source with typed columns, `CREATE MATERIALIZED VIEW` to the two halves of
//! a plan.

mod alike;
mod bounded;
mod checked;
mod column_type;
mod compared;
mod correlated;
mod dated;
mod executed;
mod explain;
mod functions;
mod interval_times;
mod named;
mod nearby;
mod not_in;
mod percentile;
mod replan;
mod stream;
mod subscribed;
mod table;
pub mod values;
mod view;
mod window;

pub(crate) use bounded::is_bounded;
pub(crate) use checked::CheckedArithmetic;
pub(crate) use column_type::{scalar_type, type_text};
pub(crate) use compared::heed_nulls_of_rows;
pub(crate) use correlated::{asks_a_query, check as check_correlated};
pub(crate) use dated::check as check_dated;
pub(crate) use executed::check as check_executed;
pub use explain::{explain, layout_text};
pub(crate) use functions::{is_of_chance, offer};
pub(crate) use named::at_name;
pub(crate) use nearby::heed_ranges;
pub(crate) use not_in::heed_nulls;
pub(crate) use replan::replan_view;
pub use replan::{replan, replan_some};
pub use stream::plan_stream;
pub(crate) use stream::{check_format, properties, required, start as stream_start};
pub(crate) use subscribed::{CARRIED, RowByRow, carrying};
pub use table::plan_table;
pub(crate) use values::moment;
pub(crate) use view::place_of_query;
pub(crate) use view::strain;
pub use view::{Inputs, columns_of, plan_view, relations};

#[cfg(test)]
mod tests;
