//! Every file of `queries/`, on every way, over clicks that end: each view must hold what the same SQL says as a plain
//! batch query over the same clicks, read by a JSON reader that is not ours.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use thalweg_engine::source::clicks::Clicks;

use crate::instance::Instance;
use crate::place::Place;
use crate::shop::lines;
use crate::sqllogic::{Kind, Server, Table, table};
use crate::ways::{Course, Way, length};

/// Twelve rounds of every session, around a midnight.
const ROWS: i64 = 24_576;
const PARTITIONS: i32 = 2;
const RATE: f64 = 100.0;
const SEED: u64 = 1;
const START: &str = "2025-05-31T23:58:00Z";
const START_MICROS: i64 = 1_748_735_880_000_000;

/// What a file has, and what is put in its place.
const BOUNDED: (&str, &str) = ("rate = 1000, seed = 1, partitions = 4, start = 'now'", "");
/// Among so many users nobody buys three times within a minute.
const BUSY: (&str, &str) = ("HAVING count(*) > 2", "HAVING count(*) > 0");

#[tokio::test(flavor = "multi_thread")]
async fn the_views_of_the_files_hold_what_a_batch_query_says() -> Result<()> {
    let statements = statements()?;
    let views: Vec<View> = statements.iter().filter_map(|statement| View::of(statement)).collect();
    ensure!(views.len() >= 20, "queries/ has {} views", views.len());
    let oracle = oracle()?;
    let mut expected = vec![];
    for view in &views {
        let batch = plain(&view.query).with_context(|| view.name.clone())?;
        let frame = oracle.sql(&batch).await.with_context(|| format!("{}: {batch}", view.name))?;
        let schema = Arc::clone(frame.schema().inner());
        // The sides of a UNION ALL differ in what may be NULL, and in how their texts lie.
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let rows = frame.collect().await?.into_iter();
        let rows = rows.map(|rows| {
            let columns = rows.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| cast(column, field.data_type()));
            RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)
        });
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        expected.push(table(&schema, &rows)?);
        // Views after it may read it.
        oracle.register_table(view.name.as_str(), Arc::new(MemTable::try_new(schema, vec![rows])?))?;
    }
    let script: String = statements.iter().map(|statement| format!("{statement};\n")).collect();
    let mut known = None;
    for way in [Way::Straight, Way::Killed, Way::Cut(64), Way::Cut(1000), Way::Workers(1)] {
        let place = Place::folder("", &[])?;
        let course = Course { place: &place, statements: &script, of_topics: 0, length: known };
        let instance = course.run(way).await.with_context(|| way.to_string())?;
        let found = length(&instance).await?;
        ensure!(found.records == ROWS && known.is_none_or(|known| known == found), "{way}: {found:?}");
        known = Some(found);
        for (view, expected) in views.iter().zip(&expected) {
            check(view, expected, &instance).await.with_context(|| format!("{}, {way}", view.name))?;
        }
        instance.kill().await?;
    }
    Ok(())
}

struct View {
    name: String,
    query: String,
}

impl View {
    fn of(statement: &str) -> Option<View> {
        let (name, _) =
            statement.strip_prefix("CREATE MATERIALIZED VIEW ")?.split_once(char::is_whitespace)?;
        let (_, query) = statement.split_once(" AS\n")?;
        Some(View { name: name.to_owned(), query: query.to_owned() })
    }
}

/// Those of all files, in the order of their names.
fn statements() -> Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let mut files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|it| it == "sql"));
    files.sort();
    let texts = files.iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
    let mut text = texts.concat();
    let bounded =
        format!("rate = {RATE}, rows = {ROWS}, seed = {SEED}, partitions = {PARTITIONS}, start = '{START}'");
    for (there, instead) in [(BOUNDED.0, bounded.as_str()), BUSY] {
        ensure!(text.matches(there).count() == 1, "queries/ does not say {there:?} once");
        text = text.replace(there, instead);
    }
    // A comment may have a semicolon.
    let code = text.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    Ok(code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect())
}

/// The query with the rows of all windows in place of each window function.
fn plain(query: &str) -> Result<String> {
    let starts = ["FROM TABLE(", "FROM TUMBLE(", "FROM HOP("];
    let Some(from) = starts.iter().filter_map(|start| query.find(start)).min() else {
        return Ok(query.to_owned());
    };
    let function = from + "FROM ".len();
    let mut depth = 0;
    let end = query[function..].find(|each| {
        depth += i32::from(each == '(') - i32::from(each == ')');
        each == ')' && depth == 0
    });
    let end = function + end.context("a window function has no end")? + 1;
    let call = &query[function..end];
    let lengths = call.split("INTERVAL").skip(1).map(micros).collect::<Result<Vec<_>>>()?;
    let (slide, size) = match lengths[..] {
        [size] => (size, size),
        [slide, size] => (slide, size),
        _ => anyhow::bail!("a window function has {} lengths", lengths.len()),
    };
    ensure!(size % slide == 0, "the size is no multiple of the slide");
    // `clicks`, or a view: its own bounds give way.
    let arguments = call.trim_start_matches("TABLE(").split_once('(').context("a call has arguments")?.1;
    let mut arguments = arguments.trim_start_matches("TABLE ").split([',', '(', ')']).map(str::trim);
    let relation = arguments.next().context("a window has a relation")?;
    let time = arguments.find(|word| !["", "DESCRIPTOR"].contains(word)).context("a window has a time")?;
    let columns = if relation == "clicks" { "*" } else { "* EXCEPT (window_start, window_end)" };
    let moment = |micros: &str| format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let rows = format!(
        "(SELECT {columns}, {} AS window_start, {} AS window_end
          FROM (SELECT *, (CAST({time} AS BIGINT) / {slide} - hop) * {slide} AS start
                FROM {relation} CROSS JOIN generate_series(0, {} - 1) AS hops(hop)))",
        moment("start"),
        moment(&format!("start + {size}")),
        size / slide,
    );
    Ok(format!("{}{rows}{}", &query[..function], plain(&query[end..])?))
}

