//! Good records made odd, illegal or no text at all, from a seed: for the tests and the fuzz target's first inputs.

use arrow::datatypes::DataType;

use super::samples::{Seed, click, object};

/// Values that are odd for most columns, and some that are no values at all.
pub const ODDITIES: &[&str] = &[
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

/// A record of these entries, in one of the ways in which producers write.
pub fn write(seed: &mut Seed, entries: &[(String, String)]) -> String {
    match seed.below(6) {
        0 => object(entries).replace(",\"", ", \"").replace("\":", "\": "),
        1 => format!(" {}\r\n", object(entries)),
        _ => object(entries),
    }
}

/// Drops, repeats, reorders, renames and replaces entries.
pub fn distort(seed: &mut Seed, entries: &mut Vec<(String, String)>) {
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
pub fn damage(seed: &mut Seed, text: &mut Vec<u8>) {
    const BYTES: &[u8] = b"\"\\{}[],:0123456789-+.eEtfn ux\t\n\r\0\x7f\x80\xc3\xa9\xed\xff";
    for _ in 0..=seed.below(3) {
        let at = seed.below(text.len() + 1);
        let byte = if seed.one_in(4) { seed.draw() as u8 } else { BYTES[seed.below(BYTES.len())] };
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
pub fn record(seed: &mut Seed, mut entries: Vec<(String, String)>) -> Vec<u8> {
    if seed.one_in(4) {
        distort(seed, &mut entries);
    }
    let mut text = write(seed, &entries).into_bytes();
    if seed.one_in(6) {
        damage(seed, &mut text);
    }
    text
}

pub fn owned(entries: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A value of this type, as a rule.
pub fn any_value(seed: &mut Seed, data_type: &DataType) -> String {
    if seed.one_in(20) {
        return if seed.one_in(4) { seed.pick(ODDITIES).to_owned() } else { "null".to_owned() };
    }
    match data_type {
        DataType::Boolean => seed.pick(&["true", "false"]).to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::Decimal128(..) => seed.below(130).to_string(),
        DataType::Int32 | DataType::Int64 => (seed.draw() as i32 >> seed.below(30)).to_string(),
        DataType::Float32 | DataType::Float64 => match seed.below(3) {
            0 => f64::from_bits(seed.draw()).to_string().replace("NaN", "0.5").replace("inf", "1"),
            1 => format!("{:e}", seed.draw() as f64 / 7e15),
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
                    entries.push((field.name().as_str(), any_value(seed, field.data_type())));
                }
            }
            object(&entries)
        }
        DataType::List(element) => {
            let elements: Vec<_> = (0..seed.below(4)).map(|_| any_value(seed, element.data_type())).collect();
            format!("[{}]", elements.join(","))
        }
        _ => format!("\"{}\"", "é long text of some words".chars().take(seed.below(26)).collect::<String>()),
    }
}
