//! Tells a Delta table what the manifests have made real, each commit exactly once.
//!
//! delta-rs records `txn` and does not compare it, and an error does not mean that nothing was committed. So a commit
//! is a loop with one way out, reading the table:
//!
//! ```text
//! load ─► txn ≥ ours?      ─► done
//!         txn ≠ previous?  ─► fenced: another instance's
//!         else commit from the very snapshot that was looked at, no retries inside ─► load again, whatever it said
//! ```
//! A commit is a put-if-absent of the snapshot's next version, so between the look and the commit nothing can come in.
//! This is INV-C4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, NaiveDate, Utc};
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{
    Action, Add, EagerSnapshot, LogicalFileView, MetadataExt, StructType, Transaction, contains_timestampntz,
};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::operations::vacuum::{Clock, VacuumMode};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore};
use url::Url;
use uuid::Uuid;

use super::lake_schema::lake_schema;
use super::stats::instants;
use super::{HistoryFile, HistoryFiles, PARTITION_COLUMN, log};
use crate::checkpoint::manifest::{DataFile, PendingCommit};
use crate::checkpoint::{DataRoot, Step, table_folder};
use crate::ids::Epoch;
use crate::{Error, Result};

/// Whose rows the table holds: the view's id, in the table's own configuration.
const OWNER_KEY: &str = "thalweg.view";

/// After so many attempts the caller hears of it. A store that is away is no attempt: `patience` waits for it below.
const ATTEMPTS_MAX: u32 = 8;

/// After so many looks at a log that can't be read. It does not become another by waiting; but one look may come between
/// somebody's checkpoint and the end of what it replaces.
const LOOKS_MAX: u32 = 3;

/// Versions between two times that a table's log is rid of what is older than its retention.
const LOG_CLEANED_EVERY: u64 = 100;

pub struct DeltaSink {
    root: DataRoot,
    name: String,
    folder: String,
    id: Uuid,
    schema: StructType,
    table: DeltaTable,
}

/// A table of the lake as its log has it.
#[derive(Debug, Clone)]
pub struct LakeTable {
    /// `txn` of the newest commit of its view.
    pub confirmed: Option<Epoch>,
    pub files: Vec<HistoryFile>,
}

/// None where no table is; nothing is made.
pub async fn look_at(root: &DataRoot, name: &str, id: Uuid) -> Result<Option<LakeTable>> {
    let folder = table_folder(name);
    let log_store = log_store(root, &folder)?;
    if !log_store.is_delta_table_location().await? {
        return Ok(None);
    }
    let mut table = DeltaTable::new(log_store);
    table.load().await?;
    let schema = table.snapshot()?.snapshot().schema().as_ref().clone();
    let sink = DeltaSink { root: root.clone(), name: name.to_string(), folder, id, schema, table };
    let files = sink.history()?.files.as_ref().clone();
    Ok(Some(LakeTable { confirmed: sink.seen().await?, files }))
}

impl DeltaSink {
    /// Makes the table (version 0) if there is none. `schema` is the view's, without the hidden time.
    pub async fn open(root: &DataRoot, name: &str, id: Uuid, schema: &Schema) -> Result<DeltaSink> {
        let folder = table_folder(name);
        let log_store = log_store(root, &folder)?;
        let schema = delta_schema(schema)?;
        let table = DeltaTable::new(log_store);
        let mut sink = DeltaSink { root: root.clone(), name: name.to_string(), folder, id, schema, table };
        sink.create_if_absent().await?;
        sink.table.load().await?;
        Ok(sink)
    }

