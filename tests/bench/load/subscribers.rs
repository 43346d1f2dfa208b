//! Many who subscribe to one view over Flight SQL: how old events are when their rows come. Some of them read what they are told;
//! the others take it and look no further, for a machine that serves thousands can't be all of them, too.

use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampMicrosecondType};
use futures::TryStreamExt;
use tokio::time::Instant;

use crate::ages::{Ages, Span};
use crate::client::{Client, connect, ticket};

/// A server takes so many calls on one connection, and some more.
const CALLS: u32 = 50;
/// So many read.
const READERS: u32 = 20;

#[derive(clap::Args)]
pub struct Subscribe {
    /// The server, such as 127.0.0.1:50051
    #[arg(long)]
    connect: String,
    /// The statement; its rows have window_end and newest, when the newest of their events arrived
    #[arg(long, default_value = "SUBSCRIBE TO per_second WITH (snapshot = false)")]
    sql: String,
    #[arg(long, default_value_t = 1)]
    subscribers: u32,
    #[command(flatten)]
    span: Span,
}

#[derive(Default)]
struct Seen {
    ages: Ages,
    messages: u64,
    rows: u64,
    marks: u64,
    ended: Option<String>,
}

pub async fn run(subscribe: Subscribe) -> Result<()> {
    let counted = Instant::now() + Duration::from_secs(subscribe.span.warm_up);
    let end = counted + Duration::from_secs(subscribe.span.seconds);
    let mut subscribers = vec![];
    let mut client = None;
    for number in 0..subscribe.subscribers {
        if number % CALLS == 0 {
            client = Some(connect(&subscribe.connect).await?);
        }
        let client = client.clone().context("there is a connection")?;
        let (sql, delay) = (subscribe.sql.clone(), subscribe.span.delay as i64 * 1_000_000);
        let reads = number % (subscribe.subscribers / READERS).max(1) == 0;
        subscribers.push(tokio::spawn(async move {
            let mut seen = Seen::default();
            let outcome = match reads {
                true => tokio::time::timeout_at(end, listen(client, sql, delay, counted, &mut seen)).await,
                false => tokio::time::timeout_at(end, take(client, sql, counted, &mut seen)).await,
            };
            seen.ended = match outcome {
                Err(_) => None,
                Ok(Ok(())) => Some("the server ended it".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
            };
            seen
        }));
    }
    let mut all = Seen::default();
    let mut ended = 0;
    for subscriber in subscribers {
        let seen = subscriber.await?;
        all.ages.add_all(&seen.ages);
        all.messages += seen.messages;
        all.rows += seen.rows;
        all.marks += seen.marks;
        ended += u32::from(seen.ended.is_some());
        all.ended = all.ended.or(seen.ended);
    }
    let per_second = |count: u64| count as f64 / subscribe.span.seconds as f64;
    println!(
        "{} subscribers: {:.0} messages/s together, {:.0} rows/s and {:.0} marks/s to those who read, {ended} ended before{}",
        subscribe.subscribers,
        per_second(all.messages),
        per_second(all.rows),
        per_second(all.marks),
        all.ended.map(|reason| format!(": {reason}")).unwrap_or_default()
    );
    all.ages.tell();
    Ok(())
}

async fn take(mut client: Client, sql: String, counted: Instant, seen: &mut Seen) -> Result<()> {
    let ticket = ticket(&mut client, sql).await?;
    let mut told = client.into_inner().do_get(ticket).await?.into_inner();
    while told.message().await?.is_some() {
        seen.messages += u64::from(Instant::now() >= counted);
    }
    Ok(())
}

async fn listen(
    mut client: Client,
    sql: String,
    delay: i64,
    counted: Instant,
    seen: &mut Seen,
) -> Result<()> {
    let ticket = ticket(&mut client, sql).await?;
    let mut told = client.do_get(ticket).await?;
    while let Some(rows) = told.try_next().await? {
        if Instant::now() >= counted {
            seen.messages += 1;
            hear(&rows, delay, seen)?;
        }
    }
    Ok(())
}

fn hear(rows: &RecordBatch, delay: i64, seen: &mut Seen) -> Result<()> {
    let column = |name: &str| -> Result<&ArrayRef> {
        rows.column_by_name(name).with_context(|| format!("the rows have no column {name}"))
    };
    let instants = |name: &str| -> Result<ArrayRef> {
        Ok(cast(column(name)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?)
    };
    let (ends, newest) = (instants("window_end")?, instants("newest")?);
    let ends = ends.as_primitive::<TimestampMicrosecondType>();
    let newest = newest.as_primitive::<TimestampMicrosecondType>();
    let change = column("change")?.as_primitive::<Int32Type>();
    let is_final = column("final")?.as_boolean();
    let mut heard = None;
    for row in 0..rows.num_rows() {
        match change.value(row) {
            0 => seen.marks += 1,
            _ => seen.rows += 1,
        }
        if change.value(row) != 1 {
            continue;
        }
        if is_final.value(row) {
            seen.ages.hear_final(ends.value(row) + delay);
        } else {
            heard = heard.max(Some(newest.value(row)));
        }
    }
    if let Some(newest) = heard {
        seen.ages.hear(newest);
    }
    Ok(())
}
