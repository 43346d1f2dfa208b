//! What CREATE STREAM may touch, and that it keeps nobody else waiting.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::net::TcpListener;

use crate::instance::Instance;
use crate::place::Place;

fn files(name: &str, path: &str) -> String {
    format!("CREATE STREAM {name} (a BIGINT) WITH (connector = 'files', path = '{path}')")
}

async fn refused(instance: &Instance, sql: &str, said: &str) -> Result<()> {
    let Err(error) = instance.command(sql).await else { anyhow::bail!("it was carried out: {sql}") };
    ensure!(format!("{error:#}").contains(said), "{error:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn local_files_are_read_below_their_root_alone() -> Result<()> {
    let place = Place::folder("", &[])?;
    let folder = place.launch.script.parent().context("it lies in a folder")?.to_owned();
    let elsewhere = tempfile::tempdir()?;
    for folder in [&folder, elsewhere.path()] {
        std::fs::write(folder.join("a.ndjson"), "{\"a\":1}\n")?;
    }
    std::os::unix::fs::symlink(elsewhere.path(), folder.join("out"))?;
    let outside = elsewhere.path().join("a.ndjson").display().to_string();

    // The folder of the SQL file, where nobody says otherwise.
    let instance = place.launch.start(&[]).await?;
    instance.command(&files("one", "a.ndjson")).await?;
    instance.command(&files("two", &folder.join("*.ndjson").display().to_string())).await?;
    for path in [outside.as_str(), "/etc/passwd", "out/a.ndjson", "file:///etc", "out"] {
        refused(&instance, &files("three", path), "leads out of the folders").await?;
    }
    refused(&instance, &files("three", "../../etc/passwd"), "..").await?;
    instance.terminate().await?;

    // Elsewhere alone. What was created before is read on.
    let given = elsewhere.path().display().to_string();
    let instance = place.launch.start(&["--files-root", &given]).await?;
    instance.command(&files("three", &outside)).await?;
    refused(&instance, &files("four", "a.ndjson"), "leads out of the folders").await?;
    let streams = instance.number("SELECT count(*) FROM system.streams").await?;
    ensure!(streams == 3, "{streams} streams");
    instance.terminate().await?;

    // Without a SQL file there is no folder.
    let bare = place.launch.without_script();
    let instance = bare.start(&[]).await?;
    refused(&instance, &files("four", &outside), "start it with --files-root DIR").await?;
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_holds_up_no_other_statement() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let brokers = silent.local_addr()?;
    let place = Place::folder("", &[])?;
    let instance = place.launch.start(&[]).await?;
    let waits = format!(
        "CREATE STREAM waits (a BIGINT) WITH (connector = 'kafka', brokers = '{brokers}', topic = 't', format = 'json')"
    );
    let waiting = async {
        let begun = Instant::now();
        let outcome = instance.command(&waits).await;
        (outcome, begun.elapsed())
    };
    let others = async {
        // The first is under way once it speaks to its broker, which takes what it says and keeps silent.
        let broker = silent.accept().await?;
        let begun = Instant::now();
        instance
            .command(
                "CREATE STREAM s (event_ts TIMESTAMP, WATERMARK FOR event_ts AS event_ts)
                 WITH (connector = 'generator', rows = 10)",
            )
            .await?;
        instance.command("CREATE MATERIALIZED VIEW v AS SELECT event_ts FROM s").await?;
        instance.command("DROP VIEW v").await?;
        instance.command("DROP STREAM s").await?;
        anyhow::Ok((begun.elapsed(), broker))
    };
    let ((outcome, waited), others) = tokio::join!(waiting, others);
    let (others, _broker) = others?;
    ensure!(outcome.is_err(), "a stream of a broker that says nothing");
    println!("four statements took {others:?} while one waited {waited:?} for its broker");
    ensure!(waited > Duration::from_secs(10), "it did not wait for the broker: {waited:?}");
    ensure!(others < waited / 2, "{others:?} of {waited:?}");
    instance.terminate().await
}
