//! State on its way to storage and back: batches with the cut and the panes they belong to, in one section of a file.
//!
//! ```text
//! magic "thalwegS" | version u32 | sections u32 | section… | xxh3 of all before, u64      (little endian)
//! section = labels u32 | label… | length u64 | Arrow IPC stream of that many batches
//! label   = index u32 | cut u32 | after i64 | panes u32 | (start i64, rows u32)…
//! ```
//! Batches of one schema share a section, so a file holds the partials of several cuts. Nothing is trusted on the way
//! back: size, hash, magic, version and every length are checked before Arrow sees a byte (INV-C10).

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::data::DataRoot;
use super::failpoint::Step;
use super::manifest::StateFile;
use crate::view::part::{PaneRows, Part};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"thalwegS";
const VERSION: u32 = 2;
const HASH_BYTES: usize = 8;

/// Durable once it returns, in a file of its own. `path` is of [`FileNames::state`](super::FileNames::state).
pub async fn write_batches(root: &DataRoot, path: String, batches: &[Part]) -> Result<StateFile> {
    let bytes = encode(batches)?;
    let file = section(path, 0, &bytes, batches);
    put(root, &file.path, bytes).await?;
    Ok(file)
}

/// In the order in which they were written.
pub async fn read_batches(root: &DataRoot, file: &StateFile) -> Result<Vec<Part>> {
    read_section(&whole(root, file).await?, file)
}

/// Bytes that lie in a file from `offset` on, and hold these batches.
pub(super) fn section(path: String, offset: u64, bytes: &Bytes, batches: &[Part]) -> StateFile {
    let rows = batches.iter().map(|labelled| labelled.batch.num_rows() as u64).sum();
    StateFile { path, offset, bytes: bytes.len() as u64, rows, hash: xxh3_64(bytes) }
}

pub(super) async fn put(root: &DataRoot, path: &str, bytes: Bytes) -> Result<()> {
    root.failpoints().hit(Step::StateFileAbsent);
    root.put(path, bytes).await?;
    root.failpoints().hit(Step::StateFileDurable);
    Ok(())
}

/// All that lies in the file of a section.
pub(super) async fn whole(root: &DataRoot, file: &StateFile) -> Result<Bytes> {
    match root.get(&file.path).await {
        Err(object_store::Error::NotFound { .. }) => Err(bad(file, "it is missing")),
        other => Ok(other?),
    }
}

pub(super) fn read_section(whole: &Bytes, file: &StateFile) -> Result<Vec<Part>> {
    let end = file.offset.saturating_add(file.bytes);
    if end > whole.len() as u64 {
        return Err(bad(file, &format!("it has {} bytes, and {end} are named", whole.len())));
    }
    let bytes = whole.slice(file.offset as usize..end as usize);
    if xxh3_64(&bytes) != file.hash {
        return Err(bad(file, "its bytes are not those that were written"));
    }
    let batches = decode(&bytes).map_err(|wrong| bad(file, &wrong))?;
    let rows: u64 = batches.iter().map(|labelled| labelled.batch.num_rows() as u64).sum();
    if rows != file.rows {
        return Err(bad(file, &format!("it has {rows} rows, not {}", file.rows)));
    }
    Ok(batches)
}

fn bad(file: &StateFile, wrong: &str) -> Error {
    Error::BadData(format!(
        "cannot read a state file. path=\"{}\", offset={}: {wrong}",
        file.path, file.offset
    ))
}

pub(super) fn encode(batches: &[Part]) -> Result<Bytes> {
    let mut sections: Vec<(SchemaRef, Vec<usize>)> = Vec::new();
    for (index, labelled) in batches.iter().enumerate() {
        let schema = labelled.batch.schema_ref();
        match sections.iter_mut().find(|(known, _)| Arc::ptr_eq(known, schema) || known == schema) {
            Some((_, indices)) => indices.push(index),
            None => sections.push((Arc::clone(schema), vec![index])),
        }
    }
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&count(sections.len())?.to_le_bytes());
    for (schema, indices) in sections {
        encode_section(batches, &schema, &indices, &mut out)?;
    }
    let hash = xxh3_64(&out);
    out.extend_from_slice(&hash.to_le_bytes());
    Ok(Bytes::from(out))
}

