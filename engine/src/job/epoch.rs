//! Turns a whole epoch into what its manifest says, table by table: the epoch's parts become a run, windows that the
//! frontier has passed become rows, rows become a tail or Parquet. Writes files; commits nothing.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::error::DataFusionError;
use futures::FutureExt;

use crate::checkpoint::manifest::{
    DataFile, DeltaState, PendingCommit, RunFile, StateFile, TableKind, TableState,
};
use crate::checkpoint::{DataRoot, EpochFile, FileNames};
use crate::error::{panic_text, root_text};
use crate::ids::{Epoch, Micros};
use crate::job::early::add_to_left;
use crate::job::ever::Told;
use crate::job::fed::{Fed, Taken};
use crate::job::ledger::ViewTerms;
use crate::job::memory::USED_UP;
use crate::job::refused::{RefusedRow, RefusedTable};
use crate::job::runs::Places;
use crate::job::shared::{Table, Tail};
use crate::memory::{Hold, Memory, Purpose};
use crate::sink::{ClosedRows, encode_parts, first_dates, in_order_of_key, in_order_of_time, put_parts};
use crate::spec::{Cut, Unit, Upper, ViewShape, ViewSpec};
use crate::status::{Failure, LedgerRow};
use crate::view::compact::compacted;
use crate::view::left::Left;
use crate::view::panes::Panes;
use crate::view::part::Part;
use crate::view::pieces::in_order;
use crate::view::run::Run;
use crate::view::session;
use crate::view::upper::{WindowPart, reduce};
use crate::view::{Above, Room, Stretch, without_time};
use crate::{Error, Result};

/// A file a date is what a roll costs, and a checkpoint waits for them: what is of more dates stays in the tail for the next
/// epochs.
pub(super) const DATES_A_ROLL: usize = 128;

/// When closed rows become Parquet.
#[derive(Debug, Clone, Copy)]
pub struct Roll {
    pub bytes: usize,
    pub age: Micros,
    /// A clean stop rolls what there is.
    pub now: bool,
}

impl Roll {
    pub fn is_due(&self, tail: &Tail, now: Micros) -> bool {
        let age = tail.since.map_or(0, |since| now - since);
        // A clock that was put back would have them wait until it is where it was.
        let is_old = !(0..self.age).contains(&age);
        !tail.rows.is_empty() && (self.now || tail.bytes() >= self.bytes || is_old)
    }
}

/// A table as it stood when its epoch had become whole.
pub struct Whole {
    pub spec: Arc<ViewSpec>,
    pub panes: Panes,
    pub tail: Tail,
    pub delta: DeltaState,
    pub told: Told,
    pub late: u64,
    pub failed: u64,
    pub failure: Option<Failure>,
    pub waits: Option<Vec<RunFile>>,
}

impl Whole {
    /// `since` are the terms of the epochs that run already.
    pub fn of(table: &Table, since: impl Iterator<Item = ViewTerms>) -> Whole {
        let (late_since, failed_since) =
            since.fold((0, 0), |(late, failed), terms| (late + terms.late, failed + terms.failed));
        Whole {
            spec: Arc::clone(&table.spec),
            panes: table.panes.clone(),
            tail: table.tail.clone(),
            delta: table.delta.clone(),
            told: table.told,
            late: table.late - late_since,
            failed: table.failed - failed_since,
            failure: table.failure.clone(),
            waits: table.waits.clone(),
        }
    }

    /// What its closing takes beside it, about: a piece that is merged or finished, twice over while it is copied, and two of
    /// closed rows that are sorted and encoded.
    pub fn needs(&self, roll: &Roll, now: Micros, piece: usize) -> usize {
        let encoding = if roll.is_due(&self.tail, now) { 3 * self.tail.bytes().min(2 * piece) } else { 0 };
        4 * self.panes.weight().min(piece) + encoding
    }
}

/// What the manifest will say of a table, and what its publication changes.
pub struct Closed {
    pub spec: Arc<ViewSpec>,
    pub runs: Vec<Arc<Run>>,
    pub closed_through: Option<Micros>,
    pub born_after: Option<Micros>,
    pub left: Left,
    pub tail: Tail,
    pub delta: DeltaState,
    pub told: Told,
    pub files: Vec<DataFile>,
    pub late: u64,
    pub failed: u64,
    pub failure: Option<Failure>,
    /// Then also, where it only waits to be planned, the state files that stay.
    pub waits: Option<Vec<RunFile>>,
    pub state_bytes: u64,
    /// The rows that it closed, as readers see them: what views that read it are fed.
    pub rows: Vec<RecordBatch>,
    /// What became of the rows that it was fed by views.
    pub ledger: Vec<LedgerRow>,
    pub refused: Vec<RefusedRow>,
    /// Counts what is new of this until it is shown.
    pub _made: Option<Hold>,
}

