//! The fast path, the general path, arrow-json and serde_json over a million records made from seeds.
//!
//! Fast and general must agree in everything. serde_json judges the grammar: a record is refused as illegal JSON just
//! if it says so. arrow-json judges the values: where it differs, the reason is one that `docs/JSON.md` names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_json::ReaderBuilder;

use super::samples::{SHOPS, Seed, click, fields, list, object, shop_event, shops_schema, timestamp};
use super::{Decoded, Decoder, Refused};
use crate::source::Records;

/// Records of one comparison.
const BATCH: usize = 500;

/// Values that are odd for most columns, and some that are no values at all.
const ODDITIES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "127",
    "128",
    "65536",
    "2147483647",
    "2147483648",
    "1.0",
    "1.5",
    "1e3",
    "1E+2",
    "1e-3",
    "1e400",
    "-1e400",
    "1e-400",
    "9223372036854775807",
    "9223372036854775808",
    "12345678901234567890",
    "9007199254740993",
    "0.1",
    "22.745",
    "123456789.12",
    "1e999999999999",
    "01",
    "1.",
    ".5",
    "-",
    "+1",
    "NaN",
    "nul",
    "\"\"",
    "\"a\"",
    "\"twelve bytes\"",
    "\"thirteen byte\"",
    "\"\\u00e9\\n\\\"\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\x\"",
    "\"\t\"",
    "\"\u{1f600}\"",
    "\"5\"",
    "\"true\"",
    "\"2025-06-01\"",
    "\"2025-06-01T12:00:00Z\"",
    "\"2025-06-01 12:00:00.123456789\"",
    "\"2025-06-01T12:00:00+05:30\"",
    "\"2025-02-29T00:00:00Z\"",
    "1748736000",
    "1748736000000",
    "1748736000.5",
    "[]",
    "{}",
    "[1,2]",
    "[null]",
    "[\"a\",\"b\"]",
    "{\"type\":null}",
    "{\"a\":{\"b\":[{}]}}",
    "[1,]",
    "{\"a\"}",
    " 7 ",
    "[ ]",
    "{ }",
];

