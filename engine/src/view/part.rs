//! The one form in which a view remembers: an immutable batch of partial aggregates of one cut, in the order of their
//! panes.
//!
//! One batch for many panes, because a batch of a few rows weighs more by itself than by its rows: ten thousand open
//! windows would be ten thousand batches for each micro-batch.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::hash_utils::{QualityRandomState, create_hashes};

use crate::ids::Micros;
use crate::memory::Spill;
use crate::spec::{Cut, Unit, Window};
use crate::view::Extent;
use crate::view::compact::compacted;
use crate::view::pieces::{Share, Weighed};
use crate::view::session;
use crate::view::tiers::Tier;
use crate::{Error, Result};

/// What a view keeps of cut `cut`; or finished rows of a copy, all in one pane 0 of cut 0.
#[derive(Debug, Clone)]
pub struct Part {
    pub cut: u32,
    /// Only windows that end after this instant take its rows in: the others had passed when the rows came. `Micros::MIN`
    /// for all windows of its panes.
    pub after: Micros,
    pub batch: RecordBatch,
    /// Ascending, and together all rows.
    pub panes: Arc<[PaneRows]>,
    /// Which groups it can have rows of.
    pub share: Share,
    /// Its rows lie on disk.
    is_mapped: bool,
    /// Rows that have left, and whose memory is held on to.
    held: u32,
    /// Of the keys of its rows, once somebody has asked for them.
    hashes: Arc<OnceLock<ScalarBuffer<u64>>>,
    /// Its rows merged over ever more panes, likewise.
    tiers: Arc<OnceLock<Vec<Tier>>>,
}

/// Whatever is held on to, or known of its rows beside them.
impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        (self.cut, self.after, &self.batch, &self.panes)
            == (other.cut, other.after, &other.batch, &other.panes)
    }
}

/// The rows of one pane, which follow those of the pane before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaneRows {
    pub start: Micros,
    pub rows: u32,
}

impl Part {
    pub fn of_one_pane(start: Micros, cut: u32, batch: RecordBatch) -> Part {
        let panes = Arc::new([PaneRows { start, rows: batch.num_rows() as u32 }]);
        Part::new(cut, Micros::MIN, batch, panes)
    }

    /// `panes` are those of the batch's rows, one after the other.
    pub fn new(cut: u32, after: Micros, batch: RecordBatch, panes: Arc<[PaneRows]>) -> Part {
        Part {
            cut,
            after,
            batch,
            panes,
            share: Share::ALL,
            is_mapped: false,
            held: 0,
            hashes: Arc::default(),
            tiers: Arc::default(),
        }
    }

    pub fn of_cut(self, cut: u32) -> Part {
        Part { cut, ..self }
    }

    pub fn taken_in_after(self, after: Micros) -> Part {
        Part { after, ..self }
    }

    pub fn of_share(self, share: Share) -> Part {
        Part { share, ..self }
    }

    /// The same on disk, or as it is where it can't be put there.
    pub fn spilled(&self, spill: &Spill) -> Part {
        let mapped = if self.is_mapped { None } else { spill.mapped(&self.batch) };
        match mapped {
            Some(batch) => Part { batch, is_mapped: true, held: 0, ..self.clone() },
            None => self.clone(),
        }
    }

    /// What the rows of one cut became, or nothing. It owns its buffers, so nothing pins the decoder's.
    pub fn of_batches(cut: u32, batches: &[RecordBatch], spec: &Cut, unit: Unit) -> Result<Option<Part>> {
        let Some(first) = batches.first() else { return Ok(None) };
        let whole = concat_batches(first.schema_ref(), batches)?;
        if whole.num_rows() == 0 {
            return Ok(None);
        }
        let starts = match (unit, unit.session()) {
            (Unit::Window(window), _) => pane_starts(&whole, spec, window)?,
            (_, Some(session)) => {
                session::ends(spec, &whole)?.iter().map(|end| session.pane_of_end(*end)).collect()
            }
            (_, None) => return Ok(Some(Part::of_one_pane(0, cut, compacted(whole)?))),
        };
        // Panes are few beside rows, so dealing the rows out to them is less than sorting.
        let mut by_pane: BTreeMap<Micros, Vec<u32>> = BTreeMap::new();
        let mut row = 0;
        for same in starts.chunk_by(|a, b| a == b) {
            let next = row + same.len() as u32;
            by_pane.entry(same[0]).or_default().extend(row..next);
            row = next;
        }
        let pane = |(start, rows): (&Micros, &Vec<u32>)| PaneRows { start: *start, rows: rows.len() as u32 };
        let panes = by_pane.iter().map(pane).collect();
        let batch = match starts.is_sorted() {
            true => whole,
            false => {
                take_record_batch(&whole, &UInt32Array::from_iter_values(by_pane.into_values().flatten()))?
            }
        };
        Ok(Some(Part::new(cut, Micros::MIN, compacted(batch)?, panes)))
    }

    /// The part without the windows that end at or before an instant, if any is left.
    pub fn ending_after(&self, after: Micros, extent: Extent) -> Result<Option<Part>> {
        let left = self.staying(|pane| extent.last_end(pane) > after)?;
        Ok(left.map(|part| Part { after: part.after.max(after), ..part }))
    }

    /// In memory.
    pub fn bytes(&self) -> usize {
        let hashes = self.hashes.get().map_or(0, |hashes| size_of_val(&**hashes));
        let tiers: usize = self.tiers().iter().map(Tier::bytes).sum();
        let rows = if self.is_mapped { 0 } else { self.weight() };
        rows + size_of_val(&*self.panes) + hashes + tiers
    }

