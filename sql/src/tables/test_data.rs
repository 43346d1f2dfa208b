//! A view in three parts, and a job that only remembers, for the tests of `tables` and `session`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use datafusion::arrow::array::{
    AsArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{max, min};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use datafusion::parquet::arrow::ArrowWriter;
use thalweg_engine::ids::{END_OF_TIME, Epoch, Offset, PartitionId};
use thalweg_engine::sink::{ClosedRows, HistoryFile, HistoryFiles, Instants};
use thalweg_engine::snapshot::{Snapshot, TableSnapshot, Version};
use thalweg_engine::spec::{CatalogChange, KeptStatement, LookupSpec, StreamSpec, ViewSpec};
use thalweg_engine::status::Wait;
use thalweg_engine::status::{
    Change, CheckpointStatus, CompactionStatus, Effort, Intervention, LedgerRow, MemoryStatus,
    PartitionStatus, Status, StoreRequests, StoreStatus, StreamStatus, ViewStatus,
};
use thalweg_engine::view::OpenPanes;

use crate::session::Engine;

pub(crate) const MINUTE: i64 = 60_000_000;

pub(crate) fn schema() -> SchemaRef {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("window_start", instant.clone(), false),
        Field::new("window_end", instant, false),
        Field::new("kind", DataType::Utf8View, true),
        Field::new("n", DataType::Int64, false),
    ]))
}

/// Rows of (minute, kind, n).
pub(crate) fn rows(rows: &[(i64, &str, i64)]) -> RecordBatch {
    let instants = |shift: i64| {
        let micros = rows.iter().map(|row| (row.0 + shift) * MINUTE);
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    };
    let kinds = StringViewArray::from_iter_values(rows.iter().map(|row| row.1));
    let counts = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    RecordBatch::try_new(schema(), vec![instants(0), instants(1), Arc::new(kinds), Arc::new(counts)]).unwrap()
}

pub(crate) async fn parquet(store: &Arc<dyn ObjectStore>, path: &str, batch: &RecordBatch) -> HistoryFile {
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let path = Path::from(path);
    let size = bytes.len() as u64;
    store.put(&path, bytes.into()).await.unwrap();
    HistoryFile {
        path,
        bytes: size,
        rows: batch.num_rows() as u64,
        date: NaiveDate::from_ymd_opt(1970, 1, 1).unwrap(),
        instants: instants_of(batch),
    }
}

fn instants_of(batch: &RecordBatch) -> Vec<Instants> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let bounds = columns.filter_map(|(field, column)| {
        let times = column.as_primitive_opt::<TimestampMicrosecondType>()?;
        Some(Instants { column: field.name().as_str().into(), least: min(times)?, most: max(times)? })
    });
    bounds.collect()
}

/// Minutes 0 and 1 in Parquet, minute 2 in the tail, minute 3 open.
pub(crate) async fn three_parts(name: &str) -> TableSnapshot {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first =
        parquet(&store, &format!("{name}/first.parquet"), &rows(&[(0, "buy", 1), (0, "view", 2)])).await;
    let second =
        parquet(&store, &format!("{name}/second.parquet"), &rows(&[(1, "buy", 4), (1, "view", 8)])).await;
    TableSnapshot {
        schema: schema(),
        version: Version::default(),
        open: Arc::new(OpenPanes::of_rows(vec![rows(&[(3, "buy", 64), (3, "view", 128)])])),
        tail: Arc::new(vec![ClosedRows { epoch: Epoch(1), rows: rows(&[(2, "buy", 16), (2, "view", 32)]) }]),
        history: Arc::new(HistoryFiles { store, files: Arc::new(vec![first, second]), is_lost: false }),
        failure: None,
        behind: None,
    }
}

#[derive(Default)]
pub(crate) struct MemoryEngine {
    pub snapshot: Mutex<Arc<Snapshot>>,
    streams: Mutex<BTreeMap<String, Arc<StreamSpec>>>,
    views: Mutex<BTreeMap<String, Arc<ViewSpec>>>,
    kept: Mutex<BTreeMap<String, Arc<KeptStatement>>>,
}

impl MemoryEngine {
    /// View `counts` in three parts.
    pub async fn with_counts() -> Arc<MemoryEngine> {
        let engine = MemoryEngine::default();
        engine.publish("counts", three_parts("counts").await);
        Arc::new(engine)
    }