/// Reasons of ours for records that arrow-json accepts.
const STRICTER: &[&str] = &[
    "the key comes twice",
    "the value nests deeper",
    "expected a number, found a string",
    "expected a string with a time",
    "not a whole number",
    "out of the range",
    "not a multiple",
    "not a time",
    "not a date",
    "no epoch",
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
        let general = Decoder::new(Arc::clone(&schema), wanted).unwrap();
        Comparison { schema, fast, general, differences: BTreeMap::new(), accepted: 0, refused: 0 }
    }

    fn compare(&mut self, values: &[Vec<u8>]) {
        let mut records = Records::default();
        values.iter().for_each(|value| records.push(Some(value)));
        let found = self.fast.decode(&records).unwrap();
        let expected = self.general.decode_generally(&records).unwrap();
        assert_eq!(found.refused, expected.refused);
        assert_eq!(found.batch, expected.batch);
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

/// A record of these entries, in one of the ways in which producers write.
fn write(seed: &mut Seed, entries: &[(String, String)]) -> String {
    match seed.below(6) {
        0 => object(entries).replace(",\"", ", \"").replace("\":", "\": "),
        1 => format!(" {}\r\n", object(entries)),
        _ => object(entries),
    }
}

/// Drops, repeats, reorders, renames and replaces entries.
fn distort(seed: &mut Seed, entries: &mut Vec<(String, String)>) {
    for _ in 0..=seed.below(3) {
        if entries.is_empty() {
            return;
        }
        let at = seed.below(entries.len());
        match seed.below(8) {
            0 => drop(entries.remove(at)),
            1 => seed.shuffle(entries),
            2 => entries.push(entries[at].clone()),
            3 => entries.insert(at, (format!("x{}", seed.below(50)), seed.pick(ODDITIES).to_owned())),
            4 => entries[at].0 = entries[at].0.replace('e', "\\u0065"),
            5 => entries[at].1 = "null".to_owned(),
            _ => entries[at].1 = seed.pick(ODDITIES).to_owned(),
        }
    }
}

/// Changes a few bytes.
fn damage(seed: &mut Seed, text: &mut Vec<u8>) {
    const BYTES: &[u8] = b"\"\\{}[],:0123456789-+.eEtfn ux\t\n\r\0\x7f\x80\xc3\xa9\xed\xff";
    for _ in 0..=seed.below(3) {
        let at = seed.below(text.len() + 1);
        let byte = if seed.one_in(4) { seed.next() as u8 } else { BYTES[seed.below(BYTES.len())] };
        match seed.below(5) {
            0 => text.insert(at, byte),
            1 => text.truncate(at),
            2 if at < text.len() => drop(text.remove(at)),
            3 => {
                let to = (at + seed.below(20)).min(text.len());
                let piece = text[at..to].to_vec();
                text.splice(at..at, piece);
            }
            _ if at < text.len() => text[at] = byte,
            _ => {}
        }
    }
}

/// Most records are good; some have odd entries, some odd bytes.
fn record(seed: &mut Seed, mut entries: Vec<(String, String)>) -> Vec<u8> {
    if seed.one_in(4) {
        distort(seed, &mut entries);
    }
    let mut text = write(seed, &entries).into_bytes();
    if seed.one_in(6) {
        damage(seed, &mut text);
    }
    text
}

fn owned(entries: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn random_type(seed: &mut Seed, depth: usize) -> DataType {
    match seed.below(if depth == 0 { 11 } else { 15 }) {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::Int32,
        3 => DataType::Int64,
        4 => DataType::UInt16,
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

fn random_value(seed: &mut Seed, data_type: &DataType) -> String {
    if seed.one_in(20) {
        return if seed.one_in(4) { seed.pick(ODDITIES).to_owned() } else { "null".to_owned() };
    }
    match data_type {
        DataType::Boolean => seed.pick(&["true", "false"]).to_owned(),
        DataType::Int8 | DataType::UInt16 | DataType::Decimal128(..) => seed.below(130).to_string(),
        DataType::Int32 | DataType::Int64 => (seed.next() as i32 >> seed.below(30)).to_string(),
        DataType::Float32 | DataType::Float64 => match seed.below(3) {
            0 => f64::from_bits(seed.next()).to_string().replace("NaN", "0.5").replace("inf", "1"),
            1 => format!("{:e}", seed.next() as f64 / 7e15),
            _ => format!("{}.{:02}", seed.below(1000), seed.below(100)),
        },
        DataType::Date32 => {
            format!("\"20{:02}-0{}-{:02}\"", seed.below(100), 1 + seed.below(9), 1 + seed.below(28))
        }
        DataType::Timestamp(..) => click(seed).swap_remove(2).1,
        DataType::Struct(members) => {
            let mut entries: Vec<(&str, String)> = Vec::new();
            for field in members {
                if !seed.one_in(10) {
                    entries.push((field.name().as_str(), random_value(seed, field.data_type())));
                }
            }
            object(&entries)
        }
        DataType::List(element) => {
            let elements: Vec<_> =
                (0..seed.below(4)).map(|_| random_value(seed, element.data_type())).collect();
            format!("[{}]", elements.join(","))
        }
        _ => format!("\"{}\"", "é long text of some words".chars().take(seed.below(26)).collect::<String>()),
    }
}

/// `batches` of records of five shops; every other comparison wants few columns.
fn run_shops(first: u64, batches: usize) {
    let schema = shops_schema();
    let every: Vec<usize> = (0..schema.fields().len()).collect();
    let mut comparisons =
        [Comparison::new(Arc::clone(&schema), &every), Comparison::new(schema, &[2, 8, 18, 20, 24])];
    let mut seed = Seed(first);
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
        assert!(comparison.accepted > comparison.refused, "most records must be good ones");
        assert!(comparison.refused > batches * BATCH / 100, "some records must be bad ones");
    }
}

/// `batches` of records, each for a schema of its own.
fn run_schemas(first: u64, batches: usize) {
    const NAMES: [&str; 8] =
        ["id", "event", "ts", "price", "user", "tags", "e", "a key that is longer than a link can be"];
    for batch in 0..batches {
        let mut seed = Seed(first + batch as u64);
        let count = 1 + seed.below(NAMES.len());
        let columns: Vec<_> = NAMES[..count].iter().map(|name| (*name, random_type(&mut seed, 2))).collect();
        let schema = Arc::new(Schema::new(fields(columns)));
        let wanted: Vec<usize> = (0..count).filter(|_| batch % 2 == 0 || seed.one_in(2)).collect();
        let mut comparison = Comparison::new(Arc::clone(&schema), &wanted);
        let values: Vec<_> = (0..BATCH)
            .map(|_| {
                let mut entries = Vec::new();
                for field in schema.fields() {
                    entries.push((field.name().clone(), random_value(&mut seed, field.data_type())));
                }
                record(&mut seed, entries)
            })
            .collect();
        comparison.compare(&values);
    }
}

#[test]
fn half_a_million_shop_events_read_alike() {
    run_shops(1, 1000);
}

#[test]
fn half_a_million_records_of_random_schemas_read_alike() {
    run_schemas(1_000_000, 1000);
}
