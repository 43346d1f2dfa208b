//! Finishes windows that share panes, many of them or one, so that what is read for a window does not grow with its panes,
//! and which rows count in it does not change (INV-24).
//!
//! Windows one after the other have most of their panes in common. What those have is merged once, then what the windows
//! of either half have in common beside it, and so on down to a few windows, which take what has been merged and the panes
//! that are left: some log(windows) times the panes are read, and not windows times panes (docs/decisions/hopping-windows.md).
//! A part's tiers (`tiers.rs`) give what is read in few rows. What is merged on the way down to one window is all that is
//! kept at a time, and counted.
//!
//! Which windows a row counts in is not touched by that: where a part came too late for some of the windows, what it has is
//! merged when those at hand all take it in.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::execution::memory_pool::MemoryReservation;

use crate::Result;
use crate::ids::Micros;
use crate::spec::{Cut, State, Window};
use crate::view::Stretch;
use crate::view::compact::compacted;
use crate::view::part::{PaneRows, Part};
use crate::view::running::Room;
use crate::view::tiers::{self, Covering};
use crate::view::upper::{WindowPart, merged, rebound};

/// What may be read again for each of some windows before merging it is worth a run of a plan.
const ROWS_FEW: usize = 8 << 10;

/// Or so many times what has been merged, which each of them reads too.
const TIMES_MERGED: usize = 3;

/// Tiers are made where a pane is of so many windows at least.
const WINDOWS_LEAST: Micros = 16;

/// The windows of one view that leave, or are open.
pub struct Sharing<'a> {
    cuts: &'a [Cut],
    room: &'a Room,
    /// By cut.
    parts: Vec<OfCut<'a>>,
    /// Ascending; none begins before another that it ends after.
    windows: Vec<Range<Micros>>,
    /// What is to do, the earliest windows last.
    todo: Vec<Task>,
}

struct OfCut<'a> {
    parts: Vec<Covering<'a>>,
    /// Kept rows do not merge.
    merges: bool,
    bytes_of_row: usize,
}

/// Windows one after the other.
struct Task {
    windows: Range<usize>,
    /// By cut.
    common: Vec<Common>,
    /// Nothing more is merged for them.
    is_ready: bool,
}

/// What windows have in common of one cut, as far as it has been merged.
#[derive(Clone, Default)]
struct Common {
    merged: Option<Arc<Merged>>,
    /// Merging has been tried, and made hardly fewer rows.
    is_futile: bool,
}

struct Merged {
    batch: RecordBatch,
    /// The panes whose rows it has,
    panes: Range<Micros>,
    /// of the parts that all windows take in that end at this instant or later.
    end: Micros,
    _counted: MemoryReservation,
}

impl<'a> Sharing<'a> {
    /// These windows, which are ascending, of these parts.
    pub fn new(
        window: Window,
        cuts: &'a [Cut],
        parts: &[&'a Part],
        ends: Vec<Micros>,
        room: &'a Room,
    ) -> Sharing<'a> {
        let of_cut = |(number, cut): (usize, &Cut)| {
            let parts: Vec<&Part> =
                parts.iter().copied().filter(|part| part.cut as usize == number).collect();
            let rows: usize = parts.iter().map(|part| part.batch.num_rows()).sum();
            let bytes: usize = parts.iter().map(|part| part.batch.get_array_memory_size()).sum();
            OfCut {
                parts: parts.into_iter().map(Covering::of).collect(),
                merges: matches!(cut.state, State::Aggregate(_)),
                bytes_of_row: bytes / rows.max(1),
            }
        };
        let windows: Vec<_> = ends.into_iter().map(|end| window.layout.start_of_end(end)..end).collect();
        let todo =
            Task { windows: 0..windows.len(), common: vec![Common::default(); cuts.len()], is_ready: false };
        Sharing {
            cuts,
            room,
            parts: cuts.iter().enumerate().map(of_cut).collect(),
            todo: Vec::from_iter((!windows.is_empty()).then_some(todo)),
            windows,
        }
    }

    /// Has parts know their tiers where windows take much of them.
    pub async fn make_tiers(window: Window, cuts: &[Cut], parts: &[&Part], room: &Room) -> Result<()> {
        if window.windows_over_a_pane() >= WINDOWS_LEAST {
            for part in parts {
                tiers::make(part, &cuts[part.cut as usize], window, room).await?;
            }
        }
        Ok(())
    }

    /// The next of the windows, as many as weigh no more than a piece, or one.
    pub async fn next(&mut self) -> Result<Option<Stretch>> {
        let (mut parts, mut weight) = (vec![], 0);
        while let Some(mut task) = self.todo.pop() {
            if !task.is_ready {
                self.prepare(task).await?;
                continue;
            }
            let window = &self.windows[task.windows.start];
            let (shares, bytes) = self.shares(window, &task.common);
            if weight > 0 && weight + bytes > self.room.piece_bytes {
                self.todo.push(task);
                break;
            }
            weight += bytes;
            parts.extend(shares);
            task.windows.start += 1;
            if !task.windows.is_empty() {
                self.todo.push(task);
            }
        }
        Ok((!parts.is_empty()).then(|| Stretch::of(parts)))
    }

