//! The declared schema as a tree of columns, flat in memory, and the rows written into it.
//!
//! A record is written slot by slot; `keep` makes its row final, `take_back` leaves no trace of it. Both paths write
//! through this one door, so they can't differ in what they store.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, SchemaRef};

use super::column::Column;
use super::keys::Keys;
use crate::{Error, Result};

/// Index of a node in [`Tree::nodes`].
pub(super) type NodeId = u32;

/// How many structs and lists of a schema may lie within each other. Less than what a record may nest.
const SCHEMA_DEPTH_MAX: usize = 32;

/// Bytes that the elements of all lists may take. `[{},{},…]` needs three bytes of a record for an element, which has a
/// slot in every column below its list: a small record could fill the memory. A record that alone takes more is
/// refused; a batch ends with the record by which it takes more (INV-16).
pub(super) const ELEMENT_BYTES_MAX: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct Node {
    /// For people: `device.os`, `tags[]`.
    pub path: String,
    pub data_type: DataType,
    /// The fields of a struct, or the one element of a list.
    pub children: Vec<NodeId>,
    /// The fields of a struct by name.
    pub keys: Keys,
    /// What one element of a list takes, those of lists within it apart. The same whether the list is wanted or not,
    /// since a record's fate must not depend on that.
    element_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// One per node.
    pub columns: Vec<Column>,
    /// The object at hand in which each node's key was last seen, to find a key that comes twice.
    seen_in: Vec<u64>,
    objects: u64,
    /// The nodes of the wanted columns.
    wanted: Vec<NodeId>,
    /// Wanted lists outside of any other list.
    outer_lists: Vec<NodeId>,
    schema: SchemaRef,
    /// The row being written.
    pub row: usize,
    /// What the elements take in that row, and in those before it.
    row_bytes: usize,
    kept_bytes: usize,
}

/// The node that stands for the record itself.
pub(super) const ROOT: NodeId = 0;

impl Tree {
    pub(super) fn new(declared: &SchemaRef, wanted: &[usize]) -> Result<Tree> {
        let schema = Arc::new(declared.project(wanted)?);
        let mut tree = Tree {
            nodes: Vec::new(),
            columns: Vec::new(),
            seen_in: Vec::new(),
            objects: 0,
            wanted: Vec::new(),
            outer_lists: Vec::new(),
            schema,
            row: 0,
            row_bytes: 0,
            kept_bytes: 0,
        };
        tree.add(String::new(), &DataType::Struct(declared.fields().clone()), 0)?;
        tree.wanted = wanted.iter().map(|index| tree.nodes[ROOT as usize].children[*index]).collect();
        for index in tree.wanted.clone() {
            tree.find_outer_lists(index);
        }
        Ok(tree)
    }

    fn add(&mut self, path: String, data_type: &DataType, depth: usize) -> Result<NodeId> {
        let Some(column) = Column::new(data_type) else {
            return Err(Error::Invalid(format!(
                "no JSON value can be read as this type. column=\"{path}\", type={data_type}"
            )));
        };
        if depth > SCHEMA_DEPTH_MAX {
            return Err(Error::Invalid(format!(
                "a column is nested too deep. column=\"{path}\", most={SCHEMA_DEPTH_MAX}"
            )));
        }
        let id = self.nodes.len();
        self.nodes.push(Node {
            path,
            data_type: data_type.clone(),
            children: vec![],
            keys: Keys::default(),
            element_bytes: 0,
        });
        self.columns.push(column);
        self.seen_in.push(0);
        let mut children = Vec::new();
        let mut keys = Keys::default();
        if let DataType::Struct(_) | DataType::List(_) = data_type {
            require_nullable(&self.nodes[id].path, data_type)?;
        }
        match data_type {
            DataType::Struct(fields) => {
                for field in fields {
                    let path = &self.nodes[id].path;
                    let path =
                        if id == 0 { field.name().clone() } else { format!("{path}.{}", field.name()) };
                    let child = self.add(path.clone(), field.data_type(), depth + 1)?;
                    if !keys.insert(field.name().as_bytes(), child) {
                        return Err(Error::Invalid(format!("a column is declared twice. column=\"{path}\"")));
                    }
                    children.push(child);
                }
            }
            DataType::List(element) => {
                let path = format!("{}[]", self.nodes[id].path);
                let child = self.add(path, element.data_type(), depth + 1)?;
                self.nodes[id].element_bytes = self.slot_bytes(child);
                children.push(child);
            }
            _ => {}
        }
        (self.nodes[id].children, self.nodes[id].keys) = (children, keys);
        Ok(id as NodeId)
    }

    /// What one row takes in the node's columns, elements of lists apart.
    fn slot_bytes(&self, id: NodeId) -> usize {
        let own = self.columns[id as usize].slot_bytes();
        match self.columns[id as usize] {
            Column::List(_) => own,
            _ => own + self.nodes[id as usize].children.iter().map(|id| self.slot_bytes(*id)).sum::<usize>(),
        }
    }

