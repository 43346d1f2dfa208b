//! How long the log of a Delta table remembers.
//!
//! A checkpoint names each file that others were put in place of, for as long as the table's own configuration says; a week
//! of a table that rolls each minute would be 2 MB in each of 144 checkpoints a day. So they are named for a day, and of the
//! checkpoints of a day that is over one stays: from it, and from the versions behind it, any version can be read.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::checkpoint::LakeLog;

const CHECKPOINT_KEY: &str = "delta.checkpointInterval";
const TOMBSTONES_KEY: &str = "delta.deletedFileRetentionDuration";
const VERSIONS_KEY: &str = "delta.logRetentionDuration";

/// What tables had once.
const VERSIONS_A_CHECKPOINT_ONCE: &str = "100";

/// In the table's configuration, so that any engine that writes to it keeps to it.
pub(super) fn configuration(log: LakeLog) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (CHECKPOINT_KEY, log.versions_a_checkpoint.to_string()),
        (TOMBSTONES_KEY, interval(log.checkpoints)),
        (VERSIONS_KEY, interval(log.versions)),
    ])
}

/// What a table of an earlier version lacks. Whoever has set something else since is left alone.
pub(super) fn lacking<'a>(
    log: LakeLog,
    get: impl Fn(&str) -> Option<&'a str>,
) -> BTreeMap<&'static str, String> {
    let mut lacking = configuration(log);
    lacking.retain(|&key, value| match get(key) {
        None => true,
        Some(now) => key == CHECKPOINT_KEY && now == VERSIONS_A_CHECKPOINT_ONCE && now != value,
    });
    lacking
}

fn interval(duration: Duration) -> String {
    format!("interval {} seconds", duration.as_secs())
}

/// All but the first of the checkpoints of each day that is over. The newest stays: whoever reads the table begins there.
pub(super) fn spare_checkpoints(found: &[ObjectMeta], now: DateTime<Utc>, day: Duration) -> Vec<Path> {
    let day = day.as_millis().max(1) as i64;
    let mut checkpoints: Vec<&ObjectMeta> =
        found.iter().filter(|object| object.location.as_ref().ends_with(".checkpoint.parquet")).collect();
    // Their names are in the order of their versions.
    checkpoints.sort_by(|one, other| one.location.cmp(&other.location));
    checkpoints.pop();
    let (mut kept, mut gone) = (None, vec![]);
    for checkpoint in checkpoints {
        let at = checkpoint.last_modified.timestamp_millis();
        let is_over = at < now.timestamp_millis() - day;
        if is_over && kept == Some(at.div_euclid(day)) {
            gone.push(checkpoint.location.clone());
        }
        kept = Some(at.div_euclid(day));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_checkpoint_of_a_day_that_is_over_stays_and_the_newest() {
        let at = |hours: i64| DateTime::from_timestamp(hours * 3600, 0).unwrap();
        let object = |name: &str, hours| ObjectMeta {
            location: Path::from(format!("tables/v/_delta_log/{name}")),
            last_modified: at(hours),
            size: 1,
            e_tag: None,
            version: None,
        };
        let found = [
            object("00000000000000000010.checkpoint.parquet", 1),
            object("00000000000000000011.json", 2),
            object("00000000000000000020.checkpoint.parquet", 5),
            object("00000000000000000030.checkpoint.parquet", 25),
            object("00000000000000000040.checkpoint.parquet", 30),
            object("00000000000000000050.checkpoint.parquet", 47),
            object("00000000000000000060.checkpoint.parquet", 49),
            object("00000000000000000070.checkpoint.parquet", 49),
            object("_last_checkpoint", 49),
        ];
        let gone = |now| -> Vec<String> {
            let gone = spare_checkpoints(&found, at(now), Duration::from_secs(86_400)).into_iter();
            gone.map(|path| path.filename().unwrap()[18..20].to_owned()).collect()
        };
        assert!(gone(26).is_empty(), "of the first day one was made within a day");
        assert_eq!(gone(30), ["20"]);
        assert_eq!(gone(60), ["20", "40"]);
        assert_eq!(gone(1000), ["20", "40", "50"], "the newest is no spare one");
    }
}
