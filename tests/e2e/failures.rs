//! A view that fails stops alone: its neighbours go on, what it had closed is served, and statements have it go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::instance::Instance;
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);

/// Each minute has as many rows as its number; `brittle` can't finish the one with three.
const SCRIPT: &str = "
    CREATE STREAM rows (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts)
    WITH (connector = 'files', path = 'rows.ndjson');
    CREATE MATERIALIZED VIEW brittle AS SELECT window_start, 100 / (count(*) - 3) AS share
    FROM TUMBLE(rows, ts, INTERVAL '1 minute') GROUP BY window_start;
    CREATE MATERIALIZED VIEW sound AS SELECT window_start, count(*) AS rows
    FROM TUMBLE(rows, ts, INTERVAL '1 minute') GROUP BY window_start;
    CREATE MATERIALIZED VIEW copied AS SELECT n FROM rows;";

fn place() -> Result<Place> {
    let place = Place::folder(SCRIPT, &["--roll", "100ms"])?;
    let minute = |minute: u64| (0..minute).map(move |n| format!("{{\"ts\":{},\"n\":{n}}}\n", minute * 60));
    let rows: String = (1..6).flat_map(minute).collect();
    std::fs::write(place.launch.script.with_file_name("rows.ndjson"), rows)?;
    Ok(place)
}

async fn states(instance: &Instance) -> Result<Vec<(String, String)>> {
    let rows = instance.query("SELECT view, state FROM system.views ORDER BY view").await?;
    let pair = |row: Vec<String>| row.try_into().ok().map(|[view, state]: [String; 2]| (view, state));
    rows.into_iter().map(pair).collect::<Option<_>>().context("a row is not a pair")
}

fn told(states: &[(&str, &str)]) -> Vec<(String, String)> {
    states.iter().map(|(view, state)| (view.to_string(), state.to_string())).collect()
}

async fn sound_rows(instance: &Instance) -> Result<()> {
    instance.until("SELECT coalesce(sum(rows), 0) FROM history.sound", WITHIN, |rows| rows == 15).await?;
    instance.until("SELECT count(*) FROM history.copied", WITHIN, |rows| rows == 15).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_cannot_finish_a_window_fails_alone() -> Result<()> {
    let place = place()?;
    let failed = told(&[("brittle", "failed"), ("copied", "running"), ("sound", "running")]);
    let running = told(&[("brittle", "running"), ("copied", "running"), ("sound", "running")]);
    let instance = place.launch.start(&[]).await?;
    sound_rows(&instance).await?;
    assert_eq!(states(&instance).await?, failed);
    let reason = "SELECT reason FROM system.views WHERE view = 'brittle'";
    assert_eq!(
        instance.query(reason).await?,
        [["closing its windows failed: division by zero, in 100 / (count(*) - 3)"]]
    );
    instance.query("SELECT * FROM history.brittle").await?;
    for name in ["brittle", "live.brittle"] {
        let error = instance.query(&format!("SELECT * FROM {name}")).await.expect_err("it is not known");
        let error = format!("{error:#}");
        ensure!(
            error.contains("closing its windows failed: division by zero, in 100 / (count(*) - 3)"),
            "{error}"
        );
        ensure!(error.contains("history.brittle") && error.contains("ALTER VIEW brittle RESTART"), "{error}");
    }
    let shown = instance.query("SHOW VIEWS").await?;
    let shown: Vec<&str> = shown.iter().map(|view| &*view[4]).collect();
    assert_eq!(shown, ["failed", "running", "running"]);
    instance.kill().await?;

    let instance = place.launch.start(&[]).await?;
    assert_eq!(states(&instance).await?, failed, "it is remembered");
    sound_rows(&instance).await?;
    instance.command("ALTER VIEW brittle RESTART").await?;
    assert_eq!(states(&instance).await?, running);
    instance.kill().await?;

    let instance = place.launch.start(&[]).await?;
    assert_eq!(states(&instance).await?, running, "and so is that it went on");
    assert_eq!(instance.number("SELECT count(*) FROM brittle").await?, 0);
    instance.command("DROP VIEW brittle").await?;
    instance.terminate().await
}

/// What it would have open lacks what the other has not closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_over_one_that_has_failed_says_so() -> Result<()> {
    let place = place()?;
    let over = "CREATE MATERIALIZED VIEW hourly AS SELECT window_start, sum(share) AS share
                FROM TUMBLE(brittle, window_start, INTERVAL '1 hour') GROUP BY window_start;
                CREATE MATERIALIZED VIEW daily AS SELECT window_start, sum(share) AS share
                FROM TUMBLE(hourly, window_start, INTERVAL '1 day') GROUP BY window_start;";
    std::fs::write(&place.launch.script, format!("{SCRIPT}{over}"))?;
    let instance = place.launch.start(&[]).await?;
    sound_rows(&instance).await?;
    for name in ["hourly", "live.daily"] {
        let error = instance.query(&format!("SELECT * FROM {name}")).await.expect_err("it is not known");
        let error = format!("{error:#}");
        for said in ["which has failed", "division by zero", "ALTER VIEW brittle RESTART"] {
            ensure!(error.contains(said), "nothing of {said:?}: {error}");
        }
    }
    instance.query("SELECT * FROM history.hourly").await?;
    instance.command("ALTER VIEW brittle RESTART").await?;
    instance.query("SELECT * FROM hourly").await?;
    instance.terminate().await
}

