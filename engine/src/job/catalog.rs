//! Changes of the catalog: checked first, then carried out between two epochs.
//!
//! What may fail from outside (a broker that does not answer, a name that is taken) fails before the barrier is asked
//! for, and changes nothing. After that an error is the engine's own, and stops it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::table_folder;
use crate::ids::{Micros, PartitionId};
use crate::job::chain;
use crate::job::closings::Closings;
use crate::job::coordinator::{Coordinator, Leaving};
use crate::job::fed::Fed;
use crate::job::lookups::Lookup;
use crate::job::request::{Request, exists, failed_stream, name_is_free};
use crate::job::shared::Table;
use crate::job::stream::{Starts, StreamJob};
use crate::job::tables;
use crate::job::watermark::left_of;
use crate::sink::lake_schema;
use crate::spec::{CatalogChange, Input, KeptStatement, ViewInput, ViewSpec};
use crate::status::{Change, Intervention};
use crate::view::panes::Panes;
use crate::{Error, Result};

/// With what a view begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Birth {
    WithHistory,
    FromNowOn,
}

fn no_such_input(name: &str) -> Error {
    Error::Invalid(format!("there is no such view to read. view={name:?}"))
}

/// A change of the catalog that nothing outside can refuse any more.
pub enum Prepared {
    CreateStream(Box<StreamJob>, Result<Starts>, Option<String>),
    RestartStream(Box<StreamJob>, Starts),
    CreateView(Arc<ViewSpec>, Box<Table>),
    CreateLookup(Box<Lookup>),
    DropLookup(String),
    DropView(String),
    RestartView(Arc<ViewSpec>),
    DropStream(String),
    SetWatermark { stream: String, partition: Option<PartitionId>, to: Micros },
    Keep(Arc<KeptStatement>),
    Forget(String),
}

impl Coordinator {
    /// Checks a change of the catalog against what is there. Nothing has changed when it refuses.
    pub(super) async fn prepare(&self, request: Request) -> Result<Prepared> {
        let change = match request {
            Request::CreateStream(stream, ..) if self.streams.contains_key(&stream.spec.name) => {
                return Err(exists(&stream.spec.name));
            }
            // While the source was asked, a view may have taken the name.
            Request::CreateStream(stream, ..)
                if self.shared.lock().tables.contains_key(&stream.spec.name) =>
            {
                let name = &stream.spec.name;
                return Err(Error::Invalid(format!("the name is a view's already. stream={name:?}")));
            }
            Request::CreateStream(stream, starts, note) => {
                return Ok(Prepared::CreateStream(stream, starts, note));
            }
            Request::RestartStream(stream, starts) => {
                let (spec, _) = failed_stream(&self.shared, &stream.spec.name)?;
                // While the source was asked, the name may have become another's.
                if spec.id != stream.spec.id {
                    return Err(exists(&stream.spec.name));
                }
                return Ok(Prepared::RestartStream(stream, starts));
            }
            Request::CreateLookup(lookup) => {
                name_is_free(&self.shared, &lookup.spec.name)?;
                return Ok(Prepared::CreateLookup(lookup));
            }
            Request::Other(change) => change,
        };
        match change {
            CatalogChange::CreateStream(_)
            | CatalogChange::AwaitStream(_)
            | CatalogChange::CreateLookup(_)
            | CatalogChange::AwaitLookup(_)
            | CatalogChange::RestartStream { .. } => Err(Error::Internal("a source was not asked".into())),
            CatalogChange::CreateView(spec) => {
                self.shared.lock().tables_are_read(&spec)?;
                self.prepare_view(&spec).await
            }
            CatalogChange::AwaitView(spec) => {
                let reads_views = spec.view_inputs().next().is_some();
                if reads_views {
                    // What those have closed would meet a table of nothing.
                    self.shared.lock().tables_are_read(&spec)?;
                }
                self.prepare_view(&spec).await
            }
            CatalogChange::RestartView(spec) => {
                self.may_restart(&spec).await?;
                let tables = self.shared.lock();
                tables.tables_are_read(&spec)?;
                Ok(Prepared::RestartView(Arc::new(tables.bound(&spec)?)))
            }
            CatalogChange::DropView(name) => {
                let tables = self.shared.lock();
                let known = tables.tables.get(&name).filter(|table| !table.spec.is_system());
                if known.is_none() {
                    return Err(Error::Invalid(format!("there is no such view. view={name:?}")));
                }
                match tables.tables.values().find(|table| table.spec.reads(&name)) {
                    None => Ok(Prepared::DropView(name)),
                    Some(reader) => Err(Error::Invalid(format!(
                        "another view reads the view; drop it first. view={name:?}, reader={:?}",
                        reader.spec.name
                    ))),
                }
            }
            CatalogChange::DropLookup(name) => {
                let tables = self.shared.lock();
                if !tables.lookups.contains_key(&name) {
                    return Err(Error::Invalid(format!("there is no such table. table={name:?}")));
                }
                match tables.tables.values().find(|table| table.spec.lookups.contains(&name)) {
                    None => Ok(Prepared::DropLookup(name)),
                    Some(reader) => Err(Error::Invalid(format!(
                        "a view looks the table up; drop it first. table={name:?}, view={:?}",
                        reader.spec.name
                    ))),
                }
            }
            CatalogChange::SetWatermark { stream, partition, to } => {
                self.may_set_watermark(&stream, partition, to)?;
                Ok(Prepared::SetWatermark { stream, partition, to })
            }
            CatalogChange::Keep(spec) => match self.shared.lock().kept.contains_key(&spec.name) {
                true => Err(Error::Invalid(format!("it exists already. name={:?}", spec.name))),
                false => Ok(Prepared::Keep(spec)),
            },
            CatalogChange::Forget(name) => match self.shared.lock().kept.contains_key(&name) {
                true => Ok(Prepared::Forget(name)),
                false => Err(Error::Invalid(format!("there is no such thing. name={name:?}"))),
            },
            CatalogChange::DropStream(name) => {
                self.stream(&name)?;
                let tables = self.shared.lock();
                match tables.tables.values().find(|table| table.spec.reads(&name)) {
                    None => Ok(Prepared::DropStream(name)),
                    Some(reader) => Err(Error::Invalid(format!(
                        "a view reads the stream; drop it first. stream={name:?}, view={:?}",
                        reader.spec.name
                    ))),
                }
            }
        }
    }

