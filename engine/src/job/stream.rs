//! One stream's workers: which partitions each reads, what they are told, and how they start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::checkpoint::manifest::RecordFingerprint;
use crate::clock::Clock;
use crate::ids::{Epoch, Offset, PartitionId, TopicId};
use crate::job::Settings;
use crate::job::intake::Intake;
use crate::job::orders::{Orders, Report};
use crate::job::retry::Tries;
use crate::job::scout::{Scout, Sighting};
use crate::job::shared::{Partition, Shared, Stream};
use crate::job::worker::Worker;
use crate::source::{
    self, Assignment, BatchLimit, Discovery, FilesRoots, PartitionRange, Polled, RawBatch, Reading,
};
use crate::spec::{SourceSpec, Start, StreamSpec, ViewSpec};
use crate::status::Effort;
use crate::view::watermark::PartitionTime;
use crate::{Error, ErrorKind, Result};

/// Workers of a topic of few partitions: for those that it may get. Each has a client of its own.
const KAFKA_WORKERS: usize = 4;

pub struct StreamJob {
    pub spec: Arc<StreamSpec>,
    pub orders: Arc<Orders>,
    pub workers: usize,
    workers_max: usize,
    /// Absent while the source could not be opened.
    discovery: Option<Arc<Mutex<Box<dyn Discovery>>>>,
    scout: Option<Scout>,
}

/// A start waits no longer for one stream's source. Then the stream is tried again while the others run.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

/// Where each partition of a source begins, or goes on.
#[derive(Default)]
pub struct Starts {
    pub of: Vec<Assignment>,
    /// The topic that they are offsets of.
    pub topic_id: Option<TopicId>,
}

/// Where a stream stood that goes on.
pub struct Stood {
    pub partitions: BTreeMap<PartitionId, (Offset, Option<RecordFingerprint>)>,
    pub topic_id: Option<TopicId>,
}

/// What a worker is given besides its partitions.
pub struct Crew<'a> {
    pub shared: &'a Arc<Shared>,
    pub clock: &'a Arc<dyn Clock>,
    pub reporter: &'a mpsc::Sender<Report>,
    pub scout: &'a mpsc::Sender<Sighting>,
    pub settings: &'a Settings,
    pub epoch: Epoch,
    /// What its source may fetch ahead.
    pub queue_bytes: usize,
}

impl StreamJob {
    pub fn new(spec: Arc<StreamSpec>, settings: &Settings) -> Result<StreamJob> {
        // What the decoder refuses is refused here, before anything is durable.
        Intake::new(&spec, &[])?;
        Ok(StreamJob {
            spec,
            orders: Arc::new(Orders {
                epoch: AtomicU64::new(0),
                stop: AtomicBool::new(false),
                plan: Mutex::default(),
            }),
            workers: 0,
            workers_max: settings.workers,
            discovery: None,
            scout: None,
        })
    }

    /// Reaches out to the source; nothing is read yet.
    pub async fn reach_out(&mut self, settings: &Settings, roots: FilesRoots) -> Result<()> {
        let (source, secrets, logs) =
            (self.spec.source.clone(), settings.secrets.clone(), settings.logs.clone());
        let discovery = blocking(move || source::open(&source, &secrets, &roots, &logs)).await?;
        self.discovery = Some(Arc::new(Mutex::new(discovery)));
        Ok(())
    }

