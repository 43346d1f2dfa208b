//! Clicks from many connections: how many were taken, and how long each waited for its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;
use url::Url;

use crate::http::{Connection, target};
use crate::times::Times;

#[derive(clap::Args)]
pub struct Events {
    /// Such as http://127.0.0.1:8080/api/events
    #[arg(long)]
    to: Url,
    /// Events a second over all connections; without it, as fast as they are answered
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Events of one request
    #[arg(long, default_value_t = 1)]
    batch: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Not counted
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Tells the figures of each second besides
    #[arg(long)]
    each_second: bool,
}

#[derive(Default)]
struct Seen {
    times: Times,
    by_status: BTreeMap<u16, u64>,
    broken: u64,
    /// Answers by the second in which they came, with the longest.
    seconds: BTreeMap<u64, (u64, Duration)>,
}

pub async fn run(events: Events) -> Result<()> {
    let (host, path) = target(&events.to)?;
    let begin = Instant::now() + Duration::from_millis(500);
    let counted = begin + Duration::from_secs(events.warm_up);
    let end = counted + Duration::from_secs(events.seconds);
    let connections: Vec<_> = (0..events.connections)
        .map(|number| {
            let client = Client {
                number,
                host: host.clone(),
                path: path.clone(),
                batch: events.batch,
                every: events
                    .rate
                    .map(|rate| Duration::from_secs_f64(f64::from(events.connections * events.batch) / rate)),
                begin,
                counted,
                end,
            };
            tokio::spawn(client.run())
        })
        .collect();
    let mut all = Seen::default();
    for connection in connections {
        let seen = connection.await?;
        all.times.add_all(&seen.times);
        all.broken += seen.broken;
        seen.by_status.iter().for_each(|(status, count)| *all.by_status.entry(*status).or_default() += count);
        for (second, (count, longest)) in seen.seconds {
            let sum = all.seconds.entry(second).or_default();
            *sum = (sum.0 + count, sum.1.max(longest));
        }
    }
    if events.each_second {
        for (second, (count, longest)) in &all.seconds {
            println!("second {second}: {count} answers, longest {:.0} ms", longest.as_secs_f64() * 1000.0);
        }
    }
    let per_second = (all.times.count() * u64::from(events.batch)) as f64 / events.seconds as f64;
    println!("{} requests of {} events: {per_second:.0} events/s", all.times.count(), events.batch);
    println!("{}", all.times.told());
    println!("answers {:?}, connections that broke {}", all.by_status, all.broken);
    Ok(())
}

struct Client {
    number: u32,
    host: String,
    path: String,
    batch: u32,
    /// Between two requests.
    every: Option<Duration>,
    begin: Instant,
    counted: Instant,
    end: Instant,
}

impl Client {
    async fn run(self) -> Seen {
        let mut seen = Seen::default();
        let mut connection = None;
        let mut requests = 0_u32;
        loop {
            let now = Instant::now();
            let due = match self.every {
                // The first ones are spread over the time between two.
                Some(every) => {
                    self.begin + every.mul_f64(f64::from(self.number % 997) / 997.0) + every * requests
                }
                None => now.max(self.begin),
            };
            if due >= self.end || now >= self.end {
                return seen;
            }
            tokio::time::sleep_until(due).await;
            requests += 1;
            let status = match self.ask(&mut connection, requests).await {
                Ok(status) => status,
                Err(_) => {
                    seen.broken += 1;
                    connection = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if due >= self.counted {
                let took = due.elapsed();
                seen.times.add(took);
                *seen.by_status.entry(status).or_default() += 1;
                let second = seen.seconds.entry((due - self.counted).as_secs()).or_default();
                *second = (second.0 + 1, second.1.max(took));
            }
        }
    }

    async fn ask(&self, connection: &mut Option<Connection>, request: u32) -> Result<u16> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(Connection::open(&self.host).await?),
        };
        let bodies: Vec<String> = (0..self.batch).map(|event| self.event(request, event)).collect();
        let body = bodies.join("\n");
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            self.host,
            body.len()
        );
        connection.send(request.as_bytes()).await?;
        connection.answer().await
    }

    /// As large as a click of `tracker.js`.
    fn event(&self, request: u32, event: u32) -> String {
        let number = self.number;
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        format!(
            r#"{{"event_id":"{number:08x}-{request:08x}-{event:08x}","event_type":"page_view","event_ts":"{now}","user_id":"u_{number:06}","session_id":"s_{number:08}","product_id":"sku_{:05}","price":4.54,"quantity":1,"country":"SE","device":{{"type":"tablet","os":"ios"}},"utm":{{"source":"direct"}}}}"#,
            request % 10_000
        )
    }
}
