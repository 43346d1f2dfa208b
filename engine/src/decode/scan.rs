//! Strides over JSON text sixteen bytes at a time, and the strict grammar of what is skipped.
//!
//! Each function returns the place behind what it read, or `None` if that is not legal JSON or not worth the hurry.
//! The bytes may go on behind the record: a caller that ends at the record's own end has read nothing but the record.

use super::text;

/// The end of a record must lie at least this far from the end of the bytes, so that wide loads find something (INV-15).
pub(super) const PADDING: usize = 64;

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

/// `N` bytes at `at`.
#[inline(always)]
pub(super) fn load<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    if at > bytes.len().checked_sub(N)? {
        return None;
    }
    // SAFETY: the bytes from `at` to `at + N` were just seen to be there, and an array of bytes has no alignment.
    // The safe way checks the beginning and the length apart, twice for each key and value.
    Some(unsafe { &*bytes.as_ptr().add(at).cast::<[u8; N]>() })
}

/// A bit for each of sixteen bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    pub quotes: u32,
    /// Backslashes and control characters.
    pub others: u32,
}

impl Marks {
    #[inline(always)]
    fn any(self) -> u32 {
        self.quotes | self.others
    }

    /// How many plain bytes a quote comes after, if one comes next.
    #[inline(always)]
    pub(super) fn plain_before_quote(self) -> Option<usize> {
        // The first quote and all below it; everything, if there is none.
        let until_quote = self.quotes ^ self.quotes.wrapping_sub(1);
        if self.others & until_quote != 0 || self.quotes == 0 {
            return None;
        }
        Some(self.quotes.trailing_zeros() as usize)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn marks(chunk: &[u8; 16]) -> Marks {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    // SAFETY: SSE2 is part of every x86-64, and the load needs no alignment and reads sixteen bytes that are there.
    unsafe {
        let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
        let quotes = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'"' as i8));
        let backslashes = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'\\' as i8));
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(chunk, _mm_set1_epi8(0x1F)), chunk);
        let bits = |bytes| _mm_movemask_epi8(bytes) as u32;
        Marks { quotes: bits(quotes), others: bits(_mm_or_si128(backslashes, controls)) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn marks(chunk: &[u8; 16]) -> Marks {
    let mut marks = Marks { quotes: 0, others: 0 };
    for (index, byte) in chunk.iter().enumerate() {
        marks.quotes |= u32::from(*byte == b'"') << index;
        marks.others |= u32::from(matches!(byte, b'\\' | 0..0x20)) << index;
    }
    marks
}

/// A bit per byte that is the same in both.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn equals(left: &[u8; 32], right: &[u8; 32]) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8};
    // SAFETY: as above, for each half of the thirty-two bytes.
    unsafe {
        let half = |at: usize| {
            let left = _mm_loadu_si128(left.as_ptr().add(at).cast());
            let right = _mm_loadu_si128(right.as_ptr().add(at).cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(left, right)) as u32
        };
        half(0) | half(16) << 16
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn equals(left: &[u8; 32], right: &[u8; 32]) -> u32 {
    let mut bits = 0;
    for index in 0..32 {
        bits |= u32::from(left[index] == right[index]) << index;
    }
    bits
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

    #[test]
    fn every_byte_is_marked_or_plain() {
        for byte in 0..=u8::MAX {
            for place in 0..16 {
                let mut chunk = [b'a'; 16];
                chunk[place] = byte;
                let quotes = u32::from(byte == b'"') << place;
                let others = u32::from(byte < 0x20 || byte == b'\\') << place;
                let found = marks(&chunk);
                assert_eq!(found, Marks { quotes, others }, "{byte} at {place}");
                assert_eq!(found.plain_before_quote(), (byte == b'"').then_some(place), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn a_quote_ends_a_text_unless_something_comes_before_it() {
        assert_eq!(marks(b"twelve bytes\"\"\n\\").plain_before_quote(), Some(12));
        assert_eq!(marks(b"\"           \\\"  ").plain_before_quote(), Some(0));
        assert_eq!(marks(b"a\\\"          \"  ").plain_before_quote(), None);
        assert_eq!(marks(b"a \n          \"  ").plain_before_quote(), None);
        assert_eq!(marks(b"sixteen bytes of").plain_before_quote(), None);
    }

    #[test]
    fn equal_bytes_have_a_bit_each() {
        let left: [u8; 32] = std::array::from_fn(|index| index as u8);
        for place in 0..32 {
            let mut right = left;
            right[place] ^= 0x80;
            assert_eq!(equals(&left, &right), !(1 << place));
        }
    }

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
