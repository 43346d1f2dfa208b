//! What a view remembers stays small, or the engine says whose state it is that grows and what to do.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const MINUTE: u64 = 60;

/// One line a record: the n-th at the second `second(n)`, by the user `user(n)`.
fn records(count: u64, second: impl Fn(u64) -> u64, user: impl Fn(u64) -> u64) -> String {
    let mut lines = String::new();
    for number in 0..count {
        let (second, user) = (second(number), user(number));
        writeln!(lines, r#"{{"ts":{second},"user":"u{user}","price":{}}}"#, number % 100)
            .expect("a String takes what it is given");
    }
    lines
}

/// A file of records that are all within the delay, so no window closes before the file ends.
fn place(records: &str, flags: &[&str]) -> Result<Place> {
    let place = Place::folder("", flags)?;
    let file = place.launch.script.with_file_name("records.ndjson");
    std::fs::write(&file, records)?;
    let script = format!(
        "CREATE STREAM clicks (ts TIMESTAMP, user STRING, price BIGINT,
           WATERMARK FOR ts AS ts - INTERVAL '30' DAY) WITH (connector = 'files', path = '{}');
         CREATE MATERIALIZED VIEW by_user AS
         SELECT window_start, window_end, user, count(*) AS events, sum(price) AS price
         FROM TUMBLE(clicks, ts, INTERVAL '1 minute') GROUP BY window_start, window_end, user;",
        file.display()
    );
    std::fs::write(&place.launch.script, script)?;
    Ok(place)
}

/// Each micro-batch meets all of them: the worst there is for state that is kept window by window.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_open_windows_are_no_burden() -> Result<()> {
    const RECORDS: u64 = 400_000;
    const WINDOWS: u64 = 10_000;
    let scattered = |number: u64| number * 7_919 % WINDOWS * MINUTE;
    let place = place(&records(RECORDS, scattered, |number| number % 4), &["--roll", "1s"])?;
    let instance = place.launch.start(&[]).await?;
    let events = "SELECT coalesce(sum(events), 0) FROM history.by_user";
    instance.until(events, WITHIN, |events| events == RECORDS as i64).await?;
    let windows = instance.number("SELECT count(DISTINCT window_start) FROM history.by_user").await?;
    ensure!(windows == WINDOWS as i64, "{windows} windows");
    let peak = instance.peak_memory_bytes()?;
    println!("{WINDOWS} open windows, {RECORDS} records: a peak of {} MiB", peak >> 20);
    ensure!(peak < 300 << 20, "a peak of {} MiB", peak >> 20);
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_key_costs_no_more_than_another() -> Result<()> {
    const RECORDS: u64 = 1_000_000;
    let place = place(&records(RECORDS, |_| 0, |_| 7), &["--roll", "1s", "--state-max", "1MiB"])?;
    let instance = place.launch.start(&[]).await?;
    let events = "SELECT coalesce(sum(events), 0) FROM history.by_user";
    instance.until(events, WITHIN, |events| events == RECORDS as i64).await?;
    let price = instance.number("SELECT price FROM history.by_user").await?;
    ensure!(price == (RECORDS / 100 * (0..100).sum::<u64>()) as i64, "a sum of {price}");
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn state_beyond_its_cap_fails_its_view_alone() -> Result<()> {
    let place = place(&records(200_000, |_| 0, |number| number), &["--state-max", "1MiB"])?;
    let small = "CREATE MATERIALIZED VIEW counted AS SELECT window_start, count(*) AS events
                 FROM TUMBLE(clicks, ts, INTERVAL '1 minute') GROUP BY window_start;";
    let script = std::fs::read_to_string(&place.launch.script)?;
    std::fs::write(&place.launch.script, format!("{script}\n{small}"))?;
    let instance = place.launch.start(&[]).await?;
    instance
        .until("SELECT coalesce(sum(events), 0) FROM counted", WITHIN, |events| events == 200_000)
        .await?;
    let states =
        instance.query("SELECT view, state, state_bytes, reason FROM system.views ORDER BY view").await?;
    let [failed, running] = &states[..] else { anyhow::bail!("{states:?}") };
    ensure!(
        failed[..3] == ["by_user", "failed", "0"] && running[..2] == ["counted", "running"],
        "{states:?}"
    );
    for said in ["outgrown its cap", "--state-max"] {
        ensure!(failed[3].contains(said), "nothing of {said:?}: {}", failed[3]);
    }
    instance.terminate().await
}

/// A frontier that jumps has 1,439 windows over one another close at once: half a million rows, in a memory in which they have
/// no room.
#[tokio::test(flavor = "multi_thread")]
async fn many_windows_close_in_little_memory() -> Result<()> {
    const RECORDS: u64 = 100_000;
    const SHARED: u64 = 720;
    let place = place(
        &records(RECORDS, |number| number * 3600 / RECORDS, |number| number * 7_919 % 331),
        &["--memory", "64MiB"],
    )?;
    let hop = "CREATE MATERIALIZED VIEW hop AS SELECT window_start, window_end, user, count(*) AS events, sum(price) AS price
               FROM HOP(clicks, ts, INTERVAL '5 seconds', INTERVAL '1 hour') GROUP BY window_start, window_end, user;";
    let script = std::fs::read_to_string(&place.launch.script)?;
    let (stream, _) = script.split_once("CREATE MATERIALIZED").expect("the script has a view");
    std::fs::write(&place.launch.script, format!("{stream}{hop}"))?;
    let instance = place.launch.start(&[]).await?;
    let events = "SELECT coalesce(sum(events), 0) FROM hop";
    instance.until(events, 3 * WITHIN, |events| events == (RECORDS * SHARED) as i64).await?;
    let sums = instance
        .query("SELECT count(DISTINCT window_start), sum(price), (SELECT sum(events) FROM hop WHERE window_start = '1970-01-01') FROM hop")
        .await?;
    let price = RECORDS / 100 * (0..100).sum::<u64>() * SHARED;
    let expected = ["1439".to_owned(), price.to_string(), RECORDS.to_string()];
    ensure!(sums == [expected.to_vec()], "{sums:?}");
    let files = instance.number("SELECT history_files FROM system.views").await?;
    let rows = instance.number("SELECT history_rows FROM system.views").await?;
    ensure!(files > 1 && rows > 400_000, "{rows} rows in {files} files");
    let held = instance.query("SELECT purpose, bytes_most FROM system.memory").await?;
    let peak = instance.peak_memory_bytes()?;
    println!("{rows} rows in {files} files; held {held:?}; a peak of {} MiB", peak >> 20);
    ensure!(peak < (64 + 240) << 20, "a peak of {} MiB", peak >> 20);
    instance.terminate().await
}

/// Each is far below its own cap, and one of them is too much for all together.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_memory_of_all_the_view_that_needs_most_fails() -> Result<()> {
    const RECORDS: u64 = 1_500_000;
    let place = place(&records(RECORDS, |_| 0, |number| number), &["--memory", "64MiB", "--spill-max", "0"])?;
    let others = "CREATE MATERIALIZED VIEW by_price AS SELECT window_start, price, count(*) AS events
                  FROM TUMBLE(clicks, ts, INTERVAL '1 minute') GROUP BY window_start, price;
                  CREATE MATERIALIZED VIEW by_initials AS
                  SELECT window_start, substr(user, 1, 4) AS initials, count(*) AS events, max(user) AS last
                  FROM TUMBLE(clicks, ts, INTERVAL '1 minute') GROUP BY window_start, substr(user, 1, 4);";
    let script = std::fs::read_to_string(&place.launch.script)?;
    std::fs::write(&place.launch.script, format!("{script}\n{others}"))?;
    let instance = place.launch.start(&[]).await?;
    for view in ["by_price", "by_initials"] {
        let events = format!("SELECT coalesce(sum(events), 0) FROM {view}");
        instance.until(&events, WITHIN, |events| events == RECORDS as i64).await?;
    }
    let states = instance.query("SELECT view, state, reason FROM system.views ORDER BY view").await?;
    let [initials, price, user] = &states[..] else { anyhow::bail!("{states:?}") };
    ensure!(initials[1] == "running" && price[1] == "running" && user[1] == "failed", "{states:?}");
    for said in ["needs most of it", "needs=", "memory=64.0 MiB", "--memory"] {
        ensure!(user[2].contains(said), "nothing of {said:?}: {}", user[2]);
    }
    let held = instance.query("SELECT purpose, bytes_most, budget_bytes FROM system.memory").await?;
    let peak = instance.peak_memory_bytes()?;
    println!("{}; held {held:?}; a peak of {} MiB", user[2], peak >> 20);
    // What the process takes beside what ingest holds.
    ensure!(peak < (64 + 240) << 20, "a peak of {} MiB", peak >> 20);
    instance.terminate().await
}

