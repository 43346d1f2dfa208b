//! A large answer to one client, in megabytes of Arrow a second; and a bare server of arrow-flight that has the same batches in
//! memory and sends them to whoever asks for anything, which is what there is to be compared with.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::client::{connect, ticket};

#[derive(clap::Args)]
pub struct Fetch {
    /// The server, such as 127.0.0.1:50051
    #[arg(long)]
    connect: String,
    /// Without it whatever the bare server has
    #[arg(long)]
    sql: Option<String>,
    #[arg(long, default_value_t = 5)]
    times: usize,
}

#[derive(clap::Args)]
pub struct Bare {
    /// Where the batches come from
    #[arg(long)]
    connect: String,
    #[arg(long)]
    sql: String,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Takes messages as they come; what is in them is the client's own work, and alike for both.
pub async fn fetch(fetch: Fetch) -> Result<()> {
    let mut client = connect(&fetch.connect).await?;
    let mut rates = vec![];
    for _ in 0..fetch.times {
        let begun = Instant::now();
        let ticket = match &fetch.sql {
            Some(sql) => ticket(&mut client, sql.clone()).await?,
            None => Ticket::new(vec![]),
        };
        let mut messages = client.inner_mut().do_get(ticket).await?.into_inner();
        let (mut bytes, mut count) = (0, 0);
        while let Some(message) = messages.message().await? {
            bytes += message.data_body.len();
            count += 1;
        }
        let took = begun.elapsed();
        rates.push(bytes as f64 / 1e6 / took.as_secs_f64());
        println!(
            "  {:.0} MB in {count} messages, {took:.2?}: {:.0} MB/s",
            bytes as f64 / 1e6,
            rates[rates.len() - 1]
        );
    }
    rates.sort_by(f64::total_cmp);
    println!("median {:.0} MB/s", rates.get(rates.len() / 2).context("nothing was fetched")?);
    Ok(())
}

pub async fn bare(bare: Bare) -> Result<()> {
    let mut client = connect(&bare.connect).await?;
    let ticket = ticket(&mut client, bare.sql.clone()).await?;
    let batches: Vec<RecordBatch> = client.do_get(ticket).await?.try_collect().await?;
    ensure!(!batches.is_empty(), "there are no rows");
    let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let listener = tokio::net::TcpListener::bind(bare.listen).await?;
    println!("listens on {}; {} batches, {} MB", listener.local_addr()?, batches.len(), bytes / 1_000_000);
    let service = FlightServiceServer::new(Batches(Arc::new(batches)));
    let incoming = futures::stream::unfold(listener, |listener| async move {
        let accepted =
            listener.accept().await.and_then(|(stream, _)| stream.set_nodelay(true).map(|()| stream));
        Some((accepted, listener))
    });
    tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await?;
    Ok(())
}

struct Batches(Arc<Vec<RecordBatch>>);

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn none<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("there are batches and nothing else"))
}

#[tonic::async_trait]
impl FlightService for Batches {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;
    type DoExchangeStream = Answer<FlightData>;

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let batches = Arc::clone(&self.0);
        let count = batches.len();
        let rows = futures::stream::iter((0..count).map(move |at| Ok::<_, FlightError>(batches[at].clone())));
        let messages = FlightDataEncoderBuilder::new().build(rows).map_err(Status::from);
        Ok(Response::new(messages.boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        none()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        none()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        none()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        none()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        none()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        none()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        none()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        none()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        none()
    }
}
