//! What a JSON number means: exact integers and decimals, correctly rounded floats.
//!
//! Every function takes the text of a number that is already known to obey the grammar of JSON. The value counts and
//! not its spelling: `30`, `30.0` and `3e1` are the same integer. Nothing is rounded except to a binary float.

/// Why a number does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFault {
    OutOfRange,
    /// Digits would be lost.
    Inexact,
}

/// Powers of ten that a binary64 holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The nearest binary64, ties to even; never infinite, and -0 is 0.
pub(super) fn to_f64(text: &[u8]) -> Result<f64, NumberFault> {
    let value = match short_decimal(text) {
        Some(value) => value,
        None => as_str(text).parse::<f64>().map_err(|_| NumberFault::OutOfRange)?,
    };
    if value.is_finite() { Ok(value + 0.0) } else { Err(NumberFault::OutOfRange) }
}

/// The nearest binary32 of the text itself, not of its binary64.
pub(super) fn to_f32(text: &[u8]) -> Result<f32, NumberFault> {
    let value = as_str(text).parse::<f32>().map_err(|_| NumberFault::OutOfRange)?;
    if value.is_finite() { Ok(value + 0.0) } else { Err(NumberFault::OutOfRange) }
}

/// A mantissa below 2^53 over a power of ten up to 10^22: both are exact, so one division rounds correctly.
fn short_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = split_sign(text);
    if digits.len() > 17 {
        return None;
    }
    let mut mantissa = 0u64;
    let mut after_point = None;
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' => after_point = Some(digits.len() - index - 1),
            _ => return None,
        }
    }
    signed_quotient(negative, mantissa, after_point.unwrap_or(0))
}

/// `±mantissa / 10^decimals` if that is exact arithmetic but for the one division.
#[inline]
pub(super) fn signed_quotient(negative: bool, mantissa: u64, decimals: usize) -> Option<f64> {
    if mantissa >= 1 << 53 || decimals >= EXACT_POWERS.len() {
        return None;
    }
    let value = mantissa as f64 / EXACT_POWERS[decimals];
    Some(if negative { -value } else { value })
}

/// The exact integer.
pub(super) fn to_integer(text: &[u8], min: i64, max: i64) -> Result<i64, NumberFault> {
    let value = scaled(text, 0, Rounding::Refuse)?;
    match i64::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(NumberFault::OutOfRange),
    }
}

/// The exact decimal as its unscaled integer.
pub(super) fn to_decimal(text: &[u8], precision: u8, scale: i8) -> Result<i128, NumberFault> {
    let value = scaled(text, i64::from(scale), Rounding::Refuse)?;
    match value.unsigned_abs() < 10u128.pow(u32::from(precision)) {
        true => Ok(value),
        false => Err(NumberFault::OutOfRange),
    }
}

/// `floor(number * 10^scale)`.
pub(super) fn floor_scaled(text: &[u8], scale: u8) -> Result<i128, NumberFault> {
    scaled(text, i64::from(scale), Rounding::Floor)
}

#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    Refuse,
    Floor,
}

/// `number * 10^scale` as an integer, by digits alone.
fn scaled(text: &[u8], scale: i64, rounding: Rounding) -> Result<i128, NumberFault> {
    let (negative, unsigned) = split_sign(text);
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], saturating_exponent(&unsigned[at + 1..])),
        None => (unsigned, 0),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let decimals = mantissa.len().saturating_sub(point + 1);
    let digits = || mantissa.iter().filter(|byte| **byte != b'.').map(|byte| byte - b'0');
    let shift = exponent - decimals as i64 + scale;
    let count = digits().count() as i64;
    let kept = (count + shift.min(0)).max(0) as usize;

    let mut magnitude = 0i128;
    for digit in digits().take(kept) {
        magnitude = times_ten_plus(magnitude, digit)?;
    }
    if magnitude != 0 {
        for _ in 0..shift.max(0) {
            magnitude = times_ten_plus(magnitude, 0)?;
        }
    }
    let lost = digits().skip(kept).any(|digit| digit != 0);
    match (negative, lost, rounding) {
        (_, true, Rounding::Refuse) => Err(NumberFault::Inexact),
        (true, true, Rounding::Floor) => Ok(-magnitude - 1),
        (true, false, _) => Ok(-magnitude),
        (false, _, _) => Ok(magnitude),
    }
}

