//! Looks for records on which the two paths of the decoder differ, or fall over.
//!
//! The input is cut into records at byte 0xFE, which no UTF-8 text holds. They are decoded twice by one decoder, which
//! knows their shapes the second time, once by the general path, and once with few columns wanted.

#![no_main]

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use libfuzzer_sys::fuzz_target;
use thalweg_engine::decode::Decoder;
use thalweg_engine::source::Records;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../src/decode/samples.rs"]
mod samples;

use samples::{fields, list, timestamp};

fn schema() -> SchemaRef {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Int8, Int64, Struct, Utf8View};
    let inner = Struct(fields([("a", Float64), ("s", Utf8View), ("l", list(Int64))]));
    Arc::new(Schema::new(fields([
        ("b", Boolean),
        ("i", Int8),
        ("l", Int64),
        ("f", Float32),
        ("d", Float64),
        ("m", Decimal128(12, 3)),
        ("s", Utf8View),
        ("day", Date32),
        ("ts", timestamp()),
        ("o", inner.clone()),
        ("p", list(inner)),
    ])))
}

fuzz_target!(|input: &[u8]| {
    let mut records = Records::default();
    for record in input.split(|byte| *byte == 0xFE) {
        records.push(Some(record));
    }
    let every: Vec<usize> = (0..schema().fields().len()).collect();
    let mut decoder = Decoder::new(schema(), &every).expect("types that JSON can hold");
    let expected = decoder.decode_generally(&records).expect("a batch");
    for _ in 0..2 {
        let found = decoder.decode(&records).expect("a batch");
        assert_eq!(found.refused, expected.refused);
        assert_eq!(found.batch, expected.batch);
    }
    let few = [6, 10];
    let mut decoder = Decoder::new(schema(), &few).expect("types that JSON can hold");
    let found = decoder.decode(&records).expect("a batch");
    assert_eq!(found.refused, expected.refused);
    assert_eq!(found.batch, expected.batch.project(&few).expect("columns of the schema"));
});
