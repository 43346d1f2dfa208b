//! HTTP: what browsers, programs and those who watch over servers talk to.
//!
//! Owns: routes, the forms in which rows are answered, how a failure reads as JSON, limits of connections, and the names
//! of metrics. Leaves to others: SQL, sessions and the limit of running queries (`thalweg-sql`, which the Flight SQL side
//! shares), and where rows come from. Nothing here knows Kafka or gRPC.
//!
//! ```text
//!  connection ─ server (how many, how slow) ─┬─ health    whether it lives, and whether it serves
//!                                            ├─ metrics   what it counts, for Prometheus
//!                                            ├─ ask       an endpoint or a SELECT ─► rows in one of five forms, or pushed
//!                                            ├─ page      the dashboard, the shop, tracker.js: files of the binary
//!                                            └─ collect   events ─► judged as their stream does, and durable
//! ```

mod ask;
mod collect;
mod fault;
mod front;
mod health;
mod hosts;
mod metrics;
mod page;
mod patient;
mod proxies;
mod server;
mod whole;

pub use front::Front;
pub use hosts::HostName;
pub use proxies::Network;
pub use server::{Limits, serve};
