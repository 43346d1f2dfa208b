//! What is kept for long takes no more memory than its rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::Result;

/// A batch with buffers of its own and no larger than its rows. Operators allocate for full batches, and rows taken from
/// a column of strings keep all its strings alive: a dozen rows could pin megabytes.
pub fn compacted(batch: RecordBatch) -> Result<RecordBatch> {
    let schema = batch.schema();
    let (_, mut columns, rows) = batch.into_parts();
    for column in &mut columns {
        *column = own(column)?;
        column.shrink_to_fit();
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Some rows of a batch, with nothing of the others: what is asked of lists is asked of all elements that lie below a slice
/// of them.
pub fn alone(batch: &RecordBatch, first: usize, rows: usize) -> Result<RecordBatch, ArrowError> {
    let slice = batch.slice(first, rows);
    if !slice.columns().iter().any(|column| column.data_type().is_nested()) {
        return Ok(slice);
    }
    let chosen = UInt32Array::from_iter_values(0..rows as u32);
    take_record_batch(&slice, &chosen)
}

/// Weighs batches that may share buffers, as slices of one do: each buffer once. What has been weighed is to be kept as long.
#[derive(Default)]
pub struct Buffers(BTreeSet<usize>);

impl Buffers {
    /// Of what has not been weighed yet.
    pub fn weigh(&mut self, batch: &RecordBatch) -> usize {
        batch.columns().iter().map(|column| self.of_array(&column.to_data())).sum()
    }

    fn of_array(&mut self, data: &ArrayData) -> usize {
        let nulls = data.nulls().map(|nulls| nulls.buffer());
        let buffers = data.buffers().iter().chain(nulls);
        let own: usize = buffers
            .filter(|buffer| self.0.insert(buffer.data_ptr().as_ptr() as usize))
            .map(|buffer| buffer.capacity())
            .sum();
        own + data.child_data().iter().map(|child| self.of_array(child)).sum::<usize>()
    }
}

fn own(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::Struct(fields) => {
            let children = array.as_struct().columns().iter().map(own).collect::<Result<_>>()?;
            let nulls = array.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, array.len())?)
        }
        DataType::List(element) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            // Of a slice, the elements of the other lists are among the values.
            let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
            let values = own(&values.slice(first, last - first))?;
            let offsets = OffsetBuffer::from_lengths(offsets.lengths());
            Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, StringViewArray};
    use arrow::datatypes::Field;

    use super::*;

    /// A column of strings, in itself, within structs, and within lists of structs.
    fn batch(rows: usize) -> RecordBatch {
        let text = |row: usize| format!("a string that is too long for its view, {row}");
        let strings: ArrayRef = Arc::new((0..rows).map(|row| Some(text(row))).collect::<StringViewArray>());
        let field =
            |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let numbers: ArrayRef = Arc::new((0..rows as i32).map(Some).collect::<Int32Array>());
        let nulls = (0..rows).map(|row| row % 5 != 0).collect::<Vec<_>>();
        let members = vec![field("s", &strings), field("n", &numbers)].into();
        let columns = vec![Arc::clone(&strings), numbers];
        let structs: ArrayRef = Arc::new(StructArray::new(members, columns, Some(nulls.clone().into())));
        let lengths = (0..rows).map(|row| if row % 2 == 0 { 2 } else { 0 });
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists: ArrayRef = Arc::new(ListArray::new(
            field("item", &structs),
            offsets,
            Arc::clone(&structs),
            Some(nulls.into()),
        ));
        RecordBatch::try_from_iter_with_nullable([
            ("s", strings, true),
            ("o", structs, true),
            ("l", lists, true),
        ])
        .unwrap()
    }

    #[test]
    fn a_few_rows_do_not_keep_the_strings_of_all() {
        let whole = batch(10_000);
        for rows in [vec![0, 1, 2], vec![17, 4_000, 4_001, 9_999]] {
            let few = take_record_batch(&whole, &UInt32Array::from(rows)).unwrap();
            let own = compacted(few.clone()).unwrap();
            assert_eq!(own, few);
            let (bytes, before) = (own.get_array_memory_size(), few.get_array_memory_size());
            assert!(bytes < 8_000 && before > 400_000, "{bytes} bytes of {before}");
        }
        let slices: Vec<RecordBatch> = (0..100).map(|slice| whole.slice(100 * slice, 100)).collect();
        let mut buffers = Buffers::default();
        let of_slices: usize = slices.iter().map(|slice| buffers.weigh(slice)).sum();
        assert_eq!(of_slices, Buffers::default().weigh(&whole));
        let slice = whole.slice(5_000, 3);
        let own = compacted(slice.clone()).unwrap();
        assert_eq!(own, slice);
        let strings = |batch: &RecordBatch| {
            let elements = batch.column(2).as_list::<i32>().values().as_struct().column(0);
            elements.as_string_view().data_buffers().iter().map(|buffer| buffer.len()).sum::<usize>()
        };
        assert!(strings(&own) < 1000 && strings(&slice) > 400_000);
        assert_eq!(compacted(batch(0)).unwrap(), batch(0));
    }
}
