//! What halves of views run with. Making a session's state takes longer than a small run, so one serves all; each run
//! adds what its leaves read.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;

use crate::Result;
use crate::view::plain_planning_state;

static CONFIG: LazyLock<SessionConfig> = LazyLock::new(|| plain_planning_state().config().clone());

/// Nothing is spilled: a plan that needs more than there is fails.
static RUNTIME: LazyLock<Arc<RuntimeEnv>> = LazyLock::new(|| {
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new().with_disk_manager_builder(no_disk).build_arc();
    runtime.expect("a runtime without a disk wants nothing that could be missing")
});

/// What plans above the cut may take.
#[derive(Debug, Clone)]
pub struct Room {
    runtime: Arc<RuntimeEnv>,
    /// What one run is given at a time where it may be given less than all.
    pub piece_bytes: usize,
    /// A table of so few groups is made sooner than it is found out which of them need none.
    pub few_rows: usize,
    /// Nor is it found out where that takes more than this.
    pub alone_bytes: usize,
}

const FEW_ROWS: usize = 8 << 10;

impl Room {
    /// For small runs, and those that are bounded by others.
    pub fn unbounded() -> Room {
        Room {
            runtime: Arc::clone(&RUNTIME),
            piece_bytes: usize::MAX,
            few_rows: FEW_ROWS,
            alone_bytes: usize::MAX,
        }
    }

    pub fn of(pool: Arc<dyn MemoryPool>, piece_bytes: usize) -> Room {
        let runtime = RuntimeEnv { memory_pool: pool, ..RuntimeEnv::clone(&RUNTIME) };
        Room { runtime: Arc::new(runtime), piece_bytes, few_rows: FEW_ROWS, alone_bytes: piece_bytes }
    }

    /// Counts what is kept between runs, until it is dropped.
    pub fn hold(&self, bytes: usize) -> Result<MemoryReservation> {
        let held = MemoryConsumer::new("between runs").register(&self.runtime.memory_pool);
        held.try_grow(bytes)?;
        Ok(held)
    }

    /// What one run of a plan has, with what its leaves read.
    pub fn context(&self, leaves: impl Any + Send + Sync) -> Arc<TaskContext> {
        let config = CONFIG.clone().with_extension(Arc::new(leaves));
        // Plans hold their functions. The default context would make a runtime of its own, only to drop it.
        Arc::new(TaskContext::new(
            None,
            String::new(),
            config,
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            Arc::clone(&self.runtime),
        ))
    }
}
