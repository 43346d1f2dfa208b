//! What all sessions share: the job, the bounds, the runtime that queries run on, and the list of queries.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use thalweg_engine::clock::Clock;
use thalweg_engine::collect::Collector;
use thalweg_engine::status::Status;
use thalweg_engine::view::by_row_too;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::elsewhere::Elsewhere;
use super::endpoint::{Endpoint, Read};
use super::engine::Engine;
use super::known::Known;
use super::memory::Share;
use super::registry::{QueryStatus, Registry};
use super::settings::{Client, Settings};
use super::sink::{DeadLetter, Sending, SinkStatus};
use super::subscribe::Feeds;
use super::{Session, plain_view};
use crate::plan::CheckedArithmetic;
use crate::tables::{CATALOG, PUBLIC, Pinned, PinnedStores, StatementCatalog, StatusSource};
use crate::{Result, plan};

/// That of every session: a moment without a zone would be another one in each place that reads it.
const TIME_ZONE: &str = "UTC";
/// Footers of Parquet files that are kept between statements.
const FOOTERS_BYTES_MAX: usize = 64 << 20;

/// Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub engine: Arc<dyn Engine>,
    pub settings: Settings,
    /// Queries are planned and run here, so that whoever serves clients, and ingest, keep threads of their own.
    pub runtime: Handle,
    pub registry: Arc<Registry>,
    /// One change of views, or DROP, at a time: it is checked against what is there, then applied.
    pub changes: Mutex<()>,
    pub read: Read,
    pub known: Known,
    pub feeds: Feeds,
    /// Where queries run, if not here.
    pub elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    /// By whom sinks are sent on, if anybody.
    pub sending: OnceLock<Arc<dyn Sending>>,
    /// By the stream's identity.
    pub collectors: std::sync::Mutex<BTreeMap<Uuid, Arc<Collector>>>,
    /// Of this process, for what must not outlive it.
    pub nonce: Uuid,
    /// Functions and rules, the same for every statement.
    template: SessionState,
    /// Caches that outlive a statement.
    caches: Arc<RuntimeEnv>,
    /// What all queries have together.
    memory: Arc<dyn MemoryPool>,
    /// Where the finished rows of open windows are counted that statements share.
    pub open_rows: Arc<dyn MemoryPool>,
}

impl Database {
    /// Queries are planned and run on `runtime`. Give it threads that ingest does not need: a plan can keep one busy
    /// for long.
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        settings: Settings,
    ) -> Result<Database> {
        Database::within(Arc::new(UnboundedMemoryPool::default()), engine, clock, runtime, settings)
    }

    /// All of its queries together have no more than this memory.
    pub fn within(
        memory: Arc<dyn MemoryPool>,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        settings: Settings,
    ) -> Result<Database> {
        let caches = RuntimeEnvBuilder::new()
            .with_cache_manager(CacheManagerConfig::default().with_metadata_cache_limit(FOOTERS_BYTES_MAX))
            .with_disk_manager_builder(no_disk())
            .build_arc()?;
        let registry = Arc::new(Registry::new(clock, &settings));
        let template = template(&settings);
        let open_rows = Share::of(&memory, settings.open_rows_bytes);
        let shared = Shared {
            engine,
            settings,
            runtime,
            registry,
            changes: Mutex::new(()),
            read: Read::default(),
            known: Known::default(),
            feeds: Feeds::default(),
            elsewhere: OnceLock::new(),
            sending: OnceLock::new(),
            collectors: std::sync::Mutex::default(),
            nonce: Uuid::new_v4(),
            template,
            caches,
            memory,
            open_rows,
        };
        Ok(Database { shared: Arc::new(shared) })
    }

    /// A client's view of the database. Cheap: make one per connection or per request.
    pub fn session(&self, client: Client) -> Session {
        Session::new(Arc::clone(&self.shared), client)
    }

    /// The queries that run, and the last that ran.
    pub fn queries(&self) -> Vec<QueryStatus> {
        self.shared.registry.list()
    }

    /// What the job knows of itself.
    pub fn status(&self) -> Status {
        self.shared.engine.status()
    }

    /// All that a query can name, with its columns: what drivers list.
    pub async fn relations(&self) -> Vec<Table> {
        let plain = plain_view::readable(&self.shared).await.into_iter();
        let plain =
            plain.map(|(name, columns)| Table { schema: PUBLIC, name, kind: TableKind::View, columns });
        let mut all: Vec<Table> = self.tables().into_iter().chain(plain).collect();
        all.sort_by(|a, b| (a.schema, &a.name).cmp(&(b.schema, &b.name)));
        all
    }

    /// Every (schema, table) that can be read now and is not a query's name.
    pub fn tables(&self) -> Vec<Table> {
        let pinned = self.shared.pin();
        let views = pinned.views.iter();
        let mut tables: Vec<Table> = views
            .flat_map(|(name, view)| {
                [PUBLIC, "live", "history"].map(|schema| Table {
                    schema,
                    name: name.clone(),
                    kind: TableKind::View,
                    columns: Arc::clone(&view.snapshot.schema),
                })
            })
            .collect();
        tables.extend(pinned.lookups.iter().map(|(name, content)| Table {
            schema: PUBLIC,
            name: name.clone(),
            kind: TableKind::Table,
            columns: content.rows.schema(),
        }));
        tables.extend(crate::tables::system::SystemTable::ALL.map(|table| Table {
            schema: "system",
            name: table.name().to_owned(),
            kind: TableKind::System,
            columns: table.schema(),
        }));
        tables.extend(pinned.system.iter().map(|(name, table)| Table {
            schema: "system",
            name: name.clone(),
            kind: TableKind::System,
            columns: Arc::clone(&table.snapshot.schema),
        }));
        tables.sort_by(|a, b| (a.schema, &a.name).cmp(&(b.schema, &b.name)));
        tables
    }

    pub const CATALOG: &str = CATALOG;
    pub const SCHEMAS: [&str; 4] = crate::tables::SCHEMAS;
}

