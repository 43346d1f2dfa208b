//! The general path: reads any legal JSON, finds the reason why a record is refused, and never hurries.
//!
//! The crate `sonic-rs` judges the grammar. Before it sees a record, `guard` has checked what that crate takes lightly
//! in values it skips: escapes, and how deep values nest. What a scalar means is said in `number`, `time` and `text`,
//! which the fast path shares.

use std::borrow::Cow;

use sonic_rs::LazyValue;

use super::column::Column;
use super::number::NumberFault;
use super::text::{TextFault, closing_quote, unescape};
use super::tree::{ELEMENT_BYTES_MAX, NodeId, ROOT, Tree};
use super::{number, time};

/// How many objects and arrays may lie within each other, the record itself included.
pub(super) const DEPTH_MAX: usize = 64;

/// Longest piece of a record that a reason quotes.
const QUOTE_CHARS_MAX: usize = 60;

/// Why a record is refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub reason: String,
    pub at: usize,
}

/// Writes `record` into the row at hand. After a refusal the row holds remains, which the caller takes back.
pub(super) fn read(tree: &mut Tree, record: &[u8]) -> Result<(), Refusal> {
    let refuse = |at: usize, reason: &str| Err(Refusal { reason: reason.to_owned(), at });
    if record.is_empty() {
        return refuse(0, "the value is empty");
    }
    if record.starts_with(b"\xEF\xBB\xBF") {
        return refuse(0, "the value begins with a byte-order mark");
    }
    let text = match simdutf8::compat::from_utf8(record) {
        Ok(text) => text,
        Err(error) => return refuse(error.valid_up_to(), "the value is not UTF-8"),
    };
    let Some(first) = text.bytes().position(|byte| !is_space(byte)) else {
        return refuse(0, "the value is empty");
    };
    guard(record)?;
    // The crate tells the grammar of one value and what follows it; only then are its parts looked at.
    if let Err(error) = sonic_rs::from_str::<LazyValue>(text) {
        return Err(not_json(&error, text));
    }
    if record[first] != b'{' {
        let found = kind_of(&text[first..]);
        return Err(Refusal { reason: format!("the value must be an object, found {found}"), at: first });
    }
    let row = tree.row;
    Reader { tree, record: text }.object(ROOT, row, &text[first..])
}

/// Checks each string and the nesting. Outside of strings it looks at brackets alone: the grammar is judged elsewhere.
fn guard(record: &[u8]) -> Result<(), Refusal> {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = record.get(at) {
        match byte {
            b'"' => {
                let check = closing_quote(record, at + 1);
                at = check.map_err(|TextFault { at, reason }| Refusal { reason: not_legal(reason), at })?;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Refusal { reason: format!("the value nests deeper than {DEPTH_MAX} levels"), at });
        }
        at += 1;
    }
    Ok(())
}

struct Reader<'a> {
    tree: &'a mut Tree,
    record: &'a str,
}

impl Reader<'_> {
    /// `text` begins with the object's brace.
    fn object(&mut self, id: NodeId, row: usize, text: &str) -> Result<(), Refusal> {
        let object = self.tree.new_object();
        for entry in sonic_rs::to_object_iter(text) {
            let (key, value) = entry.map_err(|error| not_json(&error, text))?;
            let Some(child) = self.tree.nodes[id as usize].keys.find(key.as_bytes()) else { continue };
            let raw = value.as_raw_str();
            if !self.tree.see(child, object) {
                return self.refuse(child, raw, "the key comes twice");
            }
            self.value(child, row, raw)?;
        }
        Ok(())
    }

    fn array(&mut self, id: NodeId, row: usize, text: &str) -> Result<(), Refusal> {
        let child = self.tree.nodes[id as usize].children[0];
        let mut length = 0;
        for element in sonic_rs::to_array_iter(text) {
            let element = element.map_err(|error| not_json(&error, text))?;
            let Some(row) = self.tree.add_element(id) else {
                let most = ELEMENT_BYTES_MAX >> 20;
                let reason = format!("the arrays hold too many elements, which would take over {most} MiB");
                return self.refuse(id, text, &reason);
            };
            self.value(child, row, element.as_raw_str())?;
            length += 1;
        }
        if let Column::List(lists) = &mut self.tree.columns[id as usize] {
            lists.set(row, length);
        }
        Ok(())
    }

    /// `raw` is one value, without space around it.
    fn value(&mut self, id: NodeId, row: usize, raw: &str) -> Result<(), Refusal> {
        if raw == "null" {
            return Ok(());
        }
        let bytes = raw.as_bytes();
        let is_number = matches!(bytes[0], b'-' | b'0'..=b'9');
        match &mut self.tree.columns[id as usize] {
            Column::Boolean(slots) if raw == "true" || raw == "false" => slots.set(row, raw == "true"),
            Column::Integer { slots, min, max } if is_number => match number::to_integer(bytes, *min, *max) {
                Ok(value) => slots.set(row, value),
                Err(fault) => return self.misfit(id, raw, fault),
            },
            Column::Float32(slots) if is_number => match number::to_f32(bytes) {
                Ok(value) => slots.set(row, value),
                Err(fault) => return self.misfit(id, raw, fault),
            },
            Column::Float64(slots) if is_number => match number::to_f64(bytes) {
                Ok(value) => slots.set(row, value),
                Err(fault) => return self.misfit(id, raw, fault),
            },
            Column::Decimal { slots, precision, scale } if is_number => {
                match number::to_decimal(bytes, *precision, *scale) {
                    Ok(value) => slots.set(row, value),
                    Err(fault) => return self.misfit(id, raw, fault),
                }
            }
            Column::Timestamp(slots) if is_number => match time::epoch(bytes) {
                Some(micros) => slots.set(row, micros),
                None => {
                    let reason =
                        "not an epoch of seconds, milliseconds or microseconds from the years 1 to 9999";
                    return self.refuse(id, raw, reason);
                }
            },
            Column::Timestamp(slots) if bytes[0] == b'"' => match time::timestamp(&contents(bytes)) {
                Some(micros) => slots.set(row, micros),
                None => return self.refuse(id, raw, "not a time such as 2025-06-01T00:00:04.871Z"),
            },
            Column::Date(slots) if bytes[0] == b'"' => match time::date(&contents(bytes)) {
                Some(days) => slots.set(row, days),
                None => return self.refuse(id, raw, "not a date such as 2025-06-01"),
            },
            Column::Text(texts) if bytes[0] == b'"' => texts.set(row, &contents(bytes)),
            Column::Struct(slots) if bytes[0] == b'{' => {
                slots.set(row, ());
                return self.object(id, row, raw);
            }
            Column::List(_) if bytes[0] == b'[' => return self.array(id, row, raw),
            column => {
                let reason = format!("expected {}, found {}", expectation(column), kind_of(raw));
                return self.refuse(id, raw, &reason);
            }
        }
        Ok(())
    }

    fn misfit(&self, id: NodeId, raw: &str, fault: NumberFault) -> Result<(), Refusal> {
        let reason = match (fault, &self.tree.columns[id as usize]) {
            (NumberFault::OutOfRange, column) => format!("out of the range of {}", name_of(column)),
            (NumberFault::Inexact, Column::Decimal { scale, .. }) => {
                format!("more than {scale} decimals, which would be rounded away")
            }
            (NumberFault::Inexact, _) => "not a whole number".to_owned(),
        };
        self.refuse(id, raw, &reason)
    }

    fn refuse(&self, id: NodeId, raw: &str, reason: &str) -> Result<(), Refusal> {
        let path = &self.tree.nodes[id as usize].path;
        let quoted = quoted(raw.as_bytes());
        let at = raw.as_ptr() as usize - self.record.as_ptr() as usize;
        Err(Refusal { reason: format!("{reason}. column=\"{path}\", value={quoted}"), at })
    }
}

