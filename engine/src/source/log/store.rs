//! The file of a log, an embedded database: blocks of records by partition and first offset, and the ends of partitions.
//!
//! A commit is durable when it returns (redb syncs before), and all of it or nothing of it is there after a crash. Where
//! the disk was full nothing is lost, and the file is opened anew before anybody goes on. Any other failure may be one of a
//! sync, after which nobody knows what the disk has: then nothing is added until people have looked, and started again.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::block;
use crate::ids::Micros;
use crate::source::{BatchLimit, RawBatch};
use crate::{Error, Result};

/// (partition, first offset) → block.
const BLOCKS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("blocks");
/// partition → (first offset that is kept, offset of the next record).
const ENDS: TableDefinition<'_, u32, (u64, u64)> = TableDefinition::new("ends");

/// What is known of the whole.
const WHOLE: TableDefinition<'_, &str, u64> = TableDefinition::new("whole");
/// The bytes of all blocks.
const BYTES: &str = "bytes";
/// When the file was made.
const MADE: &str = "made";

/// Of the file in memory: what was written last is read at once, and little else is read.
const CACHE_BYTES: usize = 16 << 20;
/// Blocks that one commit deletes, at most: deleting must not hold up those who wait for theirs.
const TRIMMED_MAX: usize = 256;

pub(super) struct Store {
    path: PathBuf,
    /// `None` after a failure from which nobody has opened it again.
    database: Option<Database>,
}

/// What a commit does besides adding.
pub(super) struct Trim {
    /// Blocks that are older may go.
    pub before: Micros,
    /// More bytes of blocks than these need not be kept.
    pub bytes_over: u64,
    /// Nothing from these offsets on, by partition.
    pub below: Vec<i64>,
}

/// What is in the file.
pub(super) struct Content {
    pub ranges: Vec<Range<i64>>,
    /// Of all blocks.
    pub bytes: u64,
}

/// Why a commit was not made.
pub(super) struct Failed {
    pub error: Error,
    pub disk_is_full: bool,
}

impl Store {
    pub fn open(path: &Path) -> Result<Store> {
        let folder = path.parent().expect("a log has a folder");
        fs::create_dir_all(folder).map_err(|error| unreadable(path, &error.into()))?;
        let database = create(path)?;
        // The name lasts as well as what is behind it.
        let synced = [folder, folder.parent().unwrap_or(folder)]
            .iter()
            .try_for_each(|folder| fs::File::open(folder)?.sync_all());
        synced.map_err(|error| unreadable(path, &error.into()))?;
        Ok(Store { path: path.to_owned(), database: Some(database) })
    }

    fn database(&self) -> Result<&Database> {
        self.database.as_ref().ok_or_else(|| {
            Error::Unavailable(format!(
                "a log is closed since a commit failed. path={:?}",
                self.path.display()
            ))
        })
    }

    /// New partitions begin at 0.
    pub fn start(&self, partitions: u32) -> Result<Content> {
        self.doing(|database| {
            let work = database.begin_write()?;
            let mut ranges = vec![];
            let bytes;
            {
                // A reader finds its table even where nothing was ever added.
                work.open_table(BLOCKS)?;
                let mut ends = work.open_table(ENDS)?;
                for partition in 0..partitions {
                    let there = ends.get(partition)?.map(|there| there.value());
                    let (first, next) = there.unwrap_or((0, 0));
                    ends.insert(partition, (first, next))?;
                    ranges.push(first as i64..next as i64);
                }
                bytes = work.open_table(WHOLE)?.get(BYTES)?.map_or(0, |bytes| bytes.value());
            }
            work.commit()?;
            Ok(Content { ranges, bytes })
        })
    }

    /// Kept since the first call.
    pub fn made(&self, now: u64) -> Result<u64> {
        self.doing(|database| {
            let work = database.begin_write()?;
            let made = {
                let mut whole = work.open_table(WHOLE)?;
                let known = whole.get(MADE)?.map(|made| made.value());
                if known.is_none() {
                    whole.insert(MADE, now)?;
                }
                known.unwrap_or(now)
            };
            work.commit()?;
            Ok(made)
        })
    }