/// A table as drivers list it, in catalog [`Database::CATALOG`].
#[derive(Debug, Clone)]
pub struct Table {
    pub schema: &'static str,
    pub name: String,
    pub kind: TableKind,
    pub columns: SchemaRef,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    View,
    /// What views look up.
    Table,
    System,
}

impl Shared {
    /// Everything one statement will see.
    pub fn pin(self: &Arc<Shared>) -> Arc<Pinned> {
        let source: Arc<dyn StatusSource> = Arc::clone(self) as _;
        Arc::new(Pinned::new(&self.engine.snapshot(), source, &self.open_rows))
    }

    /// A state that can plan and run one statement over `pinned`, and knows no other world.
    pub fn state(&self, pinned: &Arc<Pinned>, schema: &str, memory_bytes: usize) -> Result<SessionState> {
        let runtime = RuntimeEnvBuilder::from_runtime_env(&self.caches)
            .with_object_store_registry(Arc::new(PinnedStores::new(pinned)))
            .with_memory_pool(Share::of(&self.memory, memory_bytes))
            .with_disk_manager_builder(no_disk())
            .build_arc()?;
        let mut config = self.template.config().clone();
        config.options_mut().catalog.default_schema = schema.to_owned();
        let mut state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_config(config)
            .with_catalog_list(Arc::new(StatementCatalog { pinned: Arc::clone(pinned) }))
            .with_runtime_env(runtime)
            .build();
        state.mark_start_execution();
        Ok(state)
    }
}

impl StatusSource for Shared {
    fn status(&self) -> Status {
        self.engine.status()
    }

    fn queries(&self) -> Vec<QueryStatus> {
        self.registry.list()
    }

    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        Shared::endpoints(self)
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        self.sending.get().map(|sending| sending.status()).unwrap_or_default()
    }

    fn dead_letters(&self) -> Vec<DeadLetter> {
        self.sending.get().map(|sending| sending.dead_letters()).unwrap_or_default()
    }
}

/// A query that passes its memory fails by name; it never fills a disk.
fn no_disk() -> DiskManagerBuilder {
    DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled)
}

fn template(settings: &Settings) -> SessionState {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(settings.parallelism.max(1));
    // Places in the text, for errors.
    config.options_mut().sql_parser.collect_spans = true;
    // A field that is taken out below a filter takes the filter's conditions apart, and they come back in another order.
    config.options_mut().optimizer.enable_leaf_expression_pushdown = false;
    // Of INTERSECT and UNION together the planner knows less well than before what may be NULL, and calls it a fault.
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    config.options_mut().execution.time_zone = Some(TIME_ZONE.into());
    plan::offer(SessionStateBuilder::new().with_config(config).with_default_features())
        .with_analyzer_rule(Arc::new(CheckedArithmetic))
        .with_physical_optimizer_rules(by_row_too(PhysicalOptimizer::new().rules))
        .build()
}
