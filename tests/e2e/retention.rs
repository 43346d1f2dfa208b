//! What is older than somebody wants leaves the lake, and nothing else does.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn dates_that_lie_far_enough_back_leave_and_no_others() -> Result<()> {
    let place = Place::folder("", &["--roll", "200ms", "--refused-retention", "2d"])?;
    let file = place.launch.script.with_file_name("records.ndjson");
    let mut lines = String::new();
    for day in 1..=9 {
        for hour in 0..24 {
            writeln!(lines, r#"{{"at":"2025-06-{day:02}T{hour:02}:00:00Z","n":{hour}}}"#)?;
        }
        writeln!(lines, r#"{{"at":"2025-06-{day:02}T12:00:00Z","n":"not a number"}}"#)?;
    }
    std::fs::write(&file, lines)?;
    let view = |name: &str, options: &str| {
        format!(
            "CREATE MATERIALIZED VIEW {name} {options} AS SELECT window_start, count(*) AS events, sum(n) AS n
             FROM TUMBLE(clicks, at, INTERVAL '1 hour') GROUP BY window_start;"
        )
    };
    let script = format!(
        "CREATE STREAM clicks (at TIMESTAMP, n BIGINT, WATERMARK FOR at AS at) WITH (connector = 'files', path = '{}');
         {} {}",
        file.display(),
        view("kept", ""),
        view("recent", "WITH (retention = '2d')")
    );
    std::fs::write(&place.launch.script, script)?;
    let instance = place.launch.start(&[]).await?;
    instance.until("SELECT count(*) FROM history.kept", WITHIN, |rows| rows == 9 * 24).await?;
    instance.until("SELECT count(*) FROM history.recent", WITHIN, |rows| rows == 3 * 24).await?;
    let dates =
        instance.query("SELECT CAST(min(window_start) AS STRING), count(*) FROM history.recent").await?;
    ensure!(dates[0][0].starts_with("2025-06-07"), "{dates:?}");
    // What lines of a file have no time of their own.
    let refused = "SELECT sum(records) FROM system.rejected_records";
    instance.until(refused, WITHIN, |records| records == 9).await?;
    let kept = instance.number("SELECT count(*) FROM history.kept").await?;
    ensure!(kept == 9 * 24, "{kept} rows");
    instance.terminate().await
}
