//! What becomes of the tables in the lake: Delta is told what manifests have made real, and tables are kept in order. Beside
//! all else, several tables at a time, each by a task of its own. What is told is told again where it is not known to have
//! been.

mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use self::work::{Done, Outcome, Work};
use crate::checkpoint::manifest::DeltaState;
use crate::checkpoint::{DataRoot, compacted_part, part_epoch};
use crate::clock::Clock;
use crate::ids::Micros;
use crate::job::shared::{Shared, Table, Tables};
use crate::job::{Settings, tables};
use crate::sink::{DeltaSink, HistoryFile, HistoryFiles, compaction_due};
use crate::spec::ViewSpec;
use crate::status::CompactionStatus;
use crate::{Error, Result};

/// Tables that are told at a time.
const TELLING: usize = 16;

/// A table is rid of what nobody needs so often at least, and not before the server has run for a while.
const VACUUM_EVERY: Duration = Duration::from_secs(24 * 3600);
const VACUUM_FIRST: Duration = Duration::from_secs(600);
/// And so often at most.
const VACUUM_LEAST: Duration = Duration::from_secs(1);

const DAY: Micros = 24 * 3600 * 1_000_000;

/// How many `system.compactions` shows.
const KEPT_COMPACTIONS: usize = 1_000;

/// What a table is due for, and the files that it has once that is done, where they are known.
type Due = (Arc<ViewSpec>, Option<Arc<HistoryFiles>>, Work);

pub struct Lake {
    root: DataRoot,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    /// Of whoever names files.
    nonce: Uuid,
    compact_files: usize,
    vacuum: Duration,
    /// Of tables that nobody works on.
    sinks: BTreeMap<Uuid, DeltaSink>,
    /// Tables that somebody works on, and whether they have become others meanwhile.
    busy: BTreeMap<Uuid, bool>,
    /// Failed views whose tables could not be told; nobody asks them again before the view is begun anew.
    unsettled: BTreeSet<Uuid>,
    /// By table how many files it had for good when they were last looked at.
    looked: BTreeMap<Uuid, usize>,
    vacuumed: BTreeMap<Uuid, Duration>,
    telling: JoinSet<Done>,
    room: Arc<Semaphore>,
    /// One at a time: nobody waits for it.
    keeping: JoinSet<Done>,
    made: u64,
    /// The longest that a table took to be told since somebody asked.
    slowest: Duration,
}

impl Lake {
    pub fn new(
        root: DataRoot,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        nonce: Uuid,
        settings: &Settings,
    ) -> Lake {
        Lake {
            root,
            shared,
            clock,
            nonce,
            compact_files: settings.compact_files,
            vacuum: settings.vacuum,
            sinks: BTreeMap::new(),
            busy: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            looked: BTreeMap::new(),
            vacuumed: BTreeMap::new(),
            telling: JoinSet::new(),
            room: Arc::new(Semaphore::new(TELLING)),
            keeping: JoinSet::new(),
            made: 0,
            slowest: Duration::ZERO,
        }
    }

    /// The table is another one from here on, or to be looked at afresh.
    pub fn forget(&mut self, table: Uuid) {
        self.sinks.remove(&table);
        self.unsettled.remove(&table);
        self.looked.remove(&table);
        if let Some(other) = self.busy.get_mut(&table) {
            *other = true;
        }
    }

    /// Takes up what has been done, and has done what there is to do. Nobody waits for the store here.
    pub fn settle(&mut self) -> Result<()> {
        while let Some(done) = self.telling.try_join_next() {
            self.take_up(done)?;
        }
        while let Some(done) = self.keeping.try_join_next() {
            self.take_up(done)?;
        }
        // Before it is told: a table that has something to tell after each epoch would never have its turn.
        if self.keeping.is_empty() {
            self.keep_in_order()?;
        }
        self.tell();
        Ok(())
    }