    /// Adds a block to each partition that has one, and lets go of old ones. Durable when it returns.
    pub fn commit(
        &self,
        blocks: &BTreeMap<u32, (u32, Vec<u8>)>,
        trim: Option<&Trim>,
    ) -> Result<Content, Failed> {
        let mut disk_is_full = false;
        let work = |database: &Database| {
            let mut work = database.begin_write()?;
            work.set_durability(Durability::Immediate).expect("no savepoint forbids it");
            let mut ranges = vec![];
            let mut bytes;
            {
                let mut whole = work.open_table(WHOLE)?;
                bytes = whole.get(BYTES)?.map_or(0, |bytes| bytes.value());
                let mut table = work.open_table(BLOCKS)?;
                let mut ends = work.open_table(ENDS)?;
                for (&partition, (count, block)) in blocks {
                    let (first, next) = ends.get(partition)?.map_or((0, 0), |ends| ends.value());
                    table.insert((partition, next), block.as_slice())?;
                    bytes += block.len() as u64;
                    ends.insert(partition, (first, next + u64::from(*count)))?;
                }
                if let Some(trim) = trim {
                    for (partition, freed, first) in old(&table, trim)? {
                        for offset in freed {
                            let gone = table.remove((partition, offset))?;
                            bytes -= gone.map_or(0, |block| block.value().len() as u64);
                        }
                        let next = ends.get(partition)?.map_or(0, |ends| ends.value().1);
                        ends.insert(partition, (first, next))?;
                    }
                }
                whole.insert(BYTES, bytes)?;
                for end in ends.iter()? {
                    let (first, next) = end?.1.value();
                    ranges.push(first as i64..next as i64);
                }
            }
            work.commit()?;
            Ok(Content { ranges, bytes })
        };
        let outcome = self.doing(|database| {
            work(database).inspect_err(|failure| {
                let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
                disk_is_full = matches!(failure, Failure::Store(redb::Error::Io(error)) if is_full(error));
            })
        });
        outcome.map_err(|error| Failed { error, disk_is_full })
    }

    /// Adds records of the partition from `from` on, up to the limit.
    pub fn read(
        &self,
        partition: u32,
        from: i64,
        mut take: impl FnMut(i64, block::Record<'_>) -> bool,
    ) -> Result<()> {
        let work = self.doing(|database| Ok(database.begin_read()?.open_table(BLOCKS)?))?;
        let failed = |error: redb::StorageError| unreadable(&self.path, &error.into());
        let at = (partition, from as u64);
        let begun =
            work.range((partition, 0)..=at).map_err(failed)?.next_back().transpose().map_err(failed)?;
        let begin = begun.map_or(at, |(key, _)| key.value());
        for found in work.range(begin..=(partition, u64::MAX)).map_err(failed)? {
            let (key, block) = found.map_err(failed)?;
            let first = key.value().1 as i64;
            for (offset, record) in (first..).zip(block::records(block.value())?) {
                if offset >= from && !take(offset, record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub fn close(&mut self) {
        self.database = None;
    }

    pub fn open_again(&mut self) -> Result<()> {
        // Two can't have it open.
        self.close();
        self.database = Some(create(&self.path)?);
        Ok(())
    }

    fn doing<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T> {
        work(self.database()?).map_err(|failure| match failure {
            Failure::Store(error) => unreadable(&self.path, &error),
            Failure::Ours(error) => error,
        })
    }
}

/// By partition the offsets of blocks that go, and the first that stays.
fn old(
    table: &impl ReadableTable<(u32, u64), &'static [u8]>,
    trim: &Trim,
) -> Result<Vec<(u32, Vec<u64>, u64)>, Failure> {
    let mut gone = vec![];
    let (mut left, mut over) = (TRIMMED_MAX, trim.bytes_over);
    for (partition, &below) in (0..).zip(&trim.below) {
        let mut freed = vec![];
        let mut first = None;
        for found in table.range((partition, 0)..(partition + 1, 0))? {
            let (key, block) = found?;
            let (offset, block) = (key.value().1, block.value());
            let end = offset as i64 + i64::from(block::count(block).map_err(Failure::Ours)?);
            let came = block::timestamp(block).map_err(Failure::Ours)?;
            let goes = end <= below && (over > 0 || came < trim.before);
            if !goes || left == 0 {
                break;
            }
            (left, over) = (left - 1, over.saturating_sub(block.len() as u64));
            freed.push(offset);
            first = Some(end as u64);
        }
        gone.extend(first.map(|first| (partition, freed, first)));
    }
    Ok(gone)
}

/// Puts what a reader takes into a batch, up to the limit.
pub(super) fn into_batch(
    batch: &mut RawBatch,
    partition: crate::ids::PartitionId,
    with_keys: bool,
    limit: BatchLimit,
) -> impl FnMut(i64, block::Record<'_>) -> bool {
    move |offset, record| {
        batch.push(partition, offset, record.timestamp, Some(record.value));
        if with_keys {
            batch.push_key(record.key);
        }
        !limit.reached_by(batch)
    }
}

fn create(path: &Path) -> Result<Database> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.create(path).map_err(|error| unreadable(path, &error.into()))
}

fn unreadable(path: &Path, error: &redb::Error) -> Error {
    let text = format!("a log can't be read or written. path={:?}, reason={error}", path.display());
    match error {
        redb::Error::Corrupted(_) => Error::BadData(text),
        _ => Error::Unavailable(text),
    }
}

enum Failure {
    Store(redb::Error),
    Ours(Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Store(error.into())
    }
}
