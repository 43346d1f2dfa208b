//! Many who watch one answer by server-sent events: how many answers each was told, and how far apart.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;
use url::Url;

use crate::http::{Connection, target};
use crate::times::Times;

#[derive(clap::Args)]
pub struct Watch {
    /// Such as http://127.0.0.1:8080/api/metrics/live
    #[arg(long)]
    to: Url,
    #[arg(long, default_value_t = 50)]
    watchers: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

#[derive(Default)]
struct Seen {
    apart: Times,
    bytes: u64,
    is_broken: bool,
}

pub async fn run(watch: Watch) -> Result<()> {
    let (host, path) = target(&watch.to)?;
    let end = Instant::now() + Duration::from_secs(watch.seconds);
    let watchers: Vec<_> = (0..watch.watchers)
        .map(|_| {
            let (host, path) = (host.clone(), path.clone());
            tokio::spawn(async move {
                let mut seen = Seen::default();
                let watching = watched(&host, &path, &mut seen);
                let broke = tokio::time::timeout_at(end, watching).await.ok();
                seen.is_broken = broke.is_some();
                seen
            })
        })
        .collect();
    let mut all = Seen::default();
    let mut broken = 0;
    for watcher in watchers {
        let seen = watcher.await?;
        all.apart.add_all(&seen.apart);
        all.bytes += seen.bytes;
        broken += u32::from(seen.is_broken);
    }
    let per_second = all.apart.count() as f64 / watch.seconds as f64;
    println!(
        "{} watchers: {per_second:.0} answers/s, {:.1} KiB/s, {broken} broke off",
        watch.watchers,
        all.bytes as f64 / 1024.0 / watch.seconds as f64
    );
    println!("apart: {}", all.apart.told());
    Ok(())
}

async fn watched(host: &str, path: &str, seen: &mut Seen) -> Result<()> {
    let mut connection = Connection::open(host).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n");
    connection.send(request.as_bytes()).await?;
    let status = connection.begun().await?;
    ensure!(status == 200, "answered {status}");
    let mut last: Option<Instant> = None;
    let mut tail = vec![];
    const BEGIN: &[u8] = b"event: rows";
    loop {
        let chunk = connection.chunk().await?;
        seen.bytes += chunk.len() as u64;
        tail.extend_from_slice(&chunk);
        let answers = tail.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
        // What may be the beginning of the next stays.
        tail.drain(..tail.len().saturating_sub(BEGIN.len() - 1));
        for _ in 0..answers {
            if let Some(last) = last.replace(Instant::now()) {
                seen.apart.add(last.elapsed());
            }
        }
    }
}