/// What the string `raw`, quotes included, stands for. `guard` has checked it.
fn contents(raw: &[u8]) -> Cow<'_, [u8]> {
    let inner = &raw[1..raw.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    unescape(inner, &mut out).expect("every string of the record was checked before");
    Cow::Owned(out)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn not_legal(reason: &str) -> String {
    format!("not legal JSON: {reason}")
}

fn not_json(error: &sonic_rs::Error, text: &str) -> Refusal {
    if error.is_eof() {
        return Refusal { reason: not_legal("the value ends too early"), at: text.len() };
    }
    // The crate's words go on with the line and a picture of the place.
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    let mut at = error.offset().min(text.len());
    // The place is where a word goes wrong; it is told from its beginning.
    while words.starts_with("Invalid literal") && at > 0 && text.as_bytes()[at - 1].is_ascii_alphabetic() {
        at -= 1;
    }
    let (before, found) = text.as_bytes().split_at(at);
    let behind_a_comma = before.trim_ascii_end().ends_with(b",") && matches!(found, [b'}' | b']', ..]);
    let reason = match words {
        _ if behind_a_comma => "nothing comes behind a comma",
        "Expected this character to be a ':' while parsing" => "a key is not followed by ':'",
        "Expected this character to be either a ',' or a ']' while parsing" => {
            "an element is followed neither by ',' nor by ']'"
        }
        "Expected this character to be either a ',' or a '}' while parsing" => {
            "a field is followed neither by ',' nor by '}'"
        }
        "Expected this character to be '\"' or '}'" => "a key must stand in double quotes",
        "Invalid JSON value" => "no value begins so",
        "Invalid literal (`true`, `false`, or a `null`) while parsing" => {
            "but for true, false and null, no word stands without quotes"
        }
        "Invalid number" => "no number is written so",
        "JSON has non-whitespace trailing characters after the value" => "something comes behind the value",
        other => other,
    };
    Refusal { reason: format!("{}. found={}", not_legal(reason), quoted(found)), at }
}

/// The beginning of `text`, in one line.
fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let shown = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let cut = if text.chars().nth(QUOTE_CHARS_MAX).is_some() { "…" } else { "" };
    shown.take(QUOTE_CHARS_MAX).collect::<String>() + cut
}

fn kind_of(raw: &str) -> &'static str {
    match raw.as_bytes()[0] {
        b'"' => "a string",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

fn expectation(column: &Column) -> &'static str {
    match column {
        Column::Boolean(_) => "a boolean",
        Column::Integer { .. } | Column::Float32(_) | Column::Float64(_) | Column::Decimal { .. } => {
            "a number"
        }
        Column::Date(_) => "a string with a date",
        Column::Timestamp(_) => "a string with a time, or an epoch number",
        Column::Text(_) => "a string",
        Column::Struct(_) => "an object",
        Column::List(_) => "an array",
    }
}

/// As the declaration says it.
fn name_of(column: &Column) -> String {
    match column {
        Column::Integer { min: -0x80, .. } => "TINYINT".to_owned(),
        Column::Integer { min: -0x8000, .. } => "SMALLINT".to_owned(),
        Column::Integer { min: -0x8000_0000, .. } => "INT".to_owned(),
        Column::Integer { .. } => "BIGINT".to_owned(),
        Column::Float32(_) => "FLOAT".to_owned(),
        Column::Decimal { precision, scale, .. } => format!("DECIMAL({precision}, {scale})"),
        _ => "DOUBLE".to_owned(),
    }
}
