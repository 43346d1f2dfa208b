//! How rows have changed between two instants: which are new, which are gone. Rows are alike if all their columns are.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, Rows, SortField};

use crate::Result;
use crate::plan;

/// What is told of rows of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// They are there now, and may still be taken back.
    Come,
    /// They were told, and are no more.
    Gone,
    /// They are there for good.
    Final,
}

impl Change {
    /// The rows with what the plan of a subscription carries.
    pub fn of(self, rows: &RecordBatch) -> Result<RecordBatch> {
        let sum = if self == Change::Gone { -1 } else { 1 };
        let carried: [ArrayRef; 2] = [
            Arc::new(Int32Array::from_value(sum, rows.num_rows())),
            Arc::new(BooleanArray::from(vec![self == Change::Final; rows.num_rows()])),
        ];
        let columns = rows.columns().iter().cloned().chain(carried).collect();
        Ok(RecordBatch::try_new(plan::carrying(&rows.schema()), columns)?)
    }
}

/// What has to be taken from `before` and added to it for it to be `now`.
pub(super) fn between(before: &[RecordBatch], now: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(first) = before.first().or(now.first()) else { return Ok(vec![]) };
    let converter = converter(&first.schema())?;
    let (old, new) = (encoded(&converter, before)?, encoded(&converter, now)?);
    let mut counts: HashMap<&[u8], u32> = HashMap::new();
    for row in old.iter().flat_map(|rows| rows.iter()) {
        *counts.entry(row.data()).or_default() += 1;
    }
    // Whether a row of the other side is left that is like this one.
    let mut claim = |row: &[u8]| match counts.get_mut(row) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let mut told = |batches: &[RecordBatch], rows: &[Rows], if_claimed: bool| {
        let mut some = vec![];
        for (batch, rows) in batches.iter().zip(rows) {
            let is_told = |row: &u32| claim(rows.row(*row as usize).data()) == if_claimed;
            let chosen = (0..batch.num_rows() as u32).filter(is_told).collect::<Vec<_>>();
            some.push((batch.clone(), chosen));
        }
        some
    };
    let come = told(now, &new, false);
    // What nobody has claimed is no more.
    let gone = told(before, &old, true);
    let mut changes = vec![];
    for (change, parts) in [(Change::Gone, gone), (Change::Come, come)] {
        for (batch, rows) in parts.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            changes.push(change.of(&take_record_batch(&batch, &UInt32Array::from(rows))?)?);
        }
    }
    Ok(changes)
}

fn converter(schema: &SchemaRef) -> Result<RowConverter> {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
}

fn encoded(converter: &RowConverter, batches: &[RecordBatch]) -> Result<Vec<Rows>> {
    Ok(batches.iter().map(|batch| converter.convert_columns(batch.columns())).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::test_data::rows;
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{Int32Type, Int64Type};

    #[test]
    fn what_is_alike_is_not_told() {
        let before = [rows(&[(1, "a", 1), (1, "b", 2)]), rows(&[(1, "b", 2), (2, "c", 3)])];
        let now = [rows(&[(1, "b", 2), (1, "a", 5)]), rows(&[(2, "c", 3), (2, "c", 3)])];
        let told = between(&before, &now).unwrap();
        let mut told: Vec<(i32, i64)> = told
            .iter()
            .flat_map(|batch| {
                let changes = batch.column(4).as_primitive::<Int32Type>().values().to_vec();
                let counts = batch.column(3).as_primitive::<Int64Type>().values().to_vec();
                changes.into_iter().zip(counts)
            })
            .collect();
        told.sort_unstable();
        assert_eq!(told, [(-1, 1), (-1, 2), (1, 3), (1, 5)]);
        assert!(between(&now, &now).unwrap().is_empty());
    }
}