    async fn prepare_view(&self, spec: &ViewSpec) -> Result<Prepared> {
        if self.shared.lock().tables.contains_key(&spec.name) {
            return Err(Error::Invalid(format!("the view exists already. view={:?}", spec.name)));
        }
        if self.streams.contains_key(&spec.name) {
            let name = &spec.name;
            return Err(Error::Invalid(format!("the name is a stream's already. view={name:?}")));
        }
        self.inputs_are_there(spec)?;
        let spec = Arc::new(self.shared.lock().bound(spec)?);
        let table = tables::created(&self.root, &spec, self.epoch).await?;
        Ok(Prepared::CreateView(spec, Box::new(table)))
    }

    /// Puts a change in force from the next epoch on; durable when this returns. From here on an error is the engine's.
    /// Gives what there is to say about it.
    pub(super) async fn carry_out(&mut self, prepared: Prepared) -> Result<Option<String>> {
        match prepared {
            Prepared::CreateStream(stream, starts, note) => {
                self.create_stream(*stream, starts).await?;
                return Ok(note);
            }
            Prepared::SetWatermark { stream, partition, to } => {
                return self.set_watermark(&stream, partition, to).await.map(Some);
            }
            Prepared::RestartStream(stream, starts) => self.restart_stream(*stream, &starts).await,
            Prepared::CreateView(spec, table) => self.create_view(spec, *table).await,
            Prepared::CreateLookup(lookup) => self.create_lookup(*lookup).await,
            Prepared::DropLookup(name) => self.drop_lookup(&name).await,
            Prepared::RestartView(spec) => return self.restart_view(spec).await,
            Prepared::DropView(name) => self.drop_view(&name).await,
            Prepared::DropStream(name) => self.drop_stream(&name).await,
            Prepared::Keep(spec) => {
                let stood = self.barrier(Leaving::Nobody).await?;
                self.shared.lock().kept.insert(spec.name.clone(), spec);
                self.commit(stood, false).await
            }
            Prepared::Forget(name) => {
                let stood = self.barrier(Leaving::Nobody).await?;
                self.shared.lock().kept.remove(&name);
                self.commit(stood, false).await
            }
        }?;
        Ok(None)
    }

    async fn create_stream(&mut self, mut stream: StreamJob, starts: Result<Starts>) -> Result<()> {
        let name = stream.spec.name.clone();
        let mut entry = stream.entry(starts.as_ref().unwrap_or(&Starts::default()), self.clock.elapsed());
        if let Err(error) = &starts {
            entry.fail(error, self.clock.wall());
            stream.left();
        }
        let mut stood = self.barrier(Leaving::Nobody).await?;
        stood.streams.insert(name.clone(), entry.partitions.clone());
        self.shared.lock().streams.insert(name.clone(), entry);
        stream.orders.epoch.store(self.epoch.0, Ordering::Release);
        self.streams.insert(name.clone(), stream);
        // INV-6: the start offsets are in a manifest before the first poll.
        self.commit(stood, false).await?;
        match starts {
            Ok(starts) => self.start_workers(&name, &starts),
            Err(_) => Ok(()),
        }
    }

