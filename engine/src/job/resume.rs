//! A claimed root goes on where its manifest stands: tables are read back, streams go on, and the coordinator runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::checkpoint::StateFiles;
use crate::checkpoint::manifest::{PartitionState, StreamState};
use crate::ids::Micros;
use crate::job::cleaner::Cleaner;
use crate::job::coordinator::{Coordinator, Totals};
use crate::job::lake::Lake;
use crate::job::refused::RefusedTable;
use crate::job::shared::{Shared, Stream};
use crate::job::stream::{Starts, StreamJob, reached};
use crate::job::tables::{self, Restoring};
use crate::job::{Engine, Opened, Replanned, watermark};
use crate::memory::{Memory, Spill};
use crate::source::{Assignment, FilesRoots};
use crate::spec::{LookupSpec, SourceSpec, StreamSpec, ViewSpec};
use crate::{Error, Result};

/// Tables that are restored at a time.
const RESTORING: usize = 16;

impl Opened {
    /// Goes on where the manifest stands, with what it names planned again.
    pub async fn resume(
        self,
        streams: Vec<StreamSpec>,
        lookups: Vec<LookupSpec>,
        views: Vec<Replanned>,
    ) -> Result<Engine> {
        let (commands, commands_rx) = mpsc::channel(64);
        let (reporter, reports) = mpsc::channel(1024);
        let (scout, sightings) = mpsc::channel(64);
        let settings = &self.settings;
        let spill =
            settings.spill.as_deref().map(|folder| Spill::into_folder(folder, settings.spill_bytes_max));
        let spill = spill.unwrap_or_default().above(settings.spill_above);
        let memory = Memory::with(settings.memory_bytes, spill);
        let shared = Arc::new(Shared::new(memory));
        shared.hold(self.settings.hold);
        let epoch = self.manifest.epoch.next();
        let unplanned = streams.iter().filter(|spec| matches!(spec.source, SourceSpec::Unplanned(_)));
        let unplanned: Vec<&str> = unplanned.map(|spec| spec.name.as_str()).collect();
        self.restore_lookups(&shared, lookups).await?;
        self.restore_tables(&shared, views, &unplanned).await?;
        let mut coordinator = Coordinator {
            settings: self.settings.clone(),
            root: self.root.clone(),
            clock: Arc::clone(&self.clock),
            shared: Arc::clone(&shared),
            log: self.log,
            owner: self.owner,
            nonce: self.nonce,
            epoch,
            streams: BTreeMap::new(),
            lake: Lake::new(
                self.root.clone(),
                Arc::clone(&shared),
                Arc::clone(&self.clock),
                self.nonce,
                &self.settings,
            ),
            cleaner: Cleaner::start(self.root.clone(), self.orphans, self.settings.manifests_kept),
            totals: BTreeMap::new(),
            backfill: BTreeMap::new(),
            commands: commands_rx,
            reports,
            reporter,
            sightings,
            scout,
            own_commands: commands.downgrade(),
        };
        coordinator.lake.settle()?;
        for state in &self.manifest.streams {
            let spec = streams.iter().find(|spec| spec.id == state.id);
            let spec = spec.ok_or_else(|| {
                Error::Internal(format!("a stream was not planned. stream={:?}", state.name))
            })?;
            resume_stream(&mut coordinator, Arc::new(spec.clone()), state).await?;
        }
        let known: Vec<Uuid> = self.manifest.streams.iter().map(|state| state.id).collect();
        self.settings.logs.keep_only(&known);
        let store = Arc::clone(self.root.watch());
        store.running();
        let (ended, outcome) = watch::channel(None);
        tokio::spawn(async move {
            let outcome = coordinator.run().await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "the engine stopped");
            }
            ended.send_replace(Some(outcome));
        });
        Ok(Engine { settings: self.settings, clock: self.clock, shared, store, commands, outcome })
    }

    async fn restore_tables(&self, shared: &Shared, views: Vec<Replanned>, unplanned: &[&str]) -> Result<()> {
        let retention = self.settings.refused_retention.map(|kept| kept.as_micros() as Micros);
        let system = [RefusedTable::RejectedRecords, RefusedTable::LateRows]
            .map(|table| ViewSpec { retention, ..table.spec() });
        let system = system.into_iter().map(|spec| Replanned { id: spec.id, spec: Ok(spec) });
        let contents = shared.lock().contents();
        let files = StateFiles::of(&self.root, &self.manifest);
        let files = &files;
        let restoring = system.chain(views).map(async |Replanned { id, spec }| {
            let state = self.manifest.tables.iter().find(|table| table.id == id);
            let bound = |spec: ViewSpec| contents.of_view(&spec).map_err(|error| error.to_string());
            match (state, spec.and_then(bound)) {
                (Some(state), spec) => {
                    let waits = self.manifest.reads_only(state, unplanned);
                    let restoring = Restoring { root: &self.root, files, memory: shared.memory() };
                    tables::restored(&restoring, spec, state, waits, self.clock.wall()).await
                }
                (None, Ok(spec)) => tables::created(&self.root, &Arc::new(spec), self.manifest.epoch).await,
                (None, Err(reason)) => Err(Error::Internal(format!("a view is unknown. {reason}"))),
            }
        });
        // Most of it is waiting for the store.
        let mut restored = futures::stream::iter(restoring).buffered(RESTORING);
        while let Some(table) = restored.try_next().await? {
            shared.lock().tables.insert(table.spec.name.clone(), table);
        }
        let kept = self.manifest.kept.iter().map(|state| (state.name.clone(), Arc::new(state.spec())));
        let mut tables = shared.lock();
        tables.kept.extend(kept);
        tables.epoch = self.manifest.epoch;
        tables.weigh();
        tables.interventions = self.manifest.interventions.iter().cloned().collect();
        Ok(())
    }
}

