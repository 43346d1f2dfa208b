//! Good records made odd, illegal or no text at all, from a seed: for the tests and the fuzz target's first inputs.

use super::samples::{Seed, object};

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
    "-9223372036854775808",
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
    match seed.below(8) {
        0 | 1 => object(entries).replace(",\"", ", \"").replace("\":", "\": "),
        2 => format!(" {}\r\n", object(entries)),
        3 => pretty(&object(entries)),
        _ => object(entries),
    }
}

/// With a line for each entry and element, as people write.
fn pretty(compact: &str) -> String {
    let mut text = String::new();
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for character in compact.chars() {
        let structural = !quoted;
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = character == '\\' && !escaped;
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match character {
            '{' | '[' if structural => {
                depth += 1;
                text.push(character);
                text.push_str(&line(depth));
            }
            '}' | ']' if structural => {
                depth = depth.saturating_sub(1);
                text.push_str(&line(depth));
                text.push(character);
            }
            ',' if structural => text.push_str(&format!(",{}", line(depth))),
            ':' if structural => text.push_str(": "),
            _ => text.push(character),
        }
    }
    text
}

/// Drops, repeats, reorders, renames and replaces entries.
pub fn distort(seed: &mut Seed, entries: &mut Vec<(String, String)>) {
    for _ in 0..=seed.below(3) {
        if entries.is_empty() {
            return;
        }
        let at = seed.below(entries.len());
        match seed.below(9) {
            0 => drop(entries.remove(at)),
            1 => seed.shuffle(entries),
            2 => entries.push(entries[at].clone()),
            3 => entries.insert(at, (format!("x{}", seed.below(50)), seed.pick(ODDITIES).to_owned())),
            // The link to such a key may be just too long to be remembered.
            4 => entries.insert(at, ("x".repeat(24 + seed.below(8)), "null".to_owned())),
            5 if seed.one_in(2) => entries.insert(at, ("deep".to_owned(), nest(seed))),
            5 => entries[at].1 = nest(seed),
            6 => entries[at].0 = entries[at].0.replace('e', "\\u0065"),
            7 => entries[at].1 = "null".to_owned(),
            _ => entries[at].1 = seed.pick(ODDITIES).to_owned(),
        }
    }
}

/// A value that is about as deep as one may be; some are one too deep together with their record.
fn nest(seed: &mut Seed) -> String {
    let (mut begin, mut end) = (String::new(), String::new());
    for _ in 0..58 + seed.below(9) {
        let (open, close) = if seed.one_in(2) { ("[", "]") } else { ("{\"a\":", "}") };
        begin.push_str(open);
        end.insert_str(0, close);
    }
    format!("{begin}{}{end}", seed.pick(&["1", "null", "\"[{\"", "[]", "{}"]))
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