/// Does one table's share of an epoch.
pub struct TableEpoch {
    pub root: DataRoot,
    pub names: FileNames,
    /// What all tables keep of the epoch.
    pub file: Arc<EpochFile>,
    /// Files that had better be without what little they hold.
    pub emptied: Arc<BTreeSet<String>>,
    /// What had better lie on disk of what is open.
    pub spilled: Arc<Places>,
    pub epoch: Epoch,
    pub wall: Micros,
    pub roll: Roll,
    pub room: Room,
    pub memory: Arc<Memory>,
    /// What it has made, and nobody has been shown yet.
    pub made: Hold,
    /// Views are fed what it closes, so its rows stay in memory until they have been.
    pub is_read: bool,
    /// What of its rows is in Parquet before all have closed.
    pub early: Vec<DataFile>,
}

impl TableEpoch {
    /// Where a view is at fault, not the store, it alone stands still from here on. `through` is how far its legs have
    /// come, and `fed` what of other views came to it in this epoch.
    pub async fn close(mut self, whole: Whole, through: Option<Micros>, fed: Fed) -> Result<Closed> {
        let closed = self.closed(whole, through, fed).await?;
        Ok(Closed { _made: Some(self.made), ..closed })
    }

    async fn closed(&mut self, whole: Whole, through: Option<Micros>, fed: Fed) -> Result<Closed> {
        let failure = match &whole.failure {
            Some(failure) => failure.clone(),
            None => {
                let reason = match AssertUnwindSafe(self.go_on(&whole, through, fed)).catch_unwind().await {
                    Ok(Err(error)) if !error.is_of_store() && !whole.spec.is_system() => {
                        closing_failed(&error, &self.memory)
                    }
                    Ok(outcome) => return outcome,
                    Err(panic) => format!("closing its windows panicked: {}", panic_text(&*panic)),
                };
                Failure { reason, since: self.wall }
            }
        };
        self.early.clear();
        let (tail, delta, files) =
            self.settle_rows(&whole.spec, whole.tail.clone(), whole.delta.clone(), vec![]).await?;
        let closed_through = whole.panes.closed_through;
        let left = whole.panes.left.clone();
        let told = whole.told;
        let (runs, rows) = (vec![], vec![]);
        let settled = Settled { runs, closed_through, left, tail, delta, told, files, written: 0, rows };
        Ok(Closed { failure: Some(failure), ..Closed::of(&whole, settled, Taken::default()) })
    }

    async fn go_on(&mut self, whole: &Whole, through: Option<Micros>, fed: Fed) -> Result<Closed> {
        let spec = Arc::clone(&whole.spec);
        let mut fresh = whole.panes.of_epoch(self.epoch);
        let mut taken = fed.take_in(&spec, self.epoch).await?;
        fresh.append(&mut taken.parts);
        whole.panes.check_joining(&spec.name, &fresh)?;
        let mut left = whole.panes.left.clone();
        let (rows, fresh, closed_through) = match &spec.shape {
            ViewShape::Copy { .. } => (fresh.into_iter().map(|part| part.batch).collect(), vec![], None),
            ViewShape::Units { cuts, upper, unit, .. } => {
                let mut fresh = reduce(cuts, *unit, &fresh, &self.room).await?;
                self.made.add(bytes_of(&fresh));
                let panes = &whole.panes;
                let mut rows = vec![];
                let closed_through = panes.closed_with(through);
                match unit {
                    Unit::Window(_) => {
                        if let Some(through) = closed_through {
                            let room = self.room.clone();
                            let mut closing = panes
                                .closing(Above { cuts, upper, only: None }, &fresh, through, &room)
                                .await?;
                            while let Some(stretch) = closing.next().await? {
                                rows.extend(self.finish(cuts, upper, &stretch).await?);
                                self.put_much(&spec, &mut rows, &mut left, through).await?;
                            }
                        }
                    }
                    Unit::Session(_) | Unit::Ever(_) => {
                        let ended = self.ended(*unit, cuts, panes, &mut fresh, closed_through)?;
                        if let Unit::Session(_) = unit {
                            rows.extend(self.finish(cuts, upper, &Stretch::of(ended)).await?);
                        }
                    }
                }
                (rows, fresh, closed_through)
            }
        };
        add_to_left(&mut left, &spec, &rows, closed_through)?;
        let (runs, written) = self.runs(&whole.panes, &spec, &fresh, closed_through).await?;
        let (tail, mut delta, files) =
            self.settle_rows(&spec, whole.tail.clone(), whole.delta.clone(), rows.clone()).await?;
        let told = whole.told.with(!fresh.is_empty() || closed_through > whole.panes.closed_through);
        let told = self.tell_all(&spec, told, &runs, &mut delta).await?;
        let rows = rows.iter().map(|batch| without_time(&spec, batch)).collect::<Result<_>>()?;
        let settled = Settled { runs, closed_through, left, tail, delta, told, files, written, rows };
        Ok(Closed::of(whole, settled, taken))
    }

