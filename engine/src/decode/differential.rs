//! The fast path, the general path, arrow-json and serde_json over a million records made from seeds, or over as many as
//! `DIFFERENTIAL_RECORDS` says, from the seed `DIFFERENTIAL_SEED`.
//!
//! Fast and general must agree in everything. serde_json judges the grammar: a record is refused as illegal JSON just
//! if it says so. arrow-json judges the values: where it differs, the reason is one that `docs/JSON.md` names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_json::ReaderBuilder;

use super::mutations::{any_value, owned, record, write};
use super::samples::{SHOPS, Seed, fields, list, object, shop_event, shops_schema, timestamp};
use super::{Decoded, Decoder, Refused};
use crate::source::Records;

/// Records of one comparison.
const BATCH: usize = 500;

/// Reasons of ours for records that arrow-json accepts.
const STRICTER: &[&str] = &[
    "the key comes twice",
    "the value nests deeper",
    "expected a number, found a string",
    "expected a string with a time",
    "not a whole number",
    "out of the range",
    "more than",
    "not a time",
    "not a date",
    "not an epoch",
    "not legal JSON",
    "expected a string with a date",
];

struct Comparison {
    schema: SchemaRef,
    fast: Decoder,
    general: Decoder,
    /// How often each difference from arrow-json was met.
    differences: BTreeMap<String, usize>,
    accepted: usize,
    refused: usize,
}

impl Comparison {
    fn new(schema: SchemaRef, wanted: &[usize]) -> Comparison {
        let fast = Decoder::new(Arc::clone(&schema), wanted).unwrap();
        let general = Decoder::new(Arc::clone(&schema), wanted).unwrap().without_fast_path();
        Comparison { schema, fast, general, differences: BTreeMap::new(), accepted: 0, refused: 0 }
    }

    fn compare(&mut self, values: &[Vec<u8>]) {
        let mut records = Records::default();
        values.iter().for_each(|value| records.push(Some(value)));
        // Nothing may lie behind the last record, or a sanitizer would not see it read.
        records.bytes.shrink_to_fit();
        let found = self.fast.decode(&records).unwrap();
        let expected = self.general.decode(&records).unwrap();
        assert_eq!(found.refused, expected.refused);
        assert_eq!(found.batch, expected.batch);
        for column in found.batch.columns() {
            column.to_data().validate_full().unwrap();
        }
        self.accepted += found.batch.num_rows();
        self.refused += found.refused.len();
        let mut refused = found.refused.iter().peekable();
        for (index, value) in values.iter().enumerate() {
            check_grammar(value, refused.next_if(|refused| refused.index == index));
        }
        if self.fast.schema().fields().len() == self.schema.fields().len() {
            self.compare_with_arrow(values, &found);
        }
    }

    fn compare_with_arrow(&mut self, values: &[Vec<u8>], decoded: &Decoded) {
        let decimals =
            self.schema.fields().iter().any(|field| holds(field.data_type(), DataType::is_decimal));
        let mut refused = decoded.refused.iter().peekable();
        let (mut accepted, mut compared) = (Vec::new(), Vec::new());
        for (index, value) in values.iter().enumerate() {
            // arrow-json multiplies a decimal by its power of ten without a bound, and overflows.
            let compare = !decimals || !has_large_exponent(&String::from_utf8_lossy(value));
            match refused.next_if(|refused| refused.index == index) {
                Some(refused) if compare => self.compare_refusal(value, &refused.reason),
                Some(_) => {}
                None => {
                    compared.push(compare);
                    accepted.extend(compare.then_some(value));
                }
            }
        }
        let rows = filter_record_batch(&decoded.batch, &BooleanArray::from(compared)).unwrap();
        self.compare_rows(&accepted, &rows);
    }

    fn compare_refusal(&mut self, value: &[u8], reason: &str) {
        if arrow_rows(&self.schema, &[value]).is_some_and(|batch| batch.num_rows() == 1) {
            // Of a key that comes twice, arrow-json reads the last value alone.
            let named = match repeats_a_key(&String::from_utf8_lossy(value)) {
                true => Some(&"the key comes twice"),
                false => STRICTER.iter().find(|named| reason.starts_with(**named)),
            };
            let Some(named) = named else {
                panic!("only we refuse {}: {reason}", String::from_utf8_lossy(value))
            };
            *self.differences.entry(format!("refused: {named}")).or_default() += 1;
        }
    }

    /// Halves what differs until one record is left, and wants a name for it.
    fn compare_rows(&mut self, values: &[&Vec<u8>], rows: &RecordBatch) {
        if values.is_empty() || arrow_rows(&self.schema, values).is_some_and(|theirs| theirs == *rows) {
            return;
        }
        if let [value] = values {
            return self.compare_columns(&String::from_utf8_lossy(value), rows);
        }
        let half = values.len() / 2;
        self.compare_rows(&values[..half], &rows.slice(0, half));
        self.compare_rows(&values[half..], &rows.slice(half, values.len() - half));
    }

