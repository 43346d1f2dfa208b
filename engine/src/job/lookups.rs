//! Tables that views look up, as the job keeps them. What their keepers have read anew is taken up at a barrier: the plans
//! of all views that look a table up are made to hold it, and the workers run these from then on. What closes at that
//! barrier meets it, too.
//!
//! What a table of files holds lies beside the state, so that a start does not need its source. A topic is read again.

use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::manifest::{LookupState, StateFile};
use crate::checkpoint::{DataRoot, FileNames, read_batches, write_batches};
use crate::ids::{Epoch, Micros};
use crate::job::coordinator::{Coordinator, Leaving};
use crate::job::shared::{Shared, Tables};
use crate::job::stream::{not_begun, reached};
use crate::job::{CatalogEntry, Opened, Settings};
use crate::lookup::{Content, Contents, Keeper, News, Sources};
use crate::memory::{Hold, Memory, Purpose};
use crate::source::FilesRoots;
use crate::spec::{Input, LookupSource, LookupSpec, ViewSpec};
use crate::status::{Failure, LookupStatus};
use crate::view::part::Part;
use crate::{Error, ErrorKind, Result};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A table that views look up.
pub struct Lookup {
    pub spec: Arc<LookupSpec>,
    pub content: Arc<Content>,
    /// It has been read since it was created or, a topic, since the engine started.
    pub is_read: bool,
    file: Option<StateFile>,
    /// Wall time when the content was taken up.
    taken_at: Micros,
    /// Why its source can't be read now.
    failure: Option<Failure>,
    refused: u64,
    reason: Option<String>,
    keeper: Option<Keeper>,
    held: Hold,
}

/// A content that is durable and not taken up.
struct Fresh {
    name: String,
    content: Arc<Content>,
    file: Option<StateFile>,
}

impl Lookup {
    /// Reads a new one for the first time, which may take long.
    pub async fn opened(spec: Arc<LookupSpec>, settings: &Settings, memory: &Arc<Memory>) -> Result<Lookup> {
        let sources = sources(settings, settings.files_roots.clone());
        let keeper = Keeper::start(&spec, sources, String::new())?;
        let content = first(&keeper).await?;
        let bytes = content.bytes();
        if memory.lacks(bytes) {
            return Err(Error::Invalid(format!(
                "there is no room for the table in memory. table={:?}, bytes={bytes}, {}",
                spec.name,
                memory.told()
            )));
        }
        Ok(Lookup { is_read: true, ..Lookup::of(spec, content, Some(keeper), memory) })
    }

    /// The same; one whose source can't be had now is there all the same, and is read when that can.
    pub async fn awaited(
        spec: Arc<LookupSpec>,
        settings: &Settings,
        memory: &Arc<Memory>,
        now: Micros,
    ) -> Result<Lookup> {
        let opened = reached(&spec.name, Lookup::opened(Arc::clone(&spec), settings, memory)).await;
        let error = match opened.map_err(not_begun) {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            opened => return opened,
        };
        tracing::warn!(table = spec.name, %error, "a table can't be read yet; streams whose views look it up wait for it");
        let sources = Sources { first_of_any_size: true, ..sources(settings, settings.files_roots.clone()) };
        let keeper = Keeper::start(&spec, sources, String::new())?;
        let content = Content::empty(&spec.schema, &spec.key);
        let failure = Some(Failure { reason: error.to_string(), since: now });
        Ok(Lookup { failure, ..Lookup::of(spec, content, Some(keeper), memory) })
    }

    /// As the manifest left it.
    pub async fn restored(
        root: &DataRoot,
        spec: Arc<LookupSpec>,
        state: &LookupState,
        settings: &Settings,
        memory: &Arc<Memory>,
    ) -> Result<Lookup> {
        let held = match &state.file {
            Some(file) => held_by(root, &spec, state, file).await,
            None => Ok(None),
        };
        let content = match held {
            Ok(content) => content,
            Err(error) if error.is_of_store() => return Err(error),
            Err(error) => {
                tracing::error!(table = spec.name, %error, "what a table held can't be read; its source is");
                None
            }
        };
        let is_read = content.is_some();
        let (content, spec) = content.unwrap_or_else(|| (Content::empty(&spec.schema, &spec.key), spec));
        // It was allowed where it is.
        let sources = Sources { first_of_any_size: true, ..sources(settings, FilesRoots::Anywhere) };
        let keeper = Keeper::start(&spec, sources, content.version.clone())?;
        let lookup = Lookup::of(spec, content, Some(keeper), memory);
        Ok(Lookup { is_read, file: state.file.clone(), taken_at: state.taken_at, ..lookup })
    }