    /// The columns of a table that is there, as the lake has them; none of one that is not.
    pub async fn stored_schema(root: &DataRoot, name: &str) -> Result<SchemaRef> {
        let log_store = log_store(root, &table_folder(name))?;
        if !log_store.is_delta_table_location().await? {
            return Ok(Arc::new(Schema::empty()));
        }
        let mut table = DeltaTable::new(log_store);
        table.load().await?;
        let stored: Schema =
            table.snapshot()?.snapshot().schema().as_ref().try_into_arrow().map_err(DeltaTableError::from)?;
        let mut fields = stored.fields().to_vec();
        fields.retain(|field| field.name() != PARTITION_COLUMN);
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The table still holds the rows of a dropped view of this name: the first commit must replace them.
    pub fn needs_replace(&self) -> Result<bool> {
        Ok(self.owner()? != Some(self.id.to_string()))
    }

    /// `txn` of the newest commit of this view.
    pub async fn confirmed(&mut self) -> Result<Option<Epoch>> {
        self.table.update_state().await?;
        self.seen().await
    }

    /// May be called again with the same commit, by this instance or a later one. `Fenced` when the table has a commit
    /// that no manifest of ours knows.
    pub async fn commit(&mut self, pending: &PendingCommit) -> Result<()> {
        self.attempt_commit(pending, ATTEMPTS_MAX).await
    }

    /// Likewise, and gives up at once over what is wrong with the table.
    pub async fn try_commit(&mut self, pending: &PendingCommit) -> Result<()> {
        self.attempt_commit(pending, 1).await
    }

    async fn attempt_commit(&mut self, pending: &PendingCommit, attempts: u32) -> Result<()> {
        let mut failures = 0;
        loop {
            self.look().await?;
            let error = match self.attempt(pending).await {
                Ok(true) => {
                    self.root.failpoints().hit(Step::DeltaConfirmed);
                    return Ok(());
                }
                Ok(false) => continue,
                Err(error @ Error::Delta(_)) => error,
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures == attempts {
                return Err(error);
            }
            tracing::warn!(
                table = self.name, txn = %pending.txn, %error, failures,
                "a Delta commit has an unknown outcome; looking again"
            );
            self.root.retry().pause(failures).await;
        }
    }

    /// Loads the newest version.
    async fn look(&mut self) -> Result<()> {
        let mut failures = 0;
        loop {
            let Err(error) = self.table.update_state().await else { return Ok(()) };
            failures += 1;
            if failures == LOOKS_MAX {
                return Err(Error::BadData(format!(
                    "the log of a Delta table can't be read: {error}; bring back what was in it, or DROP its view. table=\"{}\"",
                    self.name
                )));
            }
            tracing::warn!(table = self.name, %error, failures, "cannot read the log of a Delta table; looking again");
            self.root.retry().pause(failures).await;
        }
    }

    /// True when the table has the commit.
    async fn attempt(&mut self, pending: &PendingCommit) -> Result<bool> {
        let seen = self.seen().await?;
        if seen >= Some(pending.txn) {
            return Ok(true);
        }
        self.has_kept(pending.previous).await?;
        if seen != pending.previous {
            return Err(Error::Fenced(format!(
                "a Delta table has a commit that is not of this instance. table=\"{}\", txn={}, expected={}",
                self.name,
                text(seen),
                text(pending.previous)
            )));
        }
        let actions = self.actions(pending)?;
        self.root.failpoints().hit(Step::DeltaLoaded);
        let properties =
            self.properties()?.with_application_transaction(Transaction::new(self.id, pending.txn.0 as i64));
        let operation = DeltaOperation::Write {
            mode: if pending.replace { SaveMode::Overwrite } else { SaveMode::Append },
            partition_by: Some(vec![PARTITION_COLUMN.to_string()]),
            predicate: None,
        };
        CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(self.snapshot()?), self.table.log_store(), operation)
            .await?;
        self.root.failpoints().hit(Step::DeltaCommitted);
        Ok(false)
    }

    /// What Delta knows of each of these files, if the newest version has all of them.
    pub async fn stats_of(&mut self, files: &[HistoryFile]) -> Result<Option<Vec<String>>> {
        self.look().await?;
        if self.needs_replace()? {
            return Ok(None);
        }
        let known: BTreeMap<Path, LogicalFileView> =
            self.snapshot()?.try_log_data()?.into_iter().map(|file| (self.path_of(&file), file)).collect();
        Ok(files.iter().map(|file| known.get(&file.path)?.stats()).collect())
    }

    /// Puts one file in the place of others that hold the same rows, or nothing in that of files whose rows are kept no longer,
    /// in one version. Nothing has changed if it returns `false`: the newest version does not have all of them, or another
    /// writer came in between.
    pub async fn swap(&mut self, files: &[HistoryFile], by: Option<&DataFile>) -> Result<bool> {
        self.look().await?;
        let mut actions = vec![];
        for view in self.snapshot()?.try_log_data()? {
            if files.iter().any(|file| file.path == self.path_of(&view)) {
                actions.push(Action::Remove(view.remove_action(by.is_none())));
            }
        }
        if actions.len() != files.len() {
            return Ok(false);
        }
        let operation = match by {
            Some(by) => DeltaOperation::Optimize { predicate: None, target_size: by.bytes as i64 },
            None => DeltaOperation::Delete { predicate: None },
        };
        actions.extend(by.map(|by| Action::Add(Add { data_change: false, ..add(by) })));
        let committed = CommitBuilder::from(self.properties()?)
            .with_actions(actions)
            .build(Some(self.snapshot()?), self.table.log_store(), operation)
            .await;
        // What became of it is read from the table, as of any commit (INV-C4).
        if let Err(error) = committed {
            tracing::info!(table = self.name, %error, "a compaction has an unknown outcome; looking");
        }
        self.look().await?;
        let gone = |file: &LogicalFileView| files.iter().any(|gone| gone.path == self.path_of(file));
        let is_done = !self.snapshot()?.try_log_data()?.into_iter().any(|file| gone(&file));
        self.root.failpoints().hit(Step::CompactionTold);
        Ok(is_done)
    }

    /// Deletes files that no version needs which was younger than this then: those that others were put in place of, and what
    /// killed runs have left; and checkpoints of the log, which it has too many of. Gives the number of files.
    ///
    /// Which they are is for the library to say, but for what whoever reads has in its list. Left to delete them as well, it would
    /// ask each time for what has gone already, and write two versions of the table to tell of it.
    pub async fn vacuum(
        &mut self,
        older_than: Duration,
        as_of: DateTime<Utc>,
        kept: &HistoryFiles,
    ) -> Result<usize> {
        self.look().await?;
        let age = chrono::Duration::from_std(older_than)
            .map_err(|error| Error::Invalid(format!("no such age of a file: {error}")))?;
        let due = self
            .table
            .clone()
            .vacuum()
            .with_mode(VacuumMode::Full)
            .with_retention_period(age)
            .with_enforce_retention_duration(false)
            .with_clock(Arc::new(AsOf(as_of.timestamp_millis())))
            .with_dry_run(true);
        let (_, due) = due.await?;
        let objects = self.root.objects();
        let found: Vec<ObjectMeta> =
            objects.list(Some(&Path::from(self.folder.as_str()))).try_collect().await?;
        let mut due: BTreeSet<Path> = due.files_deleted.iter().map(|file| self.path(file)).collect();
        for file in kept.files.iter() {
            due.remove(&file.path);
        }
        let files: Vec<Path> =
            found.iter().map(|object| &object.location).filter(|path| due.contains(path)).cloned().collect();
        let number = files.len();
        let gone =
            files.into_iter().chain(log::spare_checkpoints(&found, as_of, self.root.lake_log.checkpoints));
        let gone = objects.delete_stream(futures::stream::iter(gone.map(Ok)).boxed());
        gone.try_for_each(async |_| Ok(())).await?;
        Ok(number)
    }

    /// A commit is made once. Now and then one lets the log forget what is older than its retention: to look for that costs a
    /// listing.
    fn properties(&self) -> Result<CommitProperties> {
        let next = self.snapshot()?.version() + 1;
        Ok(CommitProperties::default()
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(next.is_multiple_of(LOG_CLEANED_EVERY))))
    }