fn encode_section(batches: &[Part], schema: &SchemaRef, indices: &[usize], out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(&count(indices.len())?.to_le_bytes());
    for &index in indices {
        out.extend_from_slice(&count(index)?.to_le_bytes());
        out.extend_from_slice(&batches[index].cut.to_le_bytes());
        out.extend_from_slice(&batches[index].after.to_le_bytes());
        out.extend_from_slice(&count(batches[index].panes.len())?.to_le_bytes());
        for pane in batches[index].panes.iter() {
            out.extend_from_slice(&pane.start.to_le_bytes());
            out.extend_from_slice(&pane.rows.to_le_bytes());
        }
    }
    let length_at = out.len();
    out.extend_from_slice(&[0; 8]);
    // Of 100,000 partials by a string key: LZ4 halves them in 6 ms, ZSTD quarters them in 5 ms.
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = StreamWriter::try_new_with_options(&mut *out, schema, options)?;
    for &index in indices {
        writer.write(&without_unused_buffers(&batches[index].batch)?)?;
    }
    writer.finish()?;
    drop(writer);
    let length = (out.len() - length_at - 8) as u64;
    out[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn count(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::Internal(format!("a state file of too many batches. batches={n}")))
}

fn without_unused_buffers(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(compact).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

/// A view array drags whole decode buffers along, of which it may use a few bytes; so do the lists and structs that an
/// accumulator keeps views in.
fn compact(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
            let values = list.values().slice(first as usize, (last - first) as usize);
            let offsets = OffsetBuffer::from_lengths(list.offsets().lengths());
            Arc::new(ListArray::new(Arc::clone(item), offsets, compact(&values), list.nulls().cloned()))
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let columns = array.as_struct().columns().iter().map(compact).collect();
            Arc::new(StructArray::new(fields.clone(), columns, array.nulls().cloned()))
        }
        _ => Arc::clone(array),
    }
}

fn decode(bytes: &Bytes) -> Result<Vec<Part>, String> {
    let hash_at = bytes.len().checked_sub(HASH_BYTES).ok_or("it is too short")?;
    let mut body = Reader { bytes: bytes.slice(..hash_at) };
    if bytes[hash_at..] != xxh3_64(&body.bytes).to_le_bytes() {
        return Err("its checksum is wrong".to_string());
    }
    if body.take(MAGIC.len())?[..] != MAGIC[..] {
        return Err("it is no state file".to_string());
    }
    let version = body.u32()?;
    if version != VERSION {
        return Err(format!("its version is {version}, this version reads {VERSION}"));
    }
    let mut batches = Vec::new();
    for _ in 0..body.u32()? {
        decode_section(&mut body, &mut batches)?;
    }
    if !body.bytes.is_empty() {
        return Err("something follows its last section".to_string());
    }
    batches.sort_by_key(|(index, _)| *index);
    if batches.iter().enumerate().any(|(at, (index, _))| at != *index as usize) {
        return Err("a batch is missing or there twice".to_string());
    }
    Ok(batches.into_iter().map(|(_, labelled)| labelled).collect())
}

fn decode_section(body: &mut Reader, batches: &mut Vec<(u32, Part)>) -> Result<(), String> {
    let mut labels = Vec::new();
    for _ in 0..body.u32()? {
        labels.push((body.u32()?, body.u32()?, body.i64()?, body.panes()?));
    }
    let length = usize::try_from(body.i64()?).map_err(|_| "a section's length is wrong")?;
    let stream = body.take(length)?;
    let mut reader = StreamReader::try_new(Cursor::new(stream), None).map_err(|error| error.to_string())?;
    for (index, cut, after, panes) in labels {
        let batch =
            reader.next().ok_or("a section has too few batches")?.map_err(|error| error.to_string())?;
        if panes.iter().map(|pane| pane.rows as usize).sum::<usize>() != batch.num_rows() {
            return Err("the panes of a batch have not its rows".to_string());
        }
        batches.push((index, Part::new(cut, after, batch, panes)));
    }
    match reader.next() {
        Some(_) => Err("a section has too many batches".to_string()),
        None => Ok(()),
    }
}

struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take(&mut self, n: usize) -> Result<Bytes, String> {
        if n > self.bytes.len() {
            return Err("it ends too early".to_string());
        }
        Ok(self.bytes.split_to(n))
    }

    fn panes(&mut self) -> Result<Arc<[PaneRows]>, String> {
        // A wrong count meets the end of the file before it meets the end of memory.
        (0..self.u32()?).map(|_| Ok(PaneRows { start: self.i64()?, rows: self.u32()? })).collect()
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, ListBuilder, StringViewArray, StringViewBuilder};
    use arrow::datatypes::Field;
    use object_store::memory::InMemory;

    use super::*;
    use crate::ErrorKind;

    fn root() -> DataRoot {
        DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap())
    }

    fn numbers(name: &str, values: Vec<i64>) -> RecordBatch {
        RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(values)) as ArrayRef)]).unwrap()
    }

    fn rows(start: i64, rows: u32) -> PaneRows {
        PaneRows { start, rows }
    }

    fn sample() -> Vec<Part> {
        let long = "a string that is longer than twelve bytes";
        let strings: ArrayRef = Arc::new(StringViewArray::from(vec![Some(long), None, Some("x")]));
        vec![
            Part::new(0, 120, numbers("n", vec![1, 2, 3]), Arc::new([rows(-60, 1), rows(0, 2)])),
            Part::of_one_pane(0, 1, RecordBatch::try_from_iter([("s", strings)]).unwrap()),
            Part::of_one_pane(60, 0, numbers("n", vec![])),
            Part::of_one_pane(i64::MAX, 7, numbers("n", vec![3]).slice(0, 1)),
        ]
    }

    #[tokio::test]
    async fn batches_of_several_schemas_come_back_in_order() {
        let root = root();
        for batches in [sample(), Vec::new()] {
            let file = write_batches(&root, "state/f".to_string(), &batches).await.unwrap();
            assert_eq!(read_batches(&root, &file).await.unwrap(), batches);
        }
    }

    #[tokio::test]
    async fn every_flipped_byte_and_every_cut_is_noticed() {
        let root = root();
        let file = write_batches(&root, "state/f".to_string(), &sample()).await.unwrap();
        let whole = root.get("state/f").await.unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.to_vec();
            torn[at] ^= 0x10;
            root.put("state/f", Bytes::from(torn.clone())).await.unwrap();
            let error = read_batches(&root, &file).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadData);
            assert!(error.to_string().contains("state/f"), "{error}");
            decode(&Bytes::from(torn)).unwrap_err();
            decode(&whole.slice(..at)).unwrap_err();
        }
    }

    #[test]
    fn a_wrong_length_under_a_right_checksum_is_an_error_and_no_panic() {
        let whole = encode(&sample()).unwrap();
        // Up to the first section's stream, which Arrow reads; it relies on the checksum.
        let framing = MAGIC.len() + 3 * 4 + 3 * 20 + 4 * 12 + 8;
        for at in 0..framing {
            let mut wrong = whole[..whole.len() - HASH_BYTES].to_vec();
            wrong[at] = wrong[at].wrapping_add(1);
            let hash = xxh3_64(&wrong);
            wrong.extend_from_slice(&hash.to_le_bytes());
            // Some changes are legal (a label's pane); none may crash.
            let _ = decode(&Bytes::from(wrong));
        }
    }

    #[test]
    fn unused_string_buffers_are_left_behind() {
        let long: Vec<String> = (0..1000).map(|i| format!("{:0>100}", i * 7919)).collect();
        let mut list = ListBuilder::new(StringViewBuilder::new());
        for (i, text) in long.iter().enumerate() {
            list.values().append_value(text);
            list.append(i % 5 > 0);
        }
        let list: ArrayRef = Arc::new(list.finish());
        let strings: ArrayRef = Arc::new(StringViewArray::from_iter_values(&long));
        let within: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("inner", DataType::Utf8View, true)),
            Arc::clone(&strings),
        )]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("strings", strings, true),
            ("list", list, true),
            ("within", within, true),
        ]);
        let batch = batch.unwrap().slice(499, 3);
        let labelled = Part::of_one_pane(0, 0, batch);
        let bytes = encode(std::slice::from_ref(&labelled)).unwrap();
        assert!(bytes.len() < 5000, "{} bytes for three short rows", bytes.len());
        assert_eq!(decode(&bytes).unwrap(), [labelled]);
    }
}