/// As after an upgrade to a version that refuses the statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_cannot_be_planned_any_more_keeps_its_rows_and_nobody_from_starting() -> Result<()> {
    let place = place()?;
    let instance = place.launch.start(&[]).await?;
    sound_rows(&instance).await?;
    instance.terminate().await?;
    exchange(&place, "count(*) AS rows", "lost_function(n) AS rows")?;

    let script = std::fs::read_to_string(&place.launch.script)?
        .replace("CREATE STREAM", "CREATE STREAM IF NOT EXISTS");
    let kept = script.split_once("CREATE MATERIALIZED VIEW").context("there are views")?.0;
    std::fs::write(&place.launch.script, kept)?;
    let instance = place.launch.start(&[]).await?;
    let expected = told(&[("brittle", "failed"), ("copied", "running"), ("sound", "failed")]);
    assert_eq!(states(&instance).await?, expected);
    let reason = &instance.query("SELECT reason FROM system.views WHERE view = 'sound'").await?[0][0];
    ensure!(reason.contains("can't be planned any more") && reason.contains("lost_function"), "{reason}");
    sound_rows(&instance).await?;
    assert_eq!(instance.number("SELECT max(rows) FROM history.sound").await?, 5);
    let shown = instance.query("EXPLAIN sound").await?.concat().concat();
    ensure!(shown.contains("can't be planned any more"), "{shown}");
    let error = instance.command("ALTER VIEW sound RESTART").await.expect_err("it still can't be planned");
    let error = format!("{error:#}");
    ensure!(error.contains("lost_function"), "{error}");
    ensure!(
        error.contains("line 1, column 12") && error.contains("of the statement that created"),
        "{error}"
    );
    instance.command("DROP VIEW sound").await?;
    instance.terminate().await
}

/// The same of a stream, whose views can't be planned without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_planned_any_more_keeps_nobody_from_starting() -> Result<()> {
    const OTHER: &str =
        "CREATE STREAM other (n BIGINT, at TIMESTAMP METADATA FROM 'timestamp') WITH (connector = 'generator', rate = 50);
                         CREATE MATERIALIZED VIEW others AS SELECT n FROM other";
    let place = place()?;
    let instance = place.launch.start(&[]).await?;
    sound_rows(&instance).await?;
    for statement in OTHER.split(';') {
        instance.command(statement).await?;
    }
    instance.until("SELECT count(*) FROM others", WITHIN, |rows| rows >= 3).await?;
    instance.terminate().await?;
    exchange(&place, "ts TIMESTAMP, n BIGINT", "ts TIMESTAMP, n LOST_TYPE")?;

    let instance = place.launch.without_script().start(&[]).await?;
    let expected =
        told(&[("brittle", "failed"), ("copied", "failed"), ("others", "running"), ("sound", "failed")]);
    assert_eq!(states(&instance).await?, expected);
    let streams = instance.query("SELECT stream, state, reason FROM system.streams ORDER BY stream").await?;
    ensure!(streams[0][1] == "running" && streams[1][1] == "failed", "{streams:?}");
    ensure!(streams[1][2].contains("can't be planned any more"), "{streams:?}");
    sound_rows(&instance).await?;
    let error = instance.command("ALTER STREAM rows RESTART").await.expect_err("it still can't be planned");
    ensure!(format!("{error:#}").contains("can't be planned any more"), "{error:#}");
    instance.terminate().await?;

    // By the version that can.
    exchange(&place, "ts TIMESTAMP, n LOST_TYPE", "ts TIMESTAMP, n BIGINT")?;
    let instance = place.launch.without_script().start(&[]).await?;
    let expected =
        told(&[("brittle", "failed"), ("copied", "running"), ("others", "running"), ("sound", "running")]);
    assert_eq!(states(&instance).await?, expected);
    assert_eq!(instance.number("SELECT count(*) FROM copied").await?, 15);
    instance.terminate().await
}