    /// Waits until Delta has been told all; tables are left in the order in which they are.
    pub async fn finish(&mut self) -> Result<()> {
        self.keeping.shutdown().await;
        self.busy.clear();
        // A task that still tells a table ends the same way as one that tells it again.
        loop {
            while let Some(done) = self.telling.try_join_next() {
                self.take_up(done)?;
            }
            if self.telling.is_empty() {
                self.tell();
            }
            match self.telling.join_next().await {
                Some(done) => self.take_up(done)?,
                None => return Ok(()),
            }
        }
    }

    /// How long the slowest table took that has been told since this was asked last.
    pub fn slowest(&mut self) -> Duration {
        std::mem::take(&mut self.slowest)
    }

    fn tell(&mut self) {
        let due: Vec<Due> = {
            let tables = self.shared.lock();
            let due = tables.tables.values().filter(|table| !table.delta.pending.is_empty());
            let due = due.filter(|table| {
                !self.unsettled.contains(&table.spec.id) && !self.busy.contains_key(&table.spec.id)
            });
            let work = |table: &Table| Work::Tell {
                commits: table.delta.pending.clone(),
                has_failed: table.failure.is_some(),
            };
            let known = |table: &Table| (!tables::is_copied(&table.spec)).then(|| Arc::clone(&table.history));
            due.map(|table| (Arc::clone(&table.spec), known(table), work(table))).collect()
        };
        for (spec, known, work) in due {
            let (sink, root) = (self.begin(&spec), self.root.clone());
            let (room, clock) = (Arc::clone(&self.room), Arc::clone(&self.clock));
            self.telling.spawn(async move {
                let _room = room.acquire_owned().await;
                work.done(root, spec, sink, known, &*clock).await
            });
        }
    }

