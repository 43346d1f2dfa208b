//! The Flight SQL wire: what drivers and the shell talk to.
//!
//! Owns: the mapping between Flight SQL messages and a [`Backend`] that plans and runs statements, the form in which
//! rows travel, session options, cancelling. Leaves to others: SQL (`thalweg-sql`) and where rows come from.
//!
//! A statement's life, and the module that owns each step:
//!
//! ```text
//!  client ──► service (one match per kind of call) ──► statement  plan, run, bind
//!                                                  ──► metadata   catalogs, schemas, tables, types, keys
//!                                                  ──► actions    prepare, cancel, session options
//!  client ◄── wire (types every client reads, messages of at most 2 MiB, keepalive) ◄── running (cancel)
//! ```
//!
//! The server keeps nothing between calls but what is running now and the options of each connection: a prepared
//! statement, its bound parameters and a ticket are messages that the client holds ([`handle`]). What comes in is checked
//! before it is decoded ([`untrusted`]), and connections stay below what the system lets us have ([`connections`]). Who calls before
//! there is a server is told so ([`not_yet`]).

mod actions;
mod backend;
mod bind;
mod connections;
mod database;
mod handle;
mod metadata;
mod not_yet;
mod running;
mod server;
mod service;
mod session;
mod sql_info;
mod statement;
mod untrusted;
mod wire;

pub use backend::{Answer, Backend, Prepared, Refusal, Scope, Table};
pub use not_yet::{Reason, not_yet};
pub use server::{Limits, serve};

#[cfg(test)]
mod tests;
