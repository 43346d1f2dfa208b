//! A data root that an older version made is opened, and gone on with.
//!
//! `fixtures/format-1` was written by the last version of that format: killed at record 250 of 400, with windows of views
//! of each shape open, rows in tails, and nothing in Parquet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::instance::{Instance, Rows};
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const VIEWS: [&str; 5] = ["tumbled", "hopped", "distinct_users", "rolled", "copied"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1")
}

fn place() -> Result<Place> {
    let place = Place::folder(&std::fs::read_to_string(fixture().join("views.sql"))?, &[])?;
    std::fs::copy(fixture().join("clicks.ndjson"), place.launch.script.with_file_name("clicks.ndjson"))?;
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
async fn rows(place: &Place) -> Result<(Instance, Vec<Rows>)> {
    let instance = place.launch.start(&[]).await?;
    let open = "SELECT count(*) FROM system.streams WHERE NOT ended";
    instance.until(open, WITHIN, |open| open == 0).await?;
    let open = "SELECT coalesce(sum(open_windows), 0) FROM system.views";
    instance.until(open, WITHIN, |open| open == 0).await?;
    let failed = instance.query("SELECT view, reason FROM system.views WHERE state <> 'running'").await?;
    ensure!(failed.is_empty(), "{failed:?}");
    let mut all = vec![];
    for view in VIEWS {
        let mut rows = instance.query(&format!("SELECT * FROM {view}")).await?;
        rows.sort();
        all.push(rows);
    }
    all.push(instance.query("SELECT view, late_rows FROM system.views ORDER BY view").await?);
    Ok((instance, all))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_1_goes_on_and_is_written_anew() -> Result<()> {
    let (old, new) = (place()?, place()?);
    let data = Path::new(&old.launch.data);
    copy(&fixture().join("data"), data)?;
    let (_new, expected) = rows(&new).await?;
    ensure!(expected.iter().all(|rows| rows.len() > 4), "{expected:?}");
    let (instance, found) = rows(&old).await?;
    assert_eq!(found, expected);
    instance.terminate().await?;
    let manifests = std::fs::read_dir(data.join("manifests"))?.map(|entry| Ok(entry?.path()));
    let newest = manifests.collect::<Result<Vec<_>>>()?.into_iter().max().context("there are manifests")?;
    ensure!(!std::fs::read_to_string(newest)?.contains("\"format\":1,"), "it was not written anew");
    let (instance, found) = rows(&old).await?;
    assert_eq!(found, expected, "read again as it was written anew");
    instance.terminate().await
}
