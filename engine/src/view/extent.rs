//! What counts in a unit: its own panes and, for a view that looks around, those within its reach before and after.
//!
//! Units that look around lie side by side, and what a query looks for around a row is exact by itself. So units that close
//! together are finished together, as one stretch of time, of whose rows those stay that lie within it.

use std::ops::Range;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

use crate::ids::Micros;
use crate::spec::{Cut, Reach, Upper, Window};
use crate::view::Room;
use crate::view::alone::{Alone, parted};
use crate::view::only::Only;
use crate::view::pieces::{Pieces, Weighed, groups_of};
use crate::view::sharing::Sharing;
use crate::view::upper::{WindowPart, finish};
use crate::{Error, Result};

/// The windows in which rows of one cut count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub window: Window,
    pub reach: Reach,
}

impl Extent {
    pub fn within(window: Window) -> Extent {
        Extent { window, reach: Reach::default() }
    }

    /// When the last unit ends that a pane counts in.
    pub fn last_end(&self, pane: Micros) -> Micros {
        self.window.last_end(pane).saturating_add(self.reach.before)
    }

    pub fn last_end_of_rows_in(&self, pane: Micros) -> Micros {
        self.window.last_end_of_rows_in(pane).saturating_add(self.reach.before)
    }

    pub fn first_end_of_row(&self, event_time: Micros) -> Micros {
        self.window.layout.first_end_of_row(event_time).saturating_sub(self.reach.after)
    }

    pub fn last_end_of_row(&self, event_time: Micros) -> Micros {
        self.window.layout.last_end_of_row(event_time).saturating_add(self.reach.before)
    }

    /// The marks of the units that a row counts in, ascending.
    pub fn marks_of_row(&self, event_time: Micros) -> impl Iterator<Item = Micros> + use<> {
        let (first, last) = (self.first_end_of_row(event_time), self.last_end_of_row(event_time));
        self.window.layout.marks_between(first, last)
    }

    /// Whether a pane counts in some unit of a stretch.
    pub fn reaches(&self, pane: Micros, stretch: &Range<Micros>) -> bool {
        self.window.last_end(pane) > stretch.start.saturating_sub(self.reach.before)
            && pane < stretch.end.saturating_add(self.reach.after)
    }
}

/// Pieces of what is open or closes, made one after the other.
pub type Stretches<'a> = Box<dyn Iterator<Item = Result<Stretch>> + Send + 'a>;

/// What is finished at once.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    pub parts: Vec<WindowPart>,
    /// The time of the rows that come of it; the others are of units around it. `None` where all are its own.
    pub within: Option<Range<Micros>>,
    /// Of each group there is one partial row.
    pub is_alone: bool,
}

/// What stands above the panes.
#[derive(Debug, Clone, Copy)]
pub struct Above<'a> {
    pub cuts: &'a [Cut],
    pub upper: &'a Upper,
    /// Others need not be finished, where groups are finished one by one.
    pub only: Option<&'a Only>,
}

impl<'a> Above<'a> {
    /// What is finished at once of a few windows: all of it, or where that weighs much and can be, some groups after the
    /// others.
    pub(super) fn stretches(self, mut parts: Vec<(u32, Weighed)>, room: &Room) -> Stretches<'a> {
        if let Some(only) = self.only.filter(|_| self.upper.by_group) {
            parts = parts.into_iter().map(|(cut, part)| (cut, only.weighed(part))).collect();
        }
        parts.retain(|(_, part)| part.batch.num_rows() > 0);
        if let ([cut], true, false) = (self.cuts, self.upper.by_group, parts.is_empty())
            && let Some(keys) = groups_of(cut)
        {
            let parts = parts.into_iter().map(|(_, part)| part).collect();
            return match parted(keys, parts, room) {
                Ok((alone, together)) => by_group(cut, alone, together, room.piece_bytes),
                Err(error) => Box::new(std::iter::once(Err(error))),
            };
        }
        let of_cut = |(cut, part): (u32, Weighed)| WindowPart { cut, batch: part.batch, bounds: None };
        Box::new(std::iter::once(Ok(Stretch::of(parts.into_iter().map(of_cut).collect()))))
    }
}

