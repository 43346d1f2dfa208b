//! What halves of views run with. Making a session's state takes longer than a small run, so one serves all; each run
//! adds what its leaves read.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;

use crate::view::plain_planning_state;

static RUNNING: LazyLock<(SessionConfig, Arc<RuntimeEnv>)> =
    LazyLock::new(|| (plain_planning_state().config().clone(), Arc::new(RuntimeEnv::default())));

pub(super) fn running_context(leaves: impl Any + Send + Sync) -> Arc<TaskContext> {
    let (config, runtime) = &*RUNNING;
    let config = config.clone().with_extension(Arc::new(leaves));
    // Plans hold their functions. The default context would make a runtime of its own, only to drop it.
    Arc::new(TaskContext::new(
        None,
        String::new(),
        config,
        Default::default(),
        Default::default(),
        Default::default(),
        Default::default(),
        Arc::clone(runtime),
    ))
}
