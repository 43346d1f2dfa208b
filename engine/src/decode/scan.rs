//! Strides over JSON text sixteen bytes at a time, and the strict grammar of what is skipped.
//!
//! Each function returns the place behind what it read, or `None` if that is not legal JSON or not worth the hurry.
//! The bytes may go on behind the record: a caller that ends at the record's own end has read nothing but the record.

use super::text;
use super::wide::{load, marks};

/// Behind the closing quote, and whether there are escapes (all legal). `at` is behind the opening quote.
#[inline(always)]
pub(super) fn string(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    let end = plain_end(bytes, at)?;
    match bytes[end] {
        b'"' => Some((end + 1, false)),
        b'\\' => Some((text::closing_quote(bytes, end).ok()? + 1, true)),
        _ => None,
    }
}

/// The first byte from `at` on that is a quote, a backslash or a control character.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let marks = marks(load(bytes, at)?);
        if marks.any() != 0 {
            return Some(at + marks.any().trailing_zeros() as usize);
        }
        at += 16;
    }
}

#[inline]
pub(super) fn space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Behind the number at `at`.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let start = at + usize::from(*bytes.get(at)? == b'-');
    let mut end = digits(bytes, start)?;
    if bytes[start] == b'0' && end > start + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(bytes, end + 1)?;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        end += 1;
        end = digits(bytes, end + usize::from(matches!(bytes.get(end), Some(b'+' | b'-'))))?;
    }
    Some(end)
}

/// Behind one or more digits.
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes.get(at..)?.iter().position(|byte| !byte.is_ascii_digit())?;
    (count > 0).then_some(at + count)
}

/// Behind any value. `depth` is how many more levels it may nest.
pub(super) fn value(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => string(bytes, at + 1).map(|(end, _)| end),
        b'-' | b'0'..=b'9' => number(bytes, at),
        b't' => word(bytes, at, b"true"),
        b'f' => word(bytes, at, b"false"),
        b'n' => word(bytes, at, b"null"),
        b'{' => object(bytes, at + 1, depth.checked_sub(1)?),
        b'[' => array(bytes, at + 1, depth.checked_sub(1)?),
        _ => None,
    }
}

#[inline]
pub(super) fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    let end = at + word.len();
    (bytes.get(at..end)? == word).then_some(end)
}

fn object(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    let mut at = space(bytes, at);
    if bytes.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        at = word(bytes, at, b"\"")?;
        at = space(bytes, string(bytes, at)?.0);
        at = space(bytes, word(bytes, at, b":")?);
        at = space(bytes, value(bytes, at, depth)?);
        match bytes.get(at)? {
            b',' => at = space(bytes, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn array(bytes: &[u8], at: usize, depth: usize) -> Option<usize> {
    let mut at = space(bytes, at);
    if bytes.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = space(bytes, value(bytes, at, depth)?);
        match bytes.get(at)? {
            b',' => at = space(bytes, at + 1),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::wide::PADDING;

    #[test]
    fn what_is_skipped_obeys_the_grammar() {
        let skip = |text: &str| {
            let padded = [text.as_bytes(), &[0; PADDING]].concat();
            value(&padded, 0, 3)
        };
        for text in [
            "0",
            "-0",
            "10",
            "-1.5e+7",
            "1E9",
            "0.001",
            "true",
            "false",
            "null",
            "\"\"",
            "\"a\\u00e9\\n\"",
            "[]",
            "{}",
            "[1 , [ [ ] ]\n]",
            "{ \"a\" : { \"b\" : {} } , \"\":\t[\"x\"] }",
        ] {
            assert_eq!(skip(text), Some(text.len()), "{text}");
        }
        for text in [
            "-",
            "1.",
            "1e",
            "1e+",
            ".5",
            "+1",
            "01",
            "-01",
            "tru",
            "nulL",
            "\"",
            "\"\\x\"",
            "\"\t\"",
            "[",
            "[1,]",
            "[,]",
            "[1 2]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[[[[]]]]",
            "{\"a\":[[[1]]]}",
        ] {
            assert!(skip(text).is_none_or(|end| end != text.len()), "{text}");
        }
    }
}
