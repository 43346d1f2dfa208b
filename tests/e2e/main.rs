//! End-to-end tests against real servers, in one binary, for linking it takes longer than running it.

mod asking;
mod collect;
mod commit_steps;
mod create_stream;
mod failures;
mod http;
mod instance;
mod kill_loop;
mod lookups;
mod memory;
mod own_log;
mod place;
mod queries;
mod reader;
mod script;
mod scripts;
mod shop;
mod simulation;
mod soak;
mod source_files;
mod source_kafka;
mod sqllogic;
mod store_away;
mod upgrade;
mod ways;
mod zombie;
