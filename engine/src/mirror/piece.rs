//! What has a number, and what it is known by while it lives.

use std::sync::{Arc, Weak};

use arrow::array::{Array, RecordBatch};
use chrono::NaiveDate;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::ids::Micros;
use crate::lookup::Content;
use crate::sink::{HistoryFile, Instants};
use crate::view::arrived::Arrived;
use crate::view::part::{PaneRows, Part};

/// Something that a snapshot shares with others, as it crosses.
#[derive(Debug, Clone)]
pub struct Piece {
    pub head: Head,
    pub batches: Vec<RecordBatch>,
}

/// What is to be said of the rows of a piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Head {
    /// Of a view's state.
    Part { cut: u32, after: Micros, panes: Vec<(Micros, u32)> },
    /// Rows that wait for the lower halves; with a second batch, of their times and the watermarks that they met.
    Arrived,
    /// Finished ones.
    Rows,
    /// What a table holds.
    Content { table: String, version: String },
    /// The files of a table's history.
    Files(Vec<ToldFile>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToldFile {
    path: String,
    bytes: u64,
    rows: u64,
    date: NaiveDate,
    /// By column, the least and the most.
    instants: Vec<(String, Micros, Micros)>,
}

impl ToldFile {
    pub(super) fn of(file: &HistoryFile) -> ToldFile {
        let instants = file.instants.iter().map(|it| (it.column.to_string(), it.least, it.most));
        ToldFile {
            path: file.path.to_string(),
            bytes: file.bytes,
            rows: file.rows,
            date: file.date,
            instants: instants.collect(),
        }
    }

    pub(super) fn file(self) -> HistoryFile {
        let instants = self.instants.into_iter().map(|(column, least, most)| Instants {
            column: column.into(),
            least,
            most,
        });
        HistoryFile {
            path: Path::from(self.path),
            bytes: self.bytes,
            rows: self.rows,
            date: self.date,
            instants: instants.collect(),
        }
    }
}

/// By addresses, of what [`Held`] keeps from being another's.
pub(super) type Key = Vec<u64>;

/// The memory of what was given a number stays its own as long as this is kept, and holds nothing any more once it is dead.
#[derive(Debug)]
pub(super) enum Held {
    Columns(Vec<Weak<dyn Array>>, Option<Weak<[PaneRows]>>),
    Arrived(Weak<Arrived>),
    Content(Weak<Content>),
    Files(Weak<Vec<HistoryFile>>),
}

impl Held {
    pub fn is_alive(&self) -> bool {
        let is_alive = |column: &Weak<dyn Array>| column.strong_count() > 0;
        match self {
            Held::Columns(columns, panes) => {
                columns.iter().all(is_alive) && panes.as_ref().is_none_or(|panes| panes.strong_count() > 0)
            }
            Held::Arrived(arrived) => arrived.strong_count() > 0,
            Held::Content(content) => content.strong_count() > 0,
            Held::Files(files) => files.strong_count() > 0,
        }
    }
}

fn address<T: ?Sized>(shared: &Arc<T>) -> u64 {
    Arc::as_ptr(shared).cast::<()>() as usize as u64
}

/// `None` for what has nothing to be known by: it is sent each time.
fn columns(batch: &RecordBatch) -> Option<(Key, Vec<Weak<dyn Array>>)> {
    let columns = batch.columns();
    (!columns.is_empty())
        .then(|| (columns.iter().map(address).collect(), columns.iter().map(Arc::downgrade).collect()))
}

pub(super) fn of_part(part: &Part) -> Option<(Key, Held)> {
    let (mut key, columns) = columns(&part.batch)?;
    key.extend([0, u64::from(part.cut), part.after.cast_unsigned(), address(&part.panes)]);
    Some((key, Held::Columns(columns, Some(Arc::downgrade(&part.panes)))))
}

pub(super) fn of_rows(rows: &RecordBatch) -> Option<(Key, Held)> {
    let (mut key, columns) = columns(rows)?;
    key.push(1);
    Some((key, Held::Columns(columns, None)))
}

pub(super) fn of_arrived(arrived: &Arc<Arrived>) -> Option<(Key, Held)> {
    Some((vec![address(arrived), 2], Held::Arrived(Arc::downgrade(arrived))))
}

pub(super) fn of_content(content: &Arc<Content>) -> Option<(Key, Held)> {
    Some((vec![address(content), 3], Held::Content(Arc::downgrade(content))))
}

pub(super) fn of_files(files: &Arc<Vec<HistoryFile>>) -> Option<(Key, Held)> {
    Some((vec![address(files), 4], Held::Files(Arc::downgrade(files))))
}
