//! Tables of files: CSV, JSON, Parquet or a Delta table, read whole into the declared columns.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, and, cast, cast_with_options, concat_batches, is_null, or};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use deltalake_core::DeltaTable;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use url::Url;

use super::content::Content;
use super::keeper::Sources;
use crate::job::{Intake, RefusedRows};
use crate::source::{self, BatchLimit, Polled, RawBatch, Reading, WholeFiles, folder};
use crate::spec::{FileFormat, FilesSpec, LookupSpec, SourceSpec};
use crate::{Error, Result};

const BATCH_ROWS: usize = 8192;

/// What the files hold now; `None` if that is what `known` was made of.
pub fn load(
    spec: &LookupSpec,
    files: &FilesSpec,
    format: FileFormat,
    sources: &Sources,
    known: &str,
) -> Result<Option<Content>> {
    let files = &FilesSpec { properties: sources.secrets.resolve(&files.properties)?, ..files.clone() };
    let (batches, version) = match format {
        FileFormat::Delta => match delta(spec, files, sources, known)? {
            Some(loaded) => loaded,
            None => return Ok(None),
        },
        FileFormat::Csv | FileFormat::Json | FileFormat::Parquet => {
            let found = WholeFiles::find(files, &sources.roots)?;
            let version = found.version();
            if version == known {
                return Ok(None);
            }
            refuse_larger(spec, found.bytes() as usize)?;
            let mut batches = vec![];
            if format == FileFormat::Json {
                batches = json(spec, files, sources)?;
            } else {
                for file in found.read(spec.bytes_max) {
                    let (name, bytes) = file?;
                    let read =
                        if format == FileFormat::Csv { of_csv(spec, bytes) } else { of_parquet(bytes) };
                    let columns = read.and_then(|read| declared(spec, read, &[]));
                    batches.extend(columns.map_err(|error| of_file(&name, &error))?);
                    refuse_larger(spec, batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
                }
            }
            (batches, version)
        }
    };
    let rows = concat_batches(&spec.schema, &batches)?;
    refuse_larger(spec, rows.get_array_memory_size())?;
    Content::new(rows, &spec.key, version).map(Some)
}

fn refuse_larger(spec: &LookupSpec, bytes: usize) -> Result<()> {
    match bytes > spec.bytes_max {
        true => Err(too_large(spec, bytes)),
        false => Ok(()),
    }
}

pub(super) fn too_large(spec: &LookupSpec, bytes: usize) -> Error {
    Error::BadData(format!(
        "the table is larger than size_max, and is kept in memory; declare fewer columns, or raise size_max. table={:?}, \
         bytes={bytes}, size_max={}",
        spec.name, spec.bytes_max
    ))
}

fn of_file(name: &str, error: &Error) -> Error {
    Error::BadData(format!("a file of the table can't be read. file={name}: {error}"))
}

/// By the names of the header. What is empty is NULL.
/// The line on which a quote begins that is never closed: half a file, or a mistake that swallows what follows.
fn unclosed_quote(text: &[u8]) -> Option<usize> {
    let (mut quoted, mut begins, mut line, mut opened) = (false, true, 1, 1);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' if quoted && text.get(at + 1) == Some(&b'"') => at += 1,
            b'"' if quoted => quoted = false,
            b'"' if begins => (quoted, opened) = (true, line),
            _ => {}
        }
        begins = matches!(byte, b',' | b'\n' | b'\r') && !quoted;
        line += usize::from(byte == b'\n');
        at += 1;
    }
    quoted.then_some(opened)
}

fn of_csv(spec: &LookupSpec, bytes: Bytes) -> Result<Vec<RecordBatch>> {
    if let Some(line) = unclosed_quote(&bytes) {
        return Err(Error::BadData(format!("a quote is never closed. line={line}")));
    }
    let format = csv::reader::Format::default().with_header(true);
    let wrong = |error: ArrowError| Error::BadData(error.to_string());
    let (found, _) = format.infer_schema(Cursor::new(&bytes), Some(0)).map_err(wrong)?;
    let names: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
    let is_twice = |name: &&&str| names.iter().filter(|other| other == name).count() > 1;
    if let Some(twice) = names.iter().filter(|name| spec.schema.index_of(name).is_ok()).find(is_twice) {
        return Err(Error::BadData(format!("its header names column {twice:?} twice")));
    }
    // Cast afterwards, as what comes of other files is.
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    let reader = csv::ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_header(true)
        .with_batch_size(BATCH_ROWS)
        .build_buffered(Cursor::new(bytes))
        .map_err(wrong)?;
    reader.collect::<std::result::Result<_, _>>().map_err(wrong)
}

