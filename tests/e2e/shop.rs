//! Clicks, views over them, and what the views must hold: computed from the same bytes by a JSON reader that is not
//! ours and plain SQL without streams. A view is compared row by row, money in whole cents.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use deltalake_core::DeltaTableBuilder;
use thalweg_engine::ids::PartitionId;
use thalweg_engine::source::clicks::Clicks;

use crate::instance::{Instance, Launch};

pub const MINUTE: i64 = 60_000_000;
const WITHIN: Duration = Duration::from_secs(120);

const COLUMNS: &str = "
  event_id STRING, event_type STRING, event_ts TIMESTAMP(3), user_id STRING, session_id STRING, product_id STRING,
  price DOUBLE, quantity INT, country STRING, device STRUCT<type STRING, os STRING>, utm STRUCT<source STRING>,
  source_partition INT METADATA FROM 'partition', source_offset BIGINT METADATA FROM 'offset',
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND";

const VIEWS: &str = "
CREATE MATERIALIZED VIEW by_minute AS
SELECT window_start, window_end, event_type, count(*) AS events, sum(quantity) AS items,
       sum(price * quantity) AS revenue, count(DISTINCT session_id) AS sessions
FROM TUMBLE(clicks, event_ts, INTERVAL '1 minute') GROUP BY window_start, window_end, event_type;
CREATE MATERIALIZED VIEW by_product AS
SELECT window_start, window_end, product_id, count(*) AS events
FROM TUMBLE(clicks, event_ts, INTERVAL '10 seconds') GROUP BY window_start, window_end, product_id;
CREATE MATERIALIZED VIEW by_second AS
SELECT window_start, window_end, country, count(*) AS events
FROM TUMBLE(clicks, event_ts, INTERVAL '1 second') GROUP BY window_start, window_end, country;
CREATE MATERIALIZED VIEW minutes_of_seconds AS
SELECT window_start, window_end, country, sum(events) AS events, count(*) AS seconds
FROM TUMBLE(by_second, window_start, INTERVAL '1 minute') GROUP BY window_start, window_end, country;
CREATE MATERIALIZED VIEW against_before AS
SELECT cur.window_start, cur.event_type, cur.events, prev.events AS before
FROM by_minute AS cur LEFT JOIN by_minute AS prev
ON prev.event_type = cur.event_type AND prev.window_start = cur.window_start - INTERVAL '1 minute';
CREATE MATERIALIZED VIEW visits AS
SELECT window_start, window_end, session_id, count(*) AS events, sum(quantity) AS items
FROM SESSION(clicks PARTITION BY session_id, event_ts, INTERVAL '2 seconds')
GROUP BY window_start, window_end, session_id;
CREATE MATERIALIZED VIEW led_to AS
SELECT v.event_ts, v.event_id, b.event_id AS bought
FROM clicks AS v JOIN clicks AS b
ON v.session_id = b.session_id AND b.event_ts BETWEEN v.event_ts AND v.event_ts + INTERVAL '3 seconds'
WHERE v.event_id <> b.event_id;
CREATE TABLE continents (country STRING PRIMARY KEY, continent STRING) WITH (path = 'continents.csv', refresh = '1s');
CREATE MATERIALIZED VIEW by_continent AS
SELECT window_start, window_end, k.continent, count(*) AS events
FROM TUMBLE(clicks, event_ts, INTERVAL '10 seconds') AS c LEFT JOIN continents AS k ON k.country = c.country
GROUP BY window_start, window_end, k.continent;
CREATE MATERIALIZED VIEW totals WITH (snapshot = '1s') AS
SELECT country, count(*) AS events, count(DISTINCT session_id) AS sessions FROM clicks GROUP BY country;
CREATE MATERIALIZED VIEW archive AS SELECT source_partition, source_offset, event_id FROM clicks;
";

/// What the views look up, in the folder of their script; of other countries nothing is known.
pub const CONTINENTS: &str = "country,continent\nDE,Europe\nFR,Europe\nGB,Europe\nUS,America\n";