    fn find_outer_lists(&mut self, id: NodeId) {
        match self.columns[id as usize] {
            Column::List(_) => self.outer_lists.push(id),
            _ => {
                for index in 0..self.nodes[id as usize].children.len() {
                    self.find_outer_lists(self.nodes[id as usize].children[index]);
                }
            }
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Makes room for `rows` records.
    pub(super) fn begin(&mut self, rows: usize) {
        (self.row, self.row_bytes, self.kept_bytes) = (0, 0, 0);
        for index in 0..self.wanted.len() {
            self.grow(self.wanted[index], rows);
        }
    }

    fn grow(&mut self, id: NodeId, rows: usize) {
        self.columns[id as usize].grow(rows);
        if !matches!(self.columns[id as usize], Column::List(_)) {
            for index in 0..self.nodes[id as usize].children.len() {
                self.grow(self.nodes[id as usize].children[index], rows);
            }
        }
    }

    /// A number for the next object, by which [`Tree::see`] tells its keys from those of others.
    #[inline]
    pub(super) fn new_object(&mut self) -> u64 {
        self.objects += 1;
        self.objects
    }

    /// False if this key was seen in the same object before.
    #[inline]
    pub(super) fn see(&mut self, id: NodeId, object: u64) -> bool {
        std::mem::replace(&mut self.seen_in[id as usize], object) != object
    }

    /// A row of the list's child for one more element, or one that no column has if nobody wants the list. `None` if
    /// the record takes too much.
    pub(super) fn add_element(&mut self, list: NodeId) -> Option<usize> {
        self.row_bytes += self.nodes[list as usize].element_bytes;
        if self.row_bytes > ELEMENT_BYTES_MAX {
            return None;
        }
        let lists = match &mut self.columns[list as usize] {
            Column::List(lists) if lists.is_wanted() => lists,
            _ => return Some(usize::MAX),
        };
        let row = lists.taken;
        lists.taken += 1;
        if lists.taken > lists.room {
            lists.room = (lists.room * 2).max(64);
            let room = lists.room;
            self.grow(self.nodes[list as usize].children[0], room);
        }
        Some(row)
    }

    /// No more records should be read before these rows are taken away.
    pub(super) fn is_full(&self) -> bool {
        self.kept_bytes > ELEMENT_BYTES_MAX
    }

    /// The row at hand is final.
    #[inline]
    pub(super) fn keep(&mut self) {
        self.row += 1;
        self.kept_bytes += std::mem::take(&mut self.row_bytes);
        for index in 0..self.outer_lists.len() {
            self.keep_elements(self.outer_lists[index]);
        }
    }

    fn keep_elements(&mut self, id: NodeId) {
        if let Column::List(lists) = &mut self.columns[id as usize] {
            lists.kept = lists.taken;
        }
        for index in 0..self.nodes[id as usize].children.len() {
            self.keep_elements(self.nodes[id as usize].children[index]);
        }
    }

    /// The row at hand is all NULL again.
    pub(super) fn take_back(&mut self) {
        self.row_bytes = 0;
        for index in 0..self.wanted.len() {
            self.clear(self.wanted[index], self.row);
        }
    }

    fn clear(&mut self, id: NodeId, row: usize) {
        self.columns[id as usize].clear(row);
        let mut rows = row..row + 1;
        if let Column::List(lists) = &mut self.columns[id as usize] {
            rows = lists.kept..lists.taken;
            lists.taken = lists.kept;
        }
        for index in 0..self.nodes[id as usize].children.len() {
            for row in rows.clone() {
                self.clear(self.nodes[id as usize].children[index], row);
            }
        }
    }

    /// The rows kept since `begin`.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.row);
        let mut arrays = Vec::with_capacity(self.wanted.len());
        for index in 0..self.wanted.len() {
            arrays.push(self.finish_node(self.wanted[index], rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }

    fn finish_node(&mut self, id: NodeId, rows: usize) -> Result<ArrayRef> {
        let data_type = self.nodes[id as usize].data_type.clone();
        match (&mut self.columns[id as usize], &data_type) {
            (Column::Struct(slots), DataType::Struct(fields)) => {
                let (_, nulls) = slots.take(rows);
                let mut children = Vec::with_capacity(fields.len());
                for index in 0..fields.len() {
                    children.push(self.finish_node(self.nodes[id as usize].children[index], rows)?);
                }
                Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, rows)?))
            }
            (Column::List(lists), DataType::List(element)) => {
                let kept = lists.kept;
                let (lengths, nulls) = lists.take(rows);
                let mut end = 0i32;
                let offsets = std::iter::once(0).chain(lengths.iter().map(|length| {
                    end += length;
                    end
                }));
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets.collect::<Vec<i32>>()));
                let values = self.finish_node(self.nodes[id as usize].children[0], kept)?;
                assert_eq!(
                    values.len(),
                    end as usize,
                    "the elements of a list column and its lengths disagree"
                );
                Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?))
            }
            (column, data_type) => column.finish_leaf(data_type, rows),
        }
    }
}

/// Any field may be missing from a record, and any element `null`.
fn require_nullable(path: &str, data_type: &DataType) -> Result<()> {
    let strict = match data_type {
        DataType::Struct(fields) => fields.iter().find(|field| !field.is_nullable()),
        DataType::List(element) => Some(element).filter(|element| !element.is_nullable()),
        _ => None,
    };
    match strict {
        None => Ok(()),
        Some(field) => Err(Error::Invalid(format!(
            "what is read from JSON can be NULL, but is declared NOT NULL. column=\"{}\", within=\"{path}\"",
            field.name()
        ))),
    }
}