fn of_parquet(bytes: Bytes) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(BATCH_ROWS).build()?;
    Ok(reader.collect::<std::result::Result<_, _>>()?)
}

/// A record a line, as a stream reads them; here one that is none makes the whole unreadable.
fn json(spec: &LookupSpec, files: &FilesSpec, sources: &Sources) -> Result<Vec<RecordBatch>> {
    const WITHIN: Duration = Duration::from_secs(1);
    let stream = spec.records(SourceSpec::Files(files.clone()));
    let mut intake = Intake::whole(&stream)?;
    let mut discovery = source::open(&stream.source, &sources.secrets, &sources.roots, &sources.logs)?;
    let starts: Vec<_> =
        discovery.partitions()?.iter().map(|range| (range.partition, range.first).into()).collect();
    let mut reader = discovery.open(&starts, Reading::little(false))?;
    let limit = BatchLimit { rows: BATCH_ROWS, bytes: 4 << 20 };
    let mut batches: Vec<RecordBatch> = vec![];
    let (mut bytes, mut before) = (0, 0);
    loop {
        let mut raw = RawBatch::default();
        match reader.poll(&mut raw, limit, WITHIN)? {
            Polled::Records { .. } => {}
            Polled::Ended(_) => return Ok(batches),
            Polled::AtEnd { .. } | Polled::Nothing => continue,
        }
        let mut left = Some(raw);
        while let Some(mut raw) = left {
            let mut refused = RefusedRows::default();
            let (accepted, rest) = intake.accept(&mut raw, &mut refused)?;
            if let (Some(row), Some(reason)) = (accepted.rejected.first(), refused.first_reason()) {
                let row = before + *row as usize + 1;
                return Err(Error::BadData(format!("record {row} of the table's files is none: {reason}")));
            }
            before += raw.len();
            bytes += accepted.batch.get_array_memory_size();
            refuse_larger(spec, bytes)?;
            let batch = RecordBatch::try_new(Arc::clone(&spec.schema), accepted.batch.columns().to_vec())?;
            batches.push(batch);
            left = rest;
        }
    }
}

/// The declared columns of what a file has; `constant` are columns that its folder tells.
fn declared(
    spec: &LookupSpec,
    batches: Vec<RecordBatch>,
    constant: &[(String, Option<String>)],
) -> Result<Vec<RecordBatch>> {
    let mut before = 0;
    let batch = |batch: RecordBatch| {
        let column = |field: &Arc<Field>| -> Result<ArrayRef> {
            let told = constant.iter().find(|(name, _)| name == field.name()).map(|(_, value)| value);
            let found = match (batch.column_by_name(field.name()), told) {
                (Some(column), _) => Arc::clone(column),
                (None, Some(Some(value))) => {
                    Arc::new(StringArray::from(vec![value.as_str(); batch.num_rows()])) as ArrayRef
                }
                (None, Some(None)) => new_null_array(field.data_type(), batch.num_rows()),
                (None, None) => {
                    let schema = batch.schema();
                    let has: Vec<&str> = schema.fields().iter().map(|it| it.name().as_str()).collect();
                    return Err(Error::BadData(format!(
                        "it has no column {:?}; it has {}",
                        field.name(),
                        has.join(", ")
                    )));
                }
            };
            let other = |what: String| {
                let name = field.name();
                Error::BadData(format!("column {name:?} is not what the table declares: {what}"))
            };
            let (column, changed) = as_declared(&found, field.data_type()).map_err(other)?;
            if let Some(row) = (0..changed.len()).find(|row| changed.value(*row)) {
                let shown = ArrayFormatter::try_new(&found, &FormatOptions::default())?;
                return Err(other(format!(
                    "in row {}, {} is no {}",
                    before + row + 1,
                    shown.value(row),
                    field.data_type()
                )));
            }
            Ok(column)
        };
        let columns = spec.schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        before += batch.num_rows();
        Ok(RecordBatch::try_new(Arc::clone(&spec.schema), columns)?)
    };
    batches.into_iter().map(batch).collect()
}

