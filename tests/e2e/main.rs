//! End-to-end tests against real servers, in one binary, for linking it takes longer than running it.

mod source_files;
mod source_kafka;