    /// One table at a time is made fewer files, or rid of those that are none of it any more.
    fn keep_in_order(&mut self) -> Result<()> {
        let Some((spec, known, work)) = self.next_in_order()? else { return Ok(()) };
        let (sink, root, clock) = (self.begin(&spec), self.root.clone(), Arc::clone(&self.clock));
        let memory = Arc::clone(self.shared.memory());
        let runtime = tokio::runtime::Handle::current();
        self.keeping.spawn(async move {
            let _held = work.hold(&memory);
            let of_task = Arc::clone(&spec);
            // On a thread where computing keeps nobody from being served.
            let work = move || runtime.block_on(work.done(root, of_task, sink, known, &*clock));
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Done::panicked(&spec, &error))
        });
        Ok(())
    }

    fn next_in_order(&mut self) -> Result<Option<Due>> {
        let now = self.clock.elapsed();
        let vacuum = self.vacuum.max(VACUUM_LEAST);
        let shared = Arc::clone(&self.shared);
        let tables = shared.lock();
        let at_rest =
            tables.tables.values().filter(|it| it.failure.is_none() && !self.busy.contains_key(&it.spec.id));
        for table in at_rest.collect::<Vec<_>>() {
            let (spec, told) = (&table.spec, told_for_good(table)?);
            if self.looked.insert(spec.id, told.files.len()) != Some(told.files.len())
                && let Some(work) = self.due_of(spec, &told)
            {
                // There may be more.
                self.looked.remove(&spec.id);
                return Ok(Some((Arc::clone(spec), None, work)));
            }
            let last = self.vacuumed.get(&spec.id);
            let due = last.map_or(VACUUM_FIRST.min(vacuum), |last| *last + VACUUM_EVERY.min(vacuum));
            if now >= due && table.delta.confirmed.is_some() {
                self.vacuumed.insert(spec.id, now);
                let known = without_pending(&table.history, table, [&table.delta])?;
                let known = (!tables::is_copied(spec)).then_some(known);
                let kept = with_pending(&table.history, table, &table.delta)?;
                let work = Work::Vacuum { older_than: self.vacuum, as_of: store_time(), kept };
                return Ok(Some((Arc::clone(spec), known, work)));
            }
        }
        Ok(None)
    }

    /// What its files are due for.
    fn due_of(&mut self, spec: &ViewSpec, history: &HistoryFiles) -> Option<Work> {
        let now = chrono::DateTime::from_timestamp_micros(self.clock.wall());
        let today = now.map(|now| now.date_naive()).unwrap_or_default();
        let expired = spec.retention.map_or(vec![], |retention| expired(spec, history, retention, today));
        if !expired.is_empty() {
            return Some(Work::Expire { files: expired });
        }
        let compaction = compaction_due(history, self.compact_files)?;
        let epochs = compaction.files.iter().filter_map(|file| part_epoch(file.path.filename()?));
        let epoch = epochs.max().unwrap_or_default();
        self.made += 1;
        let path = compacted_part(spec.id, epoch, self.nonce, self.made, compaction.date);
        Some(Work::Compact { compaction, path })
    }

    fn begin(&mut self, spec: &ViewSpec) -> Option<DeltaSink> {
        self.busy.insert(spec.id, false);
        self.sinks.remove(&spec.id)
    }

    /// A table that can't be told fails its view. One that can't be kept in order stays as it is.
    fn take_up(&mut self, done: Result<Done, JoinError>) -> Result<()> {
        let Done { id, name, sink, outcome, others, took } =
            done.map_err(|error| Error::Internal(format!("a task of the lake panicked: {error}")))?;
        let is_another = self.busy.remove(&id).unwrap_or_default();
        if let Some(sink) = sink.filter(|_| !is_another) {
            self.sinks.insert(id, sink);
        }
        let tables = &mut *self.shared.lock();
        let Some(table) = tables.tables.get_mut(&name).filter(|table| table.spec.id == id) else {
            // It was dropped meanwhile.
            return outcome.map(drop).or_else(|error| if error.is_of_store() { Err(error) } else { Ok(()) });
        };
        match outcome {
            Ok(Outcome::Told(confirmed)) => {
                self.slowest = self.slowest.max(took);
                table.delta.confirm(confirmed);
                follow(table, others.filter(|_| !is_another))?;
            }
            Ok(Outcome::Compacted(compaction, file)) => {
                let (files, bytes) = (compaction.files.len(), compaction.bytes());
                let others = tables::without_files(&table.history, &compaction.files);
                table.history = tables::with_files(&others, &table.spec, std::slice::from_ref(&file))?;
                tell_compaction(
                    tables,
                    CompactionStatus {
                        at: self.clock.wall(),
                        table: name,
                        date: compaction.date,
                        files: files as u64,
                        bytes,
                        bytes_after: file.bytes,
                        rows: file.rows,
                        micros: took.as_micros() as u64,
                    },
                );
            }
            Ok(Outcome::Expired(files)) => {
                table.history = tables::without_files(&table.history, &files);
                tracing::info!(table = name, files = files.len(), "rows are kept no longer");
            }
            Ok(Outcome::Vacuumed(files)) => {
                follow(table, others.filter(|_| !is_another))?;
                if files > 0 {
                    tracing::info!(table = name, files, "deleted files that are none of a table any more");
                }
            }
            // Until its files are others, so that the tables behind it have their turn.
            Ok(Outcome::Nothing) => drop(self.looked.insert(id, told_for_good(table)?.files.len())),
            Ok(Outcome::Failed(error)) => {
                tracing::warn!(table = name, %error, "a table can't be kept in order now");
                self.looked.insert(id, told_for_good(table)?.files.len());
            }
            Err(error) if error.is_of_store() || table.spec.is_system() => return Err(error),
            Err(error) => {
                table.fail(error.to_string(), self.clock.wall());
                // All others would wait for its next attempts.
                if !is_another {
                    self.unsettled.insert(id);
                }
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "files are as old as the clock of whoever keeps them says")]
fn store_time() -> DateTime<Utc> {
    Utc::now()
}

/// Somebody else has written to the table: what it has now is its history.
fn follow(table: &mut Table, others: Option<HistoryFiles>) -> Result<()> {
    let Some(others) = others else { return Ok(()) };
    tracing::warn!(
        table = table.spec.name,
        known_files = table.history.files.len(),
        files = others.files.len(),
        "another engine has written to a Delta table: its history is what the table has now"
    );
    table.history = with_pending(&Arc::new(others), table, &table.delta)?;
    Ok(())
}

fn with_pending(history: &Arc<HistoryFiles>, table: &Table, delta: &DeltaState) -> Result<Arc<HistoryFiles>> {
    let mut pending = delta.pending.iter();
    pending.try_fold(Arc::clone(history), |all, commit| tables::with_files(&all, &table.spec, &commit.files))
}

fn without_pending<'a>(
    history: &Arc<HistoryFiles>,
    table: &Table,
    deltas: impl IntoIterator<Item = &'a DeltaState>,
) -> Result<Arc<HistoryFiles>> {
    let mut deltas = deltas.into_iter().filter(|delta| !delta.pending.is_empty()).peekable();
    if deltas.peek().is_none() {
        return Ok(Arc::clone(history));
    }
    let nothing = Arc::new(HistoryFiles { files: Arc::default(), ..HistoryFiles::clone(history) });
    let pending = deltas.try_fold(nothing, |all, delta| with_pending(&all, table, delta))?;
    Ok(tables::without_files(history, &pending.files))
}