    /// The views of the stream go on with it: what they have open stays open.
    async fn restart_stream(&mut self, job: StreamJob, starts: &Starts) -> Result<()> {
        let name = job.spec.name.clone();
        // What is left of the workers leaves.
        let mut stood = self.barrier(Leaving::Nobody).await?;
        let views: Vec<Arc<ViewSpec>> = {
            let mut tables = self.shared.lock();
            let tables = &mut *tables;
            let Some(stream) = tables.streams.get_mut(&name) else { return Ok(()) };
            stream.failure = None;
            let is_another = stream.topic_id.is_some() && stream.topic_id != starts.topic_id;
            stream.topic_id.clone_from(&starts.topic_id);
            stream.silent_since = self.clock.elapsed();
            // A partition that is gone gives nothing that windows could wait for.
            stream.partitions.retain(|id, gone| {
                let stays = starts.of.iter().any(|start| start.partition == *id);
                if !stays {
                    let next_offset = gone.next_offset;
                    tracing::warn!(stream = name, partition = %id, %next_offset, "a partition is gone, and is not waited for");
                }
                stays
            });
            for start in &starts.of {
                let frontier = stream.frontier;
                let is_exchanged = is_another && stream.partitions.contains_key(&start.partition);
                let partition = stream.partitions.entry(start.partition).or_insert_with(|| {
                    let mut found = job.partition(start.next_offset);
                    found.time.floor = frontier;
                    found
                });
                if is_exchanged || partition.next_offset != start.next_offset {
                    let (from, to) = (partition.next_offset, start.next_offset);
                    tracing::warn!(
                        stream = name, partition = %start.partition, %from, %to,
                        "a stream goes on elsewhere than where it stood, as it was told"
                    );
                    tables.interventions.push_back(Intervention {
                        at: self.clock.wall(),
                        stream: name.clone(),
                        partition: start.partition,
                        change: Change::Offset { before: from, after: to },
                    });
                    partition.next_offset = start.next_offset;
                    partition.last_record = start.last_record;
                }
                partition.idle_since = None;
                partition.answers = false;
            }
            stood.streams.insert(name.clone(), stream.partitions.clone());
            let running = tables.tables.values();
            let running = running.filter(|table| table.spec.reads(&name) && table.failure.is_none());
            running.map(|table| Arc::clone(&table.spec)).collect()
        };
        let left = left_of(&self.shared.lock(), &name);
        job.orders.change_plan(|plan| (plan.views, plan.left) = (views, left));
        job.orders.epoch.store(self.epoch.0, Ordering::Release);
        self.streams.insert(name.clone(), job);
        // INV-6, also of where it goes on.
        self.commit(stood, false).await?;
        if let Err(error) = self.start_workers(&name, starts) {
            self.shared.fail_stream(&name, &error, self.clock.wall());
        }
        Ok(())
    }

    async fn create_view(&mut self, spec: Arc<ViewSpec>, table: Table) -> Result<()> {
        // The table is there before the first worker runs the view; the epoch that ends here ran without it.
        {
            let mut tables = self.shared.lock();
            tables.tables.insert(spec.name.clone(), table);
            // Their workers leave at the barrier, before they meet a table of nothing.
            tables.stop_unread(self.clock.wall());
        }
        self.begin_view(spec, Birth::WithHistory).await
    }

    async fn may_restart(&self, spec: &ViewSpec) -> Result<()> {
        let known = match self.shared.lock().tables.get(&spec.name) {
            Some(table) if table.history.is_lost => {
                return Err(Error::Invalid(format!(
                    "what the view has closed can't be read, and would be lost: put the log of its Delta table right and start \
                     again, or DROP it and move the folder away. view={:?}, folder=\"{}\"",
                    spec.name,
                    table_folder(&spec.name)
                )));
            }
            Some(table) if table.failure.is_some() => Arc::clone(&table.spec),
            Some(_) => return Err(Error::Invalid(format!("the view has not failed. view={:?}", spec.name))),
            None => return Err(Error::Invalid(format!("there is no such view. view={:?}", spec.name))),
        };
        self.inputs_are_there(spec)?;
        if lake_schema(&known.schema)? != lake_schema(&spec.schema)? {
            return Err(Error::Invalid(format!(
                "the columns of the view are others than those of its table; DROP it and create it again. view={:?}",
                spec.name
            )));
        }
        Ok(())
    }

