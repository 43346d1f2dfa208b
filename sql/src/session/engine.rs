//! What a session asks of the running job. The job implements it, and tests do with a job that only remembers.

use std::sync::Arc;

use async_trait::async_trait;
use thalweg_engine::Result;
use thalweg_engine::collect::Collector;
use thalweg_engine::snapshot::Snapshot;
use thalweg_engine::spec::{CatalogChange, KeptStatement, LookupSpec, StreamSpec, ViewSpec};
use thalweg_engine::status::Status;
use tokio::sync::watch;

#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// All tables at one instant; cheap, since a snapshot is shared parts.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Tells when it may pay to take another; one that has nobody who tells is to be looked at now and then.
    fn changes(&self) -> watch::Receiver<()> {
        watch::channel(()).1
    }

    fn status(&self) -> Status;

    /// The streams there are, by name in order.
    fn streams(&self) -> Vec<Arc<StreamSpec>>;

    fn stream(&self, name: &str) -> Option<Arc<StreamSpec>> {
        self.streams().into_iter().find(|stream| stream.name == name)
    }

    /// The views there are, by name in order.
    fn views(&self) -> Vec<Arc<ViewSpec>>;

    /// The tables there are that views look up, by name in order.
    fn tables(&self) -> Vec<Arc<LookupSpec>>;

    /// The statements that are kept and not run, by name in order: endpoints by their paths, and plain views.
    fn kept(&self) -> Vec<Arc<KeptStatement>>;

    fn kept_as(&self, name: &str) -> Option<Arc<KeptStatement>> {
        self.kept().into_iter().find(|statement| statement.name == name)
    }

    /// For whoever brings records into a stream.
    fn collector(&self, stream: &str) -> Result<Collector>;

    /// Streams into which records may wait that an earlier run has taken.
    fn spooled(&self) -> Vec<String> {
        vec![]
    }

    /// What a reference stands for: `${env:NAME}`, `${file:NAME}`.
    fn secret(&self, reference: &str) -> Result<String> {
        Err(thalweg_engine::Error::Invalid(format!("no secrets are kept here. reference={reference:?}")))
    }

    /// Returns once the change is durable, with what there is to say about it. It may be refused; then nothing has changed.
    async fn apply(&self, change: CatalogChange) -> Result<Option<String>>;
}

#[async_trait]
impl Engine for thalweg_engine::job::Engine {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes()
    }

    fn status(&self) -> Status {
        self.status()
    }

    fn streams(&self) -> Vec<Arc<StreamSpec>> {
        self.streams()
    }

    fn stream(&self, name: &str) -> Option<Arc<StreamSpec>> {
        self.stream(name)
    }

    fn views(&self) -> Vec<Arc<ViewSpec>> {
        self.views()
    }

    fn tables(&self) -> Vec<Arc<LookupSpec>> {
        self.lookups()
    }

    fn kept(&self) -> Vec<Arc<KeptStatement>> {
        self.kept()
    }

    fn kept_as(&self, name: &str) -> Option<Arc<KeptStatement>> {
        self.kept_as(name)
    }

    fn collector(&self, stream: &str) -> Result<Collector> {
        self.collector(stream)
    }

    fn spooled(&self) -> Vec<String> {
        self.spooled()
    }

    fn secret(&self, reference: &str) -> Result<String> {
        self.secret(reference)
    }

    async fn apply(&self, change: CatalogChange) -> Result<Option<String>> {
        self.apply(change).await
    }
}
