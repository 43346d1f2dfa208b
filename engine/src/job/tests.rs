//! The engine from the generator to Delta, in this process: interrupted, resumed, and with a batch lost on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use tempfile::TempDir;
use uuid::Uuid;

use crate::checkpoint::DataRoot;
use crate::clock::SystemClock;
use crate::ids::{Epoch, Offset};
use crate::job::shared::Table;
use crate::job::{Engine, Opened, Replanned, Settings, tables};
use crate::spec::{
    CatalogChange, ColumnOrigin, EventTime, GeneratorSpec, Input, Leg, SourceSpec, StreamOptions, StreamSpec,
    TIME_COLUMN, ViewShape, ViewSpec,
};
use crate::view::{LeafExec, Room};

const ROWS: u64 = 20_000;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn click_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("event_id", DataType::Utf8View, true),
        Field::new("event_ts", timestamp(), true),
    ]))
}

pub fn clicks() -> StreamSpec {
    clicks_of(Some(ROWS))
}

fn clicks_of(rows: Option<u64>) -> StreamSpec {
    StreamSpec {
        id: Uuid::from_u128(10),
        name: "clicks".into(),
        sql: "CREATE STREAM clicks".into(),
        schema: click_schema(),
        origins: vec![ColumnOrigin::Value; 2],
        event_time: Some(EventTime { column: 1, delay: 5_000_000 }),
        source: SourceSpec::Generator(GeneratorSpec {
            seed: 1,
            partitions: 3,
            rate: None,
            rows,
            start_micros: None,
        }),
        options: StreamOptions::default(),
    }
}

/// `SELECT * FROM clicks`.
fn archive() -> ViewSpec {
    let schema = click_schema();
    let column = |name: &str, alias: &str| ProjectionExpr {
        expr: col(name, &schema).expect("the column is declared"),
        alias: alias.to_string(),
    };
    let columns =
        vec![column("event_id", "event_id"), column("event_ts", "event_ts"), column("event_ts", TIME_COLUMN)];
    let leaf = Arc::new(LeafExec::of_micro_batch(Arc::clone(&schema)));
    let lower = ProjectionExec::try_new(columns, leaf).expect("the plan is legal");
    ViewSpec {
        lookups: vec![],
        retention: None,
        id: Uuid::from_u128(11),
        name: "archive".into(),
        sql: "CREATE MATERIALIZED VIEW archive".into(),
        legs: vec![Leg { input: Input::Stream("clicks".into()), columns: vec![0, 1] }],
        times: vec![None; schema.fields().len()],
        schema,
        shape: ViewShape::Copy { lowers: vec![Arc::new(lower)] },
        fingerprint: "1".into(),
    }
}

/// A view of this name without a row.
pub async fn table(name: &str) -> Table {
    let root = DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").expect("it is a URL"));
    let spec = ViewSpec { name: name.to_owned(), ..archive() };
    tables::created(&root, &Arc::new(spec), Epoch(0)).await.expect("nothing is in its way")
}

fn settings() -> Settings {
    let short = Duration::from_millis(20);
    Settings { epoch: short, roll: short * 3, workers: 2, ..Settings::default() }
}

async fn start(data: &TempDir, settings: Settings) -> crate::Result<Engine> {
    start_on(DataRoot::open(data.path().to_str().expect("the path is text"), &BTreeMap::new())?, settings)
        .await
}

async fn start_on(root: DataRoot, settings: Settings) -> crate::Result<Engine> {
    let opened = Opened::claim(settings, root, Arc::new(SystemClock::new())).await?;
    let streams = opened.streams().iter().map(|_| clicks()).collect();
    let views = opened.views().iter().map(|view| Replanned { id: view.id, spec: Ok(archive()) }).collect();
    opened.resume(streams, vec![], views).await
}

/// Rows in Parquet and rows in the tail.
fn rows(engine: &Engine) -> (u64, u64) {
    let snapshot = engine.snapshot();
    let table = &snapshot.views["archive"];
    let tail: usize = table.tail.iter().map(|closed| closed.rows.num_rows()).sum();
    (table.history.files.iter().map(|file| file.rows).sum(), tail as u64)
}

