//! Readers: processes of this binary in which statements are planned and run, and can die, so that
//! none ends the engine's (INV-26; docs/decisions/readers.md).
//!
//! ```text
//! the engine's process                                        a reader
//! pool       which reader, whom to repeat, whom to refuse
//! keep       as many as there are to be, always or while they are needed
//! process    starts one, hears its last words
//! control    catalog, pieces, snapshots, in one order ──────► mirror    plans views again, puts snapshots together
//! statement  one question and its answer ◄──────────────────► answer    plans, runs, encodes; makers: rows of rows
//! alike      whose answer is another's, too
//!                                                             rooms     threads for who comes, though others keep theirs
//!                                                             crew      gives way where all of a room's are kept
//!                                                             watch     whose poll is it, and does it end
//! ```
//! Owns: processes, their sockets and their limits. Leaves to others: SQL (`thalweg-sql`), what a snapshot is made of
//! (`thalweg_engine::mirror`).

mod alike;
mod answer;
mod control;
mod crew;
mod frame;
mod ipc;
mod keep;
mod makers;
mod message;
mod mirror;
mod pool;
mod process;
mod reader;
mod rooms;
mod statement;
mod watch;

pub use crew::Crew;
pub use pool::Readers;
pub use process::Launch;
pub use reader::{Reader, serve};
pub use rooms::{Stay, Threads};
