//! The real database behind the wire, over an engine that keeps its catalog in memory and moves no rows.

use std::sync::{Arc, Mutex};

use thalweg_engine::clock::SystemClock;
use thalweg_engine::snapshot::Snapshot;
use thalweg_engine::spec::{CatalogChange, KeptStatement, LookupSpec, StreamSpec, ViewSpec};
use thalweg_engine::status::Status;
use thalweg_sql::session::{Database, Engine, Settings};
use tonic::Code;

use super::{Limits, connect, query, refused, rows, start_with};

#[derive(Default)]
struct CatalogOnly(Mutex<Vec<Arc<StreamSpec>>>);

#[async_trait::async_trait]
impl Engine for CatalogOnly {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::default()
    }

    fn status(&self) -> Status {
        Status::default()
    }

    fn streams(&self) -> Vec<Arc<StreamSpec>> {
        self.0.lock().unwrap().clone()
    }

    fn views(&self) -> Vec<Arc<ViewSpec>> {
        Vec::new()
    }

    fn tables(&self) -> Vec<Arc<LookupSpec>> {
        Vec::new()
    }

    fn kept(&self) -> Vec<Arc<KeptStatement>> {
        Vec::new()
    }

    fn collector(&self, _: &str) -> thalweg_engine::Result<thalweg_engine::collect::Collector> {
        Err(thalweg_engine::Error::Invalid("nothing is brought here".into()))
    }

    async fn apply(&self, change: CatalogChange) -> thalweg_engine::Result<Option<String>> {
        if let CatalogChange::CreateStream(stream) = change {
            self.0.lock().unwrap().push(stream);
        }
        Ok(None)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_answers_over_the_wire() {
    let runtime = tokio::runtime::Handle::current();
    let clock = Arc::new(SystemClock::new());
    let database =
        Database::new(Arc::new(CatalogOnly::default()), clock, runtime, Settings::default()).unwrap();
    let mut client = connect(&start_with(Arc::new(database), Limits::default()).await).await;

    assert_eq!(rows(&mut client, "SELECT 1 + 1 AS two").await, ["2"]);
    let create = "CREATE STREAM clicks (user_id STRING, t TIMESTAMP(3), \
                  WATERMARK FOR t AS t - INTERVAL '5' SECOND) WITH (connector = 'generator')";
    let done = client.execute(create.to_owned(), None).await.unwrap();
    assert!(done.endpoint.is_empty());
    assert!(String::from_utf8_lossy(&done.app_metadata).contains("clicks"), "{done:?}");
    assert!(rows(&mut client, "SHOW STREAMS").await[0].starts_with("clicks"));
    assert!(query(&mut client, "SELECT * FROM system.checkpoints").await.is_empty());

    let status = refused(&mut client, "SELECT 1,\n  nothing FROM system.views").await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("line 2, column 3: "), "{}", status.message());
    assert!(status.message().contains("nothing"), "{}", status.message());
}
