//! What a decoded batch may take, whatever its records hold (INV-16), and that it keeps nothing of those it refused.

use std::sync::Arc;

use arrow::array::{AsArray, StringViewArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::meanings::{decode, schema};
use super::samples::{fields, list};
use crate::decode::Decoder;
use crate::decode::tree::ELEMENT_BYTES_MAX;
use crate::source::Records;

/// One record of so many elements, each of twenty strings that are all missing.
fn elements(count: usize) -> String {
    format!("{{\"a\":[{}]}}", vec!["{}"; count].join(","))
}

fn schema_of_wide_elements() -> SchemaRef {
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let element = DataType::Struct(fields(names.iter().map(|name| (name.as_str(), DataType::Utf8View))));
    Arc::new(Schema::new(fields([("a", list(element)), ("i", DataType::Int32)])))
}

/// What one of those elements takes: seventeen bytes of a string each, and one of the struct.
const WIDE_ELEMENT: usize = 20 * 17 + 1;

#[test]
fn a_small_record_does_not_fill_the_memory() {
    let most = ELEMENT_BYTES_MAX / WIDE_ELEMENT;
    let (fits, too_many) = (elements(most), elements(most + 1));
    let values = [Some(fits.as_bytes()), Some(too_many.as_bytes()), Some(b"{\"i\":1}".as_slice())];
    for wanted in [vec![0, 1], vec![1]] {
        for fast in [true, false] {
            let mut decoder = Decoder::new(schema_of_wide_elements(), &wanted).unwrap();
            if !fast {
                decoder = decoder.without_fast_path();
            }
            let decoded = decode(&mut decoder, &values);
            assert_eq!((decoded.read, decoded.batch.num_rows(), decoded.refused.len()), (3, 2, 1));
            let refused = &decoded.refused[0];
            assert_eq!((refused.index, refused.at), (1, 5));
            assert!(
                refused.reason.starts_with(
                    "the arrays hold too many elements, which would take over 32 MiB. column=\"a\", value=[{},"
                ),
                "{}",
                refused.reason
            );
        }
    }
}

#[test]
fn a_batch_ends_where_its_arrays_fill_the_memory() {
    let half = elements(ELEMENT_BYTES_MAX / WIDE_ELEMENT / 2 + 1);
    let mut records = Records::default();
    for value in [half.as_str(), "{\"a\":7}", &half, "{\"i\":1}", "{\"a\":8}", &half] {
        records.push(Some(value.as_bytes()));
    }
    let mut decoder = Decoder::new(schema_of_wide_elements(), &[0, 1]).unwrap();
    let first = decoder.decode(&records).unwrap();
    assert_eq!((first.read, first.batch.num_rows(), first.refused.len()), (3, 2, 1));
    let rest = records.split_off(3);
    assert_eq!((records.spans.len(), rest.value(0)), (3, Some(b"{\"i\":1}".as_slice())));
    let second = decoder.decode(&rest).unwrap();
    assert_eq!((second.read, second.batch.num_rows(), second.refused.len()), (3, 2, 1));
    assert_eq!(second.refused[0].index, 1);
}

#[test]
fn the_strings_of_refused_records_are_not_kept() {
    let kept = "a string that is long enough to lie in the buffer";
    let good = format!("{{\"s\":\"{kept}\",\"p\":[{{\"tags\":[\"{kept}\",\"{kept}\"]}}]}}");
    let bad = good.replace("}]}", "}],\"i\":\"x\"}");
    // The escape in a key is left to the general path, when most of the record has been written.
    let slow = good.replace("}]}", "}],\"\\u0069\":1}");
    let mut decoder = Decoder::new(schema(), &[8, 13]).unwrap();
    let values = [&bad, &good, &bad, &slow, &bad].map(|value| Some(value.as_bytes()));
    let decoded = decode(&mut decoder, &values);
    assert_eq!((decoded.batch.num_rows(), decoded.refused.len()), (2, 3));
    let bytes =
        |array: &StringViewArray| array.data_buffers().iter().map(|buffer| buffer.len()).sum::<usize>();
    assert_eq!(bytes(decoded.batch.column(0).as_string_view()), 2 * kept.len());
    let elements = decoded.batch.column(1).as_list::<i32>().values();
    let tags = elements.as_struct().column(1).as_list::<i32>().values();
    assert_eq!(bytes(tags.as_string_view()), 4 * kept.len());
    assert!(tags.as_string_view().iter().all(|tag| tag == Some(kept)));
}