async fn read_to_the_end(engine: &Engine) {
    loop {
        let status = engine.status();
        if status.partitions.iter().map(|partition| partition.offset.0 as u64).sum::<u64>() == ROWS {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_click_arrives_once() {
    let data = TempDir::new().expect("a folder");
    let engine = start(&data, settings()).await.expect("the engine starts");
    engine.apply(CatalogChange::CreateStream(Arc::new(clicks()))).await.expect("the stream is created");
    read_to_the_end(&engine).await;
    engine.stop().await.expect("it stops");

    // The view came late, so it has nothing; the stream's place is kept.
    let engine = start(&data, settings()).await.expect("the engine starts again");
    engine.apply(CatalogChange::CreateView(Arc::new(archive()))).await.expect("the view is created");
    let offsets: Vec<Offset> = engine.status().partitions.iter().map(|partition| partition.offset).collect();
    assert_eq!(offsets.iter().map(|offset| offset.0 as u64).sum::<u64>(), ROWS);
    assert_eq!(rows(&engine), (0, 0));
    engine.stop().await.expect("it stops");
}

/// So few clicks that they wait until the epoch ends, which is long after the test.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_are_read_and_become_durable() {
    const CLICKS: u64 = 10;
    let live = async |engine: &Engine| {
        let rows = engine.snapshot().views["archive"]
            .open
            .finish(None, &Room::unbounded())
            .await
            .expect("what is open can be read");
        rows.iter().map(|batch| batch.num_rows() as u64).sum::<u64>()
    };
    let data = TempDir::new().expect("a folder");
    let settings = Settings { hold: true, epoch: Duration::from_secs(3600), ..settings() };
    let engine = start(&data, settings).await.expect("the engine starts");
    let clicks = Arc::new(clicks_of(Some(CLICKS)));
    engine.apply(CatalogChange::CreateStream(clicks)).await.expect("the stream is created");
    engine.apply(CatalogChange::CreateView(Arc::new(archive()))).await.expect("the view is created");
    engine.begin();
    while engine.status().streams[0].records < CLICKS {
        tokio::task::yield_now().await;
    }
    assert_eq!((live(&engine).await, rows(&engine)), (CLICKS, (0, 0)));
    assert_eq!(engine.shared.lock().filed_bytes(), 0, "no lower half has run");

    // Another view ends the epoch: what waited is the first one's, and none of it the new one's.
    let late = ViewSpec { id: Uuid::from_u128(12), name: "late".into(), ..archive() };
    engine.apply(CatalogChange::CreateView(Arc::new(late))).await.expect("another view is created");
    assert_eq!(live(&engine).await + rows(&engine).0 + rows(&engine).1, CLICKS);
    let other =
        engine.snapshot().views["late"].open.finish(None, &Room::unbounded()).await.expect("it can be read");
    assert!(other.iter().all(|batch| batch.num_rows() == 0));
    engine.stop().await.expect("it stops");
    assert_eq!(rows(&engine), (CLICKS, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_batch_stops_the_commit() {
    let data = TempDir::new().expect("a folder");
    let engine =
        start(&data, Settings { drop_batch: Some(1), ..settings() }).await.expect("the engine starts");
    engine
        .apply(CatalogChange::CreateStream(Arc::new(clicks_of(None))))
        .await
        .expect("the stream is created");
    engine.apply(CatalogChange::CreateView(Arc::new(archive()))).await.expect("the view is created");
    let ended = tokio::time::timeout(Duration::from_secs(60), engine.ended()).await.expect("it ends soon");
    let error = ended.expect_err("a lost batch is an imbalance");
    assert!(error.to_string().contains("not conserved"), "{error}");
    assert_eq!(rows(&engine), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_decoded_is_refused_and_leaves_nothing_behind() {
    let data = TempDir::new().expect("a folder");
    let engine = start(&data, settings()).await.expect("the engine starts");
    let mut blob = clicks();
    blob.schema = Arc::new(Schema::new(vec![
        Field::new("blob", DataType::BinaryView, true),
        Field::new("event_ts", timestamp(), true),
    ]));
    let error =
        engine.apply(CatalogChange::CreateStream(Arc::new(blob))).await.expect_err("JSON has no bytes");
    assert!(error.to_string().contains("blob"), "{error}");
    assert!(engine.streams().is_empty());
    engine.apply(CatalogChange::CreateStream(Arc::new(clicks()))).await.expect("a right one is still taken");
    engine.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_created_again_counts_from_nothing() {
    let data = TempDir::new().expect("a folder");
    let engine = start(&data, settings()).await.expect("the engine starts");
    engine.apply(CatalogChange::CreateStream(Arc::new(clicks()))).await.expect("the stream is created");
    read_to_the_end(&engine).await;
    engine.apply(CatalogChange::DropStream("clicks".into())).await.expect("the stream is dropped");
    engine.apply(CatalogChange::CreateStream(Arc::new(clicks()))).await.expect("the stream is created again");
    read_to_the_end(&engine).await;
    engine.stop().await.expect("it stops");
    let engine = start(&data, settings()).await.expect("the engine starts again");
    assert_eq!(engine.status().streams[0].records, ROWS);
    engine.stop().await.expect("it stops");
}

/// Each put takes a tenth of a second, in which the workers could read and file most of the clicks.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_holds_the_workers_back_and_loses_nothing() {
    const CLICKS: u64 = 400_000;
    const FILED_BYTES_MAX: usize = 2 << 20;
    let slow = ThrottleConfig { wait_put_per_call: Duration::from_millis(100), ..ThrottleConfig::default() };
    let store = ThrottledStore::new(InMemory::new(), slow);
    let root = DataRoot::over(Arc::new(store), url::Url::parse("memory:///").expect("it is a URL"));
    let settings = Settings { hold: true, filed_bytes_max: FILED_BYTES_MAX, ..settings() };
    let engine = start_on(root, settings).await.expect("the engine starts");
    let clicks = Arc::new(clicks_of(Some(CLICKS)));
    engine.apply(CatalogChange::CreateStream(clicks)).await.expect("the stream is created");
    engine.apply(CatalogChange::CreateView(Arc::new(archive()))).await.expect("the view is created");
    engine.begin();
    let (mut filed_most, mut read) = (0, 0);
    while read < CLICKS {
        filed_most = filed_most.max(engine.shared.lock().filed_bytes());
        read = engine.status().streams[0].records;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine.stop().await.expect("it stops");
    assert_eq!(rows(&engine), (CLICKS, 0));
    assert!(filed_most > FILED_BYTES_MAX, "the store was never too slow, so nothing was shown");
    // Each of the two workers may have been in a micro-batch when the bound was reached.
    let most = FILED_BYTES_MAX + 2 * (2 << 20);
    assert!(filed_most <= most, "{filed_most} bytes waited for the store, of at most {most}");
}
