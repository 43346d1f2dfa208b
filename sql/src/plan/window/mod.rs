//! TUMBLE and HOP: how they are read in a query (`relation`), what stands for them in a plan (`node`), what takes its
//! place below an aggregate (`panes`), and the functions that compute panes (`functions`).

mod functions;
mod node;
mod panes;
mod relation;

pub(super) use functions::{canonical_float, shift};
pub(super) use node::{LAST_INSTANT, WINDOW_END, WINDOW_START, WINDOW_TIME, WindowLength, WindowNode};
pub(super) use panes::{pane_length, resolve};
pub(super) use relation::WindowFunctions;
