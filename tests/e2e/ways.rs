//! The ways to come to the end of some streams, all of which must give the same answers: straight through; killed in
//! the middle of reading, three times, and resumed; with other cuts of micro-batches; with another number of workers.
//!
//! Nothing is timed: an instance is killed where it was told to stop reading, and has come to its end when
//! `system.streams` says so and the epochs after that are durable.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::instance::{Instance, Launch};
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Straight,
    /// SIGKILL, three times, while records are still to come.
    Killed,
    /// So many rows in a micro-batch, at most.
    Cut(usize),
    Workers(usize),
}

/// How far the streams go, as the straight way tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Records of the longest partition.
    pub longest: i64,
    pub records: i64,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Straight => f.write_str("straight through"),
            Way::Killed => f.write_str("killed and resumed"),
            Way::Cut(rows) => write!(f, "in micro-batches of {rows}"),
            Way::Workers(workers) => write!(f, "with {workers} workers"),
        }
    }
}

impl Way {
    /// Closed rows stay in the tail on some ways and become Parquet at once on others.
    fn flags(self, length: Option<Length>) -> Vec<String> {
        let flags = match self {
            Way::Straight => String::new(),
            Way::Killed => {
                // So small that several epochs end between two kills.
                let rows = length.map_or(1, |length| length.longest / 32).max(1);
                format!("--batch-rows {rows} --epoch 5ms --roll 5ms")
            }
            Way::Cut(rows) => format!("--batch-rows {rows} --roll 50ms"),
            Way::Workers(workers) => format!("--workers {workers}"),
        };
        flags.split_whitespace().map(str::to_owned).collect()
    }
}

/// Some streams and views, created at the start by `statements`, on data that may be there already.
pub struct Course<'a> {
    pub place: &'a Place,
    pub statements: &'a str,
    /// Records of topics, whose streams have no end of their own.
    pub of_topics: i64,
    /// Unknown on the way that finds out.
    pub length: Option<Length>,
}

impl Course<'_> {
    /// An instance that has read everything, and has closed every window that can close.
    pub async fn run(&self, way: Way) -> Result<Instance> {
        let instance = match (way, self.length) {
            (Way::Killed, Some(length)) if self.statements.contains("CREATE STREAM") => {
                self.kill_thrice(length).await?;
                self.launch(way, "resume.sql", "")?.start(&[]).await?
            }
            _ => self.launch(way, "start.sql", self.statements)?.start(&[]).await?,
        };
        self.settle(&instance).await?;
        Ok(instance)
    }

    /// Starts with the statements once; what they created must come back by itself.
    async fn kill_thrice(&self, length: Length) -> Result<()> {
        let first = self.launch(Way::Killed, "start.sql", self.statements)?;
        let again = self.launch(Way::Killed, "resume.sql", "")?;
        ensure!(length.longest >= 4, "there are too few records to stop in the middle: {length:?}");
        for quarter in 1..=3 {
            let until = length.longest * quarter / 4;
            let launch = if quarter == 1 { &first } else { &again };
            let instance = launch.start(&["--read-until", &until.to_string()]).await?;
            let left =
                format!("SELECT count(*) FROM system.partitions WHERE NOT ended AND \"offset\" < {until}");
            instance.until(&left, WITHIN, |partitions| partitions == 0).await?;
            let read = instance.number("SELECT sum(\"offset\") FROM system.partitions").await?;
            ensure!(read < length.records, "everything was read before kill {quarter}: {read} records");
            // One kill comes after everything was committed, the others while the last epochs are not.
            if quarter == 2 {
                two_epochs(&instance).await?;
            }
            instance.kill().await?;
        }
        Ok(())
    }

    fn launch(&self, way: Way, file: &str, statements: &str) -> Result<Launch> {
        let launch = &self.place.launch;
        let script = launch.script.with_file_name(file);
        std::fs::write(&script, statements)?;
        Ok(Launch { script, flags: way.flags(self.length), ..launch.clone() })
    }

    async fn settle(&self, instance: &Instance) -> Result<()> {
        let going_on = "SELECT count(*) FROM system.streams WHERE NOT ended AND connector <> 'kafka'";
        instance.until(going_on, WITHIN, |streams| streams == 0).await?;
        let of_topics = "SELECT coalesce(sum(records), 0) FROM system.streams WHERE connector = 'kafka'";
        instance.until(of_topics, WITHIN, |records| records >= self.of_topics).await?;
        two_epochs(instance).await
    }
}

/// Whatever was read by now is durable with the second manifest from here at the latest.
async fn two_epochs(instance: &Instance) -> Result<()> {
    let newest = "SELECT coalesce(max(epoch), 0) FROM system.checkpoints";
    let epoch = instance.until(newest, WITHIN, |epoch| epoch > 0).await?;
    instance.until(newest, WITHIN, |now| now >= epoch + 2).await?;
    Ok(())
}

pub async fn length(instance: &Instance) -> Result<Length> {
    let of = async |aggregate: &str| {
        let sql = format!("SELECT coalesce({aggregate}(\"offset\"), 0) FROM system.partitions");
        instance.number(&sql).await
    };
    Ok(Length { longest: of("max").await?, records: of("sum").await? })
}
