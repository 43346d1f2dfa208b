//! Thalweg as the `sqllogictest` crate sees a database: statements over Flight SQL, rows as text.
//!
//! NULL is `NULL`, the empty text `(empty)`. Errors are what a person reads in the shell.

use std::fmt;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use async_trait::async_trait;
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, ColumnType, DBOutput};
use tonic::transport::Channel;

const ANSWER_MAX: Duration = Duration::from_secs(60);

pub struct Server(pub FlightSqlServiceClient<Channel>);

/// One letter per column of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Real,
    Decimal,
    Boolean,
    Moment,
    Date,
    /// A list, a struct, bytes.
    Other,
}

const LETTERS: [(char, Kind); 8] = [
    ('T', Kind::Text),
    ('I', Kind::Integer),
    ('R', Kind::Real),
    ('N', Kind::Decimal),
    ('B', Kind::Boolean),
    ('M', Kind::Moment),
    ('D', Kind::Date),
    ('?', Kind::Other),
];

impl ColumnType for Kind {
    fn from_char(letter: char) -> Option<Kind> {
        LETTERS.into_iter().find(|(known, _)| *known == letter).map(|(_, kind)| kind)
    }

    fn to_char(&self) -> char {
        LETTERS.into_iter().find(|(_, kind)| kind == self).map_or('?', |(letter, _)| letter)
    }
}

impl Kind {
    fn of(data_type: &DataType) -> Kind {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
            DataType::Float32 | DataType::Float64 => Kind::Real,
            DataType::Decimal128(..) | DataType::Decimal256(..) => Kind::Decimal,
            DataType::Boolean => Kind::Boolean,
            DataType::Timestamp(..) => Kind::Moment,
            DataType::Date32 => Kind::Date,
            integer if integer.is_integer() => Kind::Integer,
            _ => Kind::Other,
        }
    }
}

/// Why a statement has no answer, in the server's words.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl From<FlightError> for Refused {
    fn from(error: FlightError) -> Refused {
        match error {
            FlightError::Tonic(status) => Refused(status.message().to_owned()),
            other => Refused(other.to_string()),
        }
    }
}

#[async_trait]
impl AsyncDB for Server {
    type Error = Refused;
    type ColumnType = Kind;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, Refused> {
        let answer = tokio::time::timeout(ANSWER_MAX, self.rows(sql)).await;
        let answer = answer.map_err(|_| Refused(format!("no answer within {ANSWER_MAX:?}")))?;
        Ok(match answer? {
            Some(Table { kinds, rows }) => DBOutput::Rows { types: kinds, rows },
            None => DBOutput::StatementComplete(0),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "thalweg"
    }
}

impl Server {
    /// The rows of a query.
    pub async fn table(&mut self, sql: &str) -> Result<Table, Refused> {
        self.rows(sql).await?.ok_or(Refused("the statement has no rows".into()))
    }

    async fn rows(&mut self, sql: &str) -> Result<Option<Table>, Refused> {
        let info = self.0.execute(sql.to_owned(), None).await?;
        let Some(endpoint) = info.endpoint.first() else { return Ok(None) };
        let ticket = endpoint.ticket.clone().ok_or(Refused("the answer has no ticket".into()))?;
        let batches: Vec<RecordBatch> = self.0.do_get(ticket).await?.try_collect().await?;
        let schema = info.try_decode_schema().map_err(FlightError::from)?;
        Ok(Some(table(&schema, &batches).map_err(FlightError::from)?))
    }
}

/// Rows as text.
#[derive(Debug)]
pub struct Table {
    pub kinds: Vec<Kind>,
    pub rows: Vec<Vec<String>>,
}

pub fn table(schema: &Schema, batches: &[RecordBatch]) -> Result<Table, ArrowError> {
    let kinds = schema.fields().iter().map(|field| Kind::of(field.data_type())).collect();
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = vec![];
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|column| column.value(row).try_to_string());
            let named = |text: String| if text.is_empty() { "(empty)".into() } else { text };
            rows.push(values.map(|value| value.map(named)).collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(Table { kinds, rows })
}