/// A view, the columns to compare of it, and the same from the clicks.
const QUESTIONS: [(&str, &str, &str); 10] = [
    (
        "by_minute",
        "CAST(window_start AS BIGINT) AS w, event_type, events, items, CAST(round(revenue * 100) AS BIGINT), sessions",
        "SELECT CAST(event_ts AS BIGINT) / 60000000 * 60000000 AS w, event_type, count(*), sum(quantity),
                CAST(round(sum(price * quantity) * 100) AS BIGINT), count(DISTINCT session_id)
         FROM clicks GROUP BY 1, 2",
    ),
    (
        "by_product",
        "CAST(window_start AS BIGINT) AS w, product_id, events",
        "SELECT CAST(event_ts AS BIGINT) / 10000000 * 10000000 AS w, product_id, count(*) FROM clicks GROUP BY 1, 2",
    ),
    (
        "by_second",
        "CAST(window_start AS BIGINT) AS w, country, events",
        "SELECT CAST(event_ts AS BIGINT) / 1000000 * 1000000 AS w, country, count(*) FROM clicks GROUP BY 1, 2",
    ),
    (
        "minutes_of_seconds",
        "CAST(window_start AS BIGINT) AS w, country, events, seconds",
        "SELECT CAST(event_ts AS BIGINT) / 60000000 * 60000000 AS w, country, count(*),
                count(DISTINCT CAST(event_ts AS BIGINT) / 1000000)
         FROM clicks GROUP BY 1, 2",
    ),
    (
        "against_before",
        "CAST(window_start AS BIGINT) AS w, event_type, events, before",
        "WITH minutes AS (
           SELECT CAST(event_ts AS BIGINT) / 60000000 * 60000000 AS w, event_type, count(*) AS events
           FROM clicks GROUP BY 1, 2)
         SELECT cur.w, cur.event_type, cur.events, prev.events AS before
         FROM minutes AS cur LEFT JOIN minutes AS prev
         ON prev.event_type = cur.event_type AND prev.w = cur.w - 60000000",
    ),
    (
        "visits",
        "CAST(window_start AS BIGINT) AS w, CAST(window_end AS BIGINT), session_id, events, items",
        "WITH marked AS (
           SELECT CAST(event_ts AS BIGINT) AS t, session_id, quantity,
                  CASE WHEN CAST(event_ts AS BIGINT) - lag(CAST(event_ts AS BIGINT))
                            OVER (PARTITION BY session_id ORDER BY event_ts) < 2000000 THEN 0 ELSE 1 END AS begins
           FROM clicks),
         numbered AS (
           SELECT *, sum(begins) OVER (PARTITION BY session_id ORDER BY t RANGE UNBOUNDED PRECEDING) AS visit FROM marked)
         SELECT min(t) AS w, max(t) + 2000000, session_id, count(*), sum(quantity)
         FROM numbered GROUP BY session_id, visit",
    ),
    (
        "led_to",
        "CAST(event_ts AS BIGINT) AS w, event_id, bought",
        "SELECT CAST(v.event_ts AS BIGINT) AS w, v.event_id, b.event_id AS bought
         FROM clicks AS v JOIN clicks AS b
         ON v.session_id = b.session_id AND b.event_ts BETWEEN v.event_ts AND v.event_ts + INTERVAL '3 seconds'
         WHERE v.event_id <> b.event_id",
    ),
    (
        "by_continent",
        "CAST(window_start AS BIGINT) AS w, continent, events",
        "SELECT CAST(event_ts AS BIGINT) / 10000000 * 10000000 AS w,
                CASE WHEN country IN ('DE', 'FR', 'GB') THEN 'Europe' WHEN country = 'US' THEN 'America' END AS continent,
                count(*)
         FROM clicks GROUP BY 1, 2",
    ),
    (
        "totals",
        "CAST(0 AS BIGINT) AS w, country, events, sessions",
        "SELECT CAST(0 AS BIGINT) AS w, country, count(*), count(DISTINCT session_id) FROM clicks GROUP BY country",
    ),
    (
        "archive",
        "CAST(0 AS BIGINT) AS w, source_partition, source_offset, event_id",
        "SELECT CAST(0 AS BIGINT) AS w, source_partition, source_offset, event_id FROM clicks",
    ),
];

/// Clicks that are due by the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Paced {
    pub seed: u64,
    pub partitions: i32,
    pub rate: f64,
    pub rows: u64,
    /// Event time of the first, in microseconds.
    pub start: i64,
}

/// What the views must hold.
pub struct Oracle {
    ctx: SessionContext,
    pub rows: i64,
    /// Windows from here on never close; no end where the source ends.
    pub open_from: Option<i64>,
}

