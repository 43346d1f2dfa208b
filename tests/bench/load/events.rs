//! Clicks from many connections: how many were taken, and how long each waited for its answer.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard};
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
    /// Tells the figures between these seconds besides: 15,75
    #[arg(long, value_delimiter = ',')]
    cuts: Vec<u64>,
}

/// Of all connections.
#[derive(Default)]
struct Seen {
    by_status: BTreeMap<u16, u64>,
    broken: u64,
    /// By the second in which they were due.
    seconds: BTreeMap<u64, Times>,
}

impl Seen {
    fn times(&self, within: impl RangeBounds<u64>) -> Times {
        let mut all = Times::default();
        self.seconds.range(within).for_each(|(_, times)| all.add_all(times));
        all
    }
}

pub async fn run(events: Events) -> Result<()> {
    let (host, path) = target(&events.to)?;
    let begin = Instant::now() + Duration::from_millis(500);
    let counted = begin + Duration::from_secs(events.warm_up);
    let end = counted + Duration::from_secs(events.seconds);
    let seen: Arc<Mutex<Seen>> = Arc::default();
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
                seen: Arc::clone(&seen),
            };
            tokio::spawn(client.run())
        })
        .collect();
    for connection in connections {
        connection.await?;
    }
    let seen = seen.lock().expect("no connection panics");
    if events.each_second {
        for (second, times) in &seen.seconds {
            println!("second {second}: {} answers, {}", times.count(), times.told());
        }
    }
    if !events.cuts.is_empty() {
        let mut from = 0;
        for to in events.cuts.iter().copied().chain([u64::MAX]) {
            let times = seen.times(from..to);
            println!("from second {from}: {} answers, {}", times.count(), times.told());
            from = to;
        }
    }
    let all = seen.times(..);
    let per_second = (all.count() * u64::from(events.batch)) as f64 / events.seconds as f64;
    println!("{} requests of {} events: {per_second:.0} events/s", all.count(), events.batch);
    println!("{}", all.told());
    println!("answers {:?}, connections that broke {}", seen.by_status, seen.broken);
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
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no connection panics")
    }

    async fn run(self) {
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
                return;
            }
            tokio::time::sleep_until(due).await;
            requests += 1;
            let status = match self.ask(&mut connection, requests).await {
                Ok(status) => status,
                Err(_) => {
                    self.seen().broken += 1;
                    connection = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if due >= self.counted {
                let took = due.elapsed();
                let mut seen = self.seen();
                *seen.by_status.entry(status).or_default() += 1;
                seen.seconds.entry((due - self.counted).as_secs()).or_default().add(took);
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
