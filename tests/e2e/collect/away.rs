//! The first seconds without Kafka: nobody waits for what is known never to have left, and nothing that was taken meanwhile is
//! late for its window.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use hyper::StatusCode;
use serde_json::json;
use thalweg_tests::servers::Kafka;
use tokio::time::{Instant, sleep};

use super::{WITHIN, topic, waiting};
use crate::asking::post;
use crate::place::Place;

const SENDERS: u64 = 24;
/// An answer takes half a second until Kafka counts as away, and the sync of the spool; five would be those of a producer that
/// waits for its broker.
const ANSWER_MAX: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Senders {
    next: AtomicU64,
    taken: AtomicU64,
    unsure: AtomicU64,
    slowest_micros: AtomicU64,
    is_over: AtomicBool,
}

impl Senders {
    async fn send(self: Arc<Self>, address: String, user: u64) -> Result<()> {
        while !self.is_over.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let at = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
            let body = json!({ "user_id": format!("u{user}"), "at": at, "n": n }).to_string();
            let begun = Instant::now();
            let answer = post(&address, "/api/events", "application/json", &body).await?;
            let took = u64::try_from(begun.elapsed().as_micros())?;
            self.slowest_micros.fetch_max(took, Ordering::Relaxed);
            match answer.status {
                StatusCode::ACCEPTED => self.taken.fetch_add(1, Ordering::Relaxed),
                StatusCode::SERVICE_UNAVAILABLE => self.unsure.fetch_add(1, Ordering::Relaxed),
                _ => anyhow::bail!("{}: {:?}", answer.status, answer.body),
            };
            sleep(Duration::from_millis(4)).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_long_for_a_broker_that_dies_and_nothing_is_late() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    topic(&kafka, "first").await?;
    let script = format!(
        "CREATE STREAM clicks (user_id STRING, at TIMESTAMP(3), n INT, WATERMARK FOR at AS at - INTERVAL '5' SECOND)
         WITH (connector = 'kafka', brokers = '{}', topic = 'first');
         CREATE MATERIALIZED VIEW clicked AS SELECT * FROM clicks;
         CREATE MATERIALIZED VIEW by_second AS SELECT window_start, window_end, count(*) AS events
         FROM TUMBLE(clicks, at, INTERVAL '1 second') GROUP BY window_start, window_end;
         CREATE ENDPOINT '/api/events' INTO clicks WITH (key = 'user_id');",
        kafka.bootstrap
    );
    let place = Place::folder(&script, &["--http", "127.0.0.1:0"])?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    let senders = Arc::new(Senders::default());
    let sending: Vec<_> =
        (0..SENDERS).map(|user| tokio::spawn(Arc::clone(&senders).send(address.to_owned(), user))).collect();
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows > 200).await?;
    // Long enough for what was kept for five seconds to come behind what is that much younger.
    kafka.kill()?;
    sleep(Duration::from_secs(9)).await;
    ensure!(waiting(address).await? > 100.0, "little waits");
    let broker = Arc::clone(&kafka);
    tokio::task::spawn_blocking(move || broker.start_again()).await??;
    let begun = Instant::now();
    while waiting(address).await? > 0.0 {
        ensure!(begun.elapsed() < WITHIN, "something waits in the spool");
        sleep(Duration::from_millis(50)).await;
    }
    senders.is_over.store(true, Ordering::Relaxed);
    for sender in sending {
        sender.await??;
    }
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let slowest = Duration::from_micros(count(&senders.slowest_micros));
    let (taken, unsure) = (count(&senders.taken), count(&senders.unsure));
    println!("{taken} taken, {unsure} unsure, the slowest answer took {slowest:?}");
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows as u64 >= taken).await?;
    // The ledger: each row is in its window, or is told to be late.
    let rows = instance.number("SELECT count(*) FROM clicked").await?;
    let late = "SELECT coalesce(sum(records), 0) FROM system.late_rows WHERE view = 'by_second'";
    let counted = format!("SELECT coalesce(sum(events), 0) + ({late}) FROM by_second");
    instance.until(&counted, WITHIN, |counted| counted == rows).await?;
    assert_eq!(instance.number(late).await?, 0, "rows that were late");
    ensure!(rows as u64 <= taken + unsure, "{rows} rows of {taken} and {unsure}");
    ensure!(slowest < ANSWER_MAX, "an answer took {slowest:?}");
    instance.terminate().await
}
