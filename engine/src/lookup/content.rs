//! What a table holds at one time, found by key.
#![expect(clippy::disallowed_types, reason = "a hash is looked for, and nobody walks through the index")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{and, take};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::{Error, Result};

/// All rows of a table at one time.
#[derive(Debug)]
pub struct Content {
    pub rows: RecordBatch,
    /// What it was made of: names and sizes, a version, offsets. Another text is another content.
    pub version: String,
    index: Index,
}

#[derive(Debug)]
enum Index {
    Keys {
        columns: Vec<ArrayRef>,
        seed: u64,
        /// By the hash of the key.
        rows: HashMap<u64, u32, BuildPlain>,
    },
    /// Every key is that of the first row.
    Any,
}

/// Hashes are hashed already.
type BuildPlain = std::hash::BuildHasherDefault<Plain>;

#[derive(Debug, Default)]
struct Plain(u64);

impl std::hash::Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Content {
    /// `key` are the columns of the primary key. Each row has one, and no two have the same.
    pub fn new(rows: RecordBatch, key: &[usize], version: String) -> Result<Content> {
        if rows.num_rows() > u32::MAX as usize {
            return Err(Error::Invalid(format!("more rows than a table can have. rows={}", rows.num_rows())));
        }
        let columns: Vec<ArrayRef> = key.iter().map(|column| rows.column(*column).clone()).collect();
        if let Some(row) = (0..rows.num_rows()).find(|row| columns.iter().any(|column| column.is_null(*row)))
        {
            let shown = text_of(&rows, row)?;
            return Err(Error::BadData(format!("row {} has no primary key: {shown}", row + 1)));
        }
        // Two keys with one hash are not to be expected, and another seed tells them apart.
        for seed in 0..16 {
            if let Some(index) = hashed(&rows, &columns, seed)? {
                return Ok(Content { index: Index::Keys { columns, seed, rows: index }, rows, version });
            }
        }
        Err(Error::Internal("keys that differ have the same hash, whatever the seed".into()))
    }

    pub fn empty(schema: &SchemaRef, key: &[usize]) -> Content {
        let rows = RecordBatch::new_empty(std::sync::Arc::clone(schema));
        let columns = key.iter().map(|column| rows.column(*column).clone()).collect();
        Content {
            index: Index::Keys { columns, seed: 0, rows: HashMap::default() },
            rows,
            version: String::new(),
        }
    }

    /// A row that is found by whatever key: for plans that are tried on made-up rows.
    pub fn any(row: RecordBatch) -> Content {
        Content { rows: row, version: String::new(), index: Index::Any }
    }

    /// For each key its row, or none. The columns have the types of the primary key's.
    pub fn find(&self, keys: &[ArrayRef]) -> Result<UInt32Array> {
        let count = keys.first().map_or(0, |key| key.len());
        let (columns, seed, rows) = match &self.index {
            Index::Any => return Ok(UInt32Array::from_value(0, count)),
            Index::Keys { columns, seed, rows } => (columns, *seed, rows),
        };
        let mut hashes = vec![0; count];
        create_hashes(keys, &RandomState::with_seed(seed), &mut hashes)?;
        let found: UInt32Array = hashes.iter().map(|hash| rows.get(hash).copied()).collect();
        // What has the hash of a key need not be that key, and what has none is NULL here.
        let mut same: Option<BooleanArray> = None;
        for (column, key) in columns.iter().zip(keys) {
            let equal = eq(&take(column, &found, None)?, key)?;
            same = Some(match same {
                Some(before) => and(&before, &equal)?,
                None => equal,
            });
        }
        let Some(same) = same else { return Ok(found) };
        let is_it = |row: usize| same.is_valid(row) && same.value(row);
        Ok((0..count).map(|row| is_it(row).then(|| found.value(row))).collect())
    }

    /// In memory.
    pub fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Keys { rows, .. } => rows.capacity() * size_of::<(u64, u32)>(),
            Index::Any => 0,
        };
        self.rows.get_array_memory_size() + index
    }
}

/// `None` if two different keys have the same hash.
fn hashed(
    rows: &RecordBatch,
    columns: &[ArrayRef],
    seed: u64,
) -> Result<Option<HashMap<u64, u32, BuildPlain>>> {
    let mut hashes = vec![0; rows.num_rows()];
    create_hashes(columns, &RandomState::with_seed(seed), &mut hashes)?;
    let mut index = HashMap::with_capacity_and_hasher(rows.num_rows(), BuildPlain::default());
    for (row, hash) in hashes.into_iter().enumerate() {
        match index.entry(hash) {
            Entry::Vacant(place) => {
                place.insert(row as u32);
            }
            Entry::Occupied(before) => {
                let before = *before.get() as usize;
                for column in columns {
                    if !eq(&column.slice(before, 1), &column.slice(row, 1))?.value(0) {
                        return Ok(None);
                    }
                }
                let (one, other) = (text_of(rows, before)?, text_of(rows, row)?);
                return Err(Error::BadData(format!(
                    "rows {} and {} have the same primary key. one: {one}; another: {other}",
                    before + 1,
                    row + 1
                )));
            }
        }
    }
    Ok(Some(index))
}

/// A row for people, as far as it is short.
fn text_of(rows: &RecordBatch, row: usize) -> Result<String> {
    const SHOWN: usize = 200;
    let options = FormatOptions::default().with_null("NULL");
    let mut text = vec![];
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let value = ArrayFormatter::try_new(column, &options)?;
        text.push(format!("{}={}", field.name(), value.value(row)));
    }
    Ok(text.join(", ").chars().take(SHOWN).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringViewArray};

    use super::*;

    fn rows(keys: Vec<Option<&str>>, numbers: Vec<i64>) -> RecordBatch {
        let keys: ArrayRef = Arc::new(StringViewArray::from(keys));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("n", numbers, true)])
            .expect("columns of one length")
    }

    #[test]
    fn a_row_is_found_by_its_whole_key() {
        let content =
            Content::new(rows(vec![Some("a"), Some("a"), Some("b")], vec![1, 2, 1]), &[0, 1], "1".into())
                .expect("keys differ");
        let asked = rows(vec![Some("a"), Some("b"), None, Some("b")], vec![2, 1, 1, 2]);
        let found = content.find(asked.columns()).expect("the types are the key's");
        assert_eq!(found.iter().collect::<Vec<_>>(), [Some(1), Some(2), None, None]);
        let none = Content::empty(&asked.schema(), &[0, 1]).find(asked.columns()).expect("it is legal");
        assert_eq!(none.null_count(), 4);
    }

    #[test]
    fn a_table_has_one_row_a_key() {
        let twice =
            Content::new(rows(vec![Some("a"), Some("a")], vec![1, 2]), &[0], String::new()).unwrap_err();
        assert!(twice.to_string().contains("one: k=a, n=1; another: k=a, n=2"), "{twice}");
        let none = Content::new(rows(vec![None], vec![1]), &[0], String::new()).unwrap_err();
        assert!(none.to_string().contains("row 1 has no primary key: k=NULL, n=1"), "{none}");
    }
}