    fn path_of(&self, file: &LogicalFileView) -> Path {
        self.path(&file.path())
    }

    fn path(&self, within: &str) -> Path {
        Path::from(format!("{}/{within}", self.folder))
    }

    /// A table that was deleted, or put back to what it was, lacks what manifests say that it was told.
    pub async fn has_kept(&self, told: Option<Epoch>) -> Result<()> {
        let seen = self.seen().await?;
        if seen >= told {
            return Ok(());
        }
        Err(Error::BadData(format!(
            "a Delta table has lost what was told it; bring it back, or DROP its view. table=\"{}\", txn={}, expected={}",
            self.name,
            text(seen),
            text(told)
        )))
    }

    /// A table that has commits of epochs after those that the manifests know of it: they were lost, or put back to what they
    /// were, or another instance has gone on.
    pub async fn is_not_ahead(&self, known: Option<Epoch>) -> Result<()> {
        let seen = self.seen().await?;
        if seen <= known {
            return Ok(());
        }
        Err(Error::BadData(format!(
            "a Delta table has commits that no manifest knows: bring back the manifests that were there, or DROP its view. \
             table=\"{}\", txn={}, expected={} at most",
            self.name,
            text(seen),
            text(known)
        )))
    }

    fn actions(&self, pending: &PendingCommit) -> Result<Vec<Action>> {
        let mut actions: Vec<Action> = Vec::new();
        if pending.replace {
            actions.extend(self.replaced_protocol()?);
            actions.push(self.replaced_metadata()?);
            let remove = |file: LogicalFileView| Action::Remove(file.remove_action(true));
            actions.extend(self.snapshot()?.try_log_data()?.iter().map(remove));
        } else if self.needs_replace()? || *self.snapshot()?.schema() != self.schema {
            return Err(Error::Invalid(format!(
                "the Delta table holds something else; drop the view or move the table away. table=\"{}\"",
                self.name
            )));
        } else if !self.lacks()?.is_empty() {
            actions.push(self.replaced_metadata()?);
        }
        actions.extend(pending.files.iter().map(|file| Action::Add(add(file))));
        Ok(actions)
    }

