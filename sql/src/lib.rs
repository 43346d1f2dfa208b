//! Text to plan: the dialect, the statements, and streams and views as the engine runs them; and tables to read.
//!
//! The modules follow a statement: `parse` reads it, `plan` turns it into an [`engine`](thalweg_engine::spec) spec,
//! `session` carries it out, and `tables` are what a query finds. Nothing here opens a socket or knows Kafka.

pub mod as_text;
pub mod error;
pub mod parse;
pub mod plain;
pub mod plan;
pub mod session;
pub mod tables;
pub mod travel;

pub use error::{Error, Position, Result};