    /// Each column by itself, so that a difference is laid at the right door.
    fn compare_columns(&mut self, text: &str, row: &RecordBatch) {
        let mut entries = BTreeMap::new();
        for entry in sonic_rs::to_object_iter(text) {
            let (key, value) = entry.unwrap();
            entries.insert(key.into_owned(), value.as_raw_str().to_owned());
        }
        let mut differs = false;
        for (index, field) in self.schema.fields().iter().enumerate() {
            let Some(value) = entries.get(field.name()) else { continue };
            let alone = Arc::new(self.schema.project(&[index]).unwrap());
            let theirs = arrow_rows(&alone, &[object(&[(field.name(), value)])]);
            if theirs.is_some_and(|theirs| theirs == row.project(&[index]).unwrap()) {
                continue;
            }
            let Some(named) = named_difference(field.data_type(), value) else {
                panic!("a column differs: {field} {value}\nours {row:?}");
            };
            *self.differences.entry(format!("accepted: {named}")).or_default() += 1;
            differs = true;
        }
        assert!(differs, "the columns agree one by one, but not together: {text}");
    }
}

fn check_grammar(value: &[u8], refused: Option<&Refused>) {
    let legal = serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok();
    let shown = || String::from_utf8_lossy(value).into_owned();
    match refused.map(|refused| refused.reason.as_str()) {
        None => assert!(legal, "accepted, but not legal: {}", shown()),
        // serde_json does not look into escapes of a value that it skips, and has no bound of ours.
        Some(reason) if reason.contains("surrogate") || reason.contains("nests deeper") => {}
        Some("the value is not UTF-8") => assert!(std::str::from_utf8(value).is_err(), "{}", shown()),
        Some(reason) => {
            let illegal = reason.starts_with("not legal JSON") || reason.starts_with("the value is empty");
            let illegal = illegal || reason.contains("byte-order mark");
            assert_eq!(!legal, illegal, "{reason}: {}", shown());
        }
    }
}

/// Whether any object within this legal value has a key twice.
fn repeats_a_key(value: &str) -> bool {
    let mut keys = BTreeSet::new();
    match value.trim_start().as_bytes().first() {
        Some(b'{') => sonic_rs::to_object_iter(value).any(|entry| {
            entry
                .is_ok_and(|(key, value)| !keys.insert(key.into_owned()) || repeats_a_key(value.as_raw_str()))
        }),
        Some(b'[') => sonic_rs::to_array_iter(value)
            .any(|element| element.is_ok_and(|element| repeats_a_key(element.as_raw_str()))),
        _ => false,
    }
}

fn arrow_rows(schema: &SchemaRef, values: &[impl AsRef<[u8]>]) -> Option<RecordBatch> {
    let builder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(values.len() + 1);
    let mut decoder = builder.build_decoder().unwrap();
    for value in values {
        decoder.decode(value.as_ref()).ok()?;
        decoder.decode(b"\n").ok()?;
    }
    decoder.flush().ok()?
}

/// Why a column that both read, or that arrow-json does not, may differ; `text` is the column's value in the record.
fn named_difference(data_type: &DataType, text: &str) -> Option<&'static str> {
    if holds(data_type, |leaf| matches!(leaf, DataType::Timestamp(..))) && numbers(text).next().is_some() {
        return Some("an epoch number");
    }
    let negative_zero = |part: &str| part.starts_with('-') && part.parse() == Ok(0f32);
    if holds(data_type, DataType::is_floating) && numbers(text).any(negative_zero) {
        return Some("negative zero");
    }
    None
}

/// What looks like a number in a piece of JSON.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split([',', '[', ']', '{', '}', ':', ' ', '\n', '\t', '\r']);
    parts.map(|part| part.trim_matches('"')).filter(|part| part.parse::<f64>().is_ok())
}

fn has_large_exponent(text: &str) -> bool {
    numbers(text).filter_map(|part| part.split_once(['e', 'E'])).any(|(_, exponent)| exponent.len() > 1)
}

/// Whether a leaf of this type is as wanted.
fn holds(data_type: &DataType, wanted: fn(&DataType) -> bool) -> bool {
    match data_type {
        DataType::Struct(members) => members.iter().any(|member| holds(member.data_type(), wanted)),
        DataType::List(element) => holds(element.data_type(), wanted),
        leaf => wanted(leaf),
    }
}

