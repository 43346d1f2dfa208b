//! Reads partitions of a log, from explicit offsets, and tells when it is at their end.

use std::sync::Arc;
use std::time::Duration;

use super::queue::Log;
use super::store::into_batch;
use crate::checkpoint::manifest::RecordFingerprint;
use crate::clock::{Clock, SystemClock};
use crate::ids::{Offset, PartitionId};
use crate::source::{Assignment, BatchLimit, END_IS_TOLD_EVERY, Polled, RawBatch, Reader, fingerprint};
use crate::{Error, Result};

pub(super) struct LogReader {
    log: Arc<Log>,
    clock: SystemClock,
    with_keys: bool,
    lanes: Vec<Lane>,
}

struct Lane {
    partition: PartitionId,
    next: i64,
    /// On the clock's elapsed time: when the caller was told that the lane is at its end.
    told: Option<Duration>,
}

impl LogReader {
    pub fn new(log: Arc<Log>, with_keys: bool) -> LogReader {
        LogReader { log, clock: SystemClock::new(), with_keys, lanes: vec![] }
    }

    /// Refuses to go on where the log is not what was read.
    pub fn assign(&mut self, assigned: Assignment) -> Result<()> {
        let (partition, next) = (assigned.partition, assigned.next_offset.0);
        let range = self.log.range(partition)?;
        if next < range.start || next > range.end {
            return Err(Error::BadData(format!(
                "the log does not have what comes next: was its file exchanged? partition={partition}, wanted offset={next}, \
                 first={}, end={}",
                range.start, range.end
            )));
        }
        if let Some(last) = assigned.last_record.filter(|last| last.offset.0 >= range.start) {
            self.check(partition, last)?;
        }
        self.lanes.push(Lane { partition, next, told: None });
        Ok(())
    }

    fn check(&self, partition: PartitionId, last: RecordFingerprint) -> Result<()> {
        let mut found = None;
        self.log.store().read(partition.0 as u32, last.offset.0, |offset, record| {
            found = Some(fingerprint(offset, record.timestamp, Some(record.value)));
            false
        })?;
        if found == Some(last) {
            return Ok(());
        }
        Err(Error::BadData(format!(
            "the last record that was read from the log is another now: was its file exchanged? partition={partition}, \
             offset={}",
            last.offset
        )))
    }
}

impl Reader for LogReader {
    fn poll(&mut self, batch: &mut RawBatch, limit: BatchLimit, timeout: Duration) -> Result<Polled> {
        let asked = self.clock.elapsed();
        loop {
            for lane in &mut self.lanes {
                if self.log.range(lane.partition)?.end <= lane.next || limit.reached_by(batch) {
                    continue;
                }
                let take = into_batch(batch, lane.partition, self.with_keys, limit);
                self.log.store().read(lane.partition.0 as u32, lane.next, take)?;
                let read = batch.stretches.last().is_some_and(|it| it.partition == lane.partition);
                if !read {
                    return Err(Error::BadData(format!(
                        "records of a log have gone. partition={}, offset={}",
                        lane.partition, lane.next
                    )));
                }
                lane.next = batch.offsets[batch.len() - 1] + 1;
                lane.told = None;
            }
            if !batch.is_empty() {
                // The lane that was first this time is last the next time.
                self.lanes.rotate_left(1);
                return Ok(Polled::Records { more: limit.reached_by(batch) });
            }
            let elapsed = self.clock.elapsed();
            let fresh =
                |lane: &Lane| lane.told.is_some_and(|told| elapsed.saturating_sub(told) < END_IS_TOLD_EVERY);
            if let Some(lane) = self.lanes.iter_mut().find(|lane| !fresh(lane)) {
                lane.told = Some(elapsed);
                let (partition, next_offset) = (lane.partition, Offset(lane.next));
                return Ok(Polled::AtEnd { partition, next_offset });
            }
            let Some(left) = timeout.checked_sub(elapsed - asked).filter(|left| !left.is_zero()) else {
                return Ok(Polled::Nothing);
            };
            let known: Vec<_> = self.lanes.iter().map(|lane| (lane.partition, lane.next)).collect();
            self.log.wait(&known, left);
        }
    }

    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<()> {
        self.assign((partition, offset).into())
    }

    fn ends(&self) -> Vec<(PartitionId, Offset)> {
        let ranges = self.log.ranges();
        self.lanes
            .iter()
            .map(|lane| (lane.partition, Offset(ranges[lane.partition.0 as usize].end.max(lane.next))))
            .collect()
    }

    /// It reads what it is asked for, and no more.
    fn queued_bytes(&self) -> usize {
        0
    }
}