/// Groups that are alone, and then those that are merged.
fn by_group<'a>(cut: &Cut, alone: Vec<Alone>, together: Vec<Weighed>, bytes: usize) -> Stretches<'a> {
    let stretch = |batches: Vec<RecordBatch>| {
        let parts = batches.into_iter().map(|batch| WindowPart { cut: 0, batch, bounds: None });
        Stretch::of(parts.collect())
    };
    let alone = alone.into_iter().flat_map(move |alone| alone.in_pieces(bytes));
    let alone = alone.map(move |batch| Ok(Stretch { is_alone: true, ..stretch(vec![batch?]) }));
    Box::new(alone.chain(Pieces::of(cut, together, bytes).map(move |piece| Ok(stretch(piece?.0)))))
}

/// What closes, or is open, piece by piece.
pub enum Finishing<'a> {
    /// Nothing is merged for several windows at once.
    Each(Stretches<'a>),
    Sharing(Sharing<'a>),
}

impl Finishing<'_> {
    pub async fn next(&mut self) -> Result<Option<Stretch>> {
        match self {
            Finishing::Each(stretches) => stretches.next().transpose(),
            Finishing::Sharing(windows) => windows.next().await,
        }
    }
}

impl Stretch {
    pub fn of(parts: Vec<WindowPart>) -> Stretch {
        Stretch { parts, ..Stretch::default() }
    }

    pub async fn finish(&self, cuts: &[Cut], upper: &Upper, room: &Room) -> Result<Vec<RecordBatch>> {
        let plan = upper.each.as_ref().filter(|_| self.is_alone).unwrap_or(&upper.plan);
        let rows = finish(cuts, plan, &self.parts, room).await?;
        match &self.within {
            Some(within) => rows.iter().map(|batch| rows_within(batch, within)).collect(),
            None => Ok(rows),
        }
    }
}

fn rows_within(batch: &RecordBatch, within: &Range<Micros>) -> Result<RecordBatch> {
    let time = batch.columns().last().and_then(|it| it.as_primitive_opt::<TimestampMicrosecondType>());
    let time = time.ok_or_else(|| Error::Internal("finished rows lack their time".into()))?;
    let own = time.values().iter().map(|time| Some(within.contains(time)));
    Ok(filter_record_batch(batch, &own.collect::<BooleanArray>())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Layout;

    const SLICES: Window = Window { layout: Layout::hop(10, 10), expanded: false };

    #[test]
    fn a_row_counts_in_the_units_that_reach_it() {
        for (before, after) in [(0, 0), (20, 0), (0, 30), (20, 10), (-20, 40), (60, -60)] {
            let extent = Extent { window: SLICES, reach: Reach { before, after } };
            for time in -50..50 {
                let units: Vec<Micros> = (-20..20).map(|n| n * 10).collect();
                // Whole panes count.
                let pane = Micros::div_euclid(time, 10) * 10;
                let counts = |unit: &&Micros| (**unit - before..**unit + 10 + after).contains(&pane);
                let of_row: Vec<Micros> = units.iter().filter(counts).copied().collect();
                assert_eq!(extent.marks_of_row(time).collect::<Vec<_>>(), of_row, "{time} of {extent:?}");
                assert_eq!(of_row.first().map(|unit| unit + 10), Some(extent.first_end_of_row(time)));
                assert_eq!(of_row.last().map(|unit| unit + 10), Some(extent.last_end_of_row(time)));
                assert_eq!(extent.last_end(pane), extent.last_end_of_row(time));
                for unit in units {
                    assert_eq!(extent.reaches(pane, &(unit..unit + 10)), of_row.contains(&unit));
                }
            }
        }
    }
}