fn random_type(seed: &mut Seed, depth: usize) -> DataType {
    match seed.below(if depth == 0 { 11 } else { 15 }) {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::Int32,
        3 => DataType::Int64,
        4 => DataType::Int16,
        5 => DataType::Float32,
        6 => DataType::Float64,
        7 => DataType::Decimal128(1 + seed.below(20) as u8, 0),
        8 => DataType::Date32,
        9 => timestamp(),
        11 | 12 => {
            let names = ["id", "name", "price", "a rather long name of a column"];
            DataType::Struct(fields(
                names[..1 + seed.below(4)].iter().map(|name| (*name, random_type(seed, depth - 1))),
            ))
        }
        13 => list(random_type(seed, depth - 1)),
        _ => DataType::Utf8View,
    }
}

/// Half of the records are of five shops; every other comparison wants few columns.
#[test]
fn shop_events_read_alike() {
    let batches = asked("DIFFERENTIAL_RECORDS", 1_000_000) / 2 / BATCH;
    let schema = shops_schema();
    let every: Vec<usize> = (0..schema.fields().len()).collect();
    let mut comparisons =
        [Comparison::new(Arc::clone(&schema), &every), Comparison::new(schema, &[2, 8, 18, 20, 24])];
    let mut seed = Seed(asked("DIFFERENTIAL_SEED", 1) as u64);
    for batch in 0..batches {
        let values: Vec<_> = (0..BATCH)
            .map(|_| {
                let entries = owned(shop_event(seed.below(SHOPS), &mut seed));
                record(&mut seed, entries)
            })
            .collect();
        comparisons[batch % 2].compare(&values);
    }
    for comparison in comparisons {
        let Comparison { accepted, refused, differences, .. } = comparison;
        println!("shops: {accepted} accepted, {refused} refused; arrow-json differs: {differences:#?}");
        assert!(accepted > refused, "most records must be good ones");
        assert!(refused > batches * BATCH / 100, "some records must be bad ones");
    }
}

/// The other half is of random schemas, each for one batch.
#[test]
fn records_of_random_schemas_read_alike() {
    const NAMES: [&str; 8] =
        ["id", "event", "ts", "price", "user", "tags", "e", "a key that is longer than a link can be"];
    let batches = asked("DIFFERENTIAL_RECORDS", 1_000_000) / 2 / BATCH;
    let mut seeds = Seed(!asked("DIFFERENTIAL_SEED", 1) as u64);
    let (mut accepted, mut refused, mut differences) = (0, 0, BTreeMap::<String, usize>::new());
    for batch in 0..batches {
        let mut seed = Seed(seeds.draw());
        let count = 1 + seed.below(NAMES.len());
        let columns: Vec<_> = NAMES[..count].iter().map(|name| (*name, random_type(&mut seed, 2))).collect();
        let schema = Arc::new(Schema::new(fields(columns)));
        let wanted: Vec<usize> = (0..count).filter(|_| batch % 2 == 0 || seed.one_in(2)).collect();
        let mut comparison = Comparison::new(Arc::clone(&schema), &wanted);
        let values: Vec<_> = (0..BATCH)
            .map(|_| {
                let mut entries = Vec::new();
                for field in schema.fields() {
                    entries.push((field.name().clone(), any_value(&mut seed, field.data_type())));
                }
                record(&mut seed, entries)
            })
            .collect();
        comparison.compare(&values);
        accepted += comparison.accepted;
        refused += comparison.refused;
        for (named, count) in comparison.differences {
            *differences.entry(named).or_default() += count;
        }
    }
    println!("schemas: {accepted} accepted, {refused} refused; arrow-json differs: {differences:#?}");
    assert!(refused > batches * BATCH / 100, "some records must be bad ones");
}

/// A number from the environment: for a longer run than the usual one, or a shorter.
fn asked(name: &str, otherwise: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => otherwise,
    }
}

#[test]
fn plain_events_never_need_the_general_path() {
    let schema = shops_schema();
    let mut decoder = Decoder::new(Arc::clone(&schema), &[0, 18, 24]).unwrap();
    let mut seed = Seed(3);
    let mut records = Records::default();
    for _ in 0..BATCH {
        let mut entries = owned(shop_event(seed.below(SHOPS), &mut seed));
        seed.shuffle(&mut entries);
        records.push(Some(write(&mut seed, &entries).as_bytes()));
    }
    decoder.tree.begin(BATCH);
    let mut fast = decoder.fast.unwrap();
    for span in &records.spans {
        let (start, length) = (span.start as usize, span.len as usize);
        let record = &records.bytes[start..start + length];
        let accepted = fast.read(&mut decoder.tree, &records.bytes, start, length);
        assert!(accepted, "{}", String::from_utf8_lossy(record));
        decoder.tree.keep();
    }
}
