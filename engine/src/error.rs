//! What can go wrong in the engine, and what the caller should do about it.
//!
//! The text of an error is lower case, without a full stop, and names the values it speaks of. Whoever restarts
//! things looks at [`ErrorKind`] alone.

use std::any::Any;
use std::sync::Arc;

use datafusion::error::DataFusionError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the statement or the option.
    Invalid,
    /// Look at the input: it is lost, damaged, or not what was declared.
    BadData,
    /// Try again: a broker or a store did not answer.
    Unavailable,
    /// Stop: another instance owns this data now.
    Fenced,
    /// Our bug.
    Internal,
    /// Leave it: somebody has stopped it.
    Stopped,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    BadData(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Fenced(String),
    #[error("{0}")]
    Internal(String),
    #[error("a query plan failed: {}", .0.strip_backtrace())]
    Plan(Arc<DataFusionError>),
    #[error("the object store failed: {0}")]
    Store(Arc<object_store::Error>),
    #[error("a Delta table failed: {}", without_trace(&.0.to_string()))]
    Delta(Arc<deltalake_core::DeltaTableError>),
}

/// The library says where in itself an error arose, line by line.
fn without_trace(text: &str) -> &str {
    text.split_once("\n   0: ").map_or(text, |(text, _)| text)
}

impl Error {
    /// Whether the store, or another owner, is the cause: nothing that a view has done. An object that is not there is
    /// lost, however.
    pub fn is_of_store(&self) -> bool {
        match self {
            Error::Store(error) => !matches!(**error, object_store::Error::NotFound { .. }),
            // The store has answered, or there would be no error: a table is not as it should be.
            Error::Delta(_) => false,
            other => matches!(other.kind(), ErrorKind::Unavailable | ErrorKind::Fenced),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Invalid(_) => ErrorKind::Invalid,
            Error::BadData(_) => ErrorKind::BadData,
            Error::Unavailable(_) | Error::Store(_) | Error::Delta(_) => ErrorKind::Unavailable,
            Error::Fenced(_) => ErrorKind::Fenced,
            Error::Internal(_) | Error::Plan(_) => ErrorKind::Internal,
        }
    }
}

/// What went wrong in a plan, without the names of the layers that it came through.
pub fn root_text(error: &DataFusionError) -> String {
    let text = error.find_root().message();
    text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().trim_end().to_string()
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        Error::Plan(Arc::new(error))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::Plan(Arc::new(DataFusionError::from(error)))
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Error::Plan(Arc::new(DataFusionError::from(error)))
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Error::Store(Arc::new(error))
    }
}

impl From<deltalake_core::DeltaTableError> for Error {
    fn from(error: deltalake_core::DeltaTableError) -> Self {
        Error::Delta(Arc::new(error))
    }
}