    /// What its rows weigh, wherever they are.
    pub fn weight(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    pub fn is_mapped(&self) -> bool {
        self.is_mapped
    }

    pub fn weighed(&self) -> Weighed {
        Weighed { batch: self.batch.clone(), bytes: self.weight(), share: self.share }
    }

    /// From fine to coarse; none before they have been made.
    pub fn tiers(&self) -> &[Tier] {
        self.tiers.get().map_or(&[], Vec::as_slice)
    }

    pub fn has_tiers(&self) -> bool {
        self.tiers.get().is_some()
    }

    /// Whoever has the part has them too.
    pub fn know_tiers(&self, tiers: Vec<Tier>) {
        _ = self.tiers.set(tiers);
    }

    /// Those of the keys by which the rows of its cut are told apart, each the hash of one row.
    pub fn key_hashes(&self, cut: &Cut) -> Result<&[u64]> {
        if self.hashes.get().is_none() {
            let hashes = ScalarBuffer::from(hashes_of(cut, &self.batch)?);
            _ = self.hashes.set(hashes);
        }
        Ok(self.hashes.get().map_or(&[], |hashes| &**hashes))
    }

    /// Where the rows of each pane lie in the batch.
    fn ranges(&self) -> impl Iterator<Item = (Micros, Range<u32>)> {
        let mut end = 0;
        self.panes.iter().map(move |pane| {
            let first = end;
            end += pane.rows;
            (pane.start, first..end)
        })
    }

    fn slice(&self, rows: &Range<u32>) -> RecordBatch {
        self.batch.slice(rows.start as usize, rows.len())
    }

    /// Each pane with its rows, which share the part's buffers.
    pub fn by_pane(&self) -> impl Iterator<Item = (Micros, RecordBatch)> {
        self.ranges().map(|(pane, rows)| (pane, self.slice(&rows)))
    }

    /// The rows of the panes that are wanted, in as few pieces as can be, which share the part's buffers.
    pub fn pieces(&self, wanted: impl Fn(Micros) -> bool) -> Vec<RecordBatch> {
        let mut pieces: Vec<Range<u32>> = vec![];
        for (_, rows) in self.ranges().filter(|(pane, _)| wanted(*pane)) {
            match pieces.last_mut() {
                Some(last) if last.end == rows.start => last.end = rows.end,
                _ => pieces.push(rows),
            }
        }
        pieces.iter().map(|rows| self.slice(rows)).collect()
    }

    /// What is left of it when only the wanted panes stay. Where what leaves lies in front and is little beside the rest, its
    /// memory is held on to: panes leave one by one, and each would have all others copied.
    pub fn staying(&self, wanted: impl Fn(Micros) -> bool) -> Result<Option<Part>> {
        let panes: Arc<[PaneRows]> = self.panes.iter().filter(|pane| wanted(pane.start)).copied().collect();
        if panes.len() == self.panes.len() {
            return Ok(Some(self.clone()));
        }
        if panes.is_empty() {
            return Ok(None);
        }
        let rows: u32 = panes.iter().map(|pane| pane.rows).sum();
        let leaving = self.batch.num_rows() as u32 - rows;
        let held = self.held + leaving;
        let tiers = Arc::new(OnceLock::new());
        if let Some(known) = self.tiers.get()
            && self.panes.ends_with(&panes)
        {
            _ = tiers.set(Tier::staying(known, panes[0].start)?);
        }
        if self.panes.ends_with(&panes) && (held <= rows / 4 || self.is_mapped) {
            let (first, rows) = (leaving as usize, rows as usize);
            let hashes = Arc::new(OnceLock::new());
            if let Some(known) = self.hashes.get() {
                _ = hashes.set(known.slice(first, rows));
            }
            let batch = self.batch.slice(first, rows);
            return Ok(Some(Part { batch, panes, held, hashes, tiers, ..*self }));
        }
        let rows = self.ranges().filter(|(pane, _)| wanted(*pane)).flat_map(|(_, rows)| rows);
        let batch = take_record_batch(&self.batch, &UInt32Array::from_iter_values(rows))?;
        let part = Part::new(self.cut, self.after, compacted(batch)?, panes);
        Ok(Some(Part { tiers, share: self.share, ..part }))
    }
}

/// By which rows of one key are found again.
pub fn hashes_of(cut: &Cut, batch: &RecordBatch) -> Result<Vec<u64>> {
    let mut hashes = vec![0; batch.num_rows()];
    let keys: Vec<_> = cut.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
    if !keys.is_empty() {
        create_hashes(&keys, &QualityRandomState::with_seed(0x7365_7373), &mut hashes)?;
    }
    Ok(hashes)
}

/// The start of each row's pane, from whichever bound the query groups by.
fn pane_starts(batch: &RecordBatch, spec: &Cut, window: Window) -> Result<Vec<Micros>> {
    let (column, pane): (usize, &dyn Fn(Micros) -> Micros) = match (spec.window_start, spec.window_end) {
        (Some(start), _) if window.start_tells_pane() => (start, &|start| window.pane_of_start(start)),
        (_, Some(end)) => (end, &|end| window.pane_of_end(end)),
        _ => return Err(Error::Internal("a cut groups by no bound that tells its window".into())),
    };
    let bounds = batch
        .column(column)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| Error::Internal(format!("a window's bound is not a timestamp. column={column}")))?;
    if bounds.null_count() > 0 {
        return Err(Error::Internal("a row without an event time reached a window".into()));
    }
    Ok(bounds.values().iter().map(|bound| pane(*bound)).collect())
}
