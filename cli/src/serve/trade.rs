//! The demo's shop is busy before you come: clicks are made at a rate, and brought in on the way that a visitor's take.

use std::time::Duration;

use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::collect::Outgoing;
use thalweg_engine::ids::PartitionId;
use thalweg_engine::source::clicks::Clicks;
use thalweg_sql::session::Database;
use tokio::time::MissedTickBehavior;

const STREAM: &str = "clicks";
const CLICKS_PER_SECOND: f64 = 1000.0;
/// Visitors of one kind: the generator's own partitions, which are not the log's.
const CROWDS: i32 = 4;
/// Each is a commit of the log.
const EVERY: Duration = Duration::from_millis(100);
const BEFORE: Duration = Duration::from_secs(3600);
const REST: Duration = Duration::from_secs(1);

/// Until it is aborted. What happened while nobody ran is not made up for.
pub async fn trade(database: Database) {
    let clock = SystemClock::new();
    let opened = clock.wall();
    // Another start has other visitors. They have been at it for a while: a visit that begins now buys in a minute.
    let begun = opened - BEFORE.as_micros() as i64;
    let clicks = Clicks::new(opened.unsigned_abs(), CROWDS, Some(CLICKS_PER_SECOND), Some(begun));
    let mut next: Vec<i64> = (0..CROWDS).map(|crowd| clicks.first_at(PartitionId(crowd), opened)).collect();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let now = clock.wall();
        let mut due = vec![];
        for (crowd, next) in (0..).map(PartitionId).zip(&mut next) {
            while clicks.arrival(crowd, *next) <= now {
                let mut value = vec![];
                clicks.write(crowd, *next, &mut value);
                due.push(Outgoing { key: Some(clicks.key(crowd, *next)), value });
                *next += 1;
            }
        }
        let collector = database.collector(STREAM);
        let put = match collector {
            Ok(collector) => collector.put(due).await.map_err(thalweg_sql::Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = put {
            tracing::warn!(%error, "clicks of the demo were not taken");
            tokio::time::sleep(REST).await;
        }
    }
}