    fn of(spec: Arc<LookupSpec>, content: Content, keeper: Option<Keeper>, memory: &Arc<Memory>) -> Lookup {
        let held = memory.hold(Purpose::Tables, content.bytes());
        Lookup {
            spec,
            content: Arc::new(content),
            is_read: false,
            file: None,
            taken_at: 0,
            failure: None,
            refused: 0,
            reason: None,
            keeper,
            held,
        }
    }

    pub fn state(&self) -> LookupState {
        LookupState {
            id: self.spec.id,
            name: self.spec.name.clone(),
            sql: self.spec.sql.clone(),
            version: self.content.version.clone(),
            taken_at: self.taken_at,
            file: self.file.clone(),
        }
    }

    pub fn status(&self) -> LookupStatus {
        let (source, format) = match &self.spec.source {
            LookupSource::Files { files, format, .. } => (files.location.clone(), format.name()),
            LookupSource::Topic(topic) => (format!("{} at {}", topic.topic, topic.brokers), "json"),
            LookupSource::Unplanned(_) => ("its statement can't be planned any more".to_owned(), "unknown"),
        };
        let unplanned = match &self.spec.source {
            LookupSource::Unplanned(reason) => Some(Failure { reason: reason.clone(), since: self.taken_at }),
            _ => None,
        };
        LookupStatus {
            table: self.spec.name.clone(),
            source,
            format,
            rows: self.content.rows.num_rows() as u64,
            bytes: self.content.bytes() as u64,
            is_read: self.is_read,
            taken_at: self.is_read.then_some(self.taken_at),
            refused: self.refused,
            refused_reason: self.reason.clone(),
            failure: unplanned.or_else(|| self.failure.clone()),
        }
    }

    /// What its keeper has to say.
    fn hear(&mut self, now: Micros) -> Option<Content> {
        let News { content, outcome, refused, reason } = self.keeper.as_ref()?.take();
        (self.refused, self.reason) = (refused, reason);
        match outcome {
            Some(Ok(())) => self.failure = None,
            Some(Err(error)) => {
                if self.failure.is_none() {
                    tracing::warn!(table = self.spec.name, %error, "a table can't be read; it stays as it is");
                }
                let since = self.failure.as_ref().map_or(now, |failure| failure.since);
                self.failure = Some(Failure { reason: error.to_string(), since });
            }
            None => {}
        }
        content
    }
}