fn times_ten_plus(value: i128, digit: u8) -> Result<i128, NumberFault> {
    value
        .checked_mul(10)
        .and_then(|value| value.checked_add(i128::from(digit)))
        .ok_or(NumberFault::OutOfRange)
}

/// An exponent's digits, clamped far beyond anything that fits.
fn saturating_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = split_sign(text.strip_prefix(b"+").unwrap_or(text));
    let value = digits.iter().fold(0i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(1 << 40));
    if negative { -value } else { value }
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

fn as_str(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("the grammar of a number allows ASCII alone")
}

#[cfg(test)]
mod tests {
    use super::NumberFault::{Inexact, OutOfRange};
    use super::*;

    #[test]
    fn an_integer_counts_by_its_value() {
        let int = |text: &str| to_integer(text.as_bytes(), i64::MIN, i64::MAX);
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e5", 0),
            ("30.0", 30),
            ("3e1", 30),
            ("3E+1", 30),
            ("300e-1", 30),
            ("0.003e4", 30),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("0e999999999999999999999", 0),
            ("0.000", 0),
        ] {
            assert_eq!(int(text), Ok(value), "{text}");
        }
        for (text, fault) in [
            ("1.5", Inexact),
            ("1e-1", Inexact),
            ("1e-99999999999999999999", Inexact),
            ("9223372036854775808", OutOfRange),
            ("1e400", OutOfRange),
            ("1e99999999999999999999", OutOfRange),
            ("-9223372036854775809", OutOfRange),
            ("123456789012345678901234567890123456789012345678901234567890", OutOfRange),
        ] {
            assert_eq!(int(text), Err(fault), "{text}");
        }
        assert_eq!(to_integer(b"128", -128, 127), Err(OutOfRange));
        assert_eq!(to_integer(b"-128", -128, 127), Ok(-128));
    }

    #[test]
    fn a_decimal_is_exact_to_its_last_digit() {
        assert_eq!(to_decimal(b"22.74", 10, 2), Ok(2274));
        assert_eq!(to_decimal(b"-22.7400", 10, 2), Ok(-2274));
        assert_eq!(to_decimal(b"22.745", 10, 2), Err(Inexact));
        assert_eq!(to_decimal(b"2.274e1", 10, 2), Ok(2274));
        assert_eq!(to_decimal(b"1e8", 10, 2), Err(OutOfRange));
        assert_eq!(to_decimal(b"99999999.99", 10, 2), Ok(9_999_999_999));
        let nines = "9".repeat(38);
        assert_eq!(to_decimal(nines.as_bytes(), 38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(to_decimal(format!("-{nines}").as_bytes(), 38, 0), Ok(1 - 10i128.pow(38)));
        assert_eq!(to_decimal(format!("{nines}0").as_bytes(), 38, 0), Err(OutOfRange));
        assert_eq!(to_decimal(b"12300", 5, -2), Ok(123));
        assert_eq!(to_decimal(b"12345", 5, -2), Err(Inexact));
    }

    #[test]
    fn a_float_is_the_nearest_one() {
        for text in [
            "0.1",
            "22.74",
            "9007199254740993",
            "1.7976931348623157e308",
            "5e-324",
            "123456789012345678",
            "0.30000000000000004",
            "1e22",
            "1e23",
            "8.5e-5",
        ] {
            assert_eq!(to_f64(text.as_bytes()), Ok(text.parse().unwrap()), "{text}");
            assert_eq!(to_f64(format!("-{text}").as_bytes()), Ok(-text.parse::<f64>().unwrap()), "-{text}");
        }
        assert_eq!(to_f64(b"1e400"), Err(OutOfRange));
        assert_eq!(to_f64(b"1e-400"), Ok(0.0));
        assert!(to_f64(b"-0").unwrap().is_sign_positive());
        assert!(to_f64(b"-0.0").unwrap().is_sign_positive());
        assert!(to_f32(b"-0e3").unwrap().is_sign_positive());
        assert_eq!(to_f32(b"1e39"), Err(OutOfRange));
        assert_eq!(to_f32(b"16777217"), Ok(16_777_216.0));
    }

    #[test]
    fn a_floor_goes_down_on_both_sides_of_zero() {
        assert_eq!(floor_scaled(b"1.2345678", 6), Ok(1_234_567));
        assert_eq!(floor_scaled(b"-1.2345678", 6), Ok(-1_234_568));
        assert_eq!(floor_scaled(b"-1e-9", 6), Ok(-1));
        assert_eq!(floor_scaled(b"1e-9", 6), Ok(0));
    }
}