/// ` '1' MINUTE`, ` '5 minutes'`
fn micros(interval: &str) -> Result<i64> {
    let number: String = interval.chars().filter(char::is_ascii_digit).collect();
    let letters =
        interval.chars().skip_while(|each| !each.is_alphabetic()).take_while(|each| each.is_alphabetic());
    let seconds = match letters.collect::<String>().to_lowercase().trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        unit => anyhow::bail!("no such unit: {unit:?} in {interval:?}"),
    };
    Ok(number.parse::<i64>()? * seconds * 1_000_000)
}

/// Plain DataFusion, with a table of all the clicks.
fn oracle() -> Result<SessionContext> {
    let clicks = Clicks::new(SEED, PARTITIONS, Some(RATE), Some(START_MICROS));
    let (json, schema) = schemas();
    let mut batches = vec![];
    for partition in 0..PARTITIONS {
        let text = lines(&clicks, partition, ROWS / i64::from(PARTITIONS));
        let mut offset = 0;
        for batch in ReaderBuilder::new(Arc::clone(&json)).build(text.as_slice())? {
            let batch = batch?;
            let count = batch.num_rows();
            let mut columns = batch.columns().to_vec();
            columns.push(Arc::new(Int32Array::from(vec![partition; count])) as ArrayRef);
            columns.push(Arc::new(Int64Array::from_iter_values(offset..offset + count as i64)));
            offset += count as i64;
            batches.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
        }
    }
    let ctx = SessionContext::new();
    ctx.register_table("clicks", Arc::new(MemTable::try_new(schema, vec![batches])?))?;
    Ok(ctx)
}

/// What the JSON holds, and that with the columns of the record.
fn schemas() -> (SchemaRef, SchemaRef) {
    let texts = |names: &[&str]| -> Fields {
        names.iter().map(|name| Field::new(*name, DataType::Utf8View, true)).collect()
    };
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    let json = vec![
        text("event_id"),
        text("event_type"),
        Field::new("event_ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        text("user_id"),
        text("session_id"),
        text("product_id"),
        Field::new("price", DataType::Float64, true),
        Field::new("quantity", DataType::Int32, true),
        text("country"),
        Field::new("device", DataType::Struct(texts(&["type", "os"])), true),
        Field::new("utm", DataType::Struct(texts(&["source"])), true),
    ];
    let mut all = json.clone();
    all.push(Field::new("source_partition", DataType::Int32, false));
    all.push(Field::new("source_offset", DataType::Int64, false));
    (Arc::new(Schema::new(json)), Arc::new(Schema::new(all)))
}

async fn check(view: &View, expected: &Table, instance: &Instance) -> Result<()> {
    let found = Server(instance.client()?).table(&format!("SELECT * FROM {}", view.name)).await?;
    ensure!(!expected.rows.is_empty(), "nothing is expected");
    let (expected, found) = (split(expected), split(&found));
    ensure!(expected.len() == found.len(), "{} rows are expected, {} are there", expected.len(), found.len());
    for (expected, found) in expected.iter().zip(&found) {
        // Sums of floats depend on the order of adding, in their last digits.
        let near = |(one, other): (&f64, &f64)| (one - other).abs() <= 1e-9 * one.abs().max(1.0);
        let same = expected.0 == found.0 && expected.1.iter().zip(&found.1).all(near);
        ensure!(same, "expected {expected:?}\n   found {found:?}");
    }
    Ok(())
}

/// Each row's exact values and its floats, in the order of the former. NULL is exact too.
fn split(table: &Table) -> Vec<(Vec<&str>, Vec<f64>)> {
    let mut rows: Vec<_> = table
        .rows
        .iter()
        .map(|row| {
            let (mut exact, mut floats) = (vec![], vec![]);
            for (kind, value) in table.kinds.iter().zip(row) {
                match value.parse() {
                    Ok(float) if *kind == Kind::Real => floats.push(float),
                    _ => exact.push(value.as_str()),
                }
            }
            (exact, floats)
        })
        .collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}

#[test]
fn a_window_function_becomes_the_rows_of_its_windows() {
    let query = "SELECT a FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(t), INTERVAL '10' SECOND, INTERVAL '1 minute')) WHERE b";
    let plain = plain(query).unwrap();
    assert!(plain.starts_with("SELECT a FROM (SELECT *, ") && plain.ends_with(" WHERE b"), "{plain}");
    assert!(plain.contains("/ 10000000 - hop") && plain.contains("start + 60000000"), "{plain}");
    assert!(plain.contains("generate_series(0, 6 - 1)"), "{plain}");
    assert_eq!(super::queries::plain("SELECT a FROM clicks").unwrap(), "SELECT a FROM clicks");
}
