//! The engine's decoder without the engine: the same files, and as much around them as they need.

#![allow(clippy::duplicate_mod, reason = "the decoder's tests have the samples as modules of their own")]

#[path = "../../src/decode/mod.rs"]
pub mod decode;
pub mod fuzzing;
#[path = "../../src/decode/tests/judge.rs"]
pub mod judge;
#[path = "../../src/decode/tests/mutations.rs"]
pub mod mutations;
#[path = "../../src/decode/tests/oracle.rs"]
pub mod oracle;
#[path = "../../src/source/records.rs"]
mod records;
#[path = "../../src/decode/tests/samples.rs"]
pub mod samples;
#[path = "../../src/decode/tests/values.rs"]
pub mod values;

pub mod source {
    //! Where the decoder looks for its records.
    pub use crate::records::{Records, Span};
}

pub type Result<T> = std::result::Result<T, Error>;

/// As much of the engine's error as the decoder speaks of.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Internal(String),
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
}

#[derive(Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Invalid,
    Internal,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Invalid(_) => ErrorKind::Invalid,
            Error::Internal(_) | Error::Arrow(_) => ErrorKind::Internal,
        }
    }
}