    /// Timestamps without a zone are a feature that a table must declare; a new table does so by itself.
    fn replaced_protocol(&self) -> Result<Option<Action>> {
        if !contains_timestampntz(self.schema.fields()) {
            return Ok(None);
        }
        let protocol = serde_json::from_value(serde_json::json!({
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"],
            "writerFeatures": ["timestampNtz"],
        }));
        let protocol =
            protocol.map_err(|error| Error::Internal(format!("a Delta protocol is wrong: {error}")))?;
        Ok(Some(Action::Protocol(protocol)))
    }

    fn lacks(&self) -> Result<BTreeMap<&'static str, String>> {
        let has = self.snapshot()?.metadata().configuration();
        Ok(log::lacking(self.root.lake_log, |key| has.get(key).map(String::as_str)))
    }

    fn replaced_metadata(&self) -> Result<Action> {
        let mut metadata = self.snapshot()?.metadata().clone().with_schema(&self.schema);
        let owner = (OWNER_KEY, self.id.to_string());
        for (key, value) in self.lacks()?.into_iter().chain([owner]) {
            metadata = metadata.and_then(|metadata| metadata.add_config_key(key.to_string(), value));
        }
        Ok(Action::Metadata(metadata.map_err(DeltaTableError::from)?))
    }

    /// The table's files where they are not those that it is known to have.
    pub fn others(&self, known: &HistoryFiles) -> Result<Option<HistoryFiles>> {
        let known: BTreeSet<&Path> = known.files.iter().map(|file| &file.path).collect();
        let has: BTreeSet<Path> =
            self.snapshot()?.try_log_data()?.iter().map(|file| self.path_of(&file)).collect();
        if has.iter().eq(known) { Ok(None) } else { self.history().map(Some) }
    }

    /// The table's files at the version last loaded or committed; none while they are another view's.
    pub fn history(&self) -> Result<HistoryFiles> {
        let files: Result<Vec<HistoryFile>> = match self.needs_replace()? {
            true => Ok(Vec::new()),
            false => self.snapshot()?.try_log_data()?.iter().map(|file| self.history_file(&file)).collect(),
        };
        Ok(HistoryFiles { store: Arc::clone(self.root.readers()), files: Arc::new(files?), is_lost: false })
    }

    fn history_file(&self, file: &LogicalFileView) -> Result<HistoryFile> {
        let wrong = |what: &str| {
            Error::BadData(format!(
                "a file of a Delta table has no {what}. table=\"{}\", file=\"{}\"",
                self.name,
                file.path()
            ))
        };
        let values = file.partition_values_map();
        let date = values.get(PARTITION_COLUMN).cloned().flatten();
        let date = date.and_then(|text| text.parse::<NaiveDate>().ok());
        Ok(HistoryFile {
            path: self.path_of(file),
            bytes: file.size() as u64,
            rows: file.num_records().ok_or_else(|| wrong("row count"))? as u64,
            date: date.ok_or_else(|| wrong("date"))?,
            instants: file.stats().map(|stats| instants(&stats)).unwrap_or_default(),
        })
    }

    fn snapshot(&self) -> Result<&EagerSnapshot> {
        Ok(self.table.snapshot()?.snapshot())
    }

    fn owner(&self) -> Result<Option<String>> {
        Ok(self.snapshot()?.metadata().configuration().get(OWNER_KEY).cloned())
    }

    /// Of the version that is loaded.
    async fn seen(&self) -> Result<Option<Epoch>> {
        let log_store = self.table.log_store();
        let seen = self.snapshot()?.transaction_version(log_store.as_ref(), self.id).await?;
        Ok(seen.map(|version| Epoch(version as u64)))
    }

    async fn create_if_absent(&self) -> Result<()> {
        let log_store = self.table.log_store();
        let owner = (OWNER_KEY, self.id.to_string());
        let keys = log::configuration(self.root.lake_log).into_iter().chain([owner]);
        let configuration: Vec<_> = keys.map(|(key, value)| (key, Some(value))).collect();
        let mut failures = 0;
        while !log_store.is_delta_table_location().await? {
            self.root.failpoints().hit(Step::DeltaTableMissing);
            let created = CreateBuilder::new()
                .with_log_store(Arc::clone(&log_store))
                .with_table_name(&self.name)
                .with_columns(self.schema.fields().cloned())
                .with_partition_columns([PARTITION_COLUMN])
                .with_raise_if_key_not_exists(false)
                .with_configuration(configuration.clone())
                .await;
            match created {
                Ok(_) => self.root.failpoints().hit(Step::DeltaTableCreated),
                Err(error) => {
                    failures += 1;
                    if failures == ATTEMPTS_MAX {
                        return Err(error.into());
                    }
                    tracing::warn!(table = self.name, %error, failures, "cannot make a Delta table; looking again");
                    self.root.retry().pause(failures).await;
                }
            }
        }
        Ok(())
    }
}

