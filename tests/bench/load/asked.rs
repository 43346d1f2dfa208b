//! Clients that ask the same statement again and again, each on a connection of its own: how many are answered a second, how
//! long that takes, and how many are not. With a rate a question has an instant at which it is due, whatever became of those
//! before, and its time counts from then, up to a second's worth of questions behind.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::client::{Client, connect, ticket};
use crate::times::Times;

#[derive(clap::Args)]
pub struct Ask {
    /// The server, such as 127.0.0.1:50051
    #[arg(long)]
    connect: String,
    /// Asked in turn where there are several
    #[arg(long, required = true)]
    sql: Vec<String>,
    #[arg(long, default_value_t = 1)]
    clients: u32,
    /// Of each client, in questions a second; without it the next comes when the last is answered
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Not counted
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
}

#[derive(Default)]
struct Seen {
    times: Times,
    failed: u64,
    reason: Option<String>,
}

pub async fn run(ask: Ask) -> Result<()> {
    let counted = Instant::now() + Duration::from_secs(ask.warm_up);
    let end = counted + Duration::from_secs(ask.seconds);
    let mut asking = vec![];
    for number in 0..ask.clients {
        let client = connect(&ask.connect).await?;
        let each = ask.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        // Not all at one instant.
        let first =
            Instant::now() + each.unwrap_or_default().mul_f64(f64::from(number) / f64::from(ask.clients));
        asking.push(tokio::spawn(one(client, ask.sql.clone(), each, first, (counted, end))));
    }
    let mut all = Seen::default();
    for one in asking {
        let seen = one.await?;
        all.times.add_all(&seen.times);
        all.failed += seen.failed;
        all.reason = all.reason.or(seen.reason);
    }
    let per_second = all.times.count() as f64 / ask.seconds as f64;
    let reason = all.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    println!(
        "{} clients: {per_second:.0} statements/s, {}, {} failed{reason}",
        ask.clients,
        all.times.told(),
        all.failed
    );
    Ok(())
}

async fn one(
    mut client: Client,
    statements: Vec<String>,
    each: Option<Duration>,
    first: Instant,
    (counted, end): (Instant, Instant),
) -> Seen {
    let mut seen = Seen::default();
    let mut due = first;
    for sql in statements.iter().cycle() {
        if each.is_some() {
            tokio::time::sleep_until(due).await;
        }
        let begun = if each.is_some() { due } else { Instant::now() };
        if begun >= end {
            break;
        }
        let outcome = answered(&mut client, sql.clone()).await;
        if begun >= counted {
            match outcome {
                Ok(()) => seen.times.add(begun.elapsed()),
                Err(error) => {
                    seen.failed += 1;
                    seen.reason.get_or_insert_with(|| format!("{error:#}").chars().take(200).collect());
                }
            }
        }
        if let Some(each) = each {
            // Who is far behind leaves out what nobody waits for any more.
            due = (due + each).max(Instant::now() - Duration::from_secs(1));
        }
    }
    seen
}

async fn answered(client: &mut Client, sql: String) -> Result<()> {
    let ticket = ticket(client, sql).await?;
    let mut rows = client.inner_mut().do_get(ticket).await?.into_inner();
    while rows.message().await?.is_some() {}
    Ok(())
}
