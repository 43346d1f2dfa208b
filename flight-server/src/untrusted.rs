//! IPC messages of a client: what they declare is checked before any of it is decoded, so that a length is never
//! believed that is not there (INV-27).
//!
//! Arrow's reader allocates what a compressed buffer says it will become, and slices where a message says its buffers lie.
//! Here all of that is held against the bytes that have come. What is left for Arrow to find is an error.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::{Message, MessageHeader, RecordBatch as Declared, root_as_message};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;

/// Of the description of one message: its schema, or where its buffers lie.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// A statement has so many parameters at most.
const COLUMNS_MAX: usize = 1000;
/// Lists in structs in lists.
const DEPTH_MAX: usize = 8;

/// What may come in all of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub rows: usize,
    /// Once it is decompressed.
    pub bytes: usize,
}

/// The messages of one stream, one after the other.
pub(crate) struct Reader {
    left: Bounds,
    bounds: Bounds,
    schema: Option<SchemaRef>,
}

impl Reader {
    pub fn new(bounds: Bounds) -> Reader {
        Reader { left: bounds, bounds, schema: None }
    }

    /// The rows of one message, if it has any.
    pub fn take(&mut self, data: FlightData) -> Result<Option<RecordBatch>, String> {
        if data.data_header.is_empty() {
            return Ok(None);
        }
        if data.data_header.len() > HEADER_BYTES_MAX {
            return Err(format!("a message is described by too much. bytes_max={HEADER_BYTES_MAX}"));
        }
        let message =
            root_as_message(&data.data_header).map_err(|error| format!("no IPC message: {error}"))?;
        let told = message.bodyLength();
        if usize::try_from(told) != Ok(data.data_body.len()) {
            return Err(format!(
                "a message says that it is of another length than it is. says={told}, is={}",
                data.data_body.len()
            ));
        }
        match message.header_type() {
            MessageHeader::Schema => self.take_schema(&message).map(|()| None),
            MessageHeader::RecordBatch => self.take_rows(&message, &data).map(Some),
            _ => Err("values come as they are, and not by dictionary".to_owned()),
        }
    }

    fn take_schema(&mut self, message: &Message<'_>) -> Result<(), String> {
        let declared = message.header_as_schema().ok_or("a schema is missing")?;
        if declared.fields().is_some_and(|fields| fields.len() > COLUMNS_MAX) {
            return Err(format!("too many parameters. most={COLUMNS_MAX}"));
        }
        let schema: Schema = unharmed(|| Ok(fb_to_schema(declared)))?;
        schema.fields().iter().try_for_each(|field| check_type(field, DEPTH_MAX))?;
        self.schema = Some(Arc::new(schema));
        Ok(())
    }

    fn take_rows(&mut self, message: &Message<'_>, data: &FlightData) -> Result<RecordBatch, String> {
        let schema = self.schema.clone().ok_or("rows come before their schema")?;
        let declared = message.header_as_record_batch().ok_or("a batch is missing")?;
        self.check(&declared, &data.data_body)?;
        let body = Buffer::from(data.data_body.clone());
        unharmed(|| {
            read_record_batch(&body, declared, schema, &HashMap::new(), None, &message.version())
                .map_err(|error| error.to_string())
        })
    }

    fn check(&mut self, declared: &Declared<'_>, body: &[u8]) -> Result<(), String> {
        let rows = usize::try_from(declared.length()).map_err(|_| "a batch has fewer rows than none")?;
        self.left.rows = self
            .left
            .rows
            .checked_sub(rows)
            .ok_or_else(|| format!("too many rows of parameters. most={}", self.bounds.rows))?;
        for node in declared.nodes().into_iter().flatten() {
            // Of a list the elements, so they may be more than the rows; and no more than bytes.
            let most = i64::try_from(self.bounds.bytes.saturating_mul(8)).unwrap_or(i64::MAX);
            if !(0..=most).contains(&node.length()) || !(0..=node.length()).contains(&node.null_count()) {
                return Err(format!("a column can't be so long. length={}", node.length()));
            }
        }
        let buffers = declared.buffers();
        let count = buffers.map_or(0, |buffers| buffers.len());
        let views: i64 = declared.variadicBufferCounts().into_iter().flatten().map(|it| it.max(0)).sum();
        if usize::try_from(views).map_or(true, |views| views > count) {
            return Err("a message counts buffers that it does not have".to_owned());
        }
        let is_compressed = declared.compression().is_some();
        for buffer in buffers.into_iter().flatten() {
            let inside = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
            let bytes = inside
                .and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?))
                .ok_or_else(|| {
                    format!(
                        "a buffer lies outside of its message. offset={}, length={}, message={}",
                        buffer.offset(),
                        buffer.length(),
                        body.len()
                    )
                })?;
            let becomes = match bytes.first_chunk::<8>() {
                Some(length) if is_compressed => match i64::from_le_bytes(*length) {
                    // It is as it is.
                    -1 => bytes.len() - 8,
                    length => usize::try_from(length).map_err(|_| "a buffer becomes shorter than nothing")?,
                },
                _ => bytes.len(),
            };
            self.left.bytes =
                self.left.bytes.checked_sub(becomes).ok_or_else(|| {
                    format!("the parameters are too large. bytes_max={}", self.bounds.bytes)
                })?;
        }
        Ok(())
    }
}

