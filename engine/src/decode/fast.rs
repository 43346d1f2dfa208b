//! The fast path: follows the shapes of earlier records and reads only what it must.
//!
//! It accepts or passes on. What it accepts, the general path would accept with the same row; whatever is unusual, let
//! alone wrong, it leaves to the general path, and so it needs no reasons. Everything that is skipped is checked: a
//! guess by comparing the bytes, a value by its grammar, and by its type if a column is declared for it.
//!
//! The bytes are known to be UTF-8, and go on behind the record (see `scan`). Places only ever move forward, so whoever
//! arrives exactly at the record's end has never looked beyond it for an answer.

use super::column::{Column, Texts};
use super::digits::Number;
use super::general::DEPTH_MAX;
use super::number;
use super::scan;
use super::shape::{LinkId, Shapes, Step, UNKNOWN};
use super::text::unescape;
use super::time::{self, Calendar};
use super::tree::{NodeId, ROOT, Tree};
use super::wide::{self, PADDING};

#[derive(Debug)]
pub(super) struct Fast {
    shapes: Shapes,
    calendar: Calendar,
    /// For a string with escapes.
    unescaped: Vec<u8>,
}

impl Fast {
    pub(super) fn new(tree: &Tree) -> Fast {
        Fast { shapes: Shapes::new(tree.nodes.len()), calendar: Calendar::default(), unescaped: Vec::new() }
    }

    /// Writes the record at `start` into the row at hand, or returns false and leaves remains there, which the caller
    /// takes back.
    #[inline]
    pub(super) fn read(&mut self, tree: &mut Tree, bytes: &[u8], start: usize, length: usize) -> bool {
        match bytes.get(start..start + length + PADDING) {
            Some(record) => self.read_padded(tree, record, length),
            // One of the last few of its batch.
            None => {
                let padded = [&bytes[start..start + length], &[0; PADDING]].concat();
                self.read_padded(tree, &padded, length)
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

/// What no shape foretold.
enum Next {
    Key(Step),
    /// The place behind the object.
    End(usize),
}

impl Reader<'_> {
    /// Behind the object whose brace should be at `at`. `depth` is how many levels it may have, its own included.
    fn object(&mut self, id: NodeId, row: usize, mut at: usize, depth: usize) -> Option<usize> {
        let bytes = self.bytes;
        let depth = depth.checked_sub(1)?;
        let object = self.tree.new_object();
        let mut step = match self.shapes.follow(id, bytes, at) {
            Some(step) => step,
            None => match self.first(id, at)? {
                Next::Key(step) => step,
                Next::End(end) => return Some(end),
            },
        };
        loop {
            at += step.length;
            // A guess may have been learned from a producer who puts no space there.
            if *bytes.get(at)? <= b' ' {
                at = scan::space(bytes, at);
            }
            if step.column == UNKNOWN {
                at = scan::value(bytes, at, depth)?;
            } else if self.tree.see(step.column, object) {
                at = self.value(step.column, row, at, depth)?;
            } else {
                return None;
            }
            if bytes.get(at) == Some(&b'}') {
                return Some(at + 1);
            }
            step = match self.shapes.follow(step.link, bytes, at) {
                Some(step) => step,
                None => match self.next(id, step.link, at)? {
                    Next::Key(step) => step,
                    Next::End(end) => return Some(end),
                },
            };
        }
    }

    /// Reads an object's brace and what no shape foretold.
    #[inline(never)]
    fn first(&mut self, id: NodeId, begin: usize) -> Option<Next> {
        let at = scan::space(self.bytes, scan::word(self.bytes, begin, b"{")?);
        if self.bytes.get(at) == Some(&b'}') {
            return Some(Next::End(at + 1));
        }
        self.key(id, id, begin, at)
    }

    /// Reads what follows a value, and no shape foretold.
    #[inline(never)]
    fn next(&mut self, id: NodeId, link: LinkId, begin: usize) -> Option<Next> {
        let at = scan::space(self.bytes, begin);
        match self.bytes.get(at)? {
            b',' => self.key(id, link, begin, scan::space(self.bytes, at + 1)),
            b'}' => Some(Next::End(at + 1)),
            _ => None,
        }
    }

    /// Reads the key at `at`, and remembers all from `begin` to its value.
    fn key(&mut self, id: NodeId, link: LinkId, begin: usize, at: usize) -> Option<Next> {
        let bytes = self.bytes;
        let key = scan::word(bytes, at, b"\"")?;
        let (behind, escaped) = scan::string(bytes, key)?;
        if escaped {
            return None;
        }
        let column = self.tree.nodes[id as usize].keys.find(&bytes[key..behind - 1]).unwrap_or(UNKNOWN);
        let colon = scan::word(bytes, scan::space(bytes, behind), b":")?;
        let text = &bytes[begin..scan::space(bytes, colon)];
        let link = self.shapes.learn(link, id, text, column);
        Some(Next::Key(Step { link, column, length: text.len() }))
    }

    /// Behind the value of a declared column.
    #[inline(always)]
    fn value(&mut self, id: NodeId, row: usize, at: usize, depth: usize) -> Option<usize> {
        let bytes = self.bytes;
        let first = *bytes.get(at)?;
        if first == b'n' {
            return scan::word(bytes, at, b"null");
        }
        match &mut self.tree.columns[id as usize] {
            Column::Text(texts) if first == b'"' => text(texts, self.unescaped, bytes, row, at),
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
                let number = Number::read(bytes, at)?;
                let fits = |value: &i64| (value.unsigned_abs() as u128) < 10u128.pow(u32::from(*precision));
                let scaled = usize::try_from(*scale).ok().and_then(|scale| number.times_power_of_ten(scale));
                let value = match scaled.filter(fits) {
                    Some(value) => i128::from(value),
                    None => number::to_decimal(number.text(bytes), *precision, *scale).ok()?,
                };
                slots.set(row, value);
                Some(number.end)
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
                let element = self.tree.add_element(id)?;
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

/// Behind the string whose opening quote is at `at`.
#[inline(always)]
fn text(texts: &mut Texts, unescaped: &mut Vec<u8>, bytes: &[u8], row: usize, at: usize) -> Option<usize> {
    let chunk = wide::load(bytes, at + 1)?;
    if let Some(length) = wide::marks(chunk).plain_before_quote()
        && length <= 12
    {
        texts.set_short(row, chunk, length);
        return Some(at + length + 2);
    }
    let (end, escaped) = scan::string(bytes, at + 1)?;
    let contents = &bytes[at + 1..end - 1];
    if escaped {
        unescaped.clear();
        unescape(contents, unescaped).ok()?;
        texts.set(row, unescaped);
    } else {
        texts.set(row, contents);
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::samples::{SHOPS, Seed, object, shop_event, shops_schema};

    #[test]
    fn what_comes_again_is_foretold() {
        let schema = shops_schema();
        let mut tree = Tree::new(&schema, &[0, 18, 24]).unwrap();
        let mut fast = Fast::new(&tree);
        let mut seed = Seed(3);
        let bytes =
            (0..200).map(|_| object(&shop_event(seed.below(SHOPS), &mut seed)) + "\n").collect::<String>();
        let lengths: Vec<usize> = bytes.lines().map(str::len).collect();
        let mut pass = || {
            let mut start = 0;
            tree.begin(lengths.len());
            for length in &lengths {
                assert!(fast.read(&mut tree, bytes.as_bytes(), start, *length));
                tree.keep();
                start += length + 1;
            }
            fast.shapes.learned()
        };
        let first = pass();
        assert!(first > 0);
        // A key that has to be read anew is learned anew.
        assert_eq!(pass(), first);
    }
}
