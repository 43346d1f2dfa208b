//! Text to plan: the dialect, the statements, and streams and views as the engine runs them.
//!
//! The modules follow a statement: `parse` reads it, `plan` turns it into an [`engine`](thalweg_engine::spec) spec.
//! Nothing here opens a socket or knows Kafka.

pub mod error;
pub mod parse;
pub mod plan;

pub use error::{Error, Position, Result};
