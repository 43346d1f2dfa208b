//! Moves rows: from a source, through decoding and the lower halves of all views, into panes of partial aggregates,
//! through checkpoints into Parquet, and into snapshots that readers pin.
//!
//! The modules are listed in the order in which a row meets them. The engine never sees SQL text, gRPC or flags: it is
//! given plans as plain values (`spec`) and components (clock, object store) by its caller.

pub mod error;
pub mod ids;
pub mod spec;

pub mod checkpoint;
pub mod collect;
pub mod decode;
pub mod job;
pub mod lookup;
pub mod sink;
pub mod source;
pub mod view;

pub mod clock;
pub mod inspect;
pub mod memory;
pub mod mirror;
pub mod secrets;
pub mod snapshot;
pub mod status;

pub use error::{Error, ErrorKind, Result};