impl Paced {
    /// The first click was due `before` now.
    pub fn since(before: Duration, seed: u64, rate: f64, rows: u64) -> Result<Paced> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH)? - before;
        // Whole milliseconds, so that the text of the option says all of it.
        Ok(Paced { seed, partitions: 4, rate, rows, start: start.as_millis() as i64 * 1000 })
    }

    /// Clicks that are due by now, but for those of the last seconds.
    pub fn due(&self) -> i64 {
        let since =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64 - self.start;
        let due = (since as f64 / 1e6 - 5.0) * self.rate;
        (due as i64).min(self.rows as i64)
    }

    pub fn clicks(&self) -> Clicks {
        Clicks::new(self.seed, self.partitions, Some(self.rate), Some(self.start))
    }

    /// What `serve` is given.
    pub fn script(&self) -> Result<String> {
        let start =
            arrow::temporal_conversions::timestamp_us_to_datetime(self.start).context("no such time")?;
        let start = start.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let Paced { seed, partitions, rate, rows, .. } = self;
        Ok(script(&format!(
            "connector = 'generator', rate = {rate}, rows = {rows}, seed = {seed}, partitions = {partitions},
             start = '{start}'"
        )))
    }

    pub fn oracle(&self) -> Result<Oracle> {
        let (rows, partitions) = (self.rows as i64, i64::from(self.partitions));
        let count = |p: i32| rows / partitions + i64::from(i64::from(p) < rows % partitions);
        let clicks = Arc::new(self.clicks());
        let lines = (0..self.partitions).map(|p| {
            let clicks = Arc::clone(&clicks);
            Lines::of(count(p), move |offset, line| clicks.write(PartitionId(p), offset, line))
        });
        Oracle::of(lines.collect(), None)
    }
}

/// The views over clicks from any connector. A pause of the machine is not the silence of a partition.
pub fn script(connector: &str) -> String {
    format!("CREATE STREAM clicks ({COLUMNS}) WITH ({connector}, idle = '10 minutes');{VIEWS}")
}

/// The first clicks of a partition, one a line.
pub fn lines(clicks: &Clicks, partition: i32, count: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for offset in 0..count {
        clicks.write(PartitionId(partition), offset, &mut bytes);
        bytes.push(b'\n');
    }
    bytes
}

/// A partition's records, one a line, written when they are read: those of hours need not lie in memory.
pub struct Lines<F> {
    count: i64,
    write: F,
    next: i64,
    written: Vec<u8>,
    read: usize,
}

impl<F: FnMut(i64, &mut Vec<u8>)> Lines<F> {
    pub fn of(count: i64, write: F) -> Lines<F> {
        Lines { count, write, next: 0, written: Vec::new(), read: 0 }
    }
}

impl<F: FnMut(i64, &mut Vec<u8>)> BufRead for Lines<F> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.read == self.written.len() {
            self.written.clear();
            self.read = 0;
            let to = self.count.min(self.next + 1000);
            for offset in self.next..to {
                (self.write)(offset, &mut self.written);
                self.written.push(b'\n');
            }
            self.next = to;
        }
        Ok(&self.written[self.read..])
    }

    fn consume(&mut self, read: usize) {
        self.read += read;
    }
}

impl<F: FnMut(i64, &mut Vec<u8>)> Read for Lines<F> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

impl Oracle {
    /// Each partition's records, one a line, from offset 0. Those without an event time become no rows.
    pub fn of(partitions: Vec<impl BufRead>, open_from: Option<i64>) -> Result<Oracle> {
        let (json, schema) = schemas();
        let mut batches = Vec::new();
        let mut total = 0;
        for (partition, lines) in partitions.into_iter().enumerate() {
            let mut offset = 0;
            for batch in ReaderBuilder::new(Arc::clone(&json)).build(lines)? {
                let batch = batch?;
                let count = batch.num_rows();
                let mut columns = batch.columns().to_vec();
                columns.push(Arc::new(Int32Array::from(vec![partition as i32; count])) as ArrayRef);
                columns.push(Arc::new(Int64Array::from_iter_values(offset..offset + count as i64)));
                offset += count as i64;
                let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
                let dated = is_not_null(batch.column_by_name("event_ts").context("clicks have a time")?)?;
                total += dated.true_count() as i64;
                batches.push(filter_record_batch(&batch, &dated)?);
            }
        }
        let ctx = SessionContext::new();
        ctx.register_table("clicks", Arc::new(MemTable::try_new(schema, vec![batches])?))?;
        Ok(Oracle { ctx, rows: total, open_from })
    }

