//! What queries may take of memory: each by itself, and all of a process together.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// Begins what is told of a query that would have had room if it were alone.
pub(crate) const TOGETHER: &str = "all queries together";

/// A share of what all may have.
#[derive(Debug)]
pub(crate) struct Share {
    own: GreedyMemoryPool,
    all: Arc<dyn MemoryPool>,
}

impl Share {
    pub fn of(all: &Arc<dyn MemoryPool>, bytes: usize) -> Arc<dyn MemoryPool> {
        Arc::new(Share { own: GreedyMemoryPool::new(bytes), all: Arc::clone(all) })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "share"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.all.try_grow(reservation, additional).map_err(|_| {
            self.own.shrink(reservation, additional);
            DataFusionError::ResourcesExhausted(format!("{TOGETHER} use what there is"))
        })
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_is_refused_is_taken_from_nobody() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let (one, other) = (Share::of(&all, 80), Share::of(&all, 80));
        let (a, b) = (MemoryConsumer::new("a").register(&one), MemoryConsumer::new("b").register(&other));
        a.try_grow(70).unwrap();
        assert!(!a.try_grow(20).unwrap_err().to_string().contains(TOGETHER));
        assert!(b.try_grow(40).unwrap_err().to_string().contains(TOGETHER));
        b.try_grow(30).unwrap();
        assert_eq!((one.reserved(), other.reserved(), all.reserved()), (70, 30, 100));
        drop((a, b));
        assert_eq!(all.reserved(), 0);
    }
}