/// A column in the declared type, and in which rows it would be another value.
fn as_declared(
    found: &ArrayRef,
    declared: &DataType,
) -> std::result::Result<(ArrayRef, BooleanArray), String> {
    let none = || BooleanArray::from(vec![false; found.len()]);
    if found.data_type() == declared {
        return Ok((Arc::clone(found), none()));
    }
    if let Some(lacking) = lacks(found.data_type(), declared) {
        return Err(format!("it has no field {lacking:?}"));
    }
    let text = |error: ArrowError| error.to_string();
    if declared.is_nested() {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        return Ok((cast_with_options(found, declared, &strict).map_err(text)?, none()));
    }
    // What can't be cast is NULL, and another value for that.
    let column = cast(found, declared).map_err(text)?;
    let changed = match (found.data_type(), declared) {
        (DataType::Utf8, DataType::Decimal128(_, scale)) => {
            // Digits behind those that are declared are rounded off.
            let more = DataType::Decimal256(76, scale.saturating_add(18));
            let exact = cast(found, &more).map_err(text)?;
            let rounded = distinct(&exact, &cast(&column, &more).map_err(text)?).map_err(text)?;
            or(&rounded, &unreadable(&column, found).map_err(text)?)
        }
        (DataType::Utf8, DataType::Date32) => {
            // An instant is read as its day.
            let longer =
                found.as_string::<i32>().iter().map(|it| Some(it.is_some_and(|it| it.trim().len() > 10)));
            or(&longer.collect(), &unreadable(&column, found).map_err(text)?)
        }
        (DataType::Utf8, DataType::Float32 | DataType::Float64) => {
            // Whoever writes digits means a number.
            let digits = found.as_string::<i32>().iter();
            let digits =
                digits.map(|it| Some(it.is_some_and(|it| it.contains(|it: char| it.is_ascii_digit()))));
            let wide = cast(&column, &DataType::Float64).map_err(text)?;
            let infinite = wide.as_primitive::<Float64Type>().iter();
            let infinite = infinite.map(|it| Some(it.is_some_and(f64::is_infinite)));
            let too_large = and(&digits.collect(), &infinite.collect()).map_err(text)?;
            or(&too_large, &unreadable(&column, found).map_err(text)?)
        }
        // There are many ways to write one value.
        (DataType::Utf8, _) => unreadable(&column, found),
        (other, _) => distinct(&cast(&column, other).map_err(text)?, found),
    };
    Ok((column, changed.map_err(text)?))
}

/// Texts of which nothing came.
fn unreadable(column: &ArrayRef, found: &ArrayRef) -> std::result::Result<BooleanArray, ArrowError> {
    distinct(&is_null(column)?, &is_null(found)?)
}

/// A field of a struct that is declared and not there: structs are not matched by position.
fn lacks(found: &DataType, declared: &DataType) -> Option<String> {
    match (found, declared) {
        (DataType::Struct(found), DataType::Struct(declared)) => {
            declared.iter().find_map(|field| match found.iter().find(|it| it.name() == field.name()) {
                Some(it) => lacks(it.data_type(), field.data_type()),
                None => Some(field.name().clone()),
            })
        }
        (DataType::List(found) | DataType::LargeList(found), DataType::List(declared)) => {
            lacks(found.data_type(), declared.data_type())
        }
        _ => None,
    }
}

