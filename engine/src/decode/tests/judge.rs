//! What must become of a record, found without the decoder: for the tests and the fuzz target.
//!
//! serde_json judges the grammar; what it takes lightly, lone surrogates and the depth, is looked for by other code than
//! the decoder's. The columns' values are judged by `oracle`. Each record is accepted just if it has no fault, and then
//! every stored value is the expected one; else its first fault is the reason, at the same place.

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Fields, Schema};
use serde::de::IgnoredAny;

use super::oracle;
use crate::decode::{Decoded, Decoder, Refused};
use crate::source::Records;

const DEPTH_MAX: usize = 64;

/// Longest piece of a value that a reason quotes.
const QUOTE_CHARS_MAX: usize = 60;

/// Why a record must be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    Empty,
    ByteOrderMark,
    NotUtf8,
    NotJson,
    LoneSurrogate,
    TooDeep,
    NoObject {
        found: &'static str,
    },
    KeyTwice,
    Kind {
        expected: &'static str,
        found: &'static str,
    },
    Fraction,
    Rounded {
        scale: i8,
    },
    /// Of a type, as it is declared.
    OutOfRange {
        of: &'static str,
    },
    NoTime,
    NoDate,
    NoEpoch,
}

impl Fault {
    /// How the decoder's reason begins.
    pub fn words(&self) -> String {
        let words = match self {
            Fault::Empty => "the value is empty",
            Fault::ByteOrderMark => "the value begins with a byte-order mark",
            Fault::NotUtf8 => "the value is not UTF-8",
            Fault::NotJson => "not legal JSON",
            Fault::LoneSurrogate => "not legal JSON: a surrogate without its other half",
            Fault::TooDeep => "the value nests deeper than 64 levels",
            Fault::NoObject { found } => return format!("the value must be an object, found {found}"),
            Fault::KeyTwice => "the key comes twice",
            Fault::Kind { expected, found } => return format!("expected {expected}, found {found}"),
            Fault::Fraction => "not a whole number",
            Fault::Rounded { scale } => {
                return format!("more than {scale} decimals, which would be rounded away");
            }
            Fault::OutOfRange { of } => return format!("out of the range of {of}"),
            Fault::NoTime => "not a time such as",
            Fault::NoDate => "not a date such as",
            Fault::NoEpoch => {
                "not an epoch of seconds, milliseconds or microseconds from the years 1 to 9999"
            }
        };
        words.to_owned()
    }
}

/// A fault and where it is, as a reason tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub fault: Fault,
    /// Absent where readers may differ: in what is no JSON.
    at: Option<usize>,
    /// How the reason ends: the column and the value.
    ending: String,
}

impl Found {
    fn is_told_by(&self, refused: &Refused) -> bool {
        // What is no JSON for another reason need not have a lone surrogate.
        let of_surrogates = refused.reason == Fault::LoneSurrogate.words();
        refused.reason.starts_with(&self.fault.words())
            && of_surrogates == (self.fault == Fault::LoneSurrogate)
            && refused.reason.ends_with(&self.ending)
            && self.at.is_none_or(|at| at == refused.at)
    }
}

/// Fails unless each record became what it must. `decoded` may have fewer columns than are declared.
pub fn check(declared: &Schema, records: &Records, decoded: &Decoded) {
    let columns: Vec<_> =
        declared.fields().iter().map(|field| decoded.batch.column_by_name(field.name())).collect();
    let mut refused = decoded.refused.iter().peekable();
    let mut row = 0;
    for index in 0..records.spans.len() {
        let record = records.value(index).expect("the tests have no tombstones here");
        match refused.next_if(|refused| refused.index == index) {
            Some(refused) => check_refusal(declared.fields(), record, refused),
            None => {
                let faults = Walk::over(declared.fields(), record, Some((&columns, row)));
                assert!(faults.is_empty(), "accepted, but {faults:?}: {}", shown(record));
                row += 1;
            }
        }
    }
    assert!(refused.next().is_none(), "a refusal of no record, or out of order");
    assert_eq!(row, decoded.batch.num_rows());
}

/// Decodes some of the records by themselves: the same rows and refusals must come out as from the `whole`.
pub fn check_piece(decoder: &mut Decoder, records: &Records, piece: Range<usize>, whole: &Decoded) {
    let mut alone = Records::default();
    piece.clone().for_each(|index| alone.push(records.value(index)));
    // Nothing may lie behind the last record, or reading it would not be noticed.
    alone.bytes.shrink_to_fit();
    let mut found = decoder.decode(&alone).expect("a batch");
    found.refused.iter_mut().for_each(|refused| refused.index += piece.start);
    let refused_before = |end: usize| whole.refused.partition_point(|refused| refused.index < end);
    let refused = refused_before(piece.start)..refused_before(piece.end);
    assert_eq!(found.refused, whole.refused[refused.clone()]);
    let rows = whole.batch.slice(piece.start - refused.start, piece.len() - refused.len());
    assert_eq!(found.batch, rows, "by themselves, records read otherwise: {}", shown(&alone.bytes));
}

