//! Makes few files of many. What a date's files hold stays as it is, epoch by epoch, so that whoever was told the rows of an
//! epoch goes on behind them; only how many files there are changes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::NaiveDate;
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value, json};

use super::closed;
use super::parquet::properties;
use super::{HistoryFile, HistoryFiles};
use crate::Result;
use crate::checkpoint::manifest::DataFile;
use crate::checkpoint::{DataRoot, Step, part_epoch, table_folder};
use crate::ids::Epoch;

/// Files from here on are large enough.
const LARGE: u64 = 128 << 20;

/// Files of one tier are about as large as each other: at most so many times.
const TIER: u64 = 8;

/// The smallest tier is of files up to this.
const SMALLEST: u64 = 64 << 10;

/// Files of one date that had better be one.
#[derive(Debug, Clone, PartialEq)]
pub struct Compaction {
    pub date: NaiveDate,
    /// In the order in which their rows closed.
    pub files: Vec<HistoryFile>,
}

impl Compaction {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// What is worth writing anew of a table's files: all small ones of a date that is over, and `fan` of about one size of the
/// newest, so that each row is written a few times at most. Those that another engine has put there do not say when their rows
/// closed, and are left.
pub fn due(history: &HistoryFiles, fan: usize) -> Option<Compaction> {
    let newest = history.files.iter().map(|file| file.date).max()?;
    let mut dates: BTreeMap<NaiveDate, Vec<&HistoryFile>> = BTreeMap::new();
    for file in history.files.iter().filter(|file| file.bytes < LARGE && closed_in(file).is_some()) {
        dates.entry(file.date).or_default().push(file);
    }
    dates.into_iter().find_map(|(date, mut files)| {
        files.sort_by_key(|file| (closed_in(file), file.path.clone()));
        let chosen = if date < newest { up_to_large(files, 2) } else { of_one_tier(files, fan) };
        chosen.map(|files| Compaction { date, files: files.into_iter().cloned().collect() })
    })
}

fn closed_in(file: &HistoryFile) -> Option<Epoch> {
    file.path.filename().and_then(part_epoch)
}

/// The first files that are large together, if there are so many.
fn up_to_large(files: Vec<&HistoryFile>, fan: usize) -> Option<Vec<&HistoryFile>> {
    let mut bytes = 0;
    let mut chosen: Vec<&HistoryFile> = vec![];
    for file in files {
        if bytes + file.bytes > LARGE && chosen.len() >= fan {
            break;
        }
        bytes += file.bytes;
        chosen.push(file);
    }
    (chosen.len() >= fan).then_some(chosen)
}

fn of_one_tier(files: Vec<&HistoryFile>, fan: usize) -> Option<Vec<&HistoryFile>> {
    let mut tiers: BTreeMap<u32, Vec<&HistoryFile>> = BTreeMap::new();
    for file in files {
        tiers.entry((file.bytes / SMALLEST).max(1).ilog(TIER)).or_default().push(file);
    }
    tiers.into_values().find_map(|files| up_to_large(files, fan.max(2)))
}

/// Writes the rows of all files into one, durable once it returns, and real once Delta has it in their place. `stats` are
/// Delta's of each. Nothing where files do not say when their rows closed, or that is mixed up.
pub async fn write(
    root: &DataRoot,
    table: &str,
    compaction: &Compaction,
    stats: &[String],
    path: String,
) -> Result<Option<DataFile>> {
    let mut read = vec![];
    for file in &compaction.files {
        let whole = root.objects().get(&file.path).await?.bytes().await?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(whole)?;
        let Some(runs) = closed::runs(builder.metadata().file_metadata().key_value_metadata()) else {
            return Ok(None);
        };
        read.push((runs, builder.schema().clone(), builder.build()?));
    }
    // Files of one roll may have been written in another order than their rows closed.
    let epoch = |run: Option<&(Epoch, usize)>| run.map(|(epoch, _)| *epoch);
    read.sort_by_key(|(runs, ..)| (epoch(runs.first()), epoch(runs.last())));
    let runs: Vec<(Epoch, usize)> = read.iter().flat_map(|(runs, ..)| runs.iter().copied()).collect();
    let Some((_, schema, _)) = read.first() else { return Ok(None) };
    if !runs.is_sorted_by_key(|(epoch, _)| *epoch) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties(schema, closed::told(&runs))?))?;
    for (_, _, reader) in read {
        for batch in reader {
            writer.write(&batch?)?;
        }
    }
    writer.close()?;
    let file = DataFile {
        path,
        bytes: bytes.len() as u64,
        rows: compaction.files.iter().map(|file| file.rows).sum(),
        date: compaction.date,
        stats: merged(stats),
    };
    root.failpoints().hit(Step::CompactedAbsent);
    root.put(&format!("{}/{}", table_folder(table), file.path), Bytes::from(bytes)).await?;
    root.failpoints().hit(Step::CompactedDurable);
    Ok(Some(file))
}