/// A panic over what a stranger sent is what is wrong with it.
fn unharmed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("no Arrow data".to_owned()))
}

/// Types whose values take the room that they declare, and no more.
fn check_type(field: &Field, depth: usize) -> Result<(), String> {
    let kind = field.data_type();
    let deeper = |fields: &[&Arc<Field>]| match depth.checked_sub(1) {
        Some(depth) => fields.iter().try_for_each(|field| check_type(field, depth)),
        None => Err(format!("a parameter is nested too deeply. levels_max={DEPTH_MAX}")),
    };
    match kind {
        DataType::List(item) | DataType::LargeList(item) => deeper(&[item]),
        DataType::Struct(fields) => deeper(&fields.iter().collect::<Vec<_>>()),
        DataType::FixedSizeBinary(size) if (0..=4096).contains(size) => Ok(()),
        kind if kind.is_primitive()
            || kind.is_string()
            || kind.is_binary()
            || matches!(kind, DataType::Null | DataType::Boolean) =>
        {
            Ok(())
        }
        kind => Err(format!("a parameter can't be of type {kind}; send plain values, or lists of them")),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::Int64Type;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
    use arrow_flight::SchemaAsIpc;

    use super::*;

    const BOUNDS: Bounds = Bounds { rows: 100, bytes: 64 << 10 };

    fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
        let text = |n: i64| (n % 3 > 0).then(|| "x".repeat(n as usize));
        let texts: ArrayRef = Arc::new((0..50).map(text).collect::<StringArray>());
        let views: ArrayRef = Arc::new((0..50).map(text).collect::<StringViewArray>());
        RecordBatch::try_from_iter_with_nullable([
            ("a", numbers, true),
            ("b", texts, true),
            ("c", views, true),
        ])
        .unwrap()
    }

    fn messages(batch: &RecordBatch, compression: Option<CompressionType>) -> [FlightData; 2] {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let (_, rows) = IpcDataGenerator::default()
            .encode(batch, &mut DictionaryTracker::new(true), &options, &mut IpcWriteContext::default())
            .unwrap();
        [FlightData::from(SchemaAsIpc::new(&batch.schema(), &options)), rows.into()]
    }

    fn read(messages: &[FlightData]) -> Result<Vec<RecordBatch>, String> {
        let mut reader = Reader::new(BOUNDS);
        let taken = messages.iter().map(|message| reader.take(message.clone()));
        taken.filter_map(Result::transpose).collect()
    }

    #[test]
    fn what_is_as_it_says_is_read() {
        for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            assert_eq!(read(&messages(&batch(), compression)).unwrap(), [batch()]);
        }
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_decoded() {
        let [schema, rows] = messages(&batch(), None);
        let many = [schema.clone(), rows.clone(), rows.clone(), rows];
        assert!(read(&many).unwrap_err().contains("too many rows"));
        let zeros = StringArray::from(vec!["0".repeat(100 << 10)]);
        let zeros = RecordBatch::try_from_iter([("a", Arc::new(zeros) as ArrayRef)]).unwrap();
        let small = messages(&zeros, Some(CompressionType::ZSTD));
        assert!(small[1].data_body.len() < 4096);
        assert!(read(&small).unwrap_err().contains("too large"));
        let wide = Schema::new(
            (0..1001).map(|n| Field::new(format!("c{n}"), DataType::Null, true)).collect::<Vec<_>>(),
        );
        let wide = FlightData::from(SchemaAsIpc::new(&wide, &IpcWriteOptions::default()));
        assert!(read(&[wide]).is_err());
        let vast = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Int64, true)), i32::MAX);
        let vast = Schema::new(vec![Field::new("a", vast, true)]);
        let vast = FlightData::from(SchemaAsIpc::new(&vast, &IpcWriteOptions::default()));
        assert!(read(&[vast]).unwrap_err().contains("can't be of type"));
    }

    /// Each byte of each message, changed in several ways: an answer or a refusal, within the bounds.
    #[test]
    fn no_byte_can_be_changed_to_harm() {
        for compression in [None, Some(CompressionType::LZ4_FRAME)] {
            let [schema, rows] = messages(&batch(), compression);
            let mut read_all_the_same = 0;
            for at in 0..rows.data_header.len() + rows.data_body.len() {
                for change in [0xff, 0x01, 0x80, 0x40] {
                    let (mut header, mut body) = (rows.data_header.to_vec(), rows.data_body.to_vec());
                    match at.checked_sub(header.len()) {
                        None => header[at] ^= change,
                        Some(at) => body[at] ^= change,
                    }
                    let changed =
                        FlightData { data_header: header.into(), data_body: body.into(), ..rows.clone() };
                    if let Ok(batches) = read(&[schema.clone(), changed]) {
                        // What was read can be looked at.
                        let sums = batches.iter().map(|batch| {
                            batch.column(0).as_primitive_opt::<Int64Type>().map_or(0, |column| column.len())
                        });
                        read_all_the_same += usize::from(sums.sum::<usize>() <= BOUNDS.rows);
                    }
                }
            }
            assert!(read_all_the_same > 0);
            for at in 0..schema.data_header.len() {
                for change in [0xff, 0x01, 0x80, 0x40] {
                    let mut header = schema.data_header.to_vec();
                    header[at] ^= change;
                    _ = read(&[FlightData { data_header: header.into(), ..schema.clone() }, rows.clone()]);
                }
            }
        }
    }
}