/// The files that Delta has and that no start names again, as it does those of a commit that is on record as pending.
fn told_for_good(table: &Table) -> Result<Arc<HistoryFiles>> {
    let written = table.written.iter().map(|written| &written.delta);
    without_pending(&table.history, table, written.chain([&table.delta]))
}

/// Files of dates that lie further back from the newest than rows are kept. One that is still to come says that a clock was
/// wrong, and not that all the others are old.
fn expired(spec: &ViewSpec, history: &HistoryFiles, retention: Micros, today: NaiveDate) -> Vec<HistoryFile> {
    let days = (retention + DAY - 1) / DAY;
    let newest = history.files.iter().map(|file| file.date).filter(|date| *date <= today).max();
    let first = newest.and_then(|newest| newest.checked_sub_days(chrono::Days::new(days as u64)));
    let Some(first) = first else { return vec![] };
    // A record without a time stands under 1970 in our tables, and nobody can call it old.
    let has_date = |file: &&HistoryFile| !spec.is_system() || file.date != NaiveDate::default();
    history.files.iter().filter(|file| file.date < first).filter(has_date).cloned().collect()
}

fn tell_compaction(tables: &mut Tables, compaction: CompactionStatus) {
    tables.compactions.push_back(compaction);
    while tables.compactions.len() > KEPT_COMPACTIONS {
        tables.compactions.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::job::refused::RefusedTable;

    fn file(date: &str) -> HistoryFile {
        HistoryFile {
            path: object_store::path::Path::from(date),
            bytes: 1,
            rows: 1,
            date: date.parse().unwrap(),
            instants: vec![],
        }
    }

    #[test]
    fn what_is_still_to_come_makes_nothing_old() {
        let spec = RefusedTable::LateRows.spec();
        let files = Arc::new(["2025-06-01", "2025-06-09", "2035-01-01"].map(file).to_vec());
        let history = HistoryFiles { store: Arc::new(InMemory::new()), files, is_lost: false };
        let left = |today: &str| expired(&spec, &history, 2 * DAY, today.parse().unwrap()).len();
        assert_eq!((left("2025-06-10"), left("2025-06-20"), left("2036-01-01")), (1, 1, 2));
    }

    #[test]
    fn what_has_no_date_is_not_old() {
        let files = ["1970-01-01", "2025-06-01", "2025-06-07", "2025-06-08", "2025-06-09"].map(file);
        let history = HistoryFiles {
            store: Arc::new(InMemory::new()),
            files: Arc::new(files.to_vec()),
            is_lost: false,
        };
        let left = |spec: &ViewSpec| {
            let today = "2025-06-10".parse().unwrap();
            let expired = expired(spec, &history, 2 * DAY, today);
            expired.iter().map(|file| file.date.to_string()).collect::<Vec<_>>()
        };
        let mut spec = RefusedTable::LateRows.spec();
        assert_eq!(left(&spec), ["2025-06-01"]);
        spec.legs.push(crate::spec::Leg { input: crate::spec::Input::Stream("s".into()), columns: vec![] });
        assert_eq!(left(&spec), ["1970-01-01", "2025-06-01"], "a view's dates are what they say");
    }
}
