//! What the two sides say to each other. Both are of the same binary, so there are no versions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thalweg_engine::ErrorKind;
use thalweg_engine::mirror::{Head, Told};
use thalweg_sql::session::What;
use thalweg_sql::{Error, Position};
use uuid::Uuid;

/// The first message of a connection says what it is for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Hello {
    Control,
    /// With the values of parameters, the advertised schema, tables of `system`, and rows, as far as they are there.
    Statement(Box<Request>),
}

/// Over the one connection that keeps an order.
#[derive(Debug, Serialize, Deserialize)]
pub enum Control {
    /// With the columns of each view.
    Catalog(Catalog),
    /// With its batches.
    Piece {
        number: u64,
        head: Head,
    },
    Snapshot {
        number: u64,
        told: Box<Told>,
    },
    /// No statement sees these any more.
    Release(Vec<u64>),
    /// No snapshot will name these again.
    Forget(Vec<u64>),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub streams: Vec<Entry>,
    pub tables: Vec<Entry>,
    pub views: Vec<Entry>,
    pub kept: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: Uuid,
    pub name: String,
    pub sql: String,
    /// What a view reads.
    pub inputs: Vec<String>,
    pub fingerprint: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub number: u64,
    pub snapshot: u64,
    pub what: Text,
    pub schema: String,
    pub has_values: bool,
    pub memory_bytes: Option<usize>,
    /// Otherwise it is planned and no more.
    pub run: Option<Run>,
    pub facts: Vec<String>,
    /// The last of the byte strings is of rows that others are made of.
    pub has_rows: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub has_schema: bool,
    pub compression: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Text {
    Statement(String),
    Endpoint { path: String, sql: String },
    View(String),
    Rehearsal(String),
    RowByRow { text: String, given: Vec<(String, String)> },
}

impl From<What> for Text {
    fn from(what: What) -> Text {
        match what {
            What::Statement(text) => Text::Statement(text),
            What::Endpoint { path, sql } => Text::Endpoint { path, sql },
            What::View(text) => Text::View(text),
            What::Rehearsal(text) => Text::Rehearsal(text),
            What::RowByRow { text, given } => Text::RowByRow { text, given },
        }
    }
}

impl From<Text> for What {
    fn from(text: Text) -> What {
        match text {
            Text::Statement(text) => What::Statement(text),
            Text::Endpoint { path, sql } => What::Endpoint { path, sql },
            Text::View(text) => What::View(text),
            Text::Rehearsal(text) => What::Rehearsal(text),
            Text::RowByRow { text, given } => What::RowByRow { text, given },
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// With the columns of the answer and those of its parameters.
    Prepared,
    /// With the columns as they were planned, and as they come.
    Started {
        reads: Option<BTreeSet<String>>,
        /// Open rows are finished as it goes on; else they are.
        finishes: bool,
    },
    /// With the two halves of an IPC message.
    Rows(u64),
    End,
    Rehearsed,
    /// Of which view; with the rows.
    Made(String),
    Failed(Failed),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failed {
    kind: u8,
    message: String,
    position: Option<(u64, u64)>,
    detail: Option<String>,
    hint: Option<String>,
}

const KINDS: [ErrorKind; 6] = [
    ErrorKind::Invalid,
    ErrorKind::BadData,
    ErrorKind::Unavailable,
    ErrorKind::Fenced,
    ErrorKind::Stopped,
    ErrorKind::Internal,
];

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        let kind = KINDS.iter().position(|kind| *kind == error.kind).unwrap_or(KINDS.len() - 1);
        Failed {
            kind: kind as u8,
            message: error.message,
            position: error.position.map(|at| (at.line, at.column)),
            detail: error.detail,
            hint: error.hint,
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Error {
        Error {
            kind: KINDS.get(usize::from(failed.kind)).copied().unwrap_or(ErrorKind::Internal),
            message: failed.message,
            position: failed.position.map(|(line, column)| Position { line, column }),
            detail: failed.detail,
            hint: failed.hint,
        }
    }
}