    /// The sessions that have ended; what of them goes on joins the fresh parts.
    fn ended(
        &self,
        unit: Unit,
        cuts: &[Cut],
        panes: &Panes,
        fresh: &mut Vec<Part>,
        closed: Option<Micros>,
    ) -> Result<Vec<WindowPart>> {
        let (Some(session), Some(closed)) = (unit.session(), closed) else { return Ok(vec![]) };
        let born = panes.born_after.map(|born| session.born_after(born));
        let outcome = session::close(unit, session, cuts, &panes.durable_and(fresh), closed, born)?;
        fresh.extend(outcome.carried);
        Ok(outcome.closing)
    }

    /// The rows of these windows, as one batch that owns its buffers: plans give slices of large ones.
    pub(super) async fn finish(
        &mut self,
        cuts: &[Cut],
        upper: &Upper,
        closing: &Stretch,
    ) -> Result<Option<RecordBatch>> {
        if closing.parts.is_empty() {
            return Ok(None);
        }
        let rows = closing.finish(cuts, upper, &self.room).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let rows = concat_batches(first.schema_ref(), &rows)?;
        let rows = compacted(match upper.first_key() {
            Some(key) => in_order_of_key(rows, key)?,
            None => rows,
        })?;
        self.made.add(rows.get_array_memory_size());
        Ok(Some(rows))
    }

    /// Adds closed rows to the tail, or turns the tail into Parquet when it is due.
    async fn settle_rows(
        &mut self,
        spec: &ViewSpec,
        mut tail: Tail,
        mut delta: DeltaState,
        rows: Vec<RecordBatch>,
    ) -> Result<(Tail, DeltaState, Vec<DataFile>)> {
        let rows = in_order_of_time(rows)?.into_iter().filter(|batch| batch.num_rows() > 0);
        let rows: Vec<ClosedRows> = rows.map(|rows| ClosedRows { epoch: self.epoch, rows }).collect();
        if !rows.is_empty() {
            tail.since.get_or_insert(self.wall);
            let mut visible = tail.visible.as_ref().clone();
            for closed in &rows {
                visible.push(for_readers(spec, closed)?);
            }
            tail.visible = Arc::new(visible);
            tail.rows.extend(rows.iter().cloned());
        }
        let mut files = std::mem::take(&mut self.early);
        if !files.is_empty() || self.roll.is_due(&tail, self.wall) {
            let (first, others) = first_dates(&tail.rows, DATES_A_ROLL)?;
            files.extend(self.put_rows(spec, first).await?);
            delta.pending.push(PendingCommit {
                txn: self.epoch,
                previous: delta.last(),
                files: files.clone(),
                replace: false,
            });
            let rest = match others.is_empty() {
                true => Tail::default(),
                false => Tail {
                    visible: Arc::new(
                        others.iter().map(|closed| for_readers(spec, closed)).collect::<Result<_>>()?,
                    ),
                    files: vec![self.write_tail(others.clone()).await?],
                    rows: others,
                    since: tail.since,
                },
            };
            return Ok((rest, delta, files));
        }
        if tail.files.iter().any(|file| self.emptied.contains(&file.path)) {
            tail.files = vec![self.write_tail(tail.rows.clone()).await?];
        } else if !rows.is_empty() {
            tail.files.push(self.write_tail(rows).await?);
        }
        Ok((tail, delta, vec![]))
    }