    /// Waits until all clicks are in, and then until every window that can close has.
    pub async fn await_end(&self, instance: &Instance) -> Result<()> {
        let all = |count| count >= self.rows;
        instance.until("SELECT count(*) FROM public.archive", WITHIN, all).await?;
        let open_from = self.open_from.unwrap_or(i64::MAX);
        let open = QUESTIONS.map(|(view, columns, _)| {
            let closing = !["archive", "totals"].contains(&view);
            format!("(SELECT count(*) FROM (SELECT {columns} FROM live.{view}) WHERE {closing} AND w < {open_from})")
        });
        instance.until(&format!("SELECT {}", open.join(" + ")), WITHIN, |open| open == 0).await?;
        Ok(())
    }

    /// Every view, whole: closed and open.
    pub async fn check_public(&self, instance: &Instance) -> Result<()> {
        for (view, columns, expected) in QUESTIONS {
            let expected = self.ctx.sql(expected).await?.collect().await?;
            let found = instance.batches(&format!("SELECT {columns} FROM public.{view}"), WITHIN).await?;
            same(&format!("public.{view}"), &expected, &found)?;
        }
        Ok(())
    }

    /// The Delta tables of a folder, read without us: exactly the closed windows, and every row of the copy.
    pub async fn check_delta(&self, data: &Path) -> Result<()> {
        for (view, columns, expected) in QUESTIONS {
            let closed = format!("w < {}", self.open_from.unwrap_or(i64::MAX));
            let expected = format!("SELECT * FROM ({expected}) WHERE {closed}");
            let expected = self.ctx.sql(&expected).await?.collect().await?;
            let folder = data.join("tables").join(view);
            if !check_log(view, &folder)? {
                // In a short run nothing may have closed.
                ensure!(expected.iter().all(|batch| batch.num_rows() == 0), "{view}: nothing was committed");
                continue;
            }
            let ctx = delta(view, &folder).await?;
            let found = ctx.sql(&format!("SELECT {columns} FROM {view}")).await?.collect().await?;
            same(&format!("Delta table {view}"), &expected, &found)?;
        }
        Ok(())
    }

    /// Starts once more, lets it come to the end, compares, stops it, and compares the Delta tables.
    pub async fn check_to_the_end(&self, launch: &Launch, data: &DataCopy) -> Result<()> {
        let instance = launch.start(&[]).await?;
        self.finish(instance, data).await
    }

    /// The same with an instance that runs.
    pub async fn finish(&self, instance: Instance, data: &DataCopy) -> Result<()> {
        self.await_end(&instance).await?;
        self.check_public(&instance).await?;
        instance.terminate().await?;
        self.check_delta(&data.local().await?).await
    }
}

/// Where an instance keeps its data, and a way to read that from the local disk.
pub enum DataCopy {
    Folder(std::path::PathBuf),
    Bucket { root: thalweg_engine::checkpoint::DataRoot, copy: tempfile::TempDir },
}

impl DataCopy {
    pub async fn local(&self) -> Result<std::path::PathBuf> {
        use futures::TryStreamExt;
        use object_store::{ObjectStore, ObjectStoreExt};
        let (root, copy) = match self {
            DataCopy::Folder(folder) => return Ok(folder.clone()),
            DataCopy::Bucket { root, copy } => (root, copy),
        };
        let mut objects = root.objects().list(Some(&"tables".into()));
        while let Some(object) = objects.try_next().await? {
            let path = copy.path().join(object.location.as_ref());
            std::fs::create_dir_all(path.parent().context("an object lies in a folder")?)?;
            std::fs::write(path, root.objects().get(&object.location).await?.bytes().await?)?;
        }
        Ok(copy.path().to_path_buf())
    }
}

/// A file that is added twice shows its rows once in the newest version, but twice to whoever follows the versions. Says
/// whether anything was committed.
fn check_log(view: &str, folder: &Path) -> Result<bool> {
    let mut versions = std::fs::read_dir(folder.join("_delta_log"))?
        .map(|entry| Ok(entry?.path()))
        .filter(|path: &Result<_>| {
            !path.as_ref().is_ok_and(|path| path.extension().is_none_or(|e| e != "json"))
        })
        .collect::<Result<Vec<_>>>()?;
    versions.sort();
    let (mut files, mut newest) = (HashSet::new(), None);
    for version in versions {
        for line in std::fs::read_to_string(&version)?.lines() {
            let action: serde_json::Value = serde_json::from_str(line)?;
            if let Some(path) = action["add"]["path"].as_str() {
                ensure!(files.insert(path.to_owned()), "{view}: {path} is added again by {version:?}");
            }
            if let Some(txn) = action["txn"]["version"].as_i64() {
                ensure!(newest < Some(txn), "{view}: {version:?} has txn {txn} after {newest:?}");
                newest = Some(txn);
            }
        }
    }
    Ok(newest.is_some())
}