    /// Merges what the windows have in common, and parts them in halves, as long as that is worth it.
    async fn prepare(&mut self, mut task: Task) -> Result<()> {
        task.is_ready = self.is_little(&task);
        if !task.is_ready {
            for (number, common) in task.common.iter_mut().enumerate() {
                *common = self.with_more(number, common, &self.windows[task.windows.clone()]).await?;
            }
            task.is_ready = self.is_little(&task);
        }
        if task.is_ready {
            self.todo.push(task);
            return Ok(());
        }
        let Range { start, end } = task.windows;
        let middle = start + (end - start) / 2;
        let half = |windows| Task { windows, common: task.common.clone(), is_ready: false };
        self.todo.extend([half(middle..end), half(start..middle)]);
        Ok(())
    }

    /// Whether what each window reads for itself is little, beside what it reads anyway.
    fn is_little(&self, task: &Task) -> bool {
        let windows = &self.windows[task.windows.clone()];
        let (first, last) = (&windows[0], &windows[windows.len() - 1]);
        let all = first.start..last.end;
        let (mut own, mut merged) = (0, 0);
        for (of_cut, common) in self.parts.iter().zip(&task.common) {
            if !of_cut.merges || common.is_futile {
                continue;
            }
            merged += common.rows();
            let missing = of_cut
                .parts
                .iter()
                .flat_map(|part| common.missing(part, &all, last.end).map(|it| part.rows(&it)));
            own += missing.sum::<usize>();
        }
        // Of what lies around the common panes each of them reads half.
        windows.len() == 1 || own / 2 * windows.len() <= ROWS_FEW.max(TIMES_MERGED * merged * windows.len())
    }

    /// With what all these windows have of the panes that they share.
    async fn with_more(&self, number: usize, common: &Common, windows: &[Range<Micros>]) -> Result<Common> {
        let (of_cut, cut) = (&self.parts[number], &self.cuts[number]);
        let (first, last) = (&windows[0], &windows[windows.len() - 1]);
        let panes = last.start..first.end;
        if !of_cut.merges || common.is_futile || panes.is_empty() {
            return Ok(common.clone());
        }
        let mut batches = vec![];
        for part in &of_cut.parts {
            common.missing(part, &panes, first.end).iter().for_each(|it| part.cover(it, &mut batches));
        }
        if batches.is_empty() {
            return Ok(common.clone());
        }
        batches.extend(common.merged.iter().map(|merged| merged.batch.clone()));
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        // Each of them overwrites the bounds with its own.
        let bounds = Some((first.start, first.end));
        let batches = rebound(cut, batches.into_iter().map(|batch| (batch, bounds)))?;
        let batches = merged(cut, batches, rows * of_cut.bytes_of_row, self.room).await?;
        let batch = compacted(concat_batches(batches[0].schema_ref(), &batches)?)?;
        if batch.num_rows() > rows / 4 * 3 {
            return Ok(Common { is_futile: true, ..common.clone() });
        }
        let _counted = self.room.hold(batch.get_array_memory_size())?;
        let merged = Merged { batch, panes, end: first.end, _counted };
        Ok(Common { merged: Some(Arc::new(merged)), is_futile: false })
    }

    /// What one window reads, and what that weighs.
    fn shares(&self, window: &Range<Micros>, common: &[Common]) -> (Vec<WindowPart>, usize) {
        let (mut shares, mut bytes) = (vec![], 0);
        for (number, (of_cut, common)) in self.parts.iter().zip(common).enumerate() {
            let mut batches: Vec<RecordBatch> =
                common.merged.iter().map(|merged| merged.batch.clone()).collect();
            for part in &of_cut.parts {
                common.missing(part, window, window.end).iter().for_each(|it| part.cover(it, &mut batches));
            }
            bytes += batches.iter().map(RecordBatch::num_rows).sum::<usize>() * of_cut.bytes_of_row;
            let bounds = Some((window.start, window.end));
            shares.extend(batches.into_iter().map(|batch| WindowPart { cut: number as u32, batch, bounds }));
        }
        (shares, bytes)
    }
}

impl Common {
    fn rows(&self) -> usize {
        self.merged.as_ref().map_or(0, |merged| merged.batch.num_rows())
    }

    /// What is not merged yet of the panes that a part has within a stretch, for windows the first of which ends at an instant.
    fn missing(&self, part: &Covering, stretch: &Range<Micros>, end: Micros) -> [Range<Micros>; 2] {
        let part = part.part();
        let is_outside = |panes: &[PaneRows]| match panes {
            [first, .., last] => last.start < stretch.start || first.start >= stretch.end,
            [only] => !stretch.contains(&only.start),
            [] => true,
        };
        if part.after >= end || is_outside(&part.panes) {
            return [0..0, 0..0];
        }
        match &self.merged {
            Some(merged) if part.after < merged.end => {
                [stretch.start..merged.panes.start, merged.panes.end..stretch.end]
            }
            _ => [stretch.clone(), 0..0],
        }
    }
}
