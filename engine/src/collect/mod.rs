//! Records on their way into a stream from outside: judged as the stream will judge them, then put into its topic or its
//! log.
//!
//! Owns: that nothing is put there which the stream would refuse, and what becomes of records while Kafka is away. Leaves
//! to others: where the records come from, who may bring them, and in which form (`web`).

mod queued;
mod way;

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
pub use crate::decode::Refused;
use crate::ids::PartitionId;
use crate::job::Intake;
use crate::secrets::Secrets;
pub use crate::source::Outgoing;
use crate::source::{Log, Logs, RawBatch};
use crate::spec::{KafkaSpec, SourceSpec, StreamSpec};
use crate::{Error, Result};
use queued::Queued;
pub use way::SpoolStatus;
use way::Way;

/// Cheap to share; any number of callers at once.
pub struct Collector {
    stream: Arc<StreamSpec>,
    clock: Arc<dyn Clock>,
    destination: Destination,
    /// Those that nobody uses just now, each with room for what it judges.
    judges: Mutex<Vec<(Intake, RawBatch)>>,
    /// What was taken and is not on its way yet.
    queued: Queued,
}

/// Where records are put.
enum Destination {
    Topic(Arc<Way>),
    Log(Arc<Log>),
}

/// Judges that are kept for the next callers.
const JUDGES_KEPT: usize = 16;

impl Collector {
    /// Nothing is sent yet; a broker that is away is found out by the first record.
    pub fn new(
        stream: Arc<StreamSpec>,
        secrets: &Secrets,
        logs: &Logs,
        clock: Arc<dyn Clock>,
    ) -> Result<Collector> {
        let destination = match &stream.source {
            SourceSpec::Kafka(spec) => {
                let properties = secrets.resolve(&spec.properties)?;
                let spec = KafkaSpec { properties, ..spec.clone() };
                Destination::Topic(Way::open(&stream, spec, logs.spool(stream.id)?, Arc::clone(&clock))?)
            }
            SourceSpec::Log(spec) => Destination::Log(logs.open(spec)?),
            SourceSpec::Generator(_) | SourceSpec::Files(_) | SourceSpec::Unplanned(_) => {
                return Err(Error::Invalid(format!(
                    "only a stream over Kafka or a log takes records. stream={:?}",
                    stream.name
                )));
            }
        };
        Ok(Collector { stream, clock, destination, judges: Mutex::default(), queued: Queued::default() })
    }

    pub fn stream(&self) -> &Arc<StreamSpec> {
        &self.stream
    }

    /// Which of the records the stream would refuse, and why, in order.
    pub fn judge<'a>(&self, records: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Refused>> {
        let judge = self.judges.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut judge, mut raw) = match judge {
            Some(judge) => judge,
            None => (Intake::new(&self.stream, &[])?, RawBatch::default()),
        };
        raw.clear();
        let now = self.clock.wall();
        for (offset, record) in (0..).zip(records) {
            raw.push(PartitionId(0), offset, now, Some(record));
        }
        let refused = judge.judge(&mut raw)?;
        let mut judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        if judges.len() < JUDGES_KEPT {
            judges.push((judge, raw));
        }
        Ok(refused)
    }

    /// Returns when all of them are durable. After an error some may be, and others not.
    pub async fn put(&self, records: Vec<Outgoing>) -> Result<()> {
        let now = self.clock.wall();
        match &self.destination {
            Destination::Topic(way) => way.put(records, now).await,
            Destination::Log(log) => log.put(records, now).await,
        }
    }

    /// Returns when they are in memory, behind those that were queued before. What then can't be made durable is lost, and
    /// counted.
    pub fn queue(self: &Arc<Self>, records: Vec<Outgoing>) -> Result<()> {
        queued::queue(self, records)
    }

    /// Of those that were queued, since the start.
    pub fn lost(&self) -> u64 {
        self.queued.lost()
    }

    /// What waits for Kafka to come back; `None` where nothing can.
    pub fn spool(&self) -> Option<SpoolStatus> {
        match &self.destination {
            Destination::Topic(way) => way.spool(),
            Destination::Log(_) => None,
        }
    }
}
