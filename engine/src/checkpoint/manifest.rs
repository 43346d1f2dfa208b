//! The manifest of an epoch: everything a restart needs, and the only thing that makes files real.
//!
//! JSON, one object per epoch at `manifests/<epoch, 20 digits>.json`; `written` has what of it is in there. A field that a
//! newer version adds must change `FORMAT`; an unknown field is refused, never ignored. Older formats are read, and written
//! anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::ids::{Epoch, Micros, Offset, PartitionId, TopicId};
use crate::spec::KeptStatement;
use crate::status::{Failure, Intervention, LedgerRow};
use crate::view::left::Left;

/// 2: rows that failed are counted, and a view or a stream may have failed. 3: a view may read several inputs, a watermark
/// may have been set back, and statements are kept that are not run. 4: tables that are looked up. 5: a hash of the whole.
/// 6: what has changed, a catalog beside it, and sections of files. 7: which topic offsets are of.
/// 8: runs of several sections.
pub const FORMAT: u32 = 8;

/// Those that are read.
pub const FORMATS: RangeInclusive<u32> = 1..=FORMAT;

#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub epoch: Epoch,
    /// Of the instance that wrote it.
    pub nonce: Uuid,
    pub kind: ManifestKind,
    pub committed_at: Micros,
    pub streams: Vec<StreamState>,
    /// The very same as in the manifest before where nothing has changed.
    pub tables: Vec<Arc<TableState>>,
    pub kept: Vec<KeptState>,
    pub lookups: Vec<LookupState>,
    /// The terms of conservation of this epoch.
    pub ledger: Vec<LedgerRow>,
    /// The newest ones, newest last.
    pub interventions: Vec<Intervention>,
}

impl Manifest {
    /// Of data in which nothing is yet.
    pub fn empty(nonce: Uuid) -> Manifest {
        Manifest {
            epoch: Epoch(0),
            nonce,
            kind: ManifestKind::Claim,
            committed_at: 0,
            streams: vec![],
            tables: vec![],
            kept: vec![],
            lookups: vec![],
            ledger: vec![],
            interventions: vec![],
        }
    }

    /// Whether all that a view reads, by itself or through others, are these streams.
    pub fn reads_only(&self, view: &TableState, streams: &[&str]) -> bool {
        let TableKind::View { inputs, .. } = &view.kind else { return false };
        inputs.iter().all(|input| {
            let read = self.tables.iter().find(|table| table.name == *input && table.id != view.id);
            streams.contains(&input.as_str()) || read.is_some_and(|read| self.reads_only(read, streams))
        })
    }

    pub(super) fn tables_by_id(&self) -> BTreeMap<Uuid, &Arc<TableState>> {
        self.tables.iter().map(|table| (table.id, table)).collect()
    }

    /// All files under `state/` that the manifest makes real: runs, tails, and what tables hold that are looked up.
    pub fn state_files(&self) -> impl Iterator<Item = &StateFile> {
        let of_views = self.tables.iter().flat_map(|table| table.state_files());
        of_views.chain(self.lookups.iter().filter_map(|lookup| lookup.file.as_ref()))
    }

    /// What must hold whatever the job does; looked at after a manifest was read.
    pub(super) fn check(&self) -> Result<(), String> {
        self.tables.iter().try_for_each(|table| table.check(self.epoch))?;
        let mut sections = BTreeSet::new();
        match self.state_files().find(|file| !sections.insert((&file.path, file.offset))) {
            Some(twice) => Err(format!("a section of a state file is named twice. path=\"{}\"", twice.path)),
            None => Ok(()),
        }
    }
}