/// A window of three times as many rows as there is memory for: it is read while it is open, survives a kill, and closes whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_no_room_for_lies_on_disk() -> Result<()> {
    const RECORDS: u64 = 3_000_000;
    const HALF: u64 = RECORDS / 2;
    let place = place(&records(RECORDS, |_| 0, |number| number), &["--memory", "64MiB", "--epoch", "200ms"])?;
    let instance = place.launch.start(&["--read-until", &HALF.to_string()]).await?;
    let spilled = "SELECT spilled_bytes FROM system.views";
    let read = "SELECT sum(records) FROM system.streams";
    let half = instance.until(read, WITHIN, |records| records >= HALF as i64).await?;
    instance.until(spilled, WITHIN, |bytes| bytes > 32 << 20).await?;
    let live = "SELECT count(*), count(DISTINCT user), sum(events) FROM live.by_user";
    let rows = instance.query(live).await?;
    ensure!(rows == [vec![half.to_string(); 3]], "{rows:?} of {half}");
    instance.kill().await?;

    let instance = place.launch.start(&["--read-until", "1"]).await?;
    let bytes = instance.number(spilled).await?;
    ensure!(bytes > 16 << 20, "after the kill {bytes} bytes are on disk");
    instance.kill().await?;

    let instance = place.launch.start(&["--roll", "1s"]).await?;
    let events = "SELECT coalesce(sum(events), 0) FROM history.by_user";
    instance.until(events, 3 * WITHIN, |events| events == RECORDS as i64).await?;
    let sums = "SELECT count(*), count(DISTINCT user), sum(price) FROM history.by_user";
    let rows = instance.query(sums).await?;
    let price = RECORDS / 100 * (0..100).sum::<u64>();
    let expected = [RECORDS, RECORDS, price].map(|number| number.to_string());
    ensure!(rows == [expected.to_vec()], "{rows:?}");
    instance.until(spilled, WITHIN, |bytes| bytes == 0).await?;
    let held = instance.query("SELECT purpose, bytes_most FROM system.memory").await?;
    // What is mapped counts as resident for as long as the system has room for it.
    println!("held {held:?}; a peak of {} MiB", instance.peak_memory_bytes()? >> 20);
    let open = instance.number("SELECT bytes_most FROM system.memory WHERE purpose = 'open'").await?;
    ensure!(open < 48 << 20, "{} MiB were open in memory", open >> 20);
    let names = std::fs::read_dir(std::path::Path::new(&place.launch.data).join("spill"))?.count();
    ensure!(names == 0, "{names} files have names");
    instance.terminate().await
}
