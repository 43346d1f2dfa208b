//! The one form in which a view remembers: an immutable batch of partial aggregates of one pane and one cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, TimestampMicrosecondType};

use crate::ids::Micros;
use crate::spec::{Cut, Window};
use crate::{Error, Result};

/// Partial aggregates of cut `cut` in the pane that starts at `pane`; or finished rows of a view without a window, where
/// both are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub pane: Micros,
    /// Only windows that end after this instant take its rows in: the others had passed when the rows came. `Micros::MIN`
    /// for all windows of the pane.
    pub after: Micros,
    pub cut: u32,
    pub batch: RecordBatch,
}

impl Part {
    pub fn new(pane: Micros, cut: u32, batch: RecordBatch) -> Part {
        Part { pane, after: Micros::MIN, cut, batch }
    }

    /// The part without the windows that end at or before an instant, if any is left.
    pub fn ending_after(self, after: Micros, window: Window) -> Option<Part> {
        (window.last_end(self.pane) > after).then(|| Part { after: self.after.max(after), ..self })
    }

    pub fn bytes(&self) -> usize {
        self.batch.get_array_memory_size()
    }
}

/// Cuts one run's partial batches by pane. Each part owns its buffers, so nothing pins the decoder's.
pub fn split_by_pane(batches: &[RecordBatch], cut: u32, spec: &Cut, window: Window) -> Result<Vec<Part>> {
    let Some(first) = batches.first() else { return Ok(vec![]) };
    let whole = concat_batches(first.schema_ref(), batches)?;
    if whole.num_rows() == 0 {
        return Ok(vec![]);
    }
    let starts = pane_starts(&whole, spec, window)?;
    let (least, most) = (starts.iter().min().copied(), starts.iter().max().copied());
    if least == most {
        let pane = starts[0];
        return Ok(vec![Part::new(pane, cut, compacted(whole)?)]);
    }
    let mut rows: BTreeMap<Micros, Vec<u32>> = BTreeMap::new();
    for (row, start) in starts.iter().enumerate() {
        rows.entry(*start).or_default().push(row as u32);
    }
    rows.into_iter()
        .map(|(pane, rows)| {
            let batch = take_record_batch(&whole, &UInt32Array::from(rows))?;
            Ok(Part::new(pane, cut, compacted(batch)?))
        })
        .collect()
}

/// The start of each row's pane, from whichever bound the query groups by.
fn pane_starts(batch: &RecordBatch, spec: &Cut, window: Window) -> Result<Vec<Micros>> {
    let (column, less) = match (spec.window_start, spec.window_end) {
        (Some(start), _) => (start, 0),
        (None, Some(end)) => (end, window.pane()),
        (None, None) => return Err(Error::Internal("a cut groups by neither bound of its window".into())),
    };
    let bounds = batch
        .column(column)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| Error::Internal(format!("a window's bound is not a timestamp. column={column}")))?;
    if bounds.null_count() > 0 {
        return Err(Error::Internal("a row without an event time reached a window".into()));
    }
    Ok(bounds.values().iter().map(|bound| bound - less).collect())
}

/// A batch with buffers of its own and no larger than its rows. Operators allocate for full batches, and a sliced view
/// column keeps whole foreign buffers alive: a dozen rows could pin megabytes.
pub fn compacted(batch: RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let (_, mut columns, rows) = batch.into_parts();
    for column in &mut columns {
        match column.data_type() {
            DataType::Utf8View => *column = Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => *column = Arc::new(column.as_binary_view().gc()),
            _ => {}
        }
        column.shrink_to_fit();
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}
