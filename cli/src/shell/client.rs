//! The server as the shell sees it: run a statement, list the tables.

use std::error::Error;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Schema;
use arrow_flight::IpcMessage;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::CommandGetTables;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Client(FlightSqlServiceClient<Channel>);

pub enum Answer {
    Rows(Box<FlightRecordBatchStream>),
    Done(String),
}

#[derive(Debug, Clone)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub kind: String,
    pub columns: Schema,
}

impl Client {
    pub async fn connect(address: &str) -> Result<Client, String> {
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url)
            .map_err(|_| format!("\"{address}\" is not an address; it should look like 127.0.0.1:50051"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("thalweg-sql/", env!("CARGO_PKG_VERSION")))
            .expect("the name is a legal header");
        let channel = endpoint.connect().await.map_err(|error| unreachable(address, &error))?;
        let service = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Client(FlightSqlServiceClient::new_from_inner(service)))
    }

    /// Runs one statement. Dropping the rows stops the query.
    pub async fn run(&mut self, sql: &str) -> Result<Answer, String> {
        let info = self.0.execute(sql.to_owned(), None).await.map_err(message)?;
        let Some(endpoint) = info.endpoint.into_iter().next() else {
            return Ok(Answer::Done(String::from_utf8_lossy(&info.app_metadata).into_owned()));
        };
        let ticket = endpoint.ticket.ok_or("the server sent an endpoint without a ticket")?;
        let rows = self.0.do_get(ticket).await.map_err(message)?;
        Ok(Answer::Rows(Box::new(rows)))
    }

    pub async fn tables(&mut self) -> Result<Vec<Table>, String> {
        let all = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
        let info = self.0.get_tables(all).await.map_err(message)?;
        let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
        let ticket = ticket.ok_or("the server sent no ticket for its tables")?;
        let batches: Vec<_> =
            self.0.do_get(ticket).await.map_err(message)?.try_collect().await.map_err(message)?;
        let mut tables = Vec::new();
        for batch in &batches {
            let text =
                |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
            let schemas = batch.column(4).as_binary::<i32>();
            for row in 0..schemas.len() {
                let bytes = schemas.value(row).to_vec();
                let columns =
                    Schema::try_from(IpcMessage(bytes.into())).map_err(|error| error.to_string())?;
                tables.push(Table { schema: text(1, row), name: text(2, row), kind: text(3, row), columns });
            }
        }
        Ok(tables)
    }

    /// The first column of a statement's rows; nothing if the server refuses it.
    pub async fn names(&mut self, sql: &str) -> Vec<String> {
        let Ok(Answer::Rows(rows)) = self.run(sql).await else { return Vec::new() };
        let batches: Vec<_> = rows.try_collect().await.unwrap_or_default();
        batches
            .iter()
            .filter_map(|batch| batch.column(0).as_string_opt::<i32>())
            .flat_map(|names| names.iter().flatten().map(str::to_owned))
            .collect()
    }
}

/// What a person should read of an error of the client library.
pub fn message(error: FlightError) -> String {
    match error {
        FlightError::Tonic(status)
            if status.code() == tonic::Code::Unavailable && status.source().is_some() =>
        {
            format!("the server has gone away: {}", status.message())
        }
        // So a line that is cut in the middle of an answer is told, as an error of the protocol.
        FlightError::Tonic(status) if status.message().contains("error reading a body from connection") => {
            "the server has gone away in the middle of its answer".to_owned()
        }
        FlightError::Tonic(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

fn unreachable(address: &str, error: &tonic::transport::Error) -> String {
    let mut reason = error.to_string();
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    format!(
        "cannot reach a server at {address}: {reason}\n\
         Start one with `thalweg demo` or `thalweg serve`, or name another with --connect HOST:PORT."
    )
}