/// The table's newest version, its files read as plain Parquet.
async fn delta(view: &str, folder: &Path) -> Result<SessionContext> {
    let url = url::Url::from_directory_path(folder).map_err(|()| anyhow::anyhow!("no path: {folder:?}"))?;
    let table = DeltaTableBuilder::from_url(url)?.load().await.with_context(|| format!("{folder:?}"))?;
    let files: Vec<String> = table.get_file_uris()?.collect();
    ensure!(!files.is_empty(), "the Delta table {view} has no files");
    let ctx = SessionContext::new();
    let frame = ctx.read_parquet(files, ParquetReadOptions::default()).await?;
    ctx.register_table(view, frame.into_view())?;
    Ok(ctx)
}

/// Compares as bags: of rows there may be many millions, so what is counted is their hashes.
fn same(what: &str, expected: &[RecordBatch], found: &[RecordBatch]) -> Result<()> {
    let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    let (expected_rows, found_rows) = (count(expected), count(found));
    ensure!(expected_rows > 0, "nothing is expected of {what}");
    let mut counts: HashMap<u64, i64> = HashMap::with_capacity(expected_rows);
    for (batches, by) in [(expected, 1), (found, -1)] {
        each_row(batches, |hash, _| *counts.entry(hash).or_default() += by)?;
    }
    counts.retain(|_, count| *count != 0);
    if counts.is_empty() {
        return Ok(());
    }
    let differing = counts.len();
    let mut shown = Vec::new();
    each_row(expected, |hash, row| shown.extend(counts.remove(&hash).map(|count| (row.to_owned(), count))))?;
    each_row(found, |hash, row| shown.extend(counts.remove(&hash).map(|count| (row.to_owned(), count))))?;
    shown.sort();
    let shown: Vec<_> = shown.iter().take(10).map(|(row, count)| format!("{count:+} {row}")).collect();
    anyhow::bail!(
        "{what}: {expected_rows} rows are expected, {found_rows} are there, {differing} differ (+ missing, - too much):\n{}",
        shown.join("\n")
    )
}

/// Each row as text, with the hash of that.
fn each_row(batches: &[RecordBatch], mut of: impl FnMut(u64, &str)) -> Result<()> {
    let options = FormatOptions::default();
    let mut row = String::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for at in 0..batch.num_rows() {
            row.clear();
            for column in &columns {
                write!(row, "{:?} ", column.value(at).try_to_string()?)?;
            }
            let mut hasher = DefaultHasher::new();
            row.hash(&mut hasher);
            of(hasher.finish(), &row);
        }
    }
    Ok(())
}

/// What the JSON holds, and that with the columns of the record.
fn schemas() -> (SchemaRef, SchemaRef) {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let json = vec![
        text("event_id"),
        text("event_type"),
        Field::new("event_ts", DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), true),
        text("session_id"),
        text("product_id"),
        Field::new("price", DataType::Float64, true),
        Field::new("quantity", DataType::Int32, true),
        text("country"),
    ];
    let mut all = json.clone();
    all.push(Field::new("source_partition", DataType::Int32, false));
    all.push(Field::new("source_offset", DataType::Int64, false));
    (Arc::new(Schema::new(json)), Arc::new(Schema::new(all)))
}

#[test]
fn bags_that_differ_are_told_apart() {
    let bag = |rows: &[&str]| {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(rows));
        [RecordBatch::try_from_iter([("c", column)]).unwrap()]
    };
    assert!(same("a view", &bag(&["a", "b", "a"]), &bag(&["a", "a", "b"])).is_ok());
    for (found, told) in [
        (&["a", "b"][..], "+1 \"a\""),
        (&["a", "a", "a", "b"], "-1 \"a\""),
        (&["a", "a", "c"], "+1 \"b\""),
        (&["a", "a", "c"], "-1 \"c\""),
    ] {
        let error = same("a view", &bag(&["a", "b", "a"]), &bag(found)).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    assert!(same("a view", &bag(&[]), &bag(&[])).is_err());
}
