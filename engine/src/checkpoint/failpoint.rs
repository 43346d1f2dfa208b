//! The numbered steps of a commit, so that a test can stop a process at each of them and see that none was missed.
//!
//! A component like the clock: whoever makes the [`DataRoot`](super::DataRoot) passes it in, and without one a hit
//! costs a comparison.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a commit can be cut in two, in the order in which an epoch meets them. The numbers are part of test reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    OwnerTaken = 1,
    DeltaTableMissing = 2,
    DeltaTableCreated = 3,
    DataFileAbsent = 4,
    DataFileDurable = 5,
    StateFileAbsent = 6,
    StateFileDurable = 7,
    CatalogAbsent = 8,
    CatalogDurable = 9,
    ManifestAbsent = 10,
    ManifestDurable = 11,
    ManifestCommitted = 12,
    Published = 13,
    DeltaLoaded = 14,
    DeltaCommitted = 15,
    DeltaConfirmed = 16,
    CompactedAbsent = 17,
    CompactedDurable = 18,
    CompactionTold = 19,
    RetiredStateFile = 20,
    RetiredManifest = 21,
    SinkSent = 22,
    SinkConfirmed = 23,
    SinkNoted = 24,
}

impl Step {
    pub const ALL: [Step; 24] = [
        Step::OwnerTaken,
        Step::DeltaTableMissing,
        Step::DeltaTableCreated,
        Step::DataFileAbsent,
        Step::DataFileDurable,
        Step::StateFileAbsent,
        Step::StateFileDurable,
        Step::CatalogAbsent,
        Step::CatalogDurable,
        Step::ManifestAbsent,
        Step::ManifestDurable,
        Step::ManifestCommitted,
        Step::Published,
        Step::DeltaLoaded,
        Step::DeltaCommitted,
        Step::DeltaConfirmed,
        Step::CompactedAbsent,
        Step::CompactedDurable,
        Step::CompactionTold,
        Step::RetiredStateFile,
        Step::RetiredManifest,
        Step::SinkSent,
        Step::SinkConfirmed,
        Step::SinkNoted,
    ];

    /// Those of what is sent on, which come behind a commit.
    pub const OF_SINKS: [Step; 3] = [Step::SinkSent, Step::SinkConfirmed, Step::SinkNoted];

    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn name(self) -> &'static str {
        match self {
            Step::OwnerTaken => "owner-taken",
            Step::DeltaTableMissing => "delta-table-missing",
            Step::DeltaTableCreated => "delta-table-created",
            Step::DataFileAbsent => "data-file-absent",
            Step::DataFileDurable => "data-file-durable",
            Step::StateFileAbsent => "state-file-absent",
            Step::StateFileDurable => "state-file-durable",
            Step::CatalogAbsent => "catalog-absent",
            Step::CatalogDurable => "catalog-durable",
            Step::ManifestAbsent => "manifest-absent",
            Step::ManifestDurable => "manifest-durable",
            Step::ManifestCommitted => "manifest-committed",
            Step::DeltaLoaded => "delta-loaded",
            Step::DeltaCommitted => "delta-committed",
            Step::DeltaConfirmed => "delta-confirmed",
            Step::Published => "published",
            Step::CompactedAbsent => "compacted-absent",
            Step::CompactedDurable => "compacted-durable",
            Step::CompactionTold => "compaction-told",
            Step::RetiredStateFile => "retired-state-file",
            Step::RetiredManifest => "retired-manifest",
            Step::SinkSent => "sink-sent",
            Step::SinkConfirmed => "sink-confirmed",
            Step::SinkNoted => "sink-noted",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

impl FromStr for Step {
    type Err = String;

    /// Reads a step's name or number.
    fn from_str(text: &str) -> Result<Step, String> {
        Step::ALL
            .into_iter()
            .find(|step| step.name() == text || step.number().to_string() == text)
            .ok_or_else(|| format!("no such step of a commit. step=\"{text}\""))
    }
}

type Hook = Arc<dyn Fn(Step, u64) + Send + Sync>;

/// What happens at a step: nothing, unless a test wants to know.
#[derive(Clone, Default)]
pub struct Failpoints {
    armed: Option<Arc<Armed>>,
}

struct Armed {
    hits: [AtomicU64; Step::ALL.len()],
    hook: Hook,
}

impl Failpoints {
    /// Calls `hook` with each step that is reached, and how many times it has been reached by now, from 1.
    pub fn new(hook: impl Fn(Step, u64) + Send + Sync + 'static) -> Failpoints {
        let hits = std::array::from_fn(|_| AtomicU64::new(0));
        Failpoints { armed: Some(Arc::new(Armed { hits, hook: Arc::new(hook) })) }
    }

    /// Counts, and does nothing else.
    pub fn counting() -> Failpoints {
        Failpoints::new(|_, _| {})
    }

    /// The process dies as by SIGKILL when it reaches `step` for the `hit`th time.
    pub fn abort_at(step: Step, hit: u64) -> Failpoints {
        Failpoints::new(move |reached, hits| {
            if reached == step && hits == hit {
                tracing::error!(%step, hit, "failpoint: aborting");
                std::process::abort();
            }
        })
    }

    pub fn hit(&self, step: Step) {
        if let Some(armed) = &self.armed {
            let hits = armed.hits[step as usize - 1].fetch_add(1, Ordering::Relaxed) + 1;
            (armed.hook)(step, hits);
        }
    }

    /// How often each step was reached; nothing where nobody counts.
    pub fn hits(&self) -> Vec<(Step, u64)> {
        self.armed.iter().flat_map(|armed| Step::ALL.map(|step| (step, armed.count(step)))).collect()
    }
}

impl Armed {
    fn count(&self, step: Step) -> u64 {
        self.hits[step as usize - 1].load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Failpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failpoints({})", if self.armed.is_some() { "armed" } else { "off" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_in_order_and_read_back() {
        for (i, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step.number() as usize, i + 1);
            assert_eq!(step.name().parse(), Ok(step));
            assert_eq!(step.number().to_string().parse(), Ok(step));
        }
        assert!("25".parse::<Step>().is_err());
    }

    #[test]
    fn hits_are_counted_per_step() {
        let failpoints = Failpoints::counting();
        failpoints.hit(Step::ManifestAbsent);
        failpoints.hit(Step::ManifestAbsent);
        failpoints.hit(Step::RetiredManifest);
        let hits: Vec<_> = failpoints.hits().into_iter().filter(|(_, hits)| *hits > 0).collect();
        assert_eq!(hits, [(Step::ManifestAbsent, 2), (Step::RetiredManifest, 1)]);
        assert!(Failpoints::default().hits().is_empty());
    }
}
