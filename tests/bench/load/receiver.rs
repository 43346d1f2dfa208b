//! An address that takes what sinks send: how old rows are when they come. It answers each delivery with 200.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::DateTime;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ages::{Ages, Span};

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[derive(clap::Args)]
pub struct Receive {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:9999")]
    listen: String,
    #[command(flatten)]
    span: Span,
}

#[derive(Default)]
struct Seen {
    ages: Ages,
    deliveries: u64,
    rows: u64,
}

pub async fn run(receive: Receive) -> Result<()> {
    let listener = TcpListener::bind(&receive.listen).await?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let delay = receive.span.delay as i64 * 1_000_000;
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&all);
            tokio::spawn(async move {
                if let Err(error) = take(stream, delay, &seen).await {
                    eprintln!("a delivery was not understood: {error:#}");
                }
            });
        }
    });
    tokio::time::sleep(Duration::from_secs(receive.span.warm_up)).await;
    *seen.lock().expect("nothing panics with the lock held") = Seen::default();
    tokio::time::sleep(Duration::from_secs(receive.span.seconds)).await;
    let seen = seen.lock().expect("nothing panics with the lock held");
    println!("{} deliveries of {} rows in {} s", seen.deliveries, seen.rows, receive.span.seconds);
    seen.ages.tell();
    Ok(())
}

async fn take(mut stream: TcpStream, delay: i64, seen: &Mutex<Seen>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut read: Vec<u8> = vec![];
    loop {
        let begin = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let head = std::str::from_utf8(&read[..begin])?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let end = begin + length.context("a delivery has a length")?.trim().parse::<usize>()?;
        while read.len() < end {
            if stream.read_buf(&mut read).await? == 0 {
                bail!("a delivery was cut off");
            }
        }
        let delivery: Value = serde_json::from_slice(&read[begin..end])?;
        read.drain(..end);
        hear(&delivery, delay, seen)?;
        stream.write_all(TAKEN).await?;
    }
}

fn hear(delivery: &Value, delay: i64, seen: &Mutex<Seen>) -> Result<()> {
    let mut seen = seen.lock().expect("nothing panics with the lock held");
    seen.deliveries += 1;
    for row in delivery["rows"].as_array().into_iter().flatten() {
        seen.rows += 1;
        seen.ages.hear_final(instant(&row["window_end"])? + delay);
    }
    let mut heard = None;
    for change in delivery["changes"].as_array().into_iter().flatten() {
        seen.rows += 1;
        match (change["change"].as_i64(), change["final"].as_bool()) {
            (Some(1), Some(true)) => seen.ages.hear_final(instant(&change["row"]["window_end"])? + delay),
            (Some(1), _) => heard = heard.max(Some(instant(&change["row"]["newest"])?)),
            _ => {}
        }
    }
    if let Some(newest) = heard {
        seen.ages.hear(newest);
    }
    Ok(())
}

fn instant(value: &Value) -> Result<i64> {
    let text = value.as_str().context("a row has window_end and newest")?;
    Ok(DateTime::parse_from_rfc3339(text)?.timestamp_micros())
}
