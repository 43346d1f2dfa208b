//! What the server asks of whoever plans and runs statements, and how refusals become gRPC codes.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use thalweg_engine::ErrorKind;
use thalweg_sql::session::SessionLimits;
use thalweg_sql::travel::{Encoded, Form};
use tonic::Status;

/// gRPC sends the message in a header, and clients cap headers at 8 KiB after percent-encoding.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Plans and runs statements. One backend serves all connections.
#[async_trait::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The catalog and schema in which unqualified names are looked up when the client has chosen none.
    fn defaults(&self) -> Scope;

    /// Plans a statement and changes nothing. With `parameters` (one row, by position) the types are exact.
    async fn prepare(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<Prepared, Refusal>;

    /// Runs a statement. Dropping the stream of an answer stops the query. What comes encoded has the form that is asked for.
    async fn execute(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
        form: &Form,
    ) -> Result<Answer, Refusal>;

    /// What a statement sets of its session, by name, if that is what it does.
    fn setting(&self, _sql: &str) -> Result<Option<(String, String)>, Refusal> {
        Ok(None)
    }

    /// Every (catalog, schema) there is, those without tables too.
    async fn schemas(&self) -> Result<Vec<(String, String)>, Refusal>;

    /// Every table there is.
    async fn tables(&self) -> Result<Vec<Table>, Refusal>;

    /// What to tell a client whose query failed while its rows were flowing.
    fn explain(&self, error: DataFusionError) -> Refusal;
}

/// Where unqualified names are looked up, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub catalog: String,
    pub schema: String,
    /// What the client calls itself; for people who look at running queries.
    pub client: Option<String>,
    pub limits: SessionLimits,
}

/// A statement that has been planned.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The columns of the answer; `None` for a statement that answers with a message (DDL).
    pub rows: Option<SchemaRef>,
    /// One field per parameter, in order; of type `Null` where the type is not known.
    pub parameters: SchemaRef,
}

pub enum Answer {
    Rows(SendableRecordBatchStream),
    /// With the columns as they were planned.
    Encoded {
        planned: SchemaRef,
        messages: BoxStream<'static, Result<Encoded, Refusal>>,
    },
    Done(String),
}

#[derive(Debug, Clone)]
pub struct Table {
    pub catalog: String,
    pub schema: String,
    pub name: String,
    /// `TABLE`, `VIEW` or `SYSTEM TABLE`.
    pub kind: String,
    pub columns: SchemaRef,
}

/// Why a statement was not run, or failed, in words for the person who wrote it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: ErrorKind,
    pub message: String,
}

impl Refusal {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Refusal { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Refusal::new(ErrorKind::Invalid, message)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let message = shortened(refusal.message);
        match refusal.kind {
            ErrorKind::Invalid => Status::invalid_argument(message),
            ErrorKind::BadData => Status::data_loss(message),
            ErrorKind::Unavailable => Status::unavailable(message),
            ErrorKind::Fenced => Status::aborted(message),
            ErrorKind::Internal => Status::internal(message),
            ErrorKind::Stopped => Status::cancelled(message),
        }
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str(" …");
    }
    message
}
