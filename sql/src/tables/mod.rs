//! The tables of one statement, over one pinned snapshot.
//!
//! Owns: catalog `thalweg` with its schemas `public`, `live`, `history` and `system`; how a view's three parts (Parquet,
//! tail, open windows) are scanned as one table; the columns of `system.*`.
//! Leaves to others: planning and running queries (`session`), making snapshots (the engine).
//! Invariant: everything a statement reads comes from the [`Pinned`] it was given, so that two scans of one statement
//! cannot see two instants.

mod catalog;
mod parquet_scan;
mod part;
mod pinned;
pub(crate) mod stamp;
mod stores;
pub mod system;
#[cfg(test)]
pub(crate) mod test_data;
pub(crate) mod waits;

pub(crate) use catalog::{CATALOG, PUBLIC, SCHEMAS, StatementCatalog};
pub(crate) use pinned::{Pinned, StatusSource};
pub(crate) use stores::PinnedStores;