    /// As Parquet.
    pub(super) async fn put_rows(&mut self, spec: &ViewSpec, rows: Vec<ClosedRows>) -> Result<Vec<DataFile>> {
        let weigh = |closed: &ClosedRows| closed.rows.get_array_memory_size();
        let mut files = vec![];
        for rows in in_order(rows, weigh, 2 * self.room.piece_bytes) {
            // Sorted, and in the lake's types.
            let bytes = rows.iter().map(weigh).sum::<usize>();
            let mut encoding = self.memory.hold(Purpose::Encoding, 2 * bytes);
            let parts = encode_parts(&rows, &mut self.names)?;
            encoding.set(parts.iter().map(|part| part.bytes.len()).sum());
            files.extend(put_parts(&self.root, &spec.name, parts).await?);
        }
        Ok(files)
    }

    async fn write_tail(&mut self, rows: Vec<ClosedRows>) -> Result<StateFile> {
        let parts: Vec<Part> = rows.into_iter().map(tail_part).collect();
        self.write(&parts).await
    }
}

/// As a reader sees them.
pub(super) fn for_readers(spec: &ViewSpec, closed: &ClosedRows) -> Result<ClosedRows> {
    Ok(ClosedRows { epoch: closed.epoch, rows: without_time(spec, &closed.rows)? })
}

/// In a state file closed rows have their epoch in place of a pane.
fn tail_part(closed: ClosedRows) -> Part {
    Part::of_one_pane(closed.epoch.0 as Micros, 0, closed.rows)
}

pub(super) fn tail_rows(part: Part) -> ClosedRows {
    let epoch = part.panes.first().map_or(0, |pane| pane.start.max(0) as u64);
    ClosedRows { epoch: Epoch(epoch), rows: part.batch }
}

fn bytes_of(parts: &[Part]) -> usize {
    parts.iter().map(Part::bytes).sum()
}

fn closing_failed(error: &Error, memory: &Memory) -> String {
    match error {
        Error::Plan(error) => match error.find_root() {
            DataFusionError::ResourcesExhausted(reason) if reason.contains(USED_UP) => reason.clone(),
            // An operator that has words of its own for it.
            DataFusionError::ResourcesExhausted(_) => format!(
                "{USED_UP} while it sorted, ranked or joined all rows of a window at once. {}; make its windows shorter, group by \
                 fewer keys, or raise --memory",
                memory.told()
            ),
            _ => format!("closing its windows failed: {}", root_text(error)),
        },
        other => other.to_string(),
    }
}

/// What one table's share of the epoch has come to.
struct Settled {
    runs: Vec<Arc<Run>>,
    closed_through: Option<Micros>,
    left: Left,
    tail: Tail,
    delta: DeltaState,
    told: Told,
    files: Vec<DataFile>,
    /// Bytes of runs.
    written: u64,
    rows: Vec<RecordBatch>,
}

impl Closed {
    fn of(whole: &Whole, settled: Settled, taken: Taken) -> Closed {
        let Settled { runs, closed_through, left, tail, delta, told, files, written, rows } = settled;
        Closed {
            spec: Arc::clone(&whole.spec),
            runs,
            closed_through,
            born_after: whole.panes.born_after,
            left,
            state_bytes: written + tail.files.last().map_or(0, |file| file.bytes),
            tail,
            delta,
            told,
            files,
            late: whole.late,
            failed: whole.failed + taken.refused.len() as u64,
            failure: None,
            waits: whole.waits.clone(),
            rows,
            ledger: taken.ledger,
            refused: taken.refused,
            _made: None,
        }
    }

    pub fn state(&self) -> TableState {
        let kind = match self.spec.name.as_str() {
            name if name == RefusedTable::RejectedRecords.spec_name() => TableKind::RejectedRecords,
            name if name == RefusedTable::LateRows.spec_name() => TableKind::LateRows,
            _ => TableKind::View {
                sql: self.spec.sql.clone(),
                inputs: self.spec.inputs(),
                fingerprint: self.spec.fingerprint.clone(),
                born_after: self.born_after,
                closed_through: self.closed_through,
                left: Some(self.left.clone()),
                late: self.late,
                failed: self.failed,
            },
        };
        let run = |run: &Arc<Run>| RunFile::of(run.level, run.sections.iter().map(|it| it.file.clone()));
        // A new start is a new attempt.
        let (runs, failure) = match &self.waits {
            Some(runs) => (runs.clone(), None),
            None => (self.runs.iter().filter_map(run).collect(), self.failure.clone()),
        };
        let files: Vec<StateFile> = self.tail.files.clone();
        TableState {
            id: self.spec.id,
            name: self.spec.name.clone(),
            kind,
            runs,
            tail: files,
            tail_since: self.tail.since,
            delta: self.delta.clone(),
            failure,
        }
    }
}
