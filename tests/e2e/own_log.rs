//! Events over HTTP into a log of the server's own, without Kafka: what was answered 202 is there once, whoever is killed, a
//! log goes with its stream, and one that was exchanged is not gone on with.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::StatusCode;
use serde_json::json;

use crate::asking::{get, post};
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const FLAGS: [&str; 4] = ["--http", "127.0.0.1:0", "--epoch", "100ms"];
const SCRIPT: &str = "
CREATE STREAM clicks (
  user_id STRING, at TIMESTAMP(3), n BIGINT, part INT METADATA FROM 'partition', who STRING METADATA FROM 'key',
  WATERMARK FOR at AS at
) WITH (connector = 'log', partitions = 3);
CREATE MATERIALIZED VIEW clicked AS SELECT * FROM clicks;
CREATE MATERIALIZED VIEW per_second AS
SELECT window_start, window_end, count(*) AS n FROM TUMBLE(clicks, at, INTERVAL '1 second') GROUP BY window_start, window_end;
CREATE ENDPOINT '/api/events' INTO clicks WITH (key = 'user_id');
";

const SENDERS: u64 = 8;
const ROUNDS: u64 = 6;

fn event(user: u64, n: u64) -> String {
    json!({ "user_id": format!("u{user}"), "at": "2025-06-01T00:00:00Z", "n": n }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_202_is_there_once_whoever_is_killed() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let next = Arc::new(AtomicU64::new(0));
    let taken: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    for round in 0..ROUNDS {
        let instance = place.launch.start(&[]).await?;
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let address = instance.http().map(str::to_owned);
                let (next, taken) = (Arc::clone(&next), Arc::clone(&taken));
                tokio::spawn(async move {
                    let address = address.expect("it listens");
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        match post(&address, "/api/events", "application/json", &event(sender, n)).await {
                            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                                taken.lock().expect("no sender panics").insert(n);
                            }
                            // It listens before it has read its catalog, and says so.
                            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                            Ok(answer) => panic!("{}: {:?}", answer.status, answer.body),
                            // Killed: whether it is there nobody was told.
                            Err(_) => return,
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300 + 130 * round)).await;
        instance.kill().await?;
        for sender in senders {
            sender.await?;
        }
    }
    let instance = place.launch.start(&[]).await?;
    let taken = taken.lock().expect("no sender panics").clone();
    ensure!(taken.len() > 100, "only {} were taken", taken.len());
    let wanted = i64::try_from(taken.len())?;
    instance.until("SELECT count(DISTINCT n) FROM clicked", WITHIN, |rows| rows >= wanted).await?;
    let rows = instance.query("SELECT n FROM clicked").await?.concat();
    let numbers = rows.iter().map(|n| n.parse()).collect::<Result<Vec<u64>, _>>()?;
    let there: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(there.len(), numbers.len(), "each is there once");
    let missing: Vec<_> = taken.difference(&there).collect();
    ensure!(missing.is_empty(), "answered 202 and gone: {missing:?}");
    let counted = instance.number("SELECT sum(n) FROM per_second").await?;
    assert_eq!(counted, i64::try_from(numbers.len())?, "each was counted once");
    let users = "SELECT count(*) FROM (SELECT who FROM clicked GROUP BY who HAVING count(DISTINCT part) > 1)";
    assert_eq!(instance.number(users).await?, 0, "a key has one partition");
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_with_its_stream_and_an_exchanged_one_stops_it() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?.to_owned();
    let array = format!("[{}, {}, {}]", event(1, 1), event(2, 2), r#"{"n": "many"}"#);
    let answer = post(&address, "/api/events", "application/json", &array).await?;
    assert_eq!((answer.status, answer.json()?["taken"].clone()), (StatusCode::ACCEPTED, 2.into()));
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows == 2).await?;
    assert_eq!(instance.query("SELECT connector FROM system.streams").await?.concat(), ["log"]);
    instance.terminate().await?;

    let folder = std::path::Path::new(&place.launch.data).join("log");
    let files = || -> Result<Vec<std::path::PathBuf>> {
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let file = files()?.pop().context("a log")?;
    let kept = std::fs::read(&file)?;
    std::fs::remove_file(&file)?;
    let instance = place.launch.start(&[]).await?;
    let failed = "SELECT count(*) FROM system.streams WHERE state = 'failed'";
    instance.until(failed, WITHIN, |failed| failed == 1).await?;
    let reason = instance.query("SELECT reason FROM system.streams").await?.concat().concat();
    ensure!(reason.contains("the log does not have what comes next"), "{reason}");
    let ready = get(instance.http()?, "/health/ready", &[]).await?.json()?["degraded"].to_string();
    ensure!(ready.contains("stream clicks has failed"), "{ready}");
    instance.terminate().await?;

    std::fs::write(&file, kept)?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?.to_owned();
    post(&address, "/api/events", "application/json", &event(3, 3)).await?;
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows == 3).await?;
    instance.command("DROP ENDPOINT '/api/events'").await?;
    instance.command("DROP VIEW clicked").await?;
    instance.command("DROP VIEW per_second").await?;
    instance.command("DROP STREAM clicks").await?;
    assert_eq!(files()?.len(), 0, "the log goes with its stream");
    instance.terminate().await
}
