//! What closes of a view, as the rows of a query, to be sent on: epoch by epoch, from any epoch on.
//!
//! INV-28: the rows of an epoch come in one order wherever they lie by then, in memory, in a file or in one that it was
//! compacted into: by date, and within one as they closed. So whoever died in the middle of an epoch goes on with the same rows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{FieldRef, Int32Type, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::object_store::path::Path;
use thalweg_engine::ErrorKind;
use thalweg_engine::ids::Epoch;
use thalweg_engine::sink::{ClosedRows, FileRows, HistoryFile, Runs};
use tokio::sync::watch;

use crate::plan::CARRIED;
use crate::session::database::Shared;
use crate::session::making::{self, Making, Unmade};
use crate::session::subscribe::{Change, Feed, News, State};
use crate::{Error, Result};

/// Files that are read on from where they were left.
const FILES_OPEN: usize = 32;

/// One that has failed is done with: what it has open is somewhere in the middle.
pub struct Follower {
    rows: Making,
    schema: SchemaRef,
    news: watch::Receiver<News>,
    _feed: Arc<Feed>,
    /// The newest state that was looked at.
    state: Option<Arc<State>>,
    /// The one whose open rows are told.
    told: Option<Arc<State>>,
    /// When the rows of files closed.
    runs: BTreeMap<Path, Runs>,
    reading: BTreeMap<Path, FileRows>,
}

/// Rows that belong together: all that closed after one epoch and by another.
pub struct Unit {
    pub through: Epoch,
    is_last: bool,
    state: Arc<State>,
    left: VecDeque<Piece>,
}

/// What has become of open rows.
pub struct Changed {
    /// They are there now, or not any more.
    pub come: bool,
    pub rows: RecordBatch,
}

enum Piece {
    /// Its rows of one epoch.
    File(HistoryFile, Epoch),
    Closed(ClosedRows),
}

impl Unit {
    /// Nothing has closed behind it, as far as is looked.
    pub fn is_last(&self) -> bool {
        self.is_last
    }
}

impl Follower {
    /// With open rows, if they are wanted.
    pub(super) fn new(shared: &Arc<Shared>, rows: Making, live: bool) -> Result<Follower> {
        let feed = shared.feeds.of(shared, &rows.view, live)?;
        Ok(Follower {
            schema: rows.columns(),
            news: feed.news.clone(),
            _feed: feed,
            rows,
            state: None,
            told: None,
            runs: BTreeMap::new(),
            reading: BTreeMap::new(),
        })
    }

    pub fn view(&self) -> &str {
        &self.rows.view
    }

    /// The newest epoch that it has looked at.
    pub fn epoch(&self) -> Epoch {
        self.state.as_ref().map_or(Epoch(0), |state| state.epoch)
    }

    /// Waits for another state of the view than it has looked at.
    pub async fn wait(&mut self) -> Result<()> {
        let seen = self.state.as_ref().map(|state| state.number);
        loop {
            match self.news.borrow_and_update().clone() {
                News::State(state) if Some(state.number) != seen => {
                    self.state = Some(state);
                    return Ok(());
                }
                News::Ended(error) => return Err(error),
                News::State(_) | News::None => {}
            }
            self.news.changed().await.map_err(|_| Error::internal("a view is told of no more"))?;
        }
    }

    /// What closed after an epoch, of as many epochs as it takes for so many rows; `None` where nothing has, as far as is looked.
    pub async fn next(&mut self, after: Epoch, rows: usize) -> Result<Option<Unit>> {
        let Some(state) = self.state.clone() else { return Ok(None) };
        let files = self.files_after(&state, after).await?;
        let mut counts: BTreeMap<Epoch, usize> = BTreeMap::new();
        let in_files = files.iter().flat_map(|(_, runs)| runs.iter().copied());
        let in_tail = state.table.tail.iter().map(|closed| (closed.epoch, closed.rows.num_rows()));
        for (epoch, rows) in in_files.chain(in_tail).filter(|(epoch, _)| *epoch > after) {
            *counts.entry(epoch).or_default() += rows;
        }
        let newest = counts.keys().next_back().copied();
        let mut sum = 0;
        let mut through = None;
        for (epoch, count) in counts {
            through = Some(epoch);
            sum += count;
            if sum >= rows {
                break;
            }
        }
        let Some(through) = through else { return Ok(None) };
        let is_last = newest == Some(through);
        let is_in = |epoch: Epoch| epoch > after && epoch <= through;
        let in_files = files.iter().flat_map(|(file, runs)| {
            let epochs = runs.iter().map(|(epoch, _)| *epoch).filter(|epoch| is_in(*epoch));
            epochs.map(|epoch| (epoch, Piece::File(file.clone(), epoch)))
        });
        let closed = state.table.tail.iter().filter(|closed| is_in(closed.epoch)).cloned();
        let in_tail = closed.map(|closed| (closed.epoch, Piece::Closed(closed)));
        let mut pieces: Vec<(Epoch, Piece)> = in_files.chain(in_tail).collect();
        // Those of an epoch stay in their order.
        pieces.sort_by_key(|(epoch, _)| *epoch);
        let left = pieces.into_iter().map(|(_, piece)| piece).collect();
        Ok(Some(Unit { through, is_last, state, left }))
    }

