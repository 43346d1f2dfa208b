//! What the fuzz target asks of the decoder, over which columns, and the inputs it starts from.

use std::sync::{Arc, LazyLock};

use arrow::array::Array;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use crate::decode::Decoder;
use crate::judge;
use crate::mutations::{owned, record};
use crate::samples::{SHOPS, Seed, fields, list, shop_event, shops_schema};
use crate::source::Records;
use crate::values::any_value;

/// Cuts an input into records. No UTF-8 text holds it.
const CUT: u8 = 0xFE;

/// A few columns of the shops, so that their other keys are unknown, and one of each type that they lack.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    use DataType::{Boolean, Date32, Float32, Float64, Int8, Int16, Int64, Struct, Utf8View};
    const SHOPS: [&str; 9] = [
        "event_id",
        "event_type",
        "price",
        "quantity",
        "timestamp",
        "total_amount",
        "product",
        "device",
        "tags",
    ];
    let shops = shops_schema();
    let shops = SHOPS.map(|name| Arc::clone(shops.fields().find(name).expect("a column of some shop").1));
    let inner = Struct(fields([("a", Float64), ("s", Utf8View), ("l", list(Int64))]));
    let others = fields([
        ("b", Boolean),
        ("i", Int8),
        ("l", Int64),
        ("h", Int16),
        ("f", Float32),
        ("day", Date32),
        ("o", inner.clone()),
        ("p", list(inner)),
        ("ll", list(list(Boolean))),
    ]);
    Arc::new(Schema::new(shops.into_iter().chain(others.iter().cloned()).collect::<Vec<_>>()))
});

/// Records of an input that are also decoded alone. More would tell no more, and slow the search.
const ALONE_MAX: usize = 8;

/// Fails if two ways to decode the input's records differ, or if a judge disagrees.
///
/// They are decoded once by the general path; twice by the decoder, which knows their shapes the second time; once with
/// few columns wanted; and each one alone.
pub fn check(input: &[u8]) {
    let mut records = Records::default();
    for record in input.split(|byte| *byte == CUT) {
        records.push(Some(record));
    }
    // Nothing may lie behind the last record, or reading it would not be noticed.
    records.bytes.shrink_to_fit();
    let every: Vec<usize> = (0..SCHEMA.fields().len()).collect();
    let decoder =
        |wanted: &[usize]| Decoder::new(Arc::clone(&SCHEMA), wanted).expect("types that JSON can hold");
    let expected = decoder(&every).without_fast_path().decode(&records).expect("a batch");
    judge::check(&SCHEMA, &records, &expected);
    let mut whole = decoder(&every);
    let [first, second] = [(), ()].map(|()| whole.decode(&records).expect("a batch"));
    for found in [&first, &second] {
        assert_eq!(found.refused, expected.refused);
        assert_eq!(found.batch, expected.batch);
    }
    for column in expected.batch.columns().iter().chain(second.batch.columns()) {
        column.to_data().validate_full().expect("an array that obeys Arrow's rules");
    }
    let few: Vec<usize> = every.iter().copied().filter(|index| index % 3 == 1).collect();
    let found = decoder(&few).decode(&records).expect("a batch");
    assert_eq!(found.refused, expected.refused);
    assert_eq!(found.batch, expected.batch.project(&few).expect("columns of the schema"));
    // A single record was alone already.
    if records.spans.len() > 1 {
        for index in 0..records.spans.len().min(ALONE_MAX) {
            judge::check_piece(&mut decoder(&every), &records, index..index + 1, &expected);
        }
    }
}

/// Inputs to start from: one to four records each, most of them good, of one shop or with columns of every type.
pub fn first_inputs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |number| {
        let mut seed = Seed(number);
        let shop = seed.below(SHOPS + 2);
        let records: Vec<_> = (0..1 + seed.below(4))
            .map(|_| {
                let entries = if shop < SHOPS {
                    owned(shop_event(shop, &mut seed))
                } else {
                    let mut entries = vec![];
                    for field in SCHEMA.fields() {
                        if seed.one_in(4) {
                            entries.push((field.name().clone(), any_value(&mut seed, field.data_type())));
                        }
                    }
                    entries
                };
                record(&mut seed, entries)
            })
            .collect();
        records.join(&CUT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_inputs_decode_alike() {
        for input in first_inputs(2000) {
            check(&input);
        }
    }
}
