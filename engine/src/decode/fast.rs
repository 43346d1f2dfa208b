//! The fast path: follows the shapes of earlier records and reads only what it must.
//!
//! It accepts or passes on. What it accepts, the general path would accept with the same row; whatever is unusual, let
//! alone wrong, it leaves to the general path, and so it needs no reasons. Everything that is skipped is checked: a
//! guess by comparing the bytes, a value by its grammar, and by its type if a column is declared for it.
//!
//! The bytes are known to be UTF-8, and go on behind the record (see `scan`). Places only ever move forward, so whoever
//! arrives exactly at the record's end has never looked beyond it for an answer.

use super::column::Column;
use super::general::DEPTH_MAX;
use super::number::{self, signed_quotient};
use super::scan::{self, PADDING};
use super::shape::{LinkId, Shapes, UNKNOWN};
use super::text::unescape;
use super::time::{self, Calendar};
use super::tree::{NodeId, ROOT, Tree};

#[derive(Debug)]
pub(super) struct Fast {
    shapes: Shapes,
    calendar: Calendar,
    /// For a string with escapes.
    unescaped: Vec<u8>,
    /// For a record at the end of the buffer.
    padded: Vec<u8>,
}

impl Fast {
    pub(super) fn new(tree: &Tree) -> Fast {
        Fast {
            shapes: Shapes::new(tree.nodes.len()),
            calendar: Calendar::default(),
            unescaped: Vec::new(),
            padded: Vec::new(),
        }
    }

    /// Writes the record at `start` into the row at hand, or returns false and leaves remains there, which the caller
    /// takes back.
    #[inline]
    pub(super) fn read(&mut self, tree: &mut Tree, bytes: &[u8], start: usize, length: usize) -> bool {
        match bytes.get(start..start + length + PADDING) {
            Some(record) => self.read_padded(tree, record, length),
            None => {
                let mut padded = std::mem::take(&mut self.padded);
                padded.clear();
                padded.extend_from_slice(&bytes[start..start + length]);
                padded.resize(length + PADDING, 0);
                let accepted = self.read_padded(tree, &padded, length);
                self.padded = padded;
                accepted
            }
        }
    }

    fn read_padded(&mut self, tree: &mut Tree, bytes: &[u8], length: usize) -> bool {
        self.shapes.forget_if_full();
        let row = tree.row;
        let mut reader = Reader {
            tree,
            shapes: &mut self.shapes,
            calendar: &mut self.calendar,
            unescaped: &mut self.unescaped,
            bytes,
        };
        let begin = scan::space(bytes, 0);
        match reader.object(ROOT, row, begin, DEPTH_MAX) {
            Some(end) if end == length => true,
            Some(end) => end < length && scan::space(&bytes[..length], end) == length,
            None => false,
        }
    }
}

struct Reader<'a> {
    tree: &'a mut Tree,
    shapes: &'a mut Shapes,
    calendar: &'a mut Calendar,
    unescaped: &'a mut Vec<u8>,
    bytes: &'a [u8],
}

/// What comes after a value, or after the brace that opens an object.
enum Next {
    Value { link: LinkId, column: NodeId, at: usize },
    End(usize),
}

