//! Tells another process of snapshots: what it has been sent, and what it can forget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::piece::{self, Head, Held, Key, Piece, ToldFile};
use super::told::{Told, ToldClosed, ToldInput, ToldOpen, ToldPanes, ToldTable, Wanted, WantedParts};
use crate::lookup::Contents;
use crate::sink::HistoryFiles;
use crate::snapshot::{Snapshot, TableSnapshot};
use crate::view::compact::compacted;
use crate::view::{OpenInput, OpenPanes};
use crate::{Result, lookup};

/// What has not been part of a snapshot for so long is sent anew when it is again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Of one process that is told.
#[derive(Debug, Default)]
pub struct Teller {
    last_number: u64,
    known: BTreeMap<Key, Known>,
    fresh: Vec<(u64, Piece)>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    held: Held,
    used: Duration,
}

impl Teller {
    /// What of a snapshot is wanted, by number. What has got its number by this is to be sent before: [`Teller::fresh`].
    /// `now` only grows.
    pub fn tell(&mut self, snapshot: &Snapshot, wanted: &Wanted, now: Duration) -> Result<Told> {
        let mut telling = Telling { teller: self, now };
        let mut told = Told {
            epoch: snapshot.epoch,
            views: BTreeMap::new(),
            system: BTreeMap::new(),
            lookups: BTreeMap::new(),
            planned: wanted
                .planned
                .iter()
                .filter_map(|name| Some(snapshot.views.get(name)?.version.view))
                .collect(),
        };
        for (name, table) in &snapshot.views {
            let parts = wanted.views.get(name).copied().unwrap_or_default();
            told.views.insert(name.clone(), telling.table(table, parts)?);
        }
        for (name, table) in &snapshot.system {
            let parts = if wanted.system.contains(name) { WantedParts::ALL } else { WantedParts::default() };
            told.system.insert(name.clone(), telling.table(table, parts)?);
        }
        for (name, content) in &snapshot.lookups {
            let number = wanted.lookups.contains(name).then(|| telling.content(name, content)).transpose()?;
            told.lookups.insert(name.clone(), number);
        }
        Ok(told)
    }

    /// What has been given a number since this was asked last.
    pub fn fresh(&mut self) -> Vec<(u64, Piece)> {
        std::mem::take(&mut self.fresh)
    }

    /// The numbers that mean nothing any more.
    pub fn forget(&mut self, now: Duration) -> Vec<u64> {
        let mut forgotten = vec![];
        self.known.retain(|_, known| {
            let stays = known.held.is_alive() && now.saturating_sub(known.used) < FORGOTTEN_AFTER;
            if !stays {
                forgotten.push(known.number);
            }
            stays
        });
        forgotten
    }
}

struct Telling<'a> {
    teller: &'a mut Teller,
    now: Duration,
}

impl Telling<'_> {
    fn number(&mut self, known: Option<(Key, Held)>, piece: impl FnOnce() -> Result<Piece>) -> Result<u64> {
        let Some((key, held)) = known else { return self.send(piece()?) };
        if let Some(known) = self.teller.known.get_mut(&key) {
            known.used = self.now;
            return Ok(known.number);
        }
        let number = self.send(piece()?)?;
        self.teller.known.insert(key, Known { number, held, used: self.now });
        Ok(number)
    }

    fn send(&mut self, piece: Piece) -> Result<u64> {
        self.teller.last_number += 1;
        self.teller.fresh.push((self.teller.last_number, piece));
        Ok(self.teller.last_number)
    }

    fn table(&mut self, table: &TableSnapshot, parts: WantedParts) -> Result<ToldTable> {
        Ok(ToldTable {
            view: table.version.view,
            open: parts.open.then(|| self.open(&table.open)).transpose()?,
            closed: parts.closed.then(|| self.closed(table)).transpose()?,
            failure: table.failure.clone(),
            behind: table.behind.clone(),
            is_lost: table.history.is_lost,
        })
    }

    fn closed(&mut self, table: &TableSnapshot) -> Result<ToldClosed> {
        let mut tail = vec![];
        for closed in table.tail.iter() {
            tail.push((closed.epoch, self.rows(&closed.rows)?));
        }
        Ok(ToldClosed { tail, files: self.files(&table.history)? })
    }

    fn rows(&mut self, rows: &arrow::array::RecordBatch) -> Result<u64> {
        self.number(piece::of_rows(rows), || Ok(Piece { head: Head::Rows, batches: vec![rows.clone()] }))
    }

    fn files(&mut self, history: &HistoryFiles) -> Result<u64> {
        self.number(piece::of_files(&history.files), || {
            let files = history.files.iter().map(ToldFile::of);
            Ok(Piece { head: Head::Files(files.collect()), batches: vec![] })
        })
    }

    fn content(&mut self, table: &str, content: &Arc<lookup::Content>) -> Result<u64> {
        self.number(piece::of_content(content), || {
            let head = Head::Content { table: table.to_owned(), version: content.version.clone() };
            Ok(Piece { head, batches: vec![content.rows.clone()] })
        })
    }

    fn open(&mut self, open: &OpenPanes) -> Result<ToldOpen> {
        let (view, panes, inputs) = match open {
            OpenPanes::Rows(rows) => {
                return Ok(ToldOpen::Rows(rows.iter().map(|rows| self.rows(rows)).collect::<Result<_>>()?));
            }
            OpenPanes::Panes { view, panes, inputs } => (view, panes, inputs),
        };
        let mut contents = BTreeMap::new();
        if !view.lookups.is_empty() {
            for (table, content) in Contents::bound_in(view)?.0 {
                contents.insert(table.clone(), self.content(&table, &content)?);
            }
        }
        let mut parts = vec![];
        for part in panes.all_and(&[]) {
            parts.push(self.number(piece::of_part(part), || {
                let panes = part.panes.iter().map(|pane| (pane.start, pane.rows)).collect();
                let head = Head::Part { cut: part.cut, after: part.after, panes };
                Ok(Piece { head, batches: vec![part.batch.clone()] })
            })?);
        }
        Ok(ToldOpen::Panes(Box::new(ToldPanes {
            view: view.id,
            contents,
            parts,
            closed_through: panes.closed_through,
            born_after: panes.born_after,
            left: panes.left.clone(),
            inputs: inputs.iter().map(|input| self.input(input)).collect::<Result<_>>()?,
        })))
    }

    fn input(&mut self, input: &OpenInput) -> Result<ToldInput> {
        match input {
            OpenInput::View(open) => Ok(ToldInput::View(self.open(open)?)),
            OpenInput::Stream { arrived, runs } => {
                let mut numbers = vec![];
                for (epoch, arrived) in arrived.iter().filter(|(epoch, _)| runs.contains(epoch)) {
                    let number = self.number(piece::of_arrived(arrived), || {
                        // Its text lies among that of the records, which would cross with it.
                        let mut batches = vec![compacted(arrived.batch.clone())?];
                        batches.extend(arrived.observed.as_ref().map(|it| it.as_batch()).transpose()?);
                        Ok(Piece { head: Head::Arrived, batches })
                    })?;
                    numbers.push((*epoch, number));
                }
                Ok(ToldInput::Stream { arrived: numbers, first: *runs.start(), last: *runs.end() })
            }
        }
    }
}
