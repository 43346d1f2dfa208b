//! What passes between the coordinator and the workers of a stream: orders one way, a word at each barrier the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use crate::Result;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::job::shared::Partition;
use crate::job::watermark::SetWatermark;
use crate::spec::ViewSpec;
use crate::view::left::Left;

/// What the coordinator tells the workers of one stream.
pub struct Orders {
    /// The epoch that should be running; a worker that is behind ends its epoch.
    pub epoch: AtomicU64,
    /// Leave after the next barrier.
    pub stop: AtomicBool,
    /// What to run from the next barrier on.
    pub plan: Mutex<Arc<StreamPlan>>,
}

impl Orders {
    pub fn plan(&self) -> Arc<StreamPlan> {
        Arc::clone(&self.plan.lock().expect("no thread panics while it holds the plan"))
    }

    /// What the workers take up at the next barrier.
    pub fn change_plan(&self, change: impl FnOnce(&mut StreamPlan)) {
        let mut plan = self.plan.lock().expect("no thread panics while it holds the plan");
        let mut changed = StreamPlan::clone(&plan);
        change(&mut changed);
        *plan = Arc::new(changed);
    }
}

#[derive(Clone, Default)]
pub struct StreamPlan {
    pub views: Vec<Arc<ViewSpec>>,
    /// Partitions found while running, and the worker that takes them.
    pub found: Vec<(usize, PartitionId, Offset)>,
    /// By view: windows that have left although they end behind the watermark.
    pub left: BTreeMap<String, Left>,
    /// Taken up once, at the end of its epoch.
    pub watermark: Option<SetWatermark>,
}

/// A worker's word at a barrier: where each of its partitions stood there. The tables go on meanwhile.
pub struct Report {
    pub stream: String,
    pub worker: usize,
    pub outcome: Result<Ended>,
}

pub struct Ended {
    pub epoch: Epoch,
    pub partitions: Vec<(PartitionId, Partition)>,
}
