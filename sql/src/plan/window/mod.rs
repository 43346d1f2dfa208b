//! TUMBLE, HOP, CUMULATE and SESSION: how they are read in a query (`relation`), what stands for them in a plan (`node`), what takes its
//! place below an aggregate (`panes`), and the functions that compute panes (`functions`).

mod functions;
mod node;
mod panes;
mod relation;

pub(super) use functions::{canonical_float, is_canonical_float, shift, start_of_end};
pub(super) use node::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowNode};
pub(super) use panes::resolve;
pub(super) use relation::WindowFunctions;