/// The files of the newest version of a Delta table.
fn delta(
    spec: &LookupSpec,
    files: &FilesSpec,
    sources: &Sources,
    known: &str,
) -> Result<Option<(Vec<RecordBatch>, String)>> {
    let (store, path, is_local) = folder(files, &sources.roots)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime
        .map_err(|error| Error::Unavailable(format!("no thread can be started to read files. {error}")))?;
    let loaded = runtime.block_on(async {
        // Of a scheme that is not a disk's the library thinks that listings are sorted, and S3's are.
        let scheme = if is_local { "file" } else { "memory" };
        let url = Url::parse(&format!("{scheme}:///{path}"))
            .map_err(|error| Error::Internal(format!("no URL for a folder. folder={path}: {error}")))?;
        let folder: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&store), path.clone()));
        let log = default_logstore(Arc::clone(&folder), store, &url, &StorageConfig::default());
        if !log.is_delta_table_location().await? {
            return Err(Error::Invalid(format!("no Delta table is there. location={:?}", files.location)));
        }
        let mut table = DeltaTable::new(log);
        table.load().await?;
        let version = format!("version {}", table.version().unwrap_or_default());
        if version == known {
            return Ok(None);
        }
        let mut batches: Vec<RecordBatch> = vec![];
        for file in table.snapshot()?.snapshot().try_log_data()?.iter() {
            let name = file.path().to_string();
            if file.deletion_vector_descriptor().is_some() {
                return Err(Error::BadData(format!(
                    "a Delta table with deletion vectors can't be read; rewrite it (OPTIMIZE or REORG). file={name}"
                )));
            }
            refuse_larger(spec, file.size() as usize)?;
            let bytes = folder.get(&file.object_store_path()).await?.bytes().await?;
            let constant: Vec<_> = file.partition_values_map().into_iter().collect();
            let read = of_parquet(bytes).and_then(|read| declared(spec, read, &constant));
            batches.extend(read.map_err(|error| of_file(&name, &error))?);
            refuse_larger(spec, batches.iter().map(RecordBatch::get_array_memory_size).sum())?;
        }
        Ok(Some((batches, version)))
    });
    // A plain drop would wait for what the library may have left running.
    runtime.shutdown_background();
    loaded
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StructArray};

    use super::*;
    use crate::spec::LookupSource;

    #[test]
    fn a_quote_that_is_never_closed_is_found() {
        assert_eq!(unclosed_quote(b"k,v\n1,\"a\n2,b\n"), Some(2));
        assert_eq!(unclosed_quote(b"k,v\n1,\"a \"\"b\"\"\"\n2,\"\"\n3,5\" pipe\n"), None);
        assert_eq!(unclosed_quote(b"k,v\r\n1,\"a,\r\nb\"\r\n\"2\",\"\"\"\r\n"), Some(4));
    }

    fn spec(data_type: DataType) -> LookupSpec {
        let unplanned = LookupSpec::unplanned(uuid::Uuid::nil(), "t".into(), String::new(), String::new());
        let schema = Arc::new(Schema::new(vec![Field::new("c", data_type, true)]));
        LookupSpec { schema, source: LookupSource::Unplanned(String::new()), ..unplanned }
    }

    fn read(column: ArrayRef, declared_as: DataType) -> Result<Vec<RecordBatch>> {
        let batch = RecordBatch::try_from_iter([("c", column)])?;
        declared(&spec(declared_as), vec![batch], &[])
    }

    #[test]
    fn what_is_read_is_what_the_file_says() {
        let numbers = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
        let read_as = read(numbers(vec![1.0, 2.0]), DataType::Int32).expect("they are whole");
        assert_eq!(read_as[0].column(0).as_ref(), &Int32Array::from(vec![1, 2]));
        let error = read(numbers(vec![1.0, 2.7]), DataType::Int32).unwrap_err().to_string();
        assert!(error.contains("in row 2, 2.7 is no Int32"), "{error}");
        let texts = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
        read(texts(&["1.50", "2"]), DataType::Decimal128(10, 2)).expect("they have two digits");
        let error = read(texts(&["1.005"]), DataType::Decimal128(10, 2)).unwrap_err().to_string();
        assert!(error.contains("in row 1, 1.005 is no Decimal128(10, 2)"), "{error}");
        for (text, declared_as) in [
            ("abc", DataType::Decimal128(10, 2)),
            ("1e2", DataType::Decimal128(10, 2)),
            ("2025-06-01T12:00:00Z", DataType::Date32),
            ("1e400", DataType::Float64),
        ] {
            let error = read(texts(&[text]), declared_as).unwrap_err().to_string();
            assert!(error.contains(&format!("in row 1, {text} is no")), "{error}");
        }
        read(texts(&["2025-06-01"]), DataType::Date32).expect("it is a day");
        let error = read(texts(&["1", "one"]), DataType::Int64).unwrap_err().to_string();
        assert!(error.contains("in row 2, one is no Int64"), "{error}");
    }

    #[test]
    fn structs_are_read_by_the_names_of_their_fields() {
        let field = |name: &str| Field::new(name, DataType::Int32, true);
        let ones: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let pair = StructArray::from(vec![
            (Arc::new(field("a")), Arc::clone(&ones)),
            (Arc::new(field("b")), Arc::clone(&ones)),
        ]);
        let pair: ArrayRef = Arc::new(pair);
        read(Arc::clone(&pair), DataType::Struct(vec![field("b")].into())).expect("there is a b");
        let error =
            read(pair, DataType::Struct(vec![field("a"), field("c")].into())).unwrap_err().to_string();
        assert!(error.contains("it has no field \"c\""), "{error}");
    }
}