/// What a keeper has read first.
async fn first(keeper: &Keeper) -> Result<Content> {
    loop {
        let news = keeper.take();
        match (news.content, news.outcome) {
            (Some(content), _) => return Ok(content),
            (None, Some(Err(error))) => return Err(error),
            (None, _) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// What the table held, and its columns, which of one that can't be planned any more only this tells.
async fn held_by(
    root: &DataRoot,
    spec: &LookupSpec,
    state: &LookupState,
    file: &StateFile,
) -> Result<Option<(Content, Arc<LookupSpec>)>> {
    let rows = read_batches(root, file).await?.pop().map(|part| part.batch);
    let rows = rows.ok_or_else(|| Error::BadData(format!("it holds no batch. path={:?}", file.path)))?;
    let spec = LookupSpec { schema: rows.schema(), ..spec.clone() };
    let content = match spec.key.is_empty() {
        true => Content::any(rows),
        false => Content::new(rows, &spec.key, state.version.clone())?,
    };
    Ok(Some((content, Arc::new(spec))))
}

fn sources(settings: &Settings, roots: FilesRoots) -> Sources {
    Sources {
        secrets: settings.secrets.clone(),
        roots,
        logs: settings.logs.clone(),
        first_of_any_size: false,
    }
}

impl Tables {
    pub fn contents(&self) -> Contents {
        let content = |lookup: &Lookup| (lookup.spec.name.clone(), Arc::clone(&lookup.content));
        Contents(self.lookups.values().map(content).collect())
    }

    /// The view over what its tables hold now.
    pub fn bound(&self, view: &ViewSpec) -> Result<ViewSpec> {
        match view.lookups.iter().find(|name| !self.lookups.contains_key(*name)) {
            None => self.contents().of_view(view),
            Some(name) => Err(Error::Invalid(format!("there is no such table. table={name:?}"))),
        }
    }

    /// That all tables which the view looks up have been read.
    pub fn tables_are_read(&self, view: &ViewSpec) -> Result<()> {
        let is_unread = |name: &&String| self.lookups.get(*name).is_some_and(|lookup| !lookup.is_read);
        match view.lookups.iter().find(is_unread) {
            None => Ok(()),
            Some(name) => Err(Error::Unavailable(format!("the table has not been read yet. table={name:?}"))),
        }
    }

    /// Has streams stand still whose views look up what has not been read.
    pub fn stop_unread(&mut self, now: Micros) {
        let running = self.streams.iter().filter(|(_, stream)| stream.failure.is_none());
        let unread = running.filter_map(|(name, _)| Some((name.clone(), self.unread_table(name)?)));
        for (name, error) in unread.collect::<Vec<_>>() {
            if let Some(stream) = self.streams.get_mut(&name) {
                stream.fail(&error, now);
            }
        }
    }

    /// Why the stream can't be read: a table that a view of it looks up, directly or through others, has not been read.
    pub fn unread_table(&self, stream: &str) -> Option<Error> {
        let views = self.tables.values().filter(|table| table.failure.is_none()).map(|table| &table.spec);
        let of_stream: Vec<_> = views.filter(|view| self.comes_of(view, stream)).collect();
        let unread = self.lookups.values().filter(|it| !it.is_read);
        unread.into_iter().find_map(|lookup| {
            let table = &lookup.spec.name;
            let views = of_stream.iter().filter(|view| view.lookups.contains(table));
            let views: Vec<&str> = views.map(|view| view.name.as_str()).collect();
            (!views.is_empty()).then(|| {
                let views = views.join(", ");
                let reason = lookup.failure.as_ref().map_or_else(String::new, |it| format!(": {}", it.reason));
                Error::Unavailable(format!(
                    "table {table} has not been read since the start, and rows would miss what views look up in it; the stream \
                     goes on by itself when the table is read, or without these views: DROP VIEW {views}. table={table:?}{reason}"
                ))
            })
        })
    }

    fn comes_of(&self, view: &ViewSpec, stream: &str) -> bool {
        view.legs.iter().any(|leg| match &leg.input {
            Input::Stream(name) => name == stream,
            Input::View(input) => {
                self.tables.get(&input.name).is_some_and(|read| self.comes_of(&read.spec, stream))
            }
        })
    }
}

impl Opened {
    pub fn lookups(&self) -> Vec<CatalogEntry> {
        let entry = |lookup: &LookupState| CatalogEntry {
            id: lookup.id,
            name: lookup.name.clone(),
            sql: lookup.sql.clone(),
            inputs: vec![],
        };
        self.manifest.lookups.iter().map(entry).collect()
    }

    pub(super) async fn restore_lookups(&self, shared: &Shared, specs: Vec<LookupSpec>) -> Result<()> {
        for state in &self.manifest.lookups {
            let spec = specs.iter().find(|spec| spec.id == state.id);
            let spec = spec
                .ok_or_else(|| Error::Internal(format!("a table was not planned. table={:?}", state.name)))?;
            let spec = Arc::new(spec.clone());
            let lookup = Lookup::restored(&self.root, spec, state, &self.settings, shared.memory()).await?;
            shared.lock().lookups.insert(state.name.clone(), lookup);
        }
        Ok(())
    }
}

impl Coordinator {
    pub(super) fn lookup_states(&self) -> Vec<LookupState> {
        self.shared.lock().lookups.values().map(Lookup::state).collect()
    }

    /// Has the workers run with what tables have become, from the next barrier on; when that has come,
    /// [`TakenUp::install`] does the rest.
    pub(super) async fn take_up_tables(&mut self) -> Result<TakenUp> {
        let now = self.clock.wall();
        let news: Vec<_> = {
            let mut tables = self.shared.lock();
            let heard = tables.lookups.values_mut();
            heard.filter_map(|it| it.hear(now).map(|content| (Arc::clone(&it.spec), content))).collect()
        };
        let mut fresh = vec![];
        for (spec, content) in news {
            let file = self.kept(&spec, &content, self.epoch).await?;
            fresh.push(Fresh { name: spec.name.clone(), content: Arc::new(content), file });
        }
        if fresh.is_empty() {
            return Ok(TakenUp { fresh, views: vec![], at: now });
        }
        let views: Vec<Arc<ViewSpec>> = {
            let tables = self.shared.lock();
            let mut contents = tables.contents();
            contents.0.extend(fresh.iter().map(|it| (it.name.clone(), Arc::clone(&it.content))));
            let read = |view: &ViewSpec| fresh.iter().any(|it| view.lookups.contains(&it.name));
            let views = tables.tables.values().map(|table| &table.spec).filter(|view| read(view));
            views.map(|view| contents.of_view(view).map(Arc::new)).collect::<Result<_>>()?
        };
        for stream in self.streams.values() {
            let runs = |running: &Arc<ViewSpec>| views.iter().find(|view| view.id == running.id);
            if stream.runs_any(|running| runs(running).is_some()) {
                stream.change_views(|all| {
                    for running in all {
                        if let Some(view) = runs(running) {
                            *running = Arc::clone(view);
                        }
                    }
                });
            }
        }
        Ok(TakenUp { fresh, views, at: now })
    }

    /// Where what a table of files holds lies until the manifest names it.
    async fn kept(&self, spec: &LookupSpec, content: &Content, epoch: Epoch) -> Result<Option<StateFile>> {
        if !matches!(spec.source, LookupSource::Files { .. }) {
            return Ok(None);
        }
        let path = FileNames::new(spec.id, epoch, self.nonce).state();
        let rows = Part::of_one_pane(0, 0, content.rows.clone());
        write_batches(&self.root, path, &[rows]).await.map(Some)
    }

    pub(super) async fn create_lookup(&mut self, mut lookup: Lookup) -> Result<()> {
        lookup.file = self.kept(&lookup.spec, &lookup.content, self.epoch).await?;
        lookup.taken_at = self.clock.wall();
        let stood = self.barrier(Leaving::Nobody).await?;
        self.shared.lock().lookups.insert(lookup.spec.name.clone(), lookup);
        self.commit(stood, false).await
    }

    pub(super) async fn drop_lookup(&mut self, name: &str) -> Result<()> {
        let stood = self.barrier(Leaving::Nobody).await?;
        self.shared.lock().lookups.remove(name);
        self.commit(stood, false).await
    }
}

/// What is taken up at a barrier.
#[must_use]
pub struct TakenUp {
    fresh: Vec<Fresh>,
    views: Vec<Arc<ViewSpec>>,
    at: Micros,
}

impl TakenUp {
    /// After the barrier: what closes now, and whoever reads, meets it.
    pub fn install(self, tables: &mut Tables, epoch: Epoch) {
        for Fresh { name, content, file } in self.fresh {
            let Some(lookup) = tables.lookups.get_mut(&name) else { continue };
            lookup.held.set(content.bytes());
            (lookup.content, lookup.file, lookup.taken_at, lookup.is_read) = (content, file, self.at, true);
        }
        for view in self.views {
            if let Some(table) = tables.tables.get_mut(&view.name).filter(|table| table.spec.id == view.id) {
                table.spec = view;
                table.bound = epoch;
                table.told = table.told.with(true);
            }
        }
    }
}