impl Reader<'_> {
    /// Behind the object whose brace should be at `at`. `depth` is how many levels it may have, its own included.
    fn object(&mut self, id: NodeId, row: usize, mut at: usize, depth: usize) -> Option<usize> {
        let depth = depth.checked_sub(1)?;
        let object = self.tree.new_object();
        let mut link = id;
        let mut first = true;
        loop {
            let column;
            match self.shapes.follow(link, self.bytes, at) {
                Some(step) => (link, column, at) = (step.link, step.column, at + step.length),
                None => match self.find(id, link, at, first)? {
                    Next::Value { link: found, column: leads_to, at: value } => {
                        (link, column, at) = (found, leads_to, value);
                    }
                    Next::End(end) => return Some(end),
                },
            }
            first = false;
            if column == UNKNOWN {
                at = scan::value(self.bytes, at, depth)?;
            } else if self.tree.see(column, object) {
                at = self.value(column, row, at, depth)?;
            } else {
                return None;
            }
        }
    }

    /// Reads what no shape foretold.
    fn find(&mut self, id: NodeId, link: LinkId, begin: usize, first: bool) -> Option<Next> {
        let bytes = self.bytes;
        let mut at = begin;
        if !first {
            if bytes.get(at) == Some(&b'}') {
                return Some(Next::End(at + 1));
            }
            at = scan::space(bytes, at);
        }
        match bytes.get(at)? {
            b'{' if first => {
                at = scan::space(bytes, at + 1);
                if bytes.get(at) == Some(&b'}') {
                    return Some(Next::End(at + 1));
                }
            }
            b',' if !first => at = scan::space(bytes, at + 1),
            b'}' if !first => return Some(Next::End(at + 1)),
            _ => return None,
        }
        let key = scan::word(bytes, at, b"\"")?;
        let (behind, escaped) = scan::string(bytes, key)?;
        if escaped {
            return None;
        }
        let column = self.tree.nodes[id as usize].keys.find(&bytes[key..behind - 1]).unwrap_or(UNKNOWN);
        at = scan::word(bytes, scan::space(bytes, behind), b":")?;
        at = scan::space(bytes, at);
        let link = self.shapes.learn(link, id, &bytes[begin..at], column);
        Some(Next::Value { link, column, at })
    }

    /// Behind the value of a declared column.
    fn value(&mut self, id: NodeId, row: usize, at: usize, depth: usize) -> Option<usize> {
        let bytes = self.bytes;
        let first = *bytes.get(at)?;
        if first == b'n' {
            return scan::word(bytes, at, b"null");
        }
        match &mut self.tree.columns[id as usize] {
            Column::Text(texts) if first == b'"' => {
                let chunk = scan::load(bytes, at + 1)?;
                let length = scan::specials(chunk).trailing_zeros() as usize;
                if length <= 12 && chunk[length] == b'"' {
                    texts.set_short(row, chunk, length);
                    return Some(at + length + 2);
                }
                let (end, escaped) = scan::string(bytes, at + 1)?;
                let contents = &bytes[at + 1..end - 1];
                if escaped {
                    self.unescaped.clear();
                    unescape(contents, self.unescaped).ok()?;
                    texts.set(row, self.unescaped);
                } else {
                    texts.set(row, contents);
                }
                Some(end)
            }
            Column::Timestamp(slots) if first == b'"' => {
                let end = scan::plain_end(bytes, at + 1)?;
                slots.set(row, self.calendar.timestamp(&bytes[at + 1..end])?);
                scan::word(bytes, end, b"\"")
            }
            Column::Timestamp(slots) => {
                let number = Number::read(bytes, at)?;
                let micros = match number.integer() {
                    Some(value) => time::epoch_integer(value),
                    None => time::epoch(number.text(bytes)),
                };
                slots.set(row, micros?);
                Some(number.end)
            }
            Column::Integer { slots, min, max } => {
                let number = Number::read(bytes, at)?;
                let value = match number.integer() {
                    Some(value) if (*min..=*max).contains(&value) => value,
                    Some(_) => return None,
                    None => number::to_integer(number.text(bytes), *min, *max).ok()?,
                };
                slots.set(row, value);
                Some(number.end)
            }
            Column::Float64(slots) => {
                let number = Number::read(bytes, at)?;
                let value = match number.quotient() {
                    Some(value) => value + 0.0,
                    None => number::to_f64(number.text(bytes)).ok()?,
                };
                slots.set(row, value);
                Some(number.end)
            }
            Column::Float32(slots) => {
                let end = scan::number(bytes, at)?;
                slots.set(row, number::to_f32(&bytes[at..end]).ok()?);
                Some(end)
            }
            Column::Decimal { slots, precision, scale } => {
                let end = scan::number(bytes, at)?;
                slots.set(row, number::to_decimal(&bytes[at..end], *precision, *scale).ok()?);
                Some(end)
            }
            Column::Boolean(slots) => {
                let value = first == b't';
                slots.set(row, value);
                scan::word(bytes, at, if value { b"true" } else { b"false" })
            }
            Column::Date(slots) if first == b'"' => {
                let end = scan::plain_end(bytes, at + 1)?;
                slots.set(row, time::date(&bytes[at + 1..end])?);
                scan::word(bytes, end, b"\"")
            }
            Column::Struct(slots) if first == b'{' => {
                slots.set(row, ());
                self.object(id, row, at, depth)
            }
            Column::List(_) if first == b'[' => self.array(id, row, at, depth),
            _ => None,
        }
    }

    fn array(&mut self, id: NodeId, row: usize, at: usize, depth: usize) -> Option<usize> {
        let depth = depth.checked_sub(1)?;
        let child = self.tree.nodes[id as usize].children[0];
        let mut at = scan::space(self.bytes, at + 1);
        let mut length = 0;
        if self.bytes.get(at) != Some(&b']') {
            loop {
                let element = self.tree.add_element(id);
                at = scan::space(self.bytes, self.value(child, element, at, depth)?);
                length += 1;
                match self.bytes.get(at)? {
                    b',' => at = scan::space(self.bytes, at + 1),
                    b']' => break,
                    _ => return None,
                }
            }
        }
        if let Column::List(lists) = &mut self.tree.columns[id as usize] {
            lists.set(row, length);
        }
        Some(at + 1)
    }
}

/// A number of the usual kind, read in one go: up to eighteen digits, perhaps a point. Others are only measured.
struct Number {
    begin: usize,
    end: usize,
    negative: bool,
    /// All digits, if they are few.
    digits: Option<u64>,
    decimals: usize,
}

impl Number {
    #[inline]
    fn read(bytes: &[u8], begin: usize) -> Option<Number> {
        let negative = *bytes.get(begin)? == b'-';
        let start = begin + usize::from(negative);
        let mut at = start;
        let mut digits = 0u64;
        while let Some(digit) = digit(bytes, at) {
            digits = digits.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        let whole = at - start;
        let mut decimals = 0;
        if bytes.get(at) == Some(&b'.') {
            let point = at;
            at += 1;
            while let Some(digit) = digit(bytes, at) {
                digits = digits.wrapping_mul(10).wrapping_add(digit);
                at += 1;
            }
            decimals = at - point - 1;
            if decimals == 0 {
                return None;
            }
        }
        if whole == 0 || (whole > 1 && bytes[start] == b'0') {
            return None;
        }
        if whole + decimals > 18 || matches!(bytes.get(at), Some(b'e' | b'E')) {
            return Some(Number {
                begin,
                end: scan::number(bytes, begin)?,
                negative,
                digits: None,
                decimals,
            });
        }
        Some(Number { begin, end: at, negative, digits: Some(digits), decimals })
    }

    fn integer(&self) -> Option<i64> {
        let digits = self.digits.filter(|_| self.decimals == 0)? as i64;
        Some(if self.negative { -digits } else { digits })
    }

    fn quotient(&self) -> Option<f64> {
        signed_quotient(self.negative, self.digits?, self.decimals)
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.begin..self.end]
    }
}

#[inline]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}
