//! `thalweg doctor DATA`: what is in a data root, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use thalweg_engine::checkpoint::DataRoot;
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::ids::{CALENDAR, Micros};
use thalweg_engine::inspect::{Inspection, TableSeen, inspect};

use crate::shell::table::{Column, Layout, lit};

/// A store that is away is waited for, and somebody is waiting for that.
const TOLD_AFTER: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Arguments {
    /// A folder, or s3://BUCKET/PREFIX with the credentials of AWS_… in the environment, as of serve
    #[arg(value_name = "DATA")]
    data: String,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let seen = runtime.context("no runtime").and_then(|runtime| runtime.block_on(look(&arguments.data)));
    match seen {
        Ok(seen) => {
            print!("{}", report(&arguments.data, &seen, SystemClock::new().wall()));
            if seen.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn look(data: &str) -> Result<Inspection> {
    let is_there = data.contains("://") || Path::new(data).is_dir();
    ensure!(is_there, "there is no such folder; write that of --data, or s3://BUCKET/PREFIX. data={data:?}");
    let root = DataRoot::open(data, &BTreeMap::new())?;
    let told = async {
        tokio::time::sleep(TOLD_AFTER).await;
        eprintln!(
            "still looking: the store does not answer, or there is much in it; AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT and \
             others of the environment say where it is and who asks. data={data:?}"
        );
        std::future::pending().await
    };
    tokio::select! {
        seen = inspect(&root) => Ok(seen?),
        never = told => never,
    }
}

fn report(data: &str, seen: &Inspection, now: Micros) -> String {
    let mut text = format!("{data}\n");
    match &seen.newest {
        None if seen.wrong.is_empty() => {
            text.push_str("there is no manifest: nothing was ever committed here\n");
        }
        None => {}
        Some(newest) => {
            let (epoch, at, age) =
                (newest.epoch, instant(newest.committed_at), since(now - newest.committed_at));
            text.push_str(&format!("newest epoch {epoch} of {at}, {age} ago\n"));
        }
    }
    let folders: Vec<[String; 5]> = seen
        .folders
        .iter()
        .map(|it| {
            let needed = it.needed > 0;
            let some = |text: String| if needed { text } else { String::new() };
            [
                it.name.to_owned(),
                it.objects.to_string(),
                bytes(it.bytes),
                some(it.needed.to_string()),
                some(bytes(it.needed_bytes)),
            ]
        })
        .collect();
    text.push_str(&table(["folder", "objects", "bytes", "needed", "of these"], &folders, &[1, 2, 3, 4]));
    let streams: Vec<[String; 5]> = seen
        .streams
        .iter()
        .map(|it| {
            let frontier = it.frontier.map(instant).unwrap_or_default();
            [
                it.name.clone(),
                it.partitions.to_string(),
                it.records.to_string(),
                it.rejected.to_string(),
                frontier,
            ]
        })
        .collect();
    if !streams.is_empty() {
        let columns = ["stream", "partitions", "records", "rejected", "frontier"];
        text.push_str(&table(columns, &streams, &[1, 2, 3]));
    }
    let tables: Vec<[String; 9]> = seen.tables.iter().map(row).collect();
    if !tables.is_empty() {
        let columns =
            ["table", "runs", "state", "tail rows", "files", "bytes", "rows", "dates", "closed through"];
        text.push_str(&table(columns, &tables, &[1, 2, 3, 4, 5, 6]));
    }
    for failed in seen.tables.iter().filter(|table| table.failed.is_some()) {
        let reason = failed.failed.as_deref().unwrap_or_default();
        text.push_str(&format!("view {} has failed: {reason}\n", failed.name));
    }
    for pending in seen.tables.iter().filter(|table| table.pending > 0) {
        text.push_str(&format!("{} waits to be told to Delta: {} commits\n", pending.name, pending.pending));
    }
    for folder in &seen.left {
        text.push_str(&format!(
            "{folder} is of a view that was dropped: it stays for as long as nobody deletes it\n"
        ));
    }
    match seen.wrong.as_slice() {
        [] if seen.tables.iter().any(|table| table.failed.is_some()) => {
            text.push_str("but for what has failed, nothing is wrong\n");
        }
        [] => text.push_str("nothing is wrong\n"),
        wrong => wrong.iter().for_each(|wrong| text.push_str(&format!("wrong: {wrong}\n"))),
    }
    text
}

fn row(table: &TableSeen) -> [String; 9] {
    let files = table.lake.iter().flat_map(|lake| &lake.files);
    let dates = files.clone().map(|file| file.date);
    let dates = match (dates.clone().min(), dates.max()) {
        (Some(first), Some(last)) if first == last => first.to_string(),
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => String::new(),
    };
    [
        table.name.clone(),
        table.runs.to_string(),
        bytes(table.state_bytes),
        table.tail_rows.to_string(),
        files.clone().count().to_string(),
        bytes(files.clone().map(|file| file.bytes).sum()),
        files.map(|file| file.rows).sum::<u64>().to_string(),
        dates,
        table.closed_through.map(instant).unwrap_or_default(),
    ]
}

/// With the columns of numbers, by their place, to the right.
fn table<const N: usize>(names: [&str; N], rows: &[[String; N]], numbers: &[usize]) -> String {
    let columns: Vec<Column> = names
        .iter()
        .enumerate()
        .map(|(at, name)| Column {
            name: (*name).to_owned(),
            right: numbers.contains(&at),
            cells: rows.iter().map(|row| Some(row[at].clone())).collect(),
        })
        .collect();
    let layout = Layout { width: None, colors: false, expanded: false };
    format!("\n{}\n", lit(&columns, &layout, &|_, _| false).trim_end_matches('\n'))
}

fn instant(at: Micros) -> String {
    match DateTime::from_timestamp_micros(at).filter(|_| CALENDAR.contains(&at)) {
        Some(at) => at.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => "the end".to_owned(),
    }
}

fn since(micros: Micros) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4) as usize;
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / 1024f64.powi(unit as i32), UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_for_people() {
        assert_eq!([0, 900, 1536, 5 << 30].map(bytes), ["0 B", "900 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(
            [-1, 90, 600, 90_000, 900_000].map(|s| since(s * 1_000_000)),
            ["0 s", "90 s", "10 min", "25 h", "10 days"]
        );
    }
}
