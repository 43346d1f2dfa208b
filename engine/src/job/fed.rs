//! What the closed rows of views become in a view that reads them: one micro-batch for each leg, when an epoch closes.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::ids::{Epoch, Micros};
use crate::job::ledger::ViewTerms;
use crate::job::refused::RefusedRow;
use crate::spec::ViewSpec;
use crate::status::LedgerRow;
use crate::view::arrived::Arrived;
use crate::view::lower::LowerHalf;
use crate::view::part::Part;
use crate::{Error, Result};

/// Rows by leg, with the columns that readers of their views see.
#[derive(Debug, Default)]
pub struct Fed(pub BTreeMap<usize, Vec<RecordBatch>>);

/// What became of them.
#[derive(Debug, Default)]
pub struct Taken {
    pub parts: Vec<Part>,
    pub ledger: Vec<LedgerRow>,
    pub refused: Vec<RefusedRow>,
}

impl Fed {
    pub fn add(&mut self, leg: usize, rows: impl IntoIterator<Item = RecordBatch>) {
        self.0.entry(leg).or_default().extend(rows.into_iter().filter(|batch| batch.num_rows() > 0));
    }

    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    pub async fn take_in(self, view: &ViewSpec, epoch: Epoch) -> Result<Taken> {
        let mut taken = Taken::default();
        for (leg, rows) in self.0 {
            let Some(first) = rows.first() else { continue };
            let batch = concat_batches(first.schema_ref(), &rows)?;
            let lowered = LowerHalf::new(&view.shape, leg)?.take_in(&Arrived::of_view(batch.clone())).await?;
            let terms = ViewTerms::of(batch.num_rows(), &lowered);
            let input = view.legs[leg].input.name();
            if !terms.balance() {
                return Err(Error::Internal(format!(
                    "rows of a view were not conserved. view={:?}, input={input:?}, {terms:?}",
                    view.name
                )));
            }
            taken.ledger.push(terms.row(epoch, input, &view.name));
            for failed in lowered.failed {
                let (time, text) = (time_of(&batch, failed.row), text_of(&batch, failed.row)?);
                let reason = format!("{} (a row of {input})", failed.fault.reason);
                taken.refused.push(RefusedRow::of_view(&view.name, time, reason, text));
            }
            taken.parts.extend(lowered.parts);
        }
        Ok(taken)
    }
}

/// The first moment of the row, which is mostly when its window starts.
fn time_of(batch: &RecordBatch, row: usize) -> Option<Micros> {
    let moments = batch.columns().iter().filter_map(|it| it.as_primitive_opt::<TimestampMicrosecondType>());
    moments.filter(|it| it.is_valid(row)).map(|it| it.value(row)).next()
}

/// The row as people read it.
fn text_of(batch: &RecordBatch, row: usize) -> Result<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut text = vec![];
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let value = ArrayFormatter::try_new(column, &options)?;
        text.push(format!("{}: {}", field.name(), value.value(row)));
    }
    Ok(text.join(", "))
}
