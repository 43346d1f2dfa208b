//! A micro-batch between its decoding and its joining the tables: its rows, and where each of its partitions stands after
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;

use crate::checkpoint::manifest::RecordFingerprint;
use crate::ids::{Offset, PartitionId};
use crate::job::intake::Accepted;
use crate::job::ledger::PartitionTerms;
use crate::job::shared::Partition;
use crate::source::RawBatch;
use crate::view::arrived::Arrived;
use crate::view::watermark::{Observed, PartitionTime};

pub struct Arrival {
    pub arrived: Arc<Arrived>,
    pub reached: BTreeMap<PartitionId, Reached>,
    pub records: u64,
    pub bytes: u64,
}

/// Where a partition stands after a micro-batch.
pub struct Reached {
    pub time: PartitionTime,
    pub terms: PartitionTerms,
    pub last_record: Option<RecordFingerprint>,
}

impl Reached {
    pub fn at(time: PartitionTime) -> Reached {
        Reached { time, terms: PartitionTerms::default(), last_record: None }
    }

    pub fn leave(self, partition: &mut Partition) {
        partition.time = self.time;
        partition.ended = false;
        partition.answers = true;
        if let Some(last) = self.last_record {
            partition.next_offset = Offset(last.offset.0 + 1);
            partition.last_record = Some(last);
        }
        partition.end_offset = partition.end_offset.max(Some(partition.next_offset));
    }
}

/// Counts each partition's records and rows, and moves its watermark over them.
pub fn observe(
    raw: &RawBatch,
    accepted: &Accepted,
    times: Option<TimestampMicrosecondArray>,
    reached: &mut BTreeMap<PartitionId, Reached>,
) -> Option<Observed> {
    let mut before = Vec::with_capacity(accepted.records.len());
    let mut last = BTreeMap::new();
    let (mut row, mut refusal) = (0, 0);
    for (partition, range) in raw.ranges() {
        let reached = reached.get_mut(&partition).expect("each partition of the batch stands somewhere");
        let until = |indices: &[u32]| indices.partition_point(|index| (*index as usize) < range.end);
        let (rows, refusals) = (row..until(&accepted.records), refusal..until(&accepted.rejected));
        reached.terms.records += range.len() as u64;
        reached.terms.decoded += rows.len() as u64;
        reached.terms.rejected += refusals.len() as u64;
        (row, refusal) = (rows.end, refusals.end);
        last.insert(partition, range.end - 1);
        if let Some(times) = &times {
            reached.time.observe(&times.values()[rows], &mut before);
        }
    }
    for (partition, index) in last {
        let reached = reached.get_mut(&partition).expect("each partition of the batch stands somewhere");
        reached.last_record = Some(raw.fingerprint(index));
    }
    times.map(|times| Observed::new(times, before))
}