    pub fn publish(&self, name: &str, table: TableSnapshot) {
        let mut snapshot = self.snapshot.lock().unwrap();
        let mut next = Snapshot::clone(&snapshot);
        next.epoch = snapshot.epoch.next();
        let records = next.epoch.0;
        next.views.insert(
            name.to_owned(),
            Arc::new(TableSnapshot { version: Version { records, ..table.version }, ..table }),
        );
        *snapshot = Arc::new(next);
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap())
    }

    fn status(&self) -> Status {
        status()
    }

    fn streams(&self) -> Vec<Arc<StreamSpec>> {
        self.streams.lock().unwrap().values().cloned().collect()
    }

    fn views(&self) -> Vec<Arc<ViewSpec>> {
        self.views.lock().unwrap().values().cloned().collect()
    }

    fn tables(&self) -> Vec<Arc<LookupSpec>> {
        vec![]
    }

    fn kept(&self) -> Vec<Arc<KeptStatement>> {
        self.kept.lock().unwrap().values().cloned().collect()
    }

    fn collector(&self, _: &str) -> thalweg_engine::Result<thalweg_engine::collect::Collector> {
        Err(thalweg_engine::Error::Invalid("nothing is brought here".into()))
    }

    async fn apply(&self, change: CatalogChange) -> thalweg_engine::Result<Option<String>> {
        match change {
            CatalogChange::CreateStream(stream) | CatalogChange::AwaitStream(stream) => {
                self.streams.lock().unwrap().insert(stream.name.clone(), stream);
            }
            CatalogChange::CreateView(view) | CatalogChange::AwaitView(view) => {
                let table = three_parts(&view.name).await;
                let empty = TableSnapshot {
                    schema: Arc::clone(&view.schema),
                    version: Version::default(),
                    open: Arc::default(),
                    tail: Arc::default(),
                    history: Arc::new(HistoryFiles {
                        is_lost: false,
                        files: Arc::default(),
                        ..HistoryFiles::clone(&table.history)
                    }),
                    failure: None,
                    behind: None,
                };
                self.publish(&view.name, empty);
                self.views.lock().unwrap().insert(view.name.clone(), view);
            }
            CatalogChange::DropStream(name) => {
                self.streams.lock().unwrap().remove(&name);
            }
            CatalogChange::DropView(name) => {
                self.views.lock().unwrap().remove(&name);
            }
            CatalogChange::SetWatermark { stream, to, .. } => return Ok(Some(format!("{stream} {to}"))),
            CatalogChange::Keep(spec) => {
                self.kept.lock().unwrap().insert(spec.name.clone(), spec);
            }
            CatalogChange::Forget(name) => {
                self.kept.lock().unwrap().remove(&name);
            }
            CatalogChange::CreateLookup(_) | CatalogChange::AwaitLookup(_) | CatalogChange::DropLookup(_) => {
                return Err(thalweg_engine::Error::Invalid("nothing is looked up here".into()));
            }
            CatalogChange::RestartView(_) | CatalogChange::RestartStream { .. } => {
                return Err(thalweg_engine::Error::Invalid("nothing has failed here".into()));
            }
        }
        Ok(None)
    }
}

fn status() -> Status {
    Status {
        streams: vec![StreamStatus {
            stream: "clicks".into(),
            connector: "files",
            records: 10,
            rejected: 1,
            bytes: 2950,
            frontier: Some(END_OF_TIME),
            failure: None,
            next_try: None,
            effort: Effort {
                reading: Duration::from_millis(1),
                decoding: Duration::from_millis(20),
                aggregating: Duration::from_micros(3999),
            },
        }],
        partitions: vec![PartitionStatus {
            stream: "clicks".into(),
            partition: PartitionId(0),
            offset: Offset(10),
            end_offset: Some(Offset(12)),
            watermark: Some(3 * MINUTE),
            ended: false,
            idle_since: None,
            holds_frontier: true,
        }],
        views: vec![ViewStatus {
            view: "counts".into(),
            stream: "clicks".into(),
            open_windows: 1,
            state_bytes: 100,
            spilled_bytes: 0,
            state_rows: 2,
            tail_rows: 2,
            history_files: 2,
            history_rows: 4,
            failed_rows: 0,
            failure: None,
            late_rows: 0,
            closed_through: Some(3 * MINUTE),
            born_after: None,
            waits_for: Wait::Rows,
        }],
        lookups: vec![],
        checkpoints: vec![CheckpointStatus {
            epoch: Epoch(7),
            committed_at: MINUTE,
            duration_micros: 900,
            barrier_micros: 100,
            close_micros: 500,
            manifest_micros: 300,
            delta_micros: 0,
            state_bytes: 100,
            records: 10,
        }],
        ledger: vec![LedgerRow {
            epoch: Epoch(7),
            stream: "clicks".into(),
            partition: Some(PartitionId(0)),
            records: 10,
            decoded: 9,
            rejected: 1,
            ..LedgerRow::default()
        }],
        compactions: vec![CompactionStatus {
            at: MINUTE,
            table: "revenue".into(),
            date: Default::default(),
            files: 8,
            bytes: 800,
            bytes_after: 500,
            rows: 80,
            micros: 9,
        }],
        store: StoreStatus {
            store: "s3://bucket/lake".into(),
            away: true,
            since: MINUTE,
            retries: 3,
            last_error: Some("no reply within 10 s".into()),
            last_error_at: Some(2 * MINUTE),
            requests: StoreRequests { puts: 7, bytes_put: 700, ..StoreRequests::default() },
        },
        memory: vec![MemoryStatus { purpose: "open", bytes: 1, bytes_most: 2, budget: 3 }],
        interventions: vec![Intervention {
            at: MINUTE,
            stream: "clicks".into(),
            partition: PartitionId(0),
            change: Change::Offset { before: Offset(3), after: Offset(7) },
        }],
    }
}
