//! Tables that are looked up: rows by key, of files or of a compacted topic, which views join.
//!
//! ```text
//! files, topic ─ keeper (a thread) ─► Content ─ at a barrier ─► LookupExec in the plans of every view that reads it
//! ```
//! What a table holds is part of a plan: at a barrier the plans of its readers are made to hold another content, and are
//! taken up as those of a new view are (docs/decisions/tables.md). So all rows of an epoch meet one content, and so does
//! whatever a snapshot reads.
//!
//! Owns: reading a table's source, finding rows by key, and the operator. Leaves to others: when a content is taken up
//! (`job::lookups`), and which joins are lookups (`sql`).

mod bind;
mod content;
mod exec;
mod files;
mod keeper;
mod node;
mod topic;

pub use bind::Contents;
pub use content::Content;
pub use exec::LookupExec;
pub(crate) use keeper::{Keeper, News, Sources};
pub use node::{LookupNode, LookupPlanner};