    fn discovery(&self) -> Result<Arc<Mutex<Box<dyn Discovery>>>> {
        let closed = || Error::Internal(format!("a source was never opened. stream={:?}", self.spec.name));
        self.discovery.clone().ok_or_else(closed)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Discovery) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let discovery = self.discovery()?;
        blocking(move || {
            let mut discovery = discovery.lock().map_err(|_| Error::Internal("a source panicked".into()))?;
            question(discovery.as_mut())
        })
        .await
    }

    /// What whoever makes the stream should know of its source.
    pub async fn warnings(&self) -> Result<Vec<String>> {
        self.ask(|discovery| Ok(discovery.warnings())).await
    }

    /// Each partition with the offset that the stream's `start` means now.
    pub async fn resolve_starts(&self) -> Result<Starts> {
        let start = self.spec.options.start;
        self.ask(move |discovery| {
            let ranges = discovery.partitions()?;
            let of = ranges
                .iter()
                .map(|range| Ok((range.partition, discovery.resolve(range.partition, start)?).into()))
                .collect::<Result<_>>()?;
            Ok(Starts { of, topic_id: discovery.topic_id() })
        })
        .await
    }

    /// Where each partition goes on that stood somewhere, and new ones begin. Nothing is read twice: with `at` only what
    /// can't go on where it stood goes there, and what it leads ahead of where it stood. In another topic goes on what finds
    /// the record there that it read last. One that stood nowhere begins where its statement says.
    pub async fn resume_at(&self, stood: Stood, at: Option<Start>) -> Result<Starts> {
        if at.is_some() && !matches!(self.spec.source, SourceSpec::Kafka(_)) {
            return Err(Error::Invalid(format!(
                "only a topic can be gone on with elsewhere: of other records nobody could say which were read. stream={:?}; bring back \
                 what it read, and RESTART without AT, or DROP its views and the stream, and CREATE them again",
                self.spec.name
            )));
        }
        let begins = stood.partitions.is_empty().then_some(at.unwrap_or(self.spec.options.start));
        self.ask(move |discovery| {
            let mut starts = vec![];
            let Stood { partitions: stood, topic_id: known } = stood;
            if at.is_none() {
                discovery.expect(known.clone());
            }
            let ranges = discovery.partitions()?;
            let topic_id = discovery.topic_id().or(known.clone());
            let is_another = known.is_some() && known != topic_id;
            let gone = stood.keys().find(|id| ranges.iter().all(|range| range.partition != **id));
            if let (Some(partition), None) = (gone, at) {
                return Err(Error::BadData(format!(
                    "a partition that was read is gone: the source has others now; RESTART AT says where to go on with those. \
                     partition={partition}"
                )));
            }
            for range in ranges {
                let partition = range.partition;
                let Some(&(next_offset, last_record)) = stood.get(&partition) else {
                    let first = begins.map_or(Ok(range.first), |start| discovery.resolve(partition, start))?;
                    starts.push((partition, first).into());
                    continue;
                };
                let there = Assignment { partition, next_offset, last_record };
                let Some(at) = at else {
                    starts.push(there);
                    continue;
                };
                let told = discovery.resolve(partition, at)?;
                let means_something = !is_another || last_record.is_some();
                let goes_on = means_something && can_go_on(discovery, there)?;
                starts.push(if goes_on && told <= next_offset { there } else { (partition, told).into() });
            }
            Ok(Starts { of: starts, topic_id })
        })
        .await
    }

    /// The stream's place in the tables before anything was read.
    pub fn entry(&self, starts: &Starts, now: Duration) -> Stream {
        let partition = |start: &Assignment| (start.partition, self.partition(start.next_offset));
        Stream {
            spec: Arc::clone(&self.spec),
            topic_id: starts.topic_id.clone(),
            partitions: starts.of.iter().map(partition).collect::<BTreeMap<_, _>>(),
            frontier: None,
            failure: None,
            tries: Tries::default(),
            records: 0,
            rejected: 0,
            bytes: 0,
            silent_since: now,
            woke: None,
            effort: Effort::default(),
            arrived: BTreeMap::new(),
        }
    }

    pub fn partition(&self, next_offset: Offset) -> Partition {
        let delay = self.spec.event_time.map_or(0, |time| time.delay);
        Partition {
            time: PartitionTime { delay, event_time_max: None, floor: None },
            next_offset,
            end_offset: None,
            last_record: None,
            ended: false,
            risen: None,
            idle_since: None,
            heard: None,
            answers: false,
            returned: None,
        }
    }

    /// Starts the workers, each with every n-th partition, and the scout. A topic may get more partitions, and there are
    /// workers for them from the start.
    pub fn start(&mut self, crew: Crew<'_>, Starts { of: starts, topic_id }: &Starts) -> Result<()> {
        let workers = match self.spec.source {
            SourceSpec::Kafka(_) => starts.len().max(KAFKA_WORKERS).min(self.workers_max),
            SourceSpec::Generator(_)
            | SourceSpec::Files(_)
            | SourceSpec::Log(_)
            | SourceSpec::Unplanned(_) => starts.len().clamp(1, self.workers_max),
        };
        let discovery = self.discovery()?;
        if let Ok(mut discovery) = discovery.lock() {
            discovery.expect(topic_id.clone());
        }
        let plan = self.orders.plan();
        let with_keys = Intake::new(&self.spec, &plan.views)?.needs_keys() || self.declares_key();
        let shares = crew.shared.memory().shares();
        let filed_bytes_max =
            crew.settings.filed_bytes_max.min(crew.settings.state_bytes_max / 4).min(shares.filed);
        for number in 0..workers {
            let mine: Vec<_> = starts.iter().skip(number).step_by(workers).copied().collect();
            let partitions: Vec<PartitionId> = mine.iter().map(|start| start.partition).collect();
            let reader = {
                let mut discovery =
                    discovery.lock().map_err(|_| Error::Internal("a source panicked".into()))?;
                discovery.open(&mine, Reading { with_keys, queue_bytes: crew.queue_bytes / workers })?
            };
            let worker = Worker {
                number,
                stream: Arc::clone(&self.spec),
                reader,
                shared: Arc::clone(crew.shared),
                orders: Arc::clone(&self.orders),
                reports: crew.reporter.clone(),
                clock: Arc::clone(crew.clock),
                state_bytes_max: crew.settings.state_bytes_max,
                shares,
                batch_rows: crew.settings.batch_rows,
                linger: crew.settings.linger,
                poll: crew.settings.poll,
                filed_bytes_max,
                drop_batch: crew.settings.drop_batch,
                read_until: crew.settings.read_until,
                fast_decoding: crew.settings.fast_decoding,
            };
            let epoch = crew.epoch;
            std::thread::Builder::new()
                .name(format!("{}-{number}", self.spec.name))
                .spawn(move || worker.run(epoch, &partitions))
                .map_err(|error| Error::Unavailable(format!("cannot start a worker thread: {error}")))?;
            self.workers += 1;
        }
        self.scout = Some(Scout::start(&self.spec, discovery, crew.scout.clone())?);
        Ok(())
    }

    /// Its workers have left.
    pub fn left(&mut self) {
        self.workers = 0;
        self.scout = None;
        self.discovery = None;
    }

    fn declares_key(&self) -> bool {
        use crate::spec::{ColumnOrigin, RecordColumn};
        self.spec.origins.contains(&ColumnOrigin::Record(RecordColumn::Key))
    }

    pub fn runs_any(&self, wanted: impl Fn(&Arc<ViewSpec>) -> bool) -> bool {
        self.orders.plan().views.iter().any(wanted)
    }

    /// What the workers run from the next barrier on.
    pub fn change_views(&self, change: impl FnOnce(&mut Vec<Arc<ViewSpec>>)) {
        self.orders.change_plan(|plan| change(&mut plan.views));
    }

    /// Has the partitions read that nobody reads yet, from their first record, with the frontier as floor.
    pub fn take_up(&self, ranges: Vec<PartitionRange>, topic: Option<TopicId>, shared: &Shared) {
        let mut tables = shared.lock();
        let Some(stream) = tables.streams.get_mut(&self.spec.name) else { return };
        // Manifests of old did not say, or the brokers have become newer.
        stream.topic_id = stream.topic_id.take().or(topic);
        for range in ranges {
            if stream.partitions.contains_key(&range.partition) {
                continue;
            }
            let mut partition = self.partition(range.first);
            partition.time.floor = stream.frontier;
            let worker = stream.partitions.len() % self.workers.max(1);
            stream.partitions.insert(range.partition, partition);
            tracing::info!(stream = self.spec.name, partition = range.partition.0, "found a new partition");
            self.orders.change_plan(|plan| plan.found.push((worker, range.partition, range.first)));
        }
    }

    /// For people's monitoring alone; never waited for.
    pub fn publish(&self, offsets: Vec<(PartitionId, Offset)>) {
        if let Some(Ok(mut discovery)) = self.discovery.as_ref().map(|discovery| discovery.try_lock()) {
            discovery.publish(&offsets);
        }
    }
}