    /// The next rows of a unit, of one epoch.
    pub async fn rows(&mut self, unit: &mut Unit) -> Result<Option<(Epoch, RecordBatch)>> {
        while let Some(piece) = unit.left.pop_front() {
            let closed = match piece {
                Piece::Closed(closed) => closed,
                Piece::File(file, epoch) => match self.next_of(&file, epoch, &unit.state).await? {
                    Some(closed) => {
                        unit.left.push_front(Piece::File(file, epoch));
                        closed
                    }
                    None => continue,
                },
            };
            let made = made_of(&self.rows, unit.state.closed(&closed.rows)?).await?;
            let columns = (0..self.schema.fields().len()).collect::<Vec<_>>();
            let made = concat_batches(&self.rows.schema, &made)?;
            if made.num_rows() > 0 {
                return Ok(Some((closed.epoch, made.project(&columns)?)));
            }
        }
        Ok(None)
    }

    /// What has become of the open rows since this was last asked for, up to the state that is looked at; all of them at first.
    pub async fn changes(&mut self) -> Result<Vec<Changed>> {
        let Some(state) = self.state.clone() else { return Ok(vec![]) };
        let changes = match self.told.replace(Arc::clone(&state)) {
            Some(told) => state.changes_since(&told)?,
            None => state.live.iter().map(|rows| Change::Come.of(rows)).collect::<Result<_>>()?,
        };
        let columns = (0..self.schema.fields().len()).collect::<Vec<_>>();
        let mut changed = vec![];
        for rows in changes {
            let made = concat_batches(&self.rows.schema, &made_of(&self.rows, rows).await?)?;
            if made.num_rows() > 0 {
                // Each batch has one kind.
                let come = made.column(columns.len()).as_primitive::<Int32Type>().value(0) > 0;
                changed.push(Changed { come, rows: made.project(&columns)? });
            }
        }
        Ok(changed)
    }

    /// The next rows of an epoch: goes on in a file from where it was left, where that is open still.
    async fn next_of(
        &mut self,
        file: &HistoryFile,
        epoch: Epoch,
        state: &State,
    ) -> Result<Option<ClosedRows>> {
        let is_there = |it: &FileRows| it.next_epoch().is_none_or(|next| next >= epoch);
        if !self.reading.get(&file.path).is_some_and(is_there) {
            if self.reading.len() >= FILES_OPEN {
                self.reading.pop_first();
            }
            let before = Epoch(epoch.0.saturating_sub(1));
            let opened = state.table.history.rows_after(file, &self.runs[&file.path], before).await?;
            self.reading.insert(file.path.clone(), opened);
        }
        match self.reading.get_mut(&file.path) {
            Some(reading) => Ok(reading.next(epoch).await?),
            None => Ok(None),
        }
    }

    /// Files with rows that closed after an epoch, in the order in which they are told.
    async fn files_after(&mut self, state: &State, after: Epoch) -> Result<Vec<(HistoryFile, Runs)>> {
        let files = &state.table.history.files;
        let may_hold: Vec<_> = files.iter().filter(|file| file.may_hold_after(after)).collect();
        self.runs.retain(|path, _| may_hold.iter().any(|file| file.path == *path));
        self.reading.retain(|path, _| may_hold.iter().any(|file| file.path == *path));
        let unknown = may_hold.iter().filter(|file| !self.runs.contains_key(&file.path));
        let unknown = unknown.map(|file| HistoryFile::clone(file)).collect();
        for (file, runs) in state.table.history.runs_of(unknown).await? {
            self.runs.insert(file.path, runs);
        }
        let mut files: Vec<_> =
            may_hold.into_iter().map(|file| (file.clone(), Arc::clone(&self.runs[&file.path]))).collect();
        files.retain(|(_, runs)| runs.iter().any(|(epoch, _)| *epoch > after));
        files.sort_by_key(|(file, runs)| {
            (file.date, runs.first().map(|(epoch, _)| *epoch), file.number(), file.path.clone())
        });
        Ok(files)
    }
}

/// What the query makes of some rows; the row that it can't take is told.
async fn made_of(query: &Making, rows: RecordBatch) -> Result<Vec<RecordBatch>> {
    let mut made = vec![];
    let mut left = Some(rows);
    while let Some(rows) = left {
        let (rows, others) = making::first(rows);
        left = others;
        made.extend(made_at_once(query, rows).await?);
    }
    Ok(made)
}

async fn made_at_once(query: &Making, rows: RecordBatch) -> Result<Vec<RecordBatch>> {
    let failure = match query.run(rows.clone()).await {
        Ok(made) => return Ok(made),
        Err(Unmade::OfAll(failure)) => return Err(for_good(failure)),
        Err(Unmade::OfRows(failure)) => failure,
    };
    for row in 0..rows.num_rows() {
        match query.run(rows.slice(row, 1)).await {
            Ok(_) => {}
            Err(Unmade::OfAll(failure)) => return Err(for_good(failure)),
            Err(Unmade::OfRows(failure)) => return Err(told_of(&rows, row, failure)),
        }
    }
    Err(failure)
}

/// What has ended the process that made its rows would end another one.
fn for_good(failure: Error) -> Error {
    match failure.kind {
        ErrorKind::Invalid => Error { kind: ErrorKind::BadData, ..failure },
        _ => failure,
    }
}

/// With the row, as far as it can be shown.
fn told_of(rows: &RecordBatch, row: usize, failure: Error) -> Error {
    let shown = rows.columns().len() - CARRIED.len();
    let value = |(column, field): (&ArrayRef, &FieldRef)| {
        let value = array_value_to_string(column, row).unwrap_or_else(|_| "?".into());
        format!("{}={value}", field.name())
    };
    let values: Vec<_> =
        rows.columns().iter().zip(rows.schema_ref().fields()).take(shown).map(value).collect();
    Error { kind: ErrorKind::BadData, ..failure }.detail(format!("the row: {}", values.join(", "))).hint(
        "DROP the sink and CREATE it with an expression that takes such a row, or a WHERE that leaves it out",
    )
}
