//! The fast path, the general path and the judges over a million records made from seeds, or over as many as
//! `DIFFERENTIAL_RECORDS` says, from the seed `DIFFERENTIAL_SEED`.
//!
//! Fast and general must agree in everything, and `judge` with them: it finds by other code what must become of each
//! record. arrow-json has its own view (`arrow_judge`). Records cut into other batches must come out the same.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Schema, SchemaRef};

use super::arrow_judge::{self, Differences};
use super::judge;
use super::mutations::{owned, record, write};
use super::samples::{SHOPS, Seed, fields, list, shop_event, shops_schema, timestamp};
use super::values::any_value;
use crate::decode::Decoder;
use crate::source::Records;

/// Records of one comparison.
const BATCH: usize = 500;

/// One in so many batches is also read record by record, and in two pieces.
const BATCHES_A_CUT: usize = 40;

struct Comparison {
    schema: SchemaRef,
    wanted: Vec<usize>,
    fast: Decoder,
    general: Decoder,
    differences: Differences,
    accepted: usize,
    refused: usize,
}

impl Comparison {
    fn new(schema: SchemaRef, wanted: &[usize]) -> Comparison {
        let fast = Decoder::new(Arc::clone(&schema), wanted).unwrap();
        let general = Decoder::new(Arc::clone(&schema), wanted).unwrap().without_fast_path();
        let wanted = wanted.to_vec();
        Comparison { schema, wanted, fast, general, differences: Differences::new(), accepted: 0, refused: 0 }
    }

    fn compare(&mut self, seed: &mut Seed, values: &[Vec<u8>]) {
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
        judge::check(&self.schema, &records, &found);
        if self.wanted.len() == self.schema.fields().len() {
            arrow_judge::compare(&self.schema, values, &found, &mut self.differences);
        }
        if seed.one_in(BATCHES_A_CUT) {
            let fresh = || Decoder::new(Arc::clone(&self.schema), &self.wanted).unwrap();
            for index in 0..values.len() {
                judge::check_piece(&mut fresh(), &records, index..index + 1, &found);
            }
            let cut = seed.below(values.len());
            let mut decoder = fresh();
            judge::check_piece(&mut decoder, &records, 0..cut, &found);
            judge::check_piece(&mut decoder, &records, cut..values.len(), &found);
        }
    }
}

/// The last three make links of 31, 32 and 33 bytes, which is about as much as the fast path remembers.
const NAMES: [&str; 11] = [
    "id",
    "event",
    "ts",
    "price",
    "user",
    "tags",
    "e",
    "a key that is longer than a link can be",
    "a key of twenty-seven bytes",
    "a key of twenty-eight bytes!",
    "a key of twenty-nine bytes!!!",
];

fn random_type(seed: &mut Seed, depth: usize) -> DataType {
    match seed.below(if depth == 0 { 11 } else { 15 }) {
        0 => DataType::Boolean,
        1 => DataType::Int8,
        2 => DataType::Int16,
        3 => DataType::Int32,
        4 => DataType::Int64,
        5 => DataType::Float32,
        6 => DataType::Float64,
        7 => {
            let precision = 1 + seed.below(DECIMAL128_MAX_PRECISION.into());
            DataType::Decimal128(precision as u8, seed.below(precision + 1) as i8)
        }
        8 => DataType::Date32,
        9 => timestamp(),
        11 | 12 => {
            let mut names = ["id", "name", "price", "a rather long name of a column", NAMES[8], NAMES[9]];
            seed.shuffle(&mut names);
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
        comparisons[batch % 2].compare(&mut seed, &values);
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
    let batches = asked("DIFFERENTIAL_RECORDS", 1_000_000) / 2 / BATCH;
    let mut seeds = Seed(!asked("DIFFERENTIAL_SEED", 1) as u64);
    let (mut accepted, mut refused, mut differences) = (0, 0, Differences::new());
    for batch in 0..batches {
        let mut seed = Seed(seeds.draw());
        let mut names = NAMES;
        seed.shuffle(&mut names);
        let count = 1 + seed.below(8);
        let columns: Vec<_> = names[..count].iter().map(|name| (*name, random_type(&mut seed, 2))).collect();
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
        comparison.compare(&mut seed, &values);
        accepted += comparison.accepted;
        refused += comparison.refused;
        for (named, count) in comparison.differences {
            *differences.entry(named).or_default() += count;
        }
    }
    println!("schemas: {accepted} accepted, {refused} refused; arrow-json differs: {differences:#?}");
    assert!(accepted > refused, "most records must be good ones");
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