impl Drop for StreamJob {
    /// Workers leave at their next look at their orders; their reports may find nobody.
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        self.orders.epoch.store(u64::MAX, Ordering::Release);
    }
}

/// What a source answers that a start waits for.
pub async fn reached<T>(name: &str, asked: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(REACHED_WITHIN, asked).await.unwrap_or_else(|_| {
        let seconds = REACHED_WITHIN.as_secs();
        Err(Error::Unavailable(format!("the source of {name} gives no answer for {seconds} s")))
    })
}

/// What has never read anything is tried until its topic is there, too.
pub fn not_begun(error: Error) -> Error {
    match source::is_of_no_topic(&error) {
        true => Error::Unavailable(error.to_string()),
        false => error,
    }
}

/// Whether the records behind an assignment are there, and are those that were to be read.
fn can_go_on(discovery: &mut dyn Discovery, there: Assignment) -> Result<bool> {
    const WITHIN: Duration = Duration::from_secs(1);
    const LOOKS: u32 = 10;
    let mut reader = discovery.open(&[there], Reading::little(false))?;
    let limit = BatchLimit { rows: 1, bytes: 1 };
    for _ in 0..LOOKS {
        match reader.poll(&mut RawBatch::default(), limit, WITHIN) {
            Ok(Polled::Nothing) => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::BadData => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Unavailable(format!("the source gives no word on a partition. partition={}", there.partition)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(format!("a source panicked: {error}")))?
}
