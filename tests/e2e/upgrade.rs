//! A data root that an older version made is opened, and gone on with. Each was written by the last version of its format,
//! and killed with windows of views of each shape open, and rows in tails.
//!
//! `fixtures/format-1`: at record 250 of 400, with nothing in Parquet. `fixtures/format-5`: at 120, with Parquet, and again
//! at 250; chains, sessions, a table that is looked up, and a view without a window among its views.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::instance::{Instance, Rows};
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const FIRST: [&str; 5] = ["tumbled", "hopped", "distinct_users", "rolled", "copied"];
const SINCE_5: [&str; 4] = ["chained", "visits", "named", "totals"];

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/format-{format}"))
}

/// The views over a fixture's files, and no data yet.
fn place(format: u32) -> Result<Place> {
    let place = Place::folder(&std::fs::read_to_string(fixture(format).join("views.sql"))?, &[])?;
    for entry in std::fs::read_dir(fixture(format))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), place.launch.script.with_file_name(entry.file_name()))?;
        }
    }
    Ok(place)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// Starts, reads to the end, and gives the rows of all views once every window has closed.
async fn rows(place: &Place, views: &[&str]) -> Result<(Instance, Vec<Rows>)> {
    let instance = place.launch.start(&[]).await?;
    let open = "SELECT count(*) FROM system.streams WHERE NOT ended";
    instance.until(open, WITHIN, |open| open == 0).await?;
    let open = "SELECT coalesce(sum(open_windows), 0) FROM system.views WHERE view <> 'totals'";
    instance.until(open, WITHIN, |open| open == 0).await?;
    let failed = instance.query("SELECT view, reason FROM system.views WHERE state <> 'running'").await?;
    ensure!(failed.is_empty(), "{failed:?}");
    let mut all = vec![];
    for view in views {
        let mut rows = instance.query(&format!("SELECT * FROM {view}")).await?;
        rows.sort();
        all.push(rows);
    }
    all.push(instance.query("SELECT view, late_rows FROM system.views ORDER BY view").await?);
    Ok((instance, all))
}

async fn goes_on(format: u32, views: &[&str]) -> Result<()> {
    let (old, new) = (place(format)?, place(format)?);
    let data = Path::new(&old.launch.data);
    copy(&fixture(format).join("data"), data)?;
    let (_new, expected) = rows(&new, views).await?;
    ensure!(expected.iter().all(|rows| rows.len() > 2), "{expected:?}");
    let (instance, found) = rows(&old, views).await?;
    assert_eq!(found, expected);
    instance.terminate().await?;
    let manifests = std::fs::read_dir(data.join("manifests"))?.map(|entry| Ok(entry?.path()));
    let newest = manifests.collect::<Result<Vec<_>>>()?.into_iter().max().context("there are manifests")?;
    let written = format!("\"format\":{format},");
    ensure!(!std::fs::read_to_string(newest)?.contains(&written), "it was not written anew");
    let (instance, found) = rows(&old, views).await?;
    assert_eq!(found, expected, "read again as it was written anew");
    instance.terminate().await
}

/// Nothing has come since the older version left it.
async fn stays(format: u32, records: usize) -> Result<()> {
    let place = place(format)?;
    copy(&fixture(format).join("data"), Path::new(&place.launch.data))?;
    let clicks = place.launch.script.with_file_name("clicks.ndjson");
    let lines = std::fs::read_to_string(&clicks)?;
    let lines: Vec<&str> = lines.lines().take(records).collect();
    std::fs::write(&clicks, lines.join("\n") + "\n")?;
    for _ in 0..2 {
        let instance = place.launch.start(&[]).await?;
        let failed = instance.query("SELECT view, reason FROM system.views WHERE state <> 'running'").await?;
        ensure!(failed.is_empty(), "{failed:?}");
        instance.terminate().await?;
    }
    for _ in 0..2 {
        place.launch.start(&[]).await?.kill().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_an_older_format_in_which_nothing_comes_starts_again_and_again() -> Result<()> {
    stays(5, 260).await?;
    stays(1, 250).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_1_goes_on_and_is_written_anew() -> Result<()> {
    goes_on(1, &FIRST).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_5_goes_on_and_is_written_anew() -> Result<()> {
    goes_on(5, &[&FIRST[..], &SINCE_5].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_6_goes_on_and_is_written_anew() -> Result<()> {
    goes_on(6, &[&FIRST[..], &SINCE_5].concat()).await
}
