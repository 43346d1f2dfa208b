//! A Flight SQL server over a few rows in memory, to try a client against: `plain_server [HOST:PORT]`.

use std::sync::Arc;

use thalweg_flight_server::{Answer, Backend, Limits, Prepared, Refusal, Scope, Table, serve};

#[path = "../src/tests/plain_backend.rs"]
mod plain_backend;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("flight sql on {}", listener.local_addr()?);
    let backend = Arc::new(plain_backend::PlainBackend::with_sales());
    serve(listener, backend, Limits::default(), async {
        tokio::signal::ctrl_c().await.ok();
    })
    .await?;
    Ok(())
}
