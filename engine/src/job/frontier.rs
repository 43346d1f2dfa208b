//! How far each stream has come at a barrier: what its partitions make of its frontier.

use std::collections::BTreeMap;

use crate::ids::{Micros, PartitionId};
use crate::job::chain;
use crate::job::coordinator::{Coordinator, Stood, micros};
use crate::job::shared::Partition;
use crate::source::END_IS_TOLD_EVERY;
use crate::spec::SourceSpec;
use crate::view::watermark::{Standing, frontier};

impl Coordinator {
    /// The frontiers after the barrier, shown at once: a partition that comes back from idleness must adopt them.
    pub(super) fn frontiers(&self, stood: &Stood) -> BTreeMap<String, Option<Micros>> {
        let mut tables = self.shared.lock();
        let mut frontiers = BTreeMap::new();
        let open_through = chain::open_through(&tables);
        for (name, partitions) in &stood.streams {
            let open_through = open_through.get(name).copied();
            let Some(stream) = tables.streams.get_mut(name) else { continue };
            if matches!(stream.spec.source, SourceSpec::Unplanned(_)) {
                // With its statement the delay of its watermarks is unknown.
                frontiers.insert(name.clone(), stream.frontier);
                continue;
            }
            // Of all that slept, who says since the first woke up that nothing has come.
            let asleep = |stood: &Partition| match (stream.woke, stood.heard) {
                (Some(woke), Some(heard)) => heard >= woke + END_IS_TOLD_EVERY,
                _ => true,
            };
            let standing = |(id, now): (&PartitionId, &Partition)| match (partitions.get(id), now.returned) {
                // Back since its barrier said idle: the floor it then took holds.
                (Some(_), Some(floor)) => Standing::Active(floor),
                (Some(stood), None) if stood.ended => Standing::Ended,
                (Some(stood), None) if stood.idle_since.is_some() && !asleep(stood) => {
                    Standing::Active(stream.frontier)
                }
                (Some(stood), None) if stood.idle_since.is_some() => Standing::Idle(stood.time.watermark()),
                (Some(stood), None) => Standing::Active(stood.time.watermark()),
                // Found, and not taken up by its worker at that barrier; what it has read since is of the next epoch.
                (None, _) => Standing::Active(now.time.floor),
            };
            let standings: Vec<Standing> = stream.partitions.iter().map(standing).collect();
            // Where all are idle, as long as every source vouches for it.
            let heard = partitions.values().filter_map(|stood| stood.heard).min();
            let silence = heard.map_or(0, |heard| micros(heard.saturating_sub(stream.silent_since)));
            stream.frontier = frontier(stream.frontier, &standings, silence, open_through);
            frontiers.insert(name.clone(), stream.frontier);
        }
        frontiers
    }
}
