//! Numbers of the usual kind, read eight digits at a time: a sign, up to eighteen digits, perhaps a point among them.
//!
//! Others are only measured, by the grammar of JSON, and left to `number`. The bytes may go on behind the record (see
//! `scan`).

use super::number::signed_quotient;
use super::{scan, wide};

/// What surely fits an `i64`, and each power of ten that it may take to get there.
const DIGITS_MAX: usize = 18;
const POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut exponent = 1;
    while exponent <= DIGITS_MAX {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// A number in a record.
pub(super) struct Number {
    begin: usize,
    /// The place behind it.
    pub end: usize,
    negative: bool,
    /// All digits as one integer, if they are few and there is no exponent.
    digits: Option<u64>,
    decimals: usize,
}

impl Number {
    /// `None` if no legal number begins there.
    #[inline(always)]
    pub(super) fn read(bytes: &[u8], begin: usize) -> Option<Number> {
        let negative = *bytes.get(begin)? == b'-';
        let start = begin + usize::from(negative);
        let (mut digits, whole) = run(bytes, start)?;
        let mut end = start + whole;
        let mut decimals = 0;
        if bytes.get(end) == Some(&b'.') {
            let (fraction, count) = run(bytes, end + 1)?;
            if count == 0 {
                return None;
            }
            digits = digits.wrapping_mul(POWERS[count.min(DIGITS_MAX)]).wrapping_add(fraction);
            decimals = count;
            end += 1 + count;
        }
        if whole == 0 || (whole > 1 && bytes[start] == b'0') {
            return None;
        }
        if whole + decimals > DIGITS_MAX || matches!(bytes.get(end), Some(b'e' | b'E')) {
            return Some(Number {
                begin,
                end: scan::number(bytes, begin)?,
                negative,
                digits: None,
                decimals,
            });
        }
        Some(Number { begin, end, negative, digits: Some(digits), decimals })
    }

    #[inline]
    pub(super) fn integer(&self) -> Option<i64> {
        self.times_power_of_ten(0)
    }

    /// The integer that this number is after moving its point, if no digit is cut off.
    #[inline]
    pub(super) fn times_power_of_ten(&self, exponent: usize) -> Option<i64> {
        let power = POWERS.get(exponent.checked_sub(self.decimals)?)?;
        let digits = i64::try_from(self.digits?.checked_mul(*power)?).ok()?;
        Some(if self.negative { -digits } else { digits })
    }

    /// The nearest binary64; -0 may be among them.
    #[inline]
    pub(super) fn quotient(&self) -> Option<f64> {
        signed_quotient(self.negative, self.digits?, self.decimals)
    }

    pub(super) fn text<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.begin..self.end]
    }
}

/// The integer that the digits from `at` on make, modulo 2^64, and how many they are.
#[inline(always)]
fn run(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let (mut value, mut length) = (0u64, 0);
    loop {
        let eight = u64::from_le_bytes(*wide::load(bytes, at + length)?) ^ 0x3030_3030_3030_3030;
        // What is no digit sets the highest bit of its byte. A carry can falsify the bytes behind that one alone.
        let others = (eight | eight.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080;
        let count = others.trailing_zeros() as usize / 8;
        if count == 0 {
            return Some((value, length));
        }
        let digits = eight_digits(eight << (64 - 8 * count));
        value = value.wrapping_mul(POWERS[count]).wrapping_add(digits);
        length += count;
        if count < 8 {
            return Some((value, length));
        }
    }
}

/// The integer of eight digits, each a byte from 0 to 9, the first one lowest.
#[inline]
fn eight_digits(digits: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x0000_00FF_0000_00FF;
    let pairs = digits * 10 + (digits >> 8);
    let first_and_third = (pairs & EVERY_FOURTH).wrapping_mul(100 + (1_000_000 << 32));
    let second_and_fourth = (pairs >> 16 & EVERY_FOURTH).wrapping_mul(1 + (10_000 << 32));
    first_and_third.wrapping_add(second_and_fourth) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Number> {
        Number::read(&[text.as_bytes(), &[0xFF; wide::PADDING]].concat(), 0)
    }

    #[test]
    fn an_integer_is_read_whatever_its_length() {
        let mut text = String::new();
        for digit in "987654321012345678".chars() {
            text.push(digit);
            for text in [text.clone(), format!("-{text}")] {
                let number = read(&text).unwrap();
                assert_eq!((number.integer(), number.end), (text.parse().ok(), text.len()));
            }
        }
        for text in ["9876543210123456789", "123456789012345678901234567890", "1e2", "12.5E-3", "1.0"] {
            let number = read(text).unwrap();
            assert_eq!((number.integer(), number.end), (None, text.len()), "{text}");
            assert_eq!(number.text(text.as_bytes()), text.as_bytes());
        }
        assert_eq!(read("0").unwrap().integer(), Some(0));
        assert_eq!(read("-0").unwrap().integer(), Some(0));
    }

    #[test]
    fn a_point_may_be_anywhere_and_moves() {
        for whole in ["0", "7", "12345678", "123456789", "98765432101"] {
            for fraction in ["5", "05", "1234567", "00000001", "123456789"] {
                let text = format!("{whole}.{fraction}");
                let number = read(&text).unwrap();
                assert_eq!(number.end, text.len());
                let all = format!("{whole}{fraction}");
                let few = all.len() <= DIGITS_MAX;
                let moved = |by| number.times_power_of_ten(fraction.len() + by);
                assert_eq!(moved(0), all.parse().ok().filter(|_| few), "{text}");
                assert_eq!(moved(1), format!("{all}0").parse().ok().filter(|_| few), "{text}");
                assert_eq!(number.times_power_of_ten(fraction.len() - 1), None);
                if let Some(value) = number.quotient() {
                    assert_eq!(value, text.parse::<f64>().unwrap(), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", ".5", "1.", "1.e3", "-.", "01", "-00", "00.1", "1e", "1.5e+", "x", "/", ":"] {
            assert!(read(text).is_none(), "{text}");
        }
        // A byte beside the digits ends the number wherever it stands.
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit() && !b".eE".contains(byte)) {
            for length in 1..10 {
                let mut text = vec![b'1'; length];
                text.push(byte);
                text.extend([b'2'; wide::PADDING]);
                assert_eq!(Number::read(&text, 0).unwrap().end, length, "{byte} at {length}");
            }
        }
    }
}
