//! Statements and messages that mean harm, or ask for too much, against the real binary while it ingests: the engine lives,
//! epochs end, and a client that asks for little is answered.
//!
//! `THALWEG_HOSTILE=1` runs the whole corpus and 20,000 messages; otherwise a part of it.

mod calm;
mod grow;
mod kept;
mod messages;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::watch;

use crate::instance::Instance;
use crate::place::Place;
use crate::settings::set;
use crate::shop::Paced;
use calm::Calm;

/// What a statement may take before its client gives it up, as clients do.
const PATIENCE: Duration = Duration::from_secs(5);
const AT_A_TIME: usize = 3;
/// Each ends a process that has a limit of memory, or computes on after it was given up.
const LETHAL: [&str; 6] = [
    "SELECT arrow_cast(NULL, 'FixedSizeList(100000000, FixedSizeList(100000, Int64))')",
    "SELECT sum(value) OVER () FROM generate_series(1, 100000000000)",
    "SELECT array_repeat(array_repeat(array_repeat(array_repeat(1, 1000), 1000), 1000), 1000)",
    "SELECT count(*) FROM (SELECT value % 2 AS a«, value % {i} AS k{i}»*20 FROM generate_series(1, 1000)) AS t GROUP BY CUBE(a«, k{i}»*20)",
    "SELECT levenshtein(repeat('ab', 1900), repeat('ba', 1900)) FROM generate_series(1, 100000)",
    "SELECT lag(value, 2000000000) OVER (ORDER BY value) FROM generate_series(1, 100000000)",
];
/// On a machine that does other things too.
const GAP_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_asked_hurts_ingest() -> Result<()> {
    let whole = set("THALWEG_HOSTILE", 0)? > 0;
    let mut statements = LETHAL.map(grow::expanded).into_iter().collect::<Result<Vec<_>>>()?;
    let corpus = grow::statements()?;
    let step = if whole { 1 } else { 40 };
    statements.extend(corpus.into_iter().step_by(step));
    let shop = Paced::since(Duration::from_secs(8), 9, 2000.0, 100_000_000)?;
    let flags = [
        ["--epoch", "500ms"],
        ["--readers", "1"],
        ["--reader-memory", "768MiB"],
        ["--query-memory", "256MiB"],
        ["--query-time", "20s"],
    ];
    let place = Place::folder(&shop.script()?, flags.as_flattened())?;
    let instance = Arc::new(place.launch.start(&[]).await?);
    let there = "SELECT count(*) FROM public.archive";
    let before = instance.until(there, Duration::from_secs(60), |rows| rows > 1000).await?;
    let first_epoch = instance.number("SELECT max(epoch) FROM system.checkpoints").await?;
    let (stop, stopped) = watch::channel(false);
    let calm = tokio::spawn({
        let instance = Arc::clone(&instance);
        async move { Calm::ask(&instance, stopped).await }
    });
    let begun = Instant::now();
    let gaps = tokio::spawn({
        let instance = Arc::clone(&instance);
        let stopped = stop.subscribe();
        async move { longest_gap(&instance, stopped).await }
    });
    let asked = statements.len();
    let outcomes = futures::stream::iter(statements)
        .map(|statement| {
            let instance = Arc::clone(&instance);
            async move { give(&instance, &statement).await }
        })
        .buffer_unordered(AT_A_TIME)
        .collect::<Vec<_>>()
        .await;
    let sent = messages::send(instance.address(), if whole { 20_000 } else { 1_000 }, 7).await?;
    let took = begun.elapsed();
    stop.send_replace(true);
    let (calm, gap) = (calm.await??, gaps.await??);
    let after = instance.until(there, Duration::from_secs(60), |rows| rows > before + 1000).await?;
    let last_epoch = instance.number("SELECT max(epoch) FROM system.checkpoints").await?;
    let deaths = instance.readers_ended()?;
    println!(
        "{asked} statements ({} answered, {} refused, {} given up) and {} messages ({} taken) in {took:?}; readers ended {deaths} times; {} clicks and {} epochs came; longest gap between commits {gap:?}; calm: {} answers, p50 {:?}, p99 {:?}, longest {:?}, {} failures; peak of the engine {} MiB",
        outcomes.iter().filter(|it| **it == Outcome::Answered).count(),
        outcomes.iter().filter(|it| **it == Outcome::Refused).count(),
        outcomes.iter().filter(|it| **it == Outcome::GivenUp).count(),
        sent.sent,
        sent.taken,
        after - before,
        last_epoch - first_epoch,
        calm.took.len(),
        calm.percentile(50),
        calm.percentile(99),
        calm.percentile(100),
        calm.failed.len(),
        instance.peak_memory_bytes()? >> 20,
    );
    ensure!(deaths >= 2, "nothing was lethal: {deaths} readers ended");
    ensure!(gap < GAP_MAX, "no commit for {gap:?}");
    let most = calm.took.len() / 4;
    ensure!(
        calm.took.len() > 10 && calm.failed.len() <= most,
        "the calm client was answered {} times; it failed {} times: {:?}",
        calm.took.len(),
        calm.failed.len(),
        calm.failed.first()
    );
    let instance = Arc::into_inner(instance).context("somebody asks still")?;
    instance.terminate().await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered,
    Refused,
    GivenUp,
}

async fn give(instance: &Instance, statement: &str) -> Outcome {
    let asking = async {
        let mut client = instance.client()?;
        let info = client.execute(statement.to_owned(), None).await?;
        let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
        let mut rows = client.do_get(ticket.context("no rows")?).await?;
        while rows.try_next().await?.is_some() {}
        Ok::<_, anyhow::Error>(())
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(())) => Outcome::Answered,
        Ok(Err(_)) => Outcome::Refused,
        Err(_) => Outcome::GivenUp,
    }
}

/// By what is durable in the folder, whoever is asked.
async fn longest_gap(instance: &Instance, stopped: watch::Receiver<bool>) -> Result<Duration> {
    let (mut longest, mut newest, mut since) = (Duration::ZERO, -1, Instant::now());
    while !*stopped.borrow() {
        // Statements over system tables have places of their own; one whose reader has ended is asked again.
        if let Ok(epoch) = instance.number("SELECT max(epoch) FROM system.checkpoints").await {
            if epoch > newest {
                newest = epoch;
                since = Instant::now();
            }
            longest = longest.max(since.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(longest)
}
