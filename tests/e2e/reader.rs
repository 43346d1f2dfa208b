//! Readers while epochs end and files roll ten times a second: each statement sees a prefix of each partition, the
//! same one in all the tables it reads.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::place::Place;
use crate::shop::Paced;

const POLLS_FOR: Duration = Duration::from_secs(10);
const POLLS_MAX: Duration = Duration::from_secs(120);
const POLLS: usize = 20;
const KILLED: usize = 4;

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
    look(&["--roll", "100ms"], None).await
}

/// Through processes that are ended all the while: what is answered is right, and what is not says that it is to be asked
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn so_is_every_answer_of_a_reader_among_those_that_die() -> Result<()> {
    look(&["--roll", "100ms", "--readers", "2"], Some(Duration::from_millis(700))).await
}

async fn look(flags: &[&str], killed_each: Option<Duration>) -> Result<()> {
    let shop = Paced::since(Duration::from_secs(8), 6, 3000.0, 10_000_000)?;
    let place = Place::folder(&shop.script()?, flags)?;
    let instance = place.launch.start(&[]).await?;
    let closed = "SELECT count(*) FROM history.by_second";
    instance.until(closed, Duration::from_secs(30), |rows| rows > 0).await?;
    let (read_before, closed_before) =
        (instance.number("SELECT count(*) FROM public.archive").await?, instance.number(closed).await?);
    let begun = Instant::now();
    let (mut polls, mut wrong, mut again) = (0, Vec::new(), 0);
    let (mut killed, mut killed_at, mut answered) = (0, Instant::now(), false);
    // On a busy machine readers come up slowly.
    while begun.elapsed() < POLLS_FOR || (begun.elapsed() < POLLS_MAX && (polls < POLLS || killed < KILLED)) {
        for (what, sql) in QUESTIONS {
            if killed_each.is_some_and(|each| killed_at.elapsed() > each) && answered {
                (killed_at, answered) = (Instant::now(), false);
                // One that has just ended of itself is no worse.
                if let Some(reader) = instance.readers()?.get(killed % 2) {
                    let kill = ["-KILL", &reader.to_string()].map(str::to_owned);
                    killed += usize::from(Command::new("kill").args(kill).status().await?.success());
                }
            }
            let rows = match instance.query(sql).await {
                Ok(rows) => rows,
                Err(error) if killed > 0 && format!("{error:#}").contains("run it again") => {
                    again += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            polls += 1;
            answered = true;
            for row in rows {
                if row[1] != row[2] {
                    wrong.push(format!("{what}: {row:?}"));
                }
            }
        }
    }
    let read = instance.number("SELECT count(*) FROM public.archive").await? - read_before;
    let closed = instance.number(closed).await? - closed_before;
    println!(
        "{polls} polls, {} wrong rows, {again} to be asked again; {killed} readers were killed; meanwhile {read} clicks came and {closed} windows closed",
        wrong.len()
    );
    ensure!(wrong.is_empty(), "{} rows in {polls} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(read > 0 && closed > 0 && polls >= POLLS, "nothing happened while it was read");
    ensure!(killed_each.is_none() || killed >= KILLED, "{killed} readers were killed");
    instance.terminate().await
}
