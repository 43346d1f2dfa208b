//! Where the plans of one view get their memory from.

use std::fmt::{Debug, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};

use super::{Memory, Purpose};

/// Who gives way when a plan asks for more than is left, told what all of the view's plans would hold then: nobody, or
/// some other view, or the one that asks; then why.
type Judge = dyn Fn(usize) -> Result<(), String> + Send + Sync;

pub struct Pool {
    memory: Arc<Memory>,
    judge: Box<Judge>,
    reserved: AtomicUsize,
}

impl Pool {
    pub fn new(
        memory: &Arc<Memory>,
        judge: impl Fn(usize) -> Result<(), String> + Send + Sync + 'static,
    ) -> Pool {
        Pool { memory: Arc::clone(memory), judge: Box::new(judge), reserved: AtomicUsize::new(0) }
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &str {
        "closing"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.reserved.fetch_add(additional, Ordering::Relaxed);
        self.memory.add(Purpose::Closing, additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.reserved.fetch_sub(shrink, Ordering::Relaxed);
        self.memory.sub(Purpose::Closing, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> datafusion::error::Result<()> {
        if self.memory.lacks_for_plans(self.reserved() + additional) {
            (self.judge)(self.reserved() + additional).map_err(DataFusionError::ResourcesExhausted)?;
        }
        self.grow(reservation, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.memory.budget())
    }
}

impl Debug for Pool {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("reserved", &self.reserved()).finish_non_exhaustive()
    }
}

impl Display for Pool {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "closing(reserved: {})", self.reserved())
    }
}
