//! What arrow-json makes of the same records. Where it differs, the reason is one that `docs/JSON.md` names, and is found
//! at the one value that differs; what that value must be here, `judge` has said before.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_json::ReaderBuilder;

use super::judge::{self, Fault};
use super::oracle;
use super::samples::object;
use crate::decode::Decoded;

/// How often each difference was met.
pub type Differences = BTreeMap<String, usize>;

/// `decoded` has every column of the schema, and `judge` agrees with it.
pub fn compare(schema: &SchemaRef, values: &[Vec<u8>], decoded: &Decoded, differences: &mut Differences) {
    let decimals = schema.fields().iter().any(|field| holds_decimals(field.data_type()));
    let mut refused = decoded.refused.iter().peekable();
    let (mut accepted, mut compared) = (Vec::new(), Vec::new());
    for (index, value) in values.iter().enumerate() {
        // arrow-json multiplies a decimal by its power of ten without a bound, and overflows: left to `judge`.
        let compare = !decimals || !has_exponent(value);
        match refused.next_if(|refused| refused.index == index) {
            Some(_) if compare => compare_refusal(schema, value, differences),
            Some(_) => {}
            None => {
                compared.push(compare);
                accepted.extend(compare.then_some(value));
            }
        }
    }
    let rows = filter_record_batch(&decoded.batch, &BooleanArray::from(compared)).unwrap();
    compare_rows(schema, &accepted, &rows, differences);
}

fn compare_refusal(schema: &SchemaRef, value: &[u8], differences: &mut Differences) {
    if arrow_rows(schema, &[value]).is_none_or(|batch| batch.num_rows() != 1) {
        return;
    }
    let faults = judge::faults(schema.fields(), value);
    // Of a key that comes twice, arrow-json reads the last value alone.
    let twice = faults.iter().find(|found| found.fault == Fault::KeyTwice);
    let Some(named) = twice.or(faults.first()).and_then(|found| stricter(&found.fault)) else {
        panic!("only we refuse {}: {faults:?}", String::from_utf8_lossy(value));
    };
    *differences.entry(format!("refused: {named}")).or_default() += 1;
}

/// The faults that arrow-json reads over.
fn stricter(fault: &Fault) -> Option<String> {
    match fault {
        Fault::Kind { expected: "a number", found: "a string" } => {}
        Fault::Kind { expected: "a string with a date", found: "a number" } => {}
        // Beyond the ends of a BIGINT it reads a double, which may be the end itself.
        Fault::OutOfRange { of: "BIGINT" | "DOUBLE" | "FLOAT" } => {}
        Fault::KeyTwice | Fault::TooDeep | Fault::NotJson => {}
        Fault::Fraction | Fault::NoTime | Fault::NoDate | Fault::NoEpoch => {}
        Fault::Rounded { .. } => return Some("digits beyond the scale".to_owned()),
        _ => return None,
    }
    Some(fault.words())
}

/// Halves what differs until one record is left, and wants a name for it.
fn compare_rows(schema: &SchemaRef, values: &[&Vec<u8>], rows: &RecordBatch, differences: &mut Differences) {
    if values.is_empty() || arrow_rows(schema, values).is_some_and(|theirs| theirs == *rows) {
        return;
    }
    if let [value] = values {
        let text = std::str::from_utf8(value).unwrap();
        let found = differing_fields(schema.fields().iter().zip(rows.columns()), text, differences);
        assert!(found, "the columns agree one by one, but not together: {text}");
        return;
    }
    let half = values.len() / 2;
    compare_rows(schema, &values[..half], &rows.slice(0, half), differences);
    compare_rows(schema, &values[half..], &rows.slice(half, values.len() - half), differences);
}

/// Whether arrow-json reads a field of this legal object otherwise; `fields` come with their values of one row.
fn differing_fields<'a>(
    fields: impl Iterator<Item = (&'a Arc<Field>, &'a ArrayRef)>,
    object: &str,
    differences: &mut Differences,
) -> bool {
    let entries: BTreeMap<_, _> = judge::entries(object).into_iter().collect();
    let mut found = false;
    for (field, ours) in fields {
        if let Some(raw) = entries.get(field.name().as_str()) {
            found |= differs(field, raw, ours, differences);
        }
    }
    found
}

/// Whether arrow-json reads this value otherwise. If it does, each scalar within that differs has a name.
fn differs(field: &Arc<Field>, raw: &str, ours: &ArrayRef, differences: &mut Differences) -> bool {
    let alone = Arc::new(Schema::new(vec![Arc::clone(field)]));
    let theirs = arrow_rows(&alone, &[object(&[(field.name(), raw)])]);
    if theirs.as_ref().is_some_and(|theirs| theirs.column(0) == ours) {
        return false;
    }
    let found = match field.data_type() {
        DataType::Struct(members) if ours.is_valid(0) => {
            let ours = ours.as_struct();
            differing_fields(members.iter().zip(ours.columns()), raw, differences)
        }
        DataType::List(element) if ours.is_valid(0) => {
            let values = ours.as_list::<i32>().value(0);
            let mut found = false;
            for (index, raw) in judge::elements(raw).into_iter().enumerate() {
                found |= differs(element, raw, &values.slice(index, 1), differences);
            }
            found
        }
        data_type => match named_difference(data_type, raw) {
            Some(named) => {
                *differences.entry(format!("accepted: {named}")).or_default() += 1;
                true
            }
            None => false,
        },
    };
    assert!(found, "{field} {raw}\nours: {ours:?}\ntheirs: {theirs:?}");
    found
}

/// Why arrow-json may read this scalar otherwise, or not at all.
fn named_difference(data_type: &DataType, raw: &str) -> Option<&'static str> {
    match data_type {
        DataType::Timestamp(..) if !raw.starts_with('"') => Some("an epoch number"),
        DataType::Float32 if raw.starts_with('-') && raw.parse() == Ok(0f32) => Some("negative zero"),
        DataType::Float64 if raw.starts_with('-') && raw.parse() == Ok(0f64) => Some("negative zero"),
        DataType::Utf8View if raw.contains("\\u") && oracle::text(raw).contains(is_of_an_even_plane) => {
            Some("an escaped character of an even plane")
        }
        integer if integer.is_integer() && is_beyond_a_double(raw) => {
            Some("an integer beyond 2^53 with a point or an exponent")
        }
        _ => None,
    }
}

/// Whether arrow-json makes another character of this one's two escapes: it joins them bit by bit instead of adding.
fn is_of_an_even_plane(character: char) -> bool {
    matches!(u32::from(character) >> 16, plane if plane > 0 && plane % 2 == 0)
}

/// Whether arrow-json reads this whole number as a binary64 that cannot hold it exactly.
fn is_beyond_a_double(raw: &str) -> bool {
    raw.contains(['.', 'e', 'E']) && raw.parse::<f64>().is_ok_and(|value| value.abs() >= 2f64.powi(53))
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

/// Whether a number has an exponent, as far as one can tell of what may be no JSON.
fn has_exponent(record: &[u8]) -> bool {
    let text = String::from_utf8_lossy(record);
    let parts = text.split([',', '[', ']', '{', '}', ':', ' ', '\n', '\t', '\r']);
    let mut numbers = parts.map(|part| part.trim_matches('"')).filter(|part| {
        part.chars().all(|character| character.is_ascii_digit() || "+-.eE".contains(character))
    });
    numbers.any(|number| number.contains(['e', 'E']))
}

fn holds_decimals(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(members) => members.iter().any(|member| holds_decimals(member.data_type())),
        DataType::List(element) => holds_decimals(element.data_type()),
        leaf => leaf.is_decimal(),
    }
}
