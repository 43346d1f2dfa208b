//! A snapshot in another process: what it is made of by number, each piece sent once (docs/decisions/readers.md).
//!
//! ```text
//! Snapshot ─ Teller ─► pieces that the other side lacks, then Told: lists of their numbers ─ Mirror ─► Snapshot
//! ```
//! Owns: what has a number, and for how long; how a snapshot is put together again. Leaves to others: bytes and sockets, and
//! which tables a statement reads.
//! Invariant: INV-10 holds there as it does here, for a told snapshot is one that was taken under the lock. What was not
//! asked for is named in [`Missing`], and nobody may take it for empty.

mod piece;
mod teller;
mod told;
mod whole;

pub use piece::{Head, Piece};
pub use teller::Teller;
pub use told::{Told, ToldTable, Wanted, WantedParts};
pub use whole::{Catalog, Mirror, Missing};

#[cfg(test)]
mod tests;