async fn resume_stream(
    coordinator: &mut Coordinator,
    spec: Arc<StreamSpec>,
    state: &StreamState,
) -> Result<()> {
    let name = spec.name.clone();
    let mut stream = StreamJob::new(Arc::clone(&spec), &coordinator.settings)?;
    let reaching = stream.reach_out(&coordinator.settings, FilesRoots::Anywhere);
    let has_begun = !state.partitions.is_empty() || !matches!(spec.source, SourceSpec::Kafka(_));
    let reached = reached(&name, reaching).await.and_then(|()| match has_begun {
        true => Ok(()),
        // Where it begins is found out by the first attempt that reaches its source.
        false => Err(Error::Unavailable(format!("nothing has been read of it yet. stream={name:?}"))),
    });
    let views: Vec<Arc<ViewSpec>> = {
        let tables = coordinator.shared.lock();
        let of_stream =
            tables.tables.values().filter(|table| table.spec.reads(&name) && table.failure.is_none());
        of_stream.map(|table| Arc::clone(&table.spec)).collect()
    };
    let left = watermark::left_of(&coordinator.shared.lock(), &name);
    stream.orders.change_plan(|plan| (plan.views, plan.left) = (views, left));
    let assignment = |stood: &PartitionState| Assignment {
        partition: stood.partition,
        next_offset: stood.next_offset,
        last_record: stood.last_record,
    };
    let of = state.partitions.iter().map(assignment).collect();
    let starts = Starts { of, topic_id: state.topic_id.clone() };
    let mut entry: Stream = stream.entry(&starts, coordinator.clock.elapsed());
    entry.frontier = state.frontier;
    entry.records = state.records;
    entry.rejected = state.rejected;
    for stood in &state.partitions {
        let Some(partition) = entry.partitions.get_mut(&stood.partition) else { continue };
        partition.time.event_time_max = stood.event_time_max;
        // What was idle, or had ended, did not hold the frontier back; coming back it adopts it like any other.
        let returns = stood.idle || stood.ended;
        partition.time.floor = if returns { stood.floor.max(state.frontier) } else { stood.floor };
        partition.last_record = stood.last_record;
        partition.ended = stood.ended;
    }
    coordinator.shared.lock().streams.insert(name.clone(), entry);
    coordinator.totals.insert(name.clone(), Totals { records: state.records, rejected: state.rejected });
    stream.orders.epoch.store(coordinator.epoch.0, std::sync::atomic::Ordering::Release);
    coordinator.streams.insert(name.clone(), stream);
    // A source that can't be read is no reason not to start: what there is of its views is served.
    let unread = coordinator.shared.lock().unread_table(&name);
    let reached = reached.and_then(|()| unread.map_or(Ok(()), Err));
    if let Err(error) = reached.and_then(|()| coordinator.start_workers(&name, &starts)) {
        coordinator.shared.fail_stream(&name, &error, coordinator.clock.wall());
    }
    Ok(())
}
