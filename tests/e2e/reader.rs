//! Readers while epochs end and files roll ten times a second: each statement sees a prefix of each partition, the
//! same one in all the tables it reads.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::place::Place;
use crate::shop::Paced;

const POLLS_FOR: Duration = Duration::from_secs(10);

/// Each gives rows of a name and two numbers that must be equal.
const QUESTIONS: [(&str, &str); 4] = [
    (
        "a prefix, through public",
        "SELECT source_partition, count(*), max(source_offset) + 1 FROM public.archive GROUP BY source_partition",
    ),
    (
        "a prefix, through history and live",
        "SELECT source_partition, count(*), max(source_offset) + 1
         FROM (SELECT source_partition, source_offset FROM history.archive
               UNION ALL SELECT source_partition, source_offset FROM live.archive)
         GROUP BY source_partition",
    ),
    (
        "two views at one instant",
        "SELECT 'events', (SELECT sum(events) FROM public.by_second), (SELECT count(*) FROM public.archive)",
    ),
    (
        "two views, each in its parts",
        "SELECT 'events',
                (SELECT coalesce(sum(events), 0) FROM history.by_second)
                + (SELECT coalesce(sum(events), 0) FROM live.by_second),
                (SELECT count(*) FROM history.archive) + (SELECT count(*) FROM live.archive)",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_of_one_instant() -> Result<()> {
    let shop = Paced::since(Duration::from_secs(8), 6, 3000.0, 10_000_000)?;
    let place = Place::folder(&shop.script()?, &["--roll", "100ms"])?;
    let instance = place.launch.start(&[]).await?;
    let closed = "SELECT count(*) FROM history.by_second";
    instance.until(closed, Duration::from_secs(30), |rows| rows > 0).await?;
    let (read_before, closed_before) =
        (instance.number("SELECT count(*) FROM public.archive").await?, instance.number(closed).await?);
    let begun = Instant::now();
    let (mut polls, mut wrong) = (0, Vec::new());
    while begun.elapsed() < POLLS_FOR {
        for (what, sql) in QUESTIONS {
            polls += 1;
            for row in instance.query(sql).await? {
                if row[1] != row[2] {
                    wrong.push(format!("{what}: {row:?}"));
                }
            }
        }
    }
    let read = instance.number("SELECT count(*) FROM public.archive").await? - read_before;
    let closed = instance.number(closed).await? - closed_before;
    println!(
        "{polls} polls, {} wrong rows; meanwhile {read} clicks came and {closed} windows closed",
        wrong.len()
    );
    ensure!(wrong.is_empty(), "{} rows in {polls} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(read > 0 && closed > 0 && polls >= 20, "nothing happened while it was read");
    instance.terminate().await
}