/// All that is wrong with a record, in order. What is no legal JSON has no other faults.
pub fn faults(declared: &Fields, record: &[u8]) -> Vec<Found> {
    Walk::over(declared, record, None)
}

fn check_refusal(declared: &Fields, record: &[u8], refused: &Refused) {
    let faults = faults(declared, record);
    // The grammar may be wrong in two ways, and so may one number.
    let first = faults.iter().take_while(|found| found.at.is_none() || found.at == faults[0].at);
    let told = first.into_iter().any(|found| found.is_told_by(refused));
    assert!(told && refused.at <= record.len(), "{refused:?}, but {faults:?}: {}", shown(record));
}

fn shown(record: &[u8]) -> String {
    String::from_utf8_lossy(record).into_owned()
}

/// What is wrong with a record whatever its columns are.
fn grammar_faults(record: &[u8]) -> Vec<Found> {
    let found = |fault, at| Found { fault, at, ending: String::new() };
    if record.iter().all(|byte| b" \t\r\n".contains(byte)) {
        return vec![found(Fault::Empty, Some(0))];
    }
    if record.starts_with("\u{feff}".as_bytes()) {
        return vec![found(Fault::ByteOrderMark, Some(0))];
    }
    let text = match std::str::from_utf8(record) {
        Ok(text) => text,
        Err(error) => return vec![found(Fault::NotUtf8, Some(error.valid_up_to()))],
    };
    let legal = serde_json::from_str::<IgnoredAny>(text).is_ok();
    let exact = |at: usize| legal.then_some(at);
    let mut faults = Vec::new();
    faults.extend((!legal).then(|| found(Fault::NotJson, None)));
    faults.extend(lone_surrogate(text).map(|at| found(Fault::LoneSurrogate, exact(at))));
    faults.extend(too_deep(record).map(|at| found(Fault::TooDeep, exact(at))));
    // The first one in the record is the reason.
    faults.sort_by_key(|found| found.at);
    faults
}

/// Where the first escape of half a pair stands.
fn lone_surrogate(text: &str) -> Option<usize> {
    let unit = |at: usize| {
        let digits = text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        at += found;
        let units: Vec<u16> = (0..).map_while(|index| unit(at + 6 * index)).collect();
        let mut place = at;
        for character in char::decode_utf16(units.iter().copied()) {
            match character {
                Ok(character) => place += 6 * character.len_utf16(),
                Err(_) => return Some(place),
            }
        }
        // A backslash that begins no such escape takes the next character along.
        at = if units.is_empty() {
            at + 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8)
        } else {
            place
        };
    }
    None
}

