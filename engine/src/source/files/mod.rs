//! Files of newline-delimited JSON, on a local disk or an object store, as one partition that ends.
//!
//! The files are those that are there when the source is opened, in the byte order of their paths. A record's offset
//! is its number among the records of them all, so a resumed stream finds its place as long as the files stay as they
//! are, and looks whether the record that it read last is there still; new ones may come behind the last. A line of white space is no record and takes no offset. Records have no
//! timestamp. Names that begin with `.` or `_` are markers, not data; `.gz` and `.zst` are decompressed.

mod expand;
mod lines;
mod location;
mod reader;
mod roots;
mod whole;

use std::sync::Arc;

use super::{Assignment, Discovery, PartitionRange, Reader, Reading};
use crate::ids::{Offset, PartitionId};
use crate::spec::{FilesSpec, Start};
use crate::{Error, Result};
use location::Place;
use reader::FilesReader;
pub use roots::FilesRoots;
pub use whole::{WholeFiles, folder};

const PARTITION: PartitionId = PartitionId(0);

pub(super) struct Files {
    place: Arc<Place>,
}

impl Files {
    pub(super) fn find(spec: &FilesSpec, roots: &FilesRoots) -> Result<Files> {
        Ok(Files { place: Arc::new(Place::find(spec, roots)?) })
    }
}

impl Discovery for Files {
    /// How many records there are is known when they have been read; until then the end is said to be 0.
    fn partitions(&mut self) -> Result<Vec<PartitionRange>> {
        Ok(vec![PartitionRange { partition: PARTITION, first: Offset(0), end: Offset(0) }])
    }

    fn resolve(&mut self, partition: PartitionId, start: Start) -> Result<Offset> {
        match start {
            Start::Earliest if partition == PARTITION => Ok(Offset(0)),
            Start::Earliest => {
                Err(Error::Internal(format!("files are one partition, 0. partition={partition}")))
            }
            Start::Latest | Start::Timestamp(_) => Err(Error::Invalid(
                "files are read from their beginning, for their records have no timestamp; the only start is 'earliest'".into(),
            )),
        }
    }

    fn open(&mut self, assignment: &[Assignment], reading: Reading) -> Result<Box<dyn Reader>> {
        let mut reader = FilesReader::new(Arc::clone(&self.place), reading.with_keys);
        for assigned in assignment {
            reader.resume(*assigned)?;
        }
        Ok(Box::new(reader))
    }

    fn publish(&mut self, _offsets: &[(PartitionId, Offset)]) {}
}

#[cfg(test)]
mod tests;