pub(super) fn check_format(format: u32) -> Result<(), String> {
    match FORMATS.contains(&format) {
        true => Ok(()),
        false => Err(format!(
            "its format is {format}, this version reads {} to {}; run the version that wrote it, or a newer one",
            FORMATS.start(),
            FORMATS.end()
        )),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestKind {
    /// A starting instance took the data over; carries the state it found.
    Claim,
    Epoch,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    pub id: Uuid,
    pub name: String,
    /// Of this and the others below: in the catalog since format 6.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sql: String,
    /// What its offsets are of, where the brokers say. Since format 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<TopicId>,
    pub frontier: Option<Micros>,
    pub partitions: Vec<PartitionState>,
    pub records: u64,
    pub rejected: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptState {
    pub id: Uuid,
    /// All of them were endpoints once.
    #[serde(rename = "path")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sql: String,
}

/// A table that views look up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupState {
    pub id: Uuid,
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sql: String,
    /// What it holds was made of this.
    pub version: String,
    /// Since this wall time.
    pub taken_at: Micros,
    /// What it holds; a topic is read again instead.
    pub file: Option<StateFile>,
}

impl KeptState {
    pub fn of(spec: &KeptStatement) -> KeptState {
        KeptState { id: spec.id, name: spec.name.clone(), sql: spec.sql.clone() }
    }

    pub fn spec(&self) -> KeptStatement {
        KeptStatement { id: self.id, name: self.name.clone(), sql: self.sql.clone() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionState {
    pub partition: PartitionId,
    /// The next record to read.
    pub next_offset: Offset,
    /// Largest event time seen.
    pub event_time_max: Option<Micros>,
    /// The frontier adopted when the partition was found or came back from idleness.
    pub floor: Option<Micros>,
    pub idle: bool,
    /// A bounded source that has given its last record.
    pub ended: bool,
    /// The last record read, to find a topic that was deleted and created again.
    pub last_record: Option<RecordFingerprint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFingerprint {
    pub offset: Offset,
    pub timestamp: Micros,
    pub hash: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TableState {
    pub id: Uuid,
    pub name: String,
    pub kind: TableKind,
    /// Partial aggregates of the open panes, oldest first.
    pub runs: Vec<RunFile>,
    /// Closed rows that are not in Parquet yet, oldest first.
    pub tail: Vec<StateFile>,
    /// When the oldest row of the tail closed, for rolling by age.
    pub tail_since: Option<Micros>,
    pub delta: DeltaState,
    /// The view stands still; it has no runs.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TableKind {
    View {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sql: String,
        /// The streams and views that it reads; up to format 2 one stream.
        #[serde(
            default,
            skip_serializing_if = "Vec::is_empty",
            alias = "stream",
            deserialize_with = "one_or_many"
        )]
        inputs: Vec<String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        fingerprint: String,
        /// Only windows that begin at or after this instant are emitted.
        born_after: Option<Micros>,
        /// Windows ending at or before this instant have left.
        closed_through: Option<Micros>,
        /// Windows that have left with rows. Since format 3.
        #[serde(default)]
        left: Option<Left>,
        late: u64,
        /// Rows that an expression of the view could not take. Since format 2.
        #[serde(default)]
        failed: u64,
    },
    RejectedRecords,
    LateRows,
}

impl TableState {
    pub fn state_files(&self) -> impl Iterator<Item = &StateFile> {
        self.runs.iter().flat_map(RunFile::sections).chain(&self.tail)
    }

    /// INV-C11; looked at before a manifest is written, too.
    pub(super) fn check(&self, epoch: Epoch) -> Result<(), String> {
        let mut before = self.delta.confirmed;
        for pending in &self.delta.pending {
            if pending.previous != before || Some(pending.txn) <= before || pending.txn > epoch {
                return Err(format!(
                    "the pending commits of a table are no chain. table=\"{}\", txn={}, epoch={epoch}",
                    self.name, pending.txn
                ));
            }
            before = Some(pending.txn);
        }
        Ok(())
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Names::deserialize(value)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}

/// A section of a file under `state/`: a run, or of a tail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// Relative to the data's root; carries epoch, nonce and number.
    pub path: String,
    /// Where in the file it begins. Up to format 5 there was one in each.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: u64,
    pub bytes: u64,
    pub rows: u64,
    /// xxh3 of the section.
    pub hash: u64,
}

fn is_zero(offset: &u64) -> bool {
    *offset == 0
}

/// A run of state: parts that were made at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// 0 for an epoch's own batches; each merge of runs makes one of the next level.
    pub level: u32,
    pub file: StateFile,
    /// A large one has several sections. Since format 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<StateFile>,
}

impl RunFile {
    /// Of so many sections; none of none.
    pub fn of(level: u32, sections: impl IntoIterator<Item = StateFile>) -> Option<RunFile> {
        let mut sections = sections.into_iter();
        Some(RunFile { level, file: sections.next()?, more: sections.collect() })
    }

    pub fn sections(&self) -> impl Iterator<Item = &StateFile> {
        std::iter::once(&self.file).chain(&self.more)
    }
}

/// What Delta is known to hold, and what it still has to be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaState {
    /// `txn` of the last commit known to be in the Delta log.
    pub confirmed: Option<Epoch>,
    /// Commits that this manifest has made real, oldest first.
    pub pending: Vec<PendingCommit>,
}

impl DeltaState {
    /// The table has all commits up to this one.
    pub fn confirm(&mut self, txn: Option<Epoch>) {
        self.confirmed = self.confirmed.max(txn);
        self.pending.retain(|commit| Some(commit.txn) > self.confirmed);
    }

    /// What the next commit has to follow.
    pub fn last(&self) -> Option<Epoch> {
        self.pending.last().map(|commit| commit.txn).or(self.confirmed)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingCommit {
    /// The epoch that rolled: the commit's `txn` version.
    pub txn: Epoch,
    /// The `txn` that the table must have before it.
    pub previous: Option<Epoch>,
    pub files: Vec<DataFile>,
    /// The table's former content goes in the same commit (a dropped name, created again).
    pub replace: bool,
}

/// A Parquet file of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// Relative to the table's root, partition folder included.
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    pub date: chrono::NaiveDate,
    /// Delta's statistics of the file, as the JSON text of an `add` action.
    pub stats: String,
}
