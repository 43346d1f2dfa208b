//! What a connection sets for itself: limits of its queries below those of the server, wherever these run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::Instant;

use crate::instance::Instance;
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);

const STREAM: &str = "CREATE STREAM clicks (event_id STRING) WITH (connector = 'generator', rate = 1);";
const TEN_ROWS: &str = "SELECT * FROM generate_series(1, 10)";
const MANY_KEYS: &str = "SELECT count(DISTINCT value * 7919 % 100000007) FROM generate_series(1, 2000000)";
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 2 = 5";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_want_less_than_the_server_allows() -> Result<()> {
    for readers in ["0", "1"] {
        let place = Place::folder(STREAM, &["--readers", readers])?;
        let mut instance = place.launch.start(&[]).await?;
        instance.query(TEN_ROWS).await?;
        instance.command("SET thalweg.query_rows = 5").await?;
        refused(&instance, TEN_ROWS, "most=5").await?;
        instance.command("SET query_rows = DEFAULT").await?;
        instance.query(TEN_ROWS).await?;
        instance.query(MANY_KEYS).await?;
        instance.command("SET thalweg.query_memory = '1MiB'").await?;
        refused(&instance, MANY_KEYS, "more memory than it may. limit_bytes=1048576").await?;
        instance.command("SET query_time TO '300ms'").await?;
        refused(&instance, LONG, "longer than it may. limit=300ms").await?;
        refused(&instance, "SET query_thyme = '1s'", "settings are catalog, compression, query_memory")
            .await?;
        refused(&instance, "SET query_time = 'soon'", "can't be 'soon'").await?;
        // Another connection is another session.
        instance.connect().await?;
        instance.query(MANY_KEYS).await?;
        instance.terminate().await?;
    }
    Ok(())
}

/// A step of each takes minutes, and there are more of them than threads.
#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_a_thread_keeps_nobody_else() -> Result<()> {
    const KEEPS: &str = "SELECT sum(levenshtein(repeat('a', 4000) || value, repeat('b', 4000)))";
    let place = Place::folder(STREAM, &["--readers", "1"])?;
    let instance = place.launch.start(&[]).await?;
    let texts: Vec<_> = (0..10).map(|n| format!("{KEEPS} + {n} FROM generate_series(1, 1000000)")).collect();
    let kept = futures::future::join_all(texts.iter().map(|text| instance.batches(text, 2 * WITHIN)));
    let asked = async {
        let running = "SELECT count(*) FROM system.queries WHERE state = 'running' AND sql LIKE '%repeat%'";
        instance.until(running, WITHIN, |running| running >= 10).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..5 {
            let begun = Instant::now();
            ensure!(instance.number("SELECT 17").await? == 17);
            ensure!(begun.elapsed() < Duration::from_secs(5), "an answer took {:?}", begun.elapsed());
        }
        let reader = busy(&instance, None).await?;
        let begun = Instant::now();
        // Where each keeps a thread of two, or of a room that is full, all give way.
        while giving_way(reader)? < texts.len() {
            ensure!(begun.elapsed() < WITHIN, "{} threads give way", giving_way(reader)?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(instance.number("SELECT 17").await? == 17);
        anyhow::Ok(())
    };
    tokio::select! {
        ended = kept => anyhow::bail!("nobody kept anything: {ended:?}"),
        asked = asked => asked?,
    }
    instance.terminate().await
}

/// Two statements run while their reader is ended twice, and nobody knows by which: the one that is put again first is
/// taken for the cause, and the other is not.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_suspects_is_cleared() -> Result<()> {
    let place = Place::folder(STREAM, &["--readers", "1"])?;
    let instance = place.launch.start(&[]).await?;
    let texts = [LONG.to_owned(), LONG.replace("= 5", "= 7")];
    let mut running = texts.each_ref().map(|text| Box::pin(instance.batches(text, 2 * WITHIN)));
    let [one, other] = &mut running;
    let killed = async {
        let both = "SELECT count(*) FROM system.queries WHERE state = 'running' AND sql LIKE '%WHERE x %'";
        instance.until(both, WITHIN, |running| running == 3).await?;
        let first = busy(&instance, None).await?;
        kill(first).await?;
        kill(busy(&instance, Some(first)).await?).await?;
        std::future::pending::<Result<()>>().await
    };
    let (failed, left) = tokio::select! {
        failed = &mut *one => (failed, other),
        failed = &mut *other => (failed, one),
        outcome = killed => anyhow::bail!("nothing was killed: {outcome:?}"),
    };
    let error = format!("{:#}", failed.err().context("it had an answer")?);
    ensure!(error.contains("the statement was given up"), "{error}");
    let goes_on = async {
        busy(&instance, None).await?;
        ensure!(instance.number("SELECT 17").await? == 17);
        anyhow::Ok(())
    };
    tokio::select! {
        ended = left => anyhow::bail!("the other has ended too: {ended:?}"),
        outcome = goes_on => outcome?,
    }
    drop(running);
    instance.terminate().await
}

async fn kill(reader: u32) -> Result<()> {
    let status = Command::new("kill").args(["-KILL", &reader.to_string()]).status().await?;
    ensure!(status.success(), "it can't be killed");
    Ok(())
}

/// A reader that is computing, and is not one that has just been killed.
async fn busy(instance: &Instance, killed: Option<u32>) -> Result<u32> {
    let begun = Instant::now();
    while begun.elapsed() < WITHIN {
        for reader in instance.readers()?.into_iter().filter(|reader| Some(*reader) != killed) {
            let stat = std::fs::read_to_string(format!("/proc/{reader}/stat")).unwrap_or_default();
            // Hundredths of a second; to start takes a few.
            let used = stat.split_whitespace().nth(13).and_then(|used| used.parse::<u64>().ok());
            if used.is_some_and(|used| used > 100) {
                return Ok(reader);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no reader computes anything")
}

/// Threads of a reader that have been kept for long.
fn giving_way(reader: u32) -> Result<usize> {
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{reader}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        let nice = stat.split_whitespace().nth(18).and_then(|nice| nice.parse::<i64>().ok());
        threads += usize::from(nice.is_some_and(|nice| nice >= 15));
    }
    Ok(threads)
}

async fn refused(instance: &Instance, sql: &str, part: &str) -> Result<()> {
    let outcome = match sql.starts_with("SET") {
        true => instance.command(sql).await.map(drop),
        false => instance.query(sql).await.map(drop),
    };
    let error = outcome.err().with_context(|| format!("it was done: {sql}"))?;
    let told = format!("{error:#}");
    ensure!(told.contains(part), "{sql}: {told}");
    Ok(())
}