    async fn restart_view(&mut self, spec: Arc<ViewSpec>) -> Result<Option<String>> {
        self.lake.forget(spec.id);
        if let Some(table) = self.shared.lock().tables.get_mut(&spec.name) {
            let mut panes = Panes::new(&spec, None);
            panes.closed_through = table.panes.closed_through;
            panes.left = table.panes.left.clone();
            table.panes = panes;
            table.spec = Arc::clone(&spec);
            table.since = self.epoch.next();
            (table.failure, table.waits) = (None, None);
        }
        let name = spec.name.clone();
        self.begin_view(spec, Birth::FromNowOn).await?;
        let behind = chain::readers(&self.shared.lock(), &name).join(", ");
        Ok((!behind.is_empty()).then(|| {
            format!(
                "what closed meanwhile is not in it, so of the views over it ({behind}) no windows come that would lack that: \
                 born_after in system.views says from where on"
            )
        }))
    }

    /// Has the workers run the view from the next epoch on, for the windows that start from here on; of views that it
    /// reads a new one has all that they have closed, too.
    async fn begin_view(&mut self, spec: Arc<ViewSpec>, birth: Birth) -> Result<()> {
        for stream in self.streams_of(&spec) {
            stream.change_views(|views| views.push(Arc::clone(&spec)));
        }
        let stood = self.barrier(Leaving::Nobody).await?;
        let of_streams = stood.streams.iter().filter(|(stream, _)| spec.reads(stream));
        let partitions = of_streams.flat_map(|(_, partitions)| partitions.values());
        let mut born_after = partitions.filter_map(|partition| partition.time.event_time_max).max();
        let mut fed = Ok(Fed::default());
        for input in self.born_into(&spec)? {
            match birth {
                Birth::FromNowOn => born_after = born_after.max(input.closed_before),
                Birth::WithHistory => {
                    born_after = born_after.max(input.born_after);
                    fed = input.feed(fed).await;
                }
            }
        }
        {
            let mut tables = self.shared.lock();
            if let Some(table) = tables.tables.get_mut(&spec.name) {
                table.panes.born_after = born_after;
                if let Err(error) = &fed {
                    let reason = format!("what it was to begin with can't be read: {error}");
                    table.fail(reason, self.clock.wall());
                }
            }
            if birth == Birth::FromNowOn {
                chain::begin_behind(&mut tables, &spec.name);
            }
        }
        self.backfill.insert(spec.name.clone(), fed.unwrap_or_default());
        self.commit(stood, false).await
    }

    /// What the views that it reads have closed up to here.
    fn born_into(&self, spec: &ViewSpec) -> Result<Vec<Closings>> {
        let tables = self.shared.lock();
        let of_input = |(leg, input): (usize, &ViewInput)| {
            let table = tables.tables.get(&input.name).ok_or_else(|| no_such_input(&input.name))?;
            Ok(Closings {
                leg,
                view: Arc::clone(&table.spec),
                tail: Arc::clone(&table.tail.visible),
                history: Arc::clone(&table.history),
                born_after: table.panes.born_after.map(|born| born.saturating_add(input.reach())),
                // A window that starts where its rows go on lacks none of them.
                closed_before: input.frontier(table.panes.closed_through).map(|time| time.saturating_sub(1)),
            })
        };
        spec.view_inputs().map(of_input).collect()
    }

    fn streams_of<'a>(&'a self, spec: &'a ViewSpec) -> impl Iterator<Item = &'a StreamJob> {
        self.streams.iter().filter(|(name, _)| spec.reads(name)).map(|(_, stream)| stream)
    }

    fn inputs_are_there(&self, spec: &ViewSpec) -> Result<()> {
        let tables = self.shared.lock();
        for leg in &spec.legs {
            match &leg.input {
                Input::Stream(name) => self.stream(name).map(drop)?,
                Input::View(input) if tables.tables.contains_key(&input.name) => {}
                Input::View(input) => return Err(no_such_input(&input.name)),
            }
        }
        Ok(())
    }

    async fn drop_view(&mut self, name: &str) -> Result<()> {
        // From the next epoch on the stream's rows may lack its columns.
        let spec = self.shared.lock().tables.get_mut(name).map(|table| {
            table.until = self.epoch;
            Arc::clone(&table.spec)
        });
        let Some(spec) = spec else { return Ok(()) };
        for stream in self.streams_of(&spec) {
            stream.change_views(|views| views.retain(|view| view.name != name));
        }
        let stood = self.barrier(Leaving::Nobody).await?;
        self.shared.lock().tables.remove(name);
        self.lake.forget(spec.id);
        self.commit(stood, false).await
    }

    async fn drop_stream(&mut self, name: &str) -> Result<()> {
        let mut stood = self.barrier(Leaving::Stream(name)).await?;
        stood.streams.remove(name);
        let gone = self.streams.remove(name).map(|stream| stream.spec.id);
        self.shared.lock().streams.remove(name);
        self.commit(stood, false).await?;
        gone.into_iter().for_each(|stream| self.settings.logs.forget(stream));
        // The ledger of the last epoch has added to them.
        self.totals.remove(name);
        Ok(())
    }
}
