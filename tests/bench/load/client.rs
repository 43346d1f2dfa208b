//! A client of Flight SQL.

use anyhow::{Context, Result};
use arrow_flight::Ticket;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use tonic::transport::{Channel, Endpoint};

pub type Client = FlightSqlServiceClient<Channel>;

pub async fn connect(address: &str) -> Result<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    let service = FlightServiceClient::new(endpoint.connect().await?);
    Ok(FlightSqlServiceClient::new_from_inner(service))
}

/// For the rows of a statement.
pub async fn ticket(client: &mut Client, sql: String) -> Result<Ticket> {
    let info = client.execute(sql, None).await?;
    let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
    ticket.context("the statement has no rows")
}