/// Delta's statistics of all rows together. A bound stays where each file has one, or nothing but NULL.
fn merged(stats: &[String]) -> String {
    let files: Vec<Value> = stats.iter().filter_map(|stats| serde_json::from_str(stats).ok()).collect();
    let rows = |file: &Value| file["numRecords"].as_u64().unwrap_or_default();
    let mut nulls: Map<String, Value> = Map::new();
    for file in &files {
        for (column, count) in file["nullCount"].as_object().into_iter().flatten() {
            let sum = nulls.get(column).and_then(Value::as_u64).unwrap_or_default();
            nulls.insert(column.clone(), json!(sum + count.as_u64().unwrap_or_default()));
        }
    }
    let bounds = |key: &str, wanted: Ordering| {
        let of_column = |column: &String| {
            let mut bound: Option<Value> = None;
            for file in &files {
                let Some(value) = file[key].get(column).filter(|value| !value.is_null()) else {
                    if file["nullCount"][column].as_u64() == Some(rows(file)) {
                        continue;
                    }
                    return None;
                };
                let is_better = match &bound {
                    Some(known) => compared(value, known)? == wanted,
                    None => true,
                };
                if is_better {
                    bound = Some(value.clone());
                }
            }
            bound.map(|bound| (column.clone(), bound))
        };
        nulls.keys().filter_map(of_column).collect::<Map<_, _>>()
    };
    json!({
        "numRecords": files.iter().map(rows).sum::<u64>(),
        "minValues": bounds("minValues", Ordering::Less),
        "maxValues": bounds("maxValues", Ordering::Greater),
        "nullCount": nulls,
    })
    .to_string()
}

/// Dates and timestamps, all written alike, are in the order of their texts.
fn compared(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    fn history(files: &[(u32, u64, u64)]) -> HistoryFiles {
        let file = |(day, epoch, bytes): &(u32, u64, u64)| HistoryFile {
            path: Path::from(format!("tables/v/part-0-{epoch:020}-0-0.parquet")),
            bytes: *bytes,
            rows: 1,
            date: NaiveDate::from_ymd_opt(2025, 6, *day).unwrap(),
            instants: vec![],
        };
        let files = Arc::new(files.iter().map(file).collect());
        HistoryFiles { store: Arc::new(InMemory::new()), files, is_lost: false }
    }

    fn chosen(files: &[(u32, u64, u64)]) -> Option<Vec<u64>> {
        let epochs = |compaction: Compaction| {
            compaction.files.iter().filter_map(closed_in).map(|epoch| epoch.0).collect()
        };
        due(&history(files), 4).map(epochs)
    }

    #[test]
    fn a_date_that_is_over_becomes_one_file() {
        assert_eq!(chosen(&[(1, 7, 10), (1, 3, 9_000_000), (2, 8, 10)]), Some(vec![3, 7]));
        assert_eq!(chosen(&[(1, 3, 10), (2, 8, 10)]), None);
        // But for files that are large.
        assert_eq!(chosen(&[(1, 3, LARGE), (1, 4, 10), (2, 8, 10)]), None);
        assert_eq!(chosen(&[(1, 3, LARGE - 1), (1, 4, 10), (1, 5, 10), (2, 8, 10)]), Some(vec![3, 4]));
    }

    #[test]
    fn of_the_newest_date_files_of_one_size_become_one() {
        assert_eq!(chosen(&[(2, 1, 10), (2, 2, 10), (2, 3, 10)]), None);
        assert_eq!(chosen(&[(2, 4, 10), (2, 2, 10), (2, 3, 10), (2, 1, 10)]), Some(vec![1, 2, 3, 4]));
        assert_eq!(chosen(&[(2, 1, 9_000_000), (2, 2, 10), (2, 3, 10), (2, 4, 10)]), None);
    }

    #[test]
    fn statistics_of_files_are_those_of_all_rows() {
        let of = |rows: u64, least: Value, most: Value, nulls: u64| {
            json!({
                "numRecords": rows,
                "minValues": {"a": least, "t": "2025-06-01T00:00:00Z"},
                "maxValues": {"a": most, "t": "2025-06-01T00:00:02Z"},
                "nullCount": {"a": nulls, "t": 0, "text": 0},
            })
            .to_string()
        };
        let all: Value = serde_json::from_str(&merged(&[
            of(3, json!(5), json!(9), 1),
            of(2, json!(-1), json!(7), 0),
            of(2, Value::Null, Value::Null, 2),
        ]))
        .unwrap();
        assert_eq!(all["numRecords"], 7);
        assert_eq!(all["minValues"], json!({"a": -1, "t": "2025-06-01T00:00:00Z"}));
        assert_eq!(all["maxValues"], json!({"a": 9, "t": "2025-06-01T00:00:02Z"}));
        assert_eq!(all["nullCount"], json!({"a": 3, "t": 0, "text": 0}));
    }
}
