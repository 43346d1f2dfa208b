//! What one commit adds to one partition, as it is kept: the records in their order, and a hash of all of it.
//!
//! ```text
//! form u8 │ count u32 │ (timestamp i64, key length u32 or MAX without one, value length u32, key, value) × count │ hash u64
//! ```

use crate::collect::Outgoing;
use crate::ids::Micros;
use crate::{Error, Result};

const FORM: u8 = 1;
const NO_KEY: u32 = u32::MAX;
const HASH_BYTES: usize = 8;
const HEAD_BYTES: usize = 5;

pub(super) struct Record<'a> {
    pub timestamp: Micros,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
}

#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    count: u32,
}

impl Writer {
    pub fn push(&mut self, timestamp: Micros, record: &Outgoing) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD_BYTES, 0);
        }
        self.count += 1;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a request is smaller than 4 GiB");
        self.bytes.extend_from_slice(&timestamp.to_le_bytes());
        self.bytes.extend_from_slice(&record.key.as_deref().map_or(NO_KEY, length).to_le_bytes());
        self.bytes.extend_from_slice(&length(&record.value).to_le_bytes());
        self.bytes.extend_from_slice(record.key.as_deref().unwrap_or_default());
        self.bytes.extend_from_slice(&record.value);
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[0] = FORM;
        self.bytes[1..HEAD_BYTES].copy_from_slice(&self.count.to_le_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64(&self.bytes);
        self.bytes.extend_from_slice(&hash.to_le_bytes());
        self.bytes
    }
}

/// The records of a block, which is checked as a whole first.
pub(super) fn records(block: &[u8]) -> Result<impl Iterator<Item = Record<'_>>> {
    let count = count(block)?;
    let (content, hash) = block.split_at(block.len() - HASH_BYTES);
    if xxhash_rust::xxh3::xxh3_64(content).to_le_bytes() != hash {
        return Err(damaged("its hash is another"));
    }
    let mut rest = &content[HEAD_BYTES..];
    // The hash vouches for the lengths.
    let mut take = move |length: usize| {
        let (taken, left) = rest.split_at(length);
        rest = left;
        taken
    };
    Ok((0..count).map(move |_| {
        let timestamp = i64::from_le_bytes(take(8).try_into().expect("eight bytes"));
        let mut length = || u32::from_le_bytes(take(4).try_into().expect("four bytes"));
        let (key, value) = (length(), length());
        let key = (key != NO_KEY).then(|| take(key as usize));
        Record { timestamp, key, value: take(value as usize) }
    }))
}

/// How many records there are, of a block that is whole.
pub(super) fn count(block: &[u8]) -> Result<u32> {
    if block.len() < HEAD_BYTES + HASH_BYTES || block[0] != FORM {
        return Err(damaged("it has another form"));
    }
    Ok(u32::from_le_bytes(block[1..HEAD_BYTES].try_into().expect("four bytes")))
}

/// When the newest record came: records of one commit have one timestamp, so it is the first one's.
pub(super) fn timestamp(block: &[u8]) -> Result<Micros> {
    count(block)?;
    let bytes = block.get(HEAD_BYTES..HEAD_BYTES + 8).ok_or_else(|| damaged("it has no record"))?;
    Ok(i64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

fn damaged(how: &str) -> Error {
    Error::BadData(format!("a block of a log is damaged. reason={how:?}"))
}
