//! Lets tables close beside each other as long as what they need together stays within a share of the memory. Who needs
//! more than all of it goes alone.

use tokio::sync::{Semaphore, SemaphorePermit};

/// What is counted in: a semaphore counts in u32.
const UNIT: usize = 64 << 10;

#[derive(Debug)]
pub struct Lane {
    units: Semaphore,
    most: u32,
}

impl Lane {
    pub fn of(bytes: usize) -> Lane {
        let most = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS as u32);
        Lane { units: Semaphore::new(most as usize), most }
    }

    /// First come, first served; nobody waits for a second time while holding what it has.
    pub async fn enter(&self, bytes: usize) -> SemaphorePermit<'_> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.most);
        self.units.acquire_many(units).await.expect("the lane is never closed")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn large_ones_go_alone() {
        let lane = Lane::of(4 * UNIT);
        let small = [lane.enter(1).await, lane.enter(UNIT).await];
        assert!(lane.enter(100 * UNIT).now_or_never().is_none(), "there is no room yet");
        drop(small);
        let large = lane.enter(100 * UNIT).now_or_never().expect("it is alone");
        assert!(lane.enter(1).now_or_never().is_none());
        drop(large);
        assert!(lane.enter(1).now_or_never().is_some());
    }
}
