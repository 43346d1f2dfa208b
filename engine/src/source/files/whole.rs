//! Files read whole, each at once: for what is small, and no stream of records.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::FilesRoots;
use super::expand::Expand;
use super::location::{Place, open_store};
use crate::spec::FilesSpec;
use crate::{Error, Result};

/// The files that a location means, as they are now.
pub struct WholeFiles {
    place: Place,
}

impl WholeFiles {
    pub fn find(spec: &FilesSpec, roots: &FilesRoots) -> Result<WholeFiles> {
        let place = Place::find(spec, roots)?;
        // What is half written looks like that, too.
        if place.files.is_empty() {
            let location = &spec.location;
            return Err(Error::BadData(format!("there is nothing in the files yet. location={location:?}")));
        }
        Ok(WholeFiles { place })
    }

    /// Which files these are; other files have another text.
    pub fn version(&self) -> String {
        let file = |file: &object_store::ObjectMeta| {
            let stamp = file.e_tag.clone().unwrap_or_else(|| file.last_modified.to_rfc3339());
            format!("{} {} {stamp}", file.location, file.size)
        };
        self.place.files.iter().map(file).collect::<Vec<_>>().join("\n")
    }

    /// As they lie there.
    pub fn bytes(&self) -> u64 {
        self.place.files.iter().map(|file| file.size).sum()
    }

    /// The name and what is in it of each, decompressed; of none more than `most` bytes.
    pub fn read(&self, most: usize) -> impl Iterator<Item = Result<(String, Bytes)>> + '_ {
        self.place.files.iter().enumerate().map(move |(number, file)| {
            let name = file.location.to_string();
            let fetched = self.place.fetch(number, 0..file.size).recv();
            let bytes =
                fetched.map_err(|_| Error::Internal(format!("reading a file broke off. file={name}")))??;
            let damaged =
                |error: std::io::Error| Error::BadData(format!("a file is damaged. file={name}: {error}"));
            let mut expand = Expand::of_name(&name).map_err(damaged)?;
            if matches!(expand, Expand::Plain(_)) {
                return Ok((name, bytes));
            }
            let mut input = &bytes[..];
            while !input.is_empty() {
                expand.feed(&mut input, most + 1).map_err(damaged)?;
                if expand.output().len() > most {
                    return Err(Error::BadData(format!("a file is too large. file={name}, most={most}")));
                }
            }
            expand.finish().map_err(damaged)?;
            Ok((name, Bytes::from(std::mem::take(expand.output()))))
        })
    }
}

/// The store of a folder, its path there, and whether it is a local disk; then it is below `roots`.
pub fn folder(spec: &FilesSpec, roots: &FilesRoots) -> Result<(Arc<dyn ObjectStore>, Path, bool)> {
    let (store, path, versioned) = open_store(spec)?;
    if !versioned {
        roots.check(&object_store::local::LocalFileSystem::new().path_to_filesystem(&path)?)?;
    }
    Ok((store, path, !versioned))
}