/// What its views have open waits with it: of the days there is nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_can_be_planned_again_finds_its_views_as_it_left_them() -> Result<()> {
    const DAYS: &str = "
        CREATE STREAM clicks (event_ts TIMESTAMP(3), country STRING, WATERMARK FOR event_ts AS event_ts - INTERVAL '1' HOUR)
        WITH (connector = 'generator', rate = 200, partitions = 2);
        CREATE MATERIALIZED VIEW days AS SELECT window_start, country, count(*) AS clicks
        FROM TUMBLE(clicks, event_ts, INTERVAL '1' DAY) GROUP BY window_start, country;
        CREATE MATERIALIZED VIEW weeks AS SELECT window_start, sum(clicks) AS clicks
        FROM TUMBLE(days, window_start, INTERVAL '7' DAY) GROUP BY window_start;
        CREATE MATERIALIZED VIEW copied AS SELECT country FROM clicks;";
    const MISSING: &str =
        "SELECT (SELECT count(*) FROM copied) - (SELECT coalesce(sum(clicks), 0) FROM days)";
    let place = Place::folder(DAYS, &["--roll", "100ms"])?;
    let instance = place.launch.start(&[]).await?;
    let before = instance.until("SELECT count(*) FROM history.copied", WITHIN, |rows| rows >= 300).await?;
    assert_eq!(instance.number(MISSING).await?, 0);
    instance.terminate().await?;
    exchange(&place, "country STRING", "country LOST_TYPE")?;
    // Some epochs, a kill, and a stop.
    for kill in [true, false] {
        let instance = place.launch.without_script().start(&[]).await?;
        let expected = told(&[("copied", "failed"), ("days", "failed"), ("weeks", "failed")]);
        assert_eq!(states(&instance).await?, expected);
        instance
            .until("SELECT coalesce(max(epoch), 0) FROM system.checkpoints", WITHIN, |epoch| epoch > 2)
            .await?;
        if kill { instance.kill().await? } else { instance.terminate().await? }
    }
    exchange(&place, "country LOST_TYPE", "country STRING")?;
    let instance = place.launch.without_script().start(&[]).await?;
    let expected = told(&[("copied", "running"), ("days", "running"), ("weeks", "running")]);
    assert_eq!(states(&instance).await?, expected);
    instance.until("SELECT count(*) FROM copied", WITHIN, |rows| rows > before).await?;
    assert_eq!(instance.number(MISSING).await?, 0);
    instance.terminate().await
}

/// Somebody writes into a table's log.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_read_fails_its_view_soon() -> Result<()> {
    let mut place = place()?;
    place.launch.flags = vec!["--roll".into(), "1h".into()];
    let instance = place.launch.start(&[]).await?;
    sound_rows(&instance).await?;
    let log = std::path::Path::new(&place.launch.data).join("tables/sound/_delta_log");
    std::fs::write(log.join("00000000000000000001.json"), "garbled")?;
    // The stop rolls, and Delta is told.
    let begun = std::time::Instant::now();
    instance.terminate().await?;
    ensure!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    let instance = place.launch.start(&[]).await?;
    let reason = &instance.query("SELECT reason FROM system.views WHERE view = 'sound'").await?[0][0];
    ensure!(!reason.is_empty(), "it has not failed");
    assert_eq!(instance.number("SELECT count(*) FROM copied").await?, 15);
    instance.terminate().await
}

/// Somebody cleans up in the wrong folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_table_is_gone_fails_alone() -> Result<()> {
    let place = place()?;
    let instance = place.launch.start(&[]).await?;
    sound_rows(&instance).await?;
    // Epochs later it is on record that Delta was told.
    let epoch = "SELECT max(epoch) FROM system.checkpoints";
    let now = instance.number(epoch).await?;
    instance.until(epoch, WITHIN, |epoch| epoch > now + 5).await?;
    instance.terminate().await?;
    let (is_well, said) = place.launch.doctor().await?;
    ensure!(is_well && said.contains("nothing is wrong") && said.contains("copied"), "{said}");
    std::fs::remove_dir_all(std::path::Path::new(&place.launch.data).join("tables/sound"))?;
    let (is_well, said) = place.launch.doctor().await?;
    ensure!(!is_well && said.contains("table=\"sound\"") && said.contains("that it was told"), "{said}");
    let instance = place.launch.start(&[]).await?;
    let expected = told(&[("brittle", "failed"), ("copied", "running"), ("sound", "failed")]);
    assert_eq!(states(&instance).await?, expected);
    let reason = &instance.query("SELECT reason FROM system.views WHERE view = 'sound'").await?[0][0];
    ensure!(reason.contains("has lost what was told it") && reason.contains("table=\"sound\""), "{reason}");
    assert_eq!(instance.number("SELECT count(*) FROM copied").await?, 15);
    instance.command("DROP VIEW sound").await?;
    let view = "CREATE MATERIALIZED VIEW sound AS SELECT window_start, count(*) AS rows
                FROM TUMBLE(rows, ts, INTERVAL '1 minute') GROUP BY window_start";
    instance.command(view).await?;
    assert_eq!(instance.number("SELECT count(*) FROM sound").await?, 0);
    instance.terminate().await
}

/// Puts a text in place of another, in the newest catalog, and leaves out its hash, which stands first if it has one.
fn exchange(place: &Place, text: &str, other: &str) -> Result<()> {
    let folder = std::path::Path::new(&place.launch.data).join("catalog");
    let catalogs = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let newest = catalogs.collect::<Result<Vec<_>>>()?.into_iter().max().context("there are catalogs")?;
    let catalog = std::fs::read_to_string(&newest)?;
    ensure!(catalog.contains(text), "{catalog}");
    let rest = match catalog.strip_prefix("{\"hash\":") {
        Some(sealed) => format!("{{{}", sealed.split_once(',').context("a hash, and more")?.1),
        None => catalog,
    };
    std::fs::write(newest, rest.replace(text, other))?;
    Ok(())
}