/// Where the first object or array begins that lies too deep.
fn too_deep(record: &[u8]) -> Option<usize> {
    if record.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= DEPTH_MAX {
        return None;
    }
    let mut depth = 0usize;
    for (at, byte) in unquoted(record) {
        match byte {
            b'{' | b'[' if depth == DEPTH_MAX => return Some(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The columns of an object's fields, if they are wanted, and its row.
type Stored<'a> = Option<(&'a [Option<&'a ArrayRef>], usize)>;

/// Goes through a record by the declared columns.
struct Walk<'a> {
    record: &'a str,
    path: String,
    faults: Vec<Found>,
}

impl<'a> Walk<'a> {
    fn over(declared: &Fields, record: &'a [u8], stored: Stored<'_>) -> Vec<Found> {
        let faults = grammar_faults(record);
        let Some(record) = std::str::from_utf8(record).ok().filter(|_| faults.is_empty()) else {
            return faults;
        };
        let mut walk = Walk { record, path: String::new(), faults };
        let text = trim(record);
        match oracle::kind(text) {
            "an object" => walk.object(declared, text, stored),
            found => {
                let (fault, at) = (Fault::NoObject { found }, Some(walk.place(text)));
                walk.faults.push(Found { fault, at, ending: String::new() });
            }
        }
        walk.faults
    }

    fn object(&mut self, fields: &Fields, raw: &'a str, stored: Stored<'_>) {
        let mut seen = vec![false; fields.len()];
        let outer = self.path.len();
        for (key, value) in entries(raw) {
            let Some((index, field)) = fields.find(&key) else { continue };
            let point = if outer == 0 { "" } else { "." };
            self.path.extend([point, &*key]);
            if std::mem::replace(&mut seen[index], true) {
                self.find(Fault::KeyTwice, value);
            } else {
                let stored = stored.and_then(|(columns, row)| Some((columns[index]?, row)));
                self.value(field.data_type(), value, stored);
            }
            self.path.truncate(outer);
        }
        let Some((columns, row)) = stored else { return };
        for (column, _) in columns.iter().zip(seen).filter(|(_, seen)| !seen) {
            assert!(column.is_none_or(|column| column.is_null(row)), "a missing field in {}", self.record);
        }
    }

    fn value(&mut self, data_type: &DataType, raw: &'a str, stored: Option<(&ArrayRef, usize)>) {
        if let Some((column, row)) = stored
            && column.is_null(row) != (raw == "null")
        {
            panic!("NULL or not? column={}, value={raw}, record={}", self.path, self.record);
        }
        match (data_type, oracle::kind(raw)) {
            (_, "null") => {}
            (DataType::Struct(fields), "an object") => {
                let columns: Vec<_> = match stored {
                    Some((column, _)) => column.as_struct().columns().iter().map(Some).collect(),
                    None => vec![],
                };
                self.object(fields, raw, stored.map(|(_, row)| (columns.as_slice(), row)));
            }
            (DataType::List(element), "an array") => self.array(element.data_type(), raw, stored),
            (DataType::Struct(_) | DataType::List(_), found) => {
                self.find(Fault::Kind { expected: oracle::expectation(data_type), found }, raw);
            }
            _ => match oracle::read(data_type, raw) {
                Ok(expected) => {
                    let found = stored.map(|(column, row)| oracle::stored(column, row));
                    let right = found.as_ref().is_none_or(|found| *found == expected);
                    assert!(right, "{raw} became {found:?}, not {expected:?}: {}", self.record);
                }
                Err(faults) => faults.into_iter().for_each(|fault| self.find(fault, raw)),
            },
        }
    }

    fn array(&mut self, element: &DataType, raw: &'a str, stored: Option<(&ArrayRef, usize)>) {
        let elements = elements(raw);
        let mut begin = 0;
        if let Some((column, row)) = stored {
            let list = column.as_list::<i32>();
            assert_eq!(list.value_length(row) as usize, elements.len(), "{raw}: {}", self.record);
            begin = list.value_offsets()[row] as usize;
        }
        let outer = self.path.len();
        self.path.push_str("[]");
        for (index, raw) in elements.into_iter().enumerate() {
            let stored = stored.map(|(column, _)| (column.as_list::<i32>().values(), begin + index));
            self.value(element, raw, stored);
        }
        self.path.truncate(outer);
    }

    fn find(&mut self, fault: Fault, raw: &'a str) {
        let line = raw.replace(char::is_control, " ");
        let quoted = match line.char_indices().nth(QUOTE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        };
        let ending = format!(". column=\"{}\", value={quoted}", self.path);
        self.faults.push(Found { fault, at: Some(self.place(raw)), ending });
    }

    fn place(&self, raw: &str) -> usize {
        raw.as_ptr() as usize - self.record.as_ptr() as usize
    }
}

/// Keys and values of a legal object in their order, repeated keys too.
pub fn entries(raw: &str) -> Vec<(Cow<'_, str>, &str)> {
    elements(raw).into_iter().map(entry).collect()
}

fn entry(member: &str) -> (Cow<'_, str>, &str) {
    let colon = unquoted(member.as_bytes()).find(|(_, byte)| *byte == b':').expect("a key and its value").0;
    (oracle::text(trim(&member[..colon])), trim(&member[colon + 1..]))
}

/// The elements of a legal array, or the members of an object.
pub fn elements(raw: &str) -> Vec<&str> {
    let raw = trim(raw);
    let inner = trim(&raw[1..raw.len() - 1]);
    let (mut elements, mut begin, mut depth) = (Vec::new(), 0, 0);
    for (at, byte) in unquoted(inner.as_bytes()) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                elements.push(trim(&inner[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    elements.extend((!inner.is_empty()).then(|| trim(&inner[begin..])));
    elements
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// The bytes outside of strings, and where they are.
fn unquoted(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter().copied().enumerate().filter(move |(_, byte)| {
        if !std::mem::take(&mut escaped) {
            escaped = quoted && *byte == b'\\';
            quoted ^= *byte == b'"';
        }
        !quoted
    })
}
