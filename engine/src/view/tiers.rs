//! The rows of a part merged over eight panes, over sixty-four, and so on: what a window takes of a part that thousands of
//! panes are of is a few pieces then, and not a row of each key for each pane.
//!
//! Derived from the part alone, which never changes, and as long-lived as it is: nothing of it is durable, a start makes it
//! again when a window closes. It counts as what the view has open.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};

use crate::Result;
use crate::ids::Micros;
use crate::spec::{Cut, State, Unit, Window};
use crate::view::part::{PaneRows, Part};
use crate::view::running::Room;
use crate::view::upper::{merged, with_bounds};
use crate::view::window::floor;

/// Panes, or blocks of the tier below, that are merged into one block.
const FAN: Micros = 8;

/// A part of fewer panes is read as it is.
const PANES_LEAST: usize = 16;

/// The rows of a part by blocks of panes that lie side by side.
#[derive(Debug, Clone)]
pub struct Tier {
    length: Micros,
    offset: Micros,
    /// Blocks that start before lack rows.
    from: Micros,
    /// A block stands in it as its first pane.
    blocks: Part,
}

impl Tier {
    pub fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Those of a part whose panes from one on stay.
    pub fn staying(tiers: &[Tier], from: Micros) -> Result<Vec<Tier>> {
        let staying = tiers.iter().map(|tier| {
            let blocks = tier.blocks.staying(|block| block >= from)?;
            Ok(blocks.map(|blocks| Tier { from: tier.from.max(from), blocks, ..*tier }))
        });
        staying.filter_map(Result::transpose).collect()
    }

    /// The blocks that lie within a stretch of time, which is what they cover of it.
    fn within(&self, stretch: &Range<Micros>) -> Range<Micros> {
        let first = stretch.start.max(self.from).saturating_add(self.length - 1);
        floor(first, self.length, self.offset)..floor(stretch.end, self.length, self.offset)
    }
}

/// Makes the tiers of a part that has none yet. A tier is kept where it has at most half the rows of what it is made of;
/// where merging hardly makes fewer, coarser ones are not looked for.
pub async fn make(part: &Part, cut: &Cut, window: Window, room: &Room) -> Result<()> {
    if part.has_tiers() || part.panes.len() < PANES_LEAST || matches!(cut.state, State::Rows(_)) {
        return Ok(());
    }
    let (pane, offset) = window.layout.shared_pane();
    let (mut tiers, mut finer, mut length) = (vec![], part.clone(), pane);
    let mut rows_kept = part.batch.num_rows();
    while finer.panes.len() >= PANES_LEAST {
        length *= FAN;
        let whole = in_blocks(&finer, cut, |start| floor(start, length, offset), pane)?;
        let bytes = whole.get_array_memory_size();
        let batches = merged(cut, vec![whole], bytes, room).await?;
        let Some(blocks) = Part::of_batches(part.cut, &batches, cut, Unit::Window(window))? else { break };
        let (rows, of_finer) = (blocks.batch.num_rows(), finer.batch.num_rows());
        if rows > of_finer / 8 * 7 {
            break;
        }
        if rows <= rows_kept / 2 {
            rows_kept = rows;
            let from = blocks.panes.first().map_or(Micros::MIN, |block| block.start);
            tiers.push(Tier { length, offset, from, blocks: blocks.clone() });
        }
        finer = blocks;
    }
    part.know_tiers(tiers);
    Ok(())
}

/// The rows of a part with the bounds of their blocks' first panes.
fn in_blocks(
    part: &Part,
    cut: &Cut,
    block_of: impl Fn(Micros) -> Micros,
    pane: Micros,
) -> Result<RecordBatch> {
    let blocks = part.panes.iter().flat_map(|of| std::iter::repeat_n(block_of(of.start), of.rows as usize));
    let starts = TimestampMicrosecondArray::from_iter_values(blocks).with_timezone("UTC");
    let ends: ArrayRef = Arc::new(
        starts
            .unary::<_, arrow::datatypes::TimestampMicrosecondType>(|start| start + pane)
            .with_timezone("UTC"),
    );
    with_bounds(&part.batch, cut, Arc::new(starts), ends)
}

/// A part with its tiers, and where the rows of each pane and block lie.
pub struct Covering<'a> {
    /// The part itself, then its tiers.
    layers: Vec<Layer<'a>>,
}

struct Layer<'a> {
    part: &'a Part,
    tier: Option<&'a Tier>,
    /// The first row of each pane.
    firsts: Vec<u32>,
}

impl<'a> Covering<'a> {
    pub fn of(part: &'a Part) -> Covering<'a> {
        let tiers = part.tiers().iter().map(|tier| (&tier.blocks, Some(tier)));
        let layers = std::iter::once((part, None)).chain(tiers).map(|(part, tier)| {
            let first = |next: &mut u32, pane: &PaneRows| {
                let first = *next;
                *next += pane.rows;
                Some(first)
            };
            let firsts = part.panes.iter().scan(0, first).collect();
            Layer { part, tier, firsts }
        });
        Covering { layers: layers.collect() }
    }

    pub fn part(&self) -> &'a Part {
        self.layers[0].part
    }

    /// How many rows of the part itself a stretch of time has.
    pub fn rows(&self, stretch: &Range<Micros>) -> usize {
        self.layers[0].rows(stretch).len()
    }

    /// The rows of a stretch of time that begins and ends between panes, merged as far as they are, in pieces that share the
    /// part's buffers.
    pub fn cover(&self, stretch: &Range<Micros>, into: &mut Vec<RecordBatch>) {
        self.cover_from(self.layers.len() - 1, stretch.clone(), into);
    }

    fn cover_from(&self, layer: usize, stretch: Range<Micros>, into: &mut Vec<RecordBatch>) {
        if stretch.is_empty() {
            return;
        }
        let Layer { part, tier, .. } = &self.layers[layer];
        let whole = tier.map_or(stretch.clone(), |tier| tier.within(&stretch));
        if whole.is_empty() {
            return self.cover_from(layer - 1, stretch, into);
        }
        if layer > 0 {
            self.cover_from(layer - 1, stretch.start..whole.start, into);
        }
        let rows = self.layers[layer].rows(&whole);
        if !rows.is_empty() {
            into.push(part.batch.slice(rows.start, rows.len()));
        }
        if layer > 0 {
            self.cover_from(layer - 1, whole.end..stretch.end, into);
        }
    }
}

impl Layer<'_> {
    fn rows(&self, stretch: &Range<Micros>) -> Range<usize> {
        let row = |instant: Micros| {
            let pane = self.part.panes.partition_point(|pane| pane.start < instant);
            self.firsts.get(pane).map_or(self.part.batch.num_rows(), |row| *row as usize)
        };
        let first = row(stretch.start);
        first..row(stretch.end).max(first)
    }
}