/// The library would ask the machine once it has waited for the store, when files are older.
#[derive(Debug)]
struct AsOf(i64);

impl Clock for AsOf {
    fn current_timestamp_millis(&self) -> i64 {
        self.0
    }
}

fn text(txn: Option<Epoch>) -> String {
    txn.map_or("none".to_string(), |txn| txn.to_string())
}

/// The library finds a table by URL path within a store. Ours are rooted at the data, whatever it lies on, so the URL
/// is one of our own. With this scheme it touches nothing but the store, and relies on sorted listings (INV-C8).
fn log_store(root: &DataRoot, folder: &str) -> Result<LogStoreRef> {
    let url = Url::parse(&format!("memory:///{folder}"))
        .map_err(|error| Error::Internal(format!("no URL for a table. folder=\"{folder}\": {error}")))?;
    let table_store = Arc::new(PrefixStore::new(Arc::clone(root.objects()), Path::from(folder)));
    Ok(default_logstore(table_store, Arc::clone(root.objects()), &url, &StorageConfig::default()))
}

fn delta_schema(schema: &Schema) -> Result<StructType> {
    let lake = lake_schema(schema)?;
    let mut fields: Vec<_> = lake.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(PARTITION_COLUMN, DataType::Date32, true)));
    let schema = Schema::new(fields);
    (&schema).try_into_kernel().map_err(|error| Error::from(DeltaTableError::from(error)))
}

fn add(file: &DataFile) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: [(PARTITION_COLUMN.to_string(), Some(file.date.to_string()))].into(),
        size: file.bytes as i64,
        modification_time: 0,
        data_change: true,
        stats: Some(file.stats.clone()),
        ..Add::default()
    }
}
