//! What a date and an event time mean: RFC 3339 with or without a zone, and epoch numbers.
//!
//! Years 0001 to 9999, in UTC after the zone is applied. What is finer than a microsecond is cut off towards the past.

use super::number::{NumberFault, floor_scaled};

pub(super) const MICROS_MIN: i64 = -62_135_596_800_000_000;
pub(super) const MICROS_MAX: i64 = 253_402_300_799_999_999;
const SECONDS_PER_DAY: i64 = 86_400;

/// Below this an epoch number is seconds (until the year 5138), below a thousand times this it is milliseconds, and
/// below a million times this microseconds. A time in milliseconds before 1973-03-03 therefore reads as seconds.
const SECONDS_BOUND: i128 = 100_000_000_000;

/// Microseconds since 1970 of `2025-06-01T00:00:04.871Z` and its kin.
///
/// `T`, `t` or a space in the middle; any number of decimals; `Z`, `z`, `±HH:MM`, `±HHMM`, `±HH` or nothing, which is
/// UTC.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    timestamp_by(text, days)
}

/// Reads the same as [`timestamp`], and remembers the last month: events of one month come together.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    /// Such as `2025-06-`.
    text: [u8; 8],
    month: Month,
}

impl Calendar {
    #[inline]
    pub(super) fn timestamp(&mut self, text: &[u8]) -> Option<i64> {
        timestamp_by(text, |date| {
            let (text, day) = date.split_first_chunk()?;
            if self.text != *text {
                (self.month, self.text) = (month(text)?, *text);
            }
            self.month.day(day)
        })
    }
}

#[inline(always)]
fn timestamp_by(text: &[u8], days: impl FnOnce(&[u8; 10]) -> Option<i32>) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let day = i64::from(days(head.first_chunk()?)?);
    if !matches!(head[10], b'T' | b't' | b' ') {
        return None;
    }
    let (micros, zone) = fraction(rest)?;
    let seconds = day * SECONDS_PER_DAY + second_of_day(head.last_chunk()?)? - zone_seconds(zone)?;
    in_range(seconds * 1_000_000 + micros)
}

/// Days since 1970 of `2025-06-01`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    days(text.try_into().ok()?)
}

/// Microseconds since 1970 of an epoch number, whose unit its magnitude tells.
pub(super) fn epoch(text: &[u8]) -> Option<i64> {
    let decimals = match floor_scaled(text, 0).ok()? {
        whole if in_bound(whole, SECONDS_BOUND) => 6,
        whole if in_bound(whole, SECONDS_BOUND * 1000) => 3,
        whole if in_bound(whole, SECONDS_BOUND * 1_000_000) => 0,
        _ => return None,
    };
    floor_scaled(text, decimals)
        .and_then(|micros| i64::try_from(micros).map_err(|_| NumberFault::OutOfRange))
        .ok()
        .and_then(in_range)
}

/// The same of an integer.
#[inline]
pub(super) fn epoch_integer(whole: i64) -> Option<i64> {
    const BOUND: i64 = SECONDS_BOUND as i64;
    match whole {
        whole if (-BOUND..BOUND).contains(&whole) => in_range(whole * 1_000_000),
        whole if (-BOUND * 1000..BOUND * 1000).contains(&whole) => in_range(whole * 1000),
        whole if (-BOUND * 1_000_000..BOUND * 1_000_000).contains(&whole) => in_range(whole),
        _ => None,
    }
}

fn in_bound(whole: i128, bound: i128) -> bool {
    (-bound..bound).contains(&whole)
}

#[inline]
fn in_range(micros: i64) -> Option<i64> {
    (MICROS_MIN..=MICROS_MAX).contains(&micros).then_some(micros)
}

fn days(text: &[u8; 10]) -> Option<i32> {
    let (text, day) = text.split_first_chunk()?;
    month(text)?.day(day)
}

/// Without a day, unless read by [`month`].
#[derive(Debug, Default, Clone, Copy)]
struct Month {
    /// Days from 1970 until the day before its first.
    before: i32,
    length: i32,
}

impl Month {
    #[inline]
    fn day(self, text: &[u8]) -> Option<i32> {
        let day = two(text, 0)? as i32;
        (1..=self.length).contains(&day).then_some(self.before + day)
    }
}

/// Of `2025-06-`.
fn month(text: &[u8; 8]) -> Option<Month> {
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month) = (two(text, 0)? * 100 + two(text, 2)?, two(text, 5)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 {
        return None;
    }
    // Years begin in March here, so that a leap day is the last of its year; 719468 days lie between 0000-03-01 and
    // 1970-01-01.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(Month { before: (era * 146_097 + day_of_era - 719_469) as i32, length })
}

/// Of `23:59:59`, all eight bytes at once.
#[inline]
fn second_of_day(text: &[u8; 8]) -> Option<i64> {
    // Digits become their values, the colons 0; whatever is more sets the highest bit of its byte.
    let digits = u64::from_le_bytes(*text) ^ u64::from_le_bytes(*b"00:00:00");
    let excess = u64::from_le_bytes([0x76, 0x76, 0x7F, 0x76, 0x76, 0x7F, 0x76, 0x76]);
    if (digits | digits.wrapping_add(excess)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    // Each byte times ten and the next added: no byte is over 99.
    let pairs = (digits * 10 + (digits >> 8)).to_le_bytes();
    let (hour, minute, second) = (i64::from(pairs[0]), i64::from(pairs[3]), i64::from(pairs[6]));
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
}

/// Two digits at `at`.
#[inline]
fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// Microseconds of a fraction such as `.871`, if there is one, and what follows it.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let (mut micros, mut length) = (0, 0);
    while let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        if length < 6 {
            micros = micros * 10 + i64::from(digit);
        }
        length += 1;
    }
    const MISSING: [i64; 7] = [1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
    (length > 0).then(|| (micros * MISSING[length.min(6)], &text[length..]))
}

#[inline]
fn zone_seconds(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, _, _] => (sign, two(text, 1)?, 0),
        [sign, _, _, _, _] => (sign, two(text, 1)?, two(text, 3)?),
        [sign, _, _, b':', _, _] => (sign, two(text, 1)?, two(text, 4)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 3600 + minutes * 60),
        b'-' => Some(-hours * 3600 - minutes * 60),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-06-01T00:00:00Z.
    const JUNE: i64 = 1_748_736_000_000_000;

    #[test]
    fn a_timestamp_has_many_spellings() {
        let mut calendar = Calendar::default();
        for (text, micros) in [
            ("2025-06-01T00:00:04.871Z", JUNE + 4_871_000),
            ("2025-06-01 00:00:04.871", JUNE + 4_871_000),
            ("2025-06-01t00:00:04z", JUNE + 4_000_000),
            ("2025-06-01T00:00:00.1234567", JUNE + 123_456),
            ("2025-06-01T00:00:00.000000999999", JUNE),
            ("2025-06-01T02:00:00+02:00", JUNE),
            ("2025-06-01T02:00:00+0200", JUNE),
            ("2025-06-01T02:00:00+02", JUNE),
            ("2025-05-31T18:30:00-05:30", JUNE),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            ("0001-01-01T00:00:00Z", MICROS_MIN),
            ("9999-12-31T23:59:59.999999Z", MICROS_MAX),
        ] {
            assert_eq!(timestamp(text.as_bytes()), Some(micros), "{text}");
            assert_eq!(calendar.timestamp(text.as_bytes()), Some(micros), "{text}");
        }
        for text in [
            "",
            "2025-06-01",
            "2025-06-01T00:00",
            "2025-06-01T24:00:00Z",
            "2025-06-01T23:59:60Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-06-00T00:00:00Z",
            "2025-06-31T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2025-06-01T00:00:00.Z",
            "2025-06-01T00:00:00 Z",
            "2025-06-01T00:00:00+24:00",
            "2025-06-01T00:00:00+00:60",
            "2025-06-01T00:00:00+0:00",
            "2025-06-01_00:00:00Z",
            "2025-06-01T00-00-00Z",
            "+025-06-01T00:00:00Z",
            "2025-06-01T00:00:00ZZ",
            "1748736000",
        ] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
            assert_eq!(calendar.timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn days_count_on_without_a_gap() {
        let mut expected = date(b"0001-01-01").unwrap();
        assert_eq!(i64::from(expected) * SECONDS_PER_DAY * 1_000_000, MICROS_MIN);
        for year in 1..=9999 {
            for month in 1..=12 {
                for day in 1..=31 {
                    if let Some(found) = date(format!("{year:04}-{month:02}-{day:02}").as_bytes()) {
                        assert_eq!(found, expected);
                        expected += 1;
                    }
                }
            }
        }
        assert_eq!(i64::from(expected) * SECONDS_PER_DAY * 1_000_000, MICROS_MAX + 1);
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2025-6-01"), None);
        assert_eq!(date(b"2025-06-01 "), None);
    }

    #[test]
    fn the_magnitude_of_an_epoch_number_tells_its_unit() {
        for (text, micros) in [
            ("1748736000", JUNE),
            ("1748736000000", JUNE),
            ("1748736000000000", JUNE),
            ("1748736000.871", JUNE + 871_000),
            ("1748736000871.5", JUNE + 871_500),
            ("1748736000000000.9", JUNE),
            ("1.748736e9", JUNE),
            ("0", 0),
            ("-0", 0),
            ("-1", -1_000_000),
            ("-0.0000001", -1),
            ("99999999999", 99_999_999_999_000_000),
            ("100000000000", 100_000_000_000_000),
            ("-100000000000", -100_000_000_000_000_000),
            ("-100000000001", -100_000_000_001_000),
        ] {
            let expected = in_range(micros);
            assert_eq!(epoch(text.as_bytes()), expected, "{text}");
            if let Ok(whole) = text.parse() {
                assert_eq!(epoch_integer(whole), expected, "{text}");
            }
        }
        assert_eq!(epoch(b"-100000000000"), None, "before the year 1");
        assert_eq!(epoch(b"100000000000000000"), None);
        assert_eq!(epoch_integer(100_000_000_000_000_000), None);
        assert_eq!(epoch_integer(i64::MAX), None);
        assert_eq!(epoch_integer(i64::MIN), None);
        assert_eq!(epoch(b"1e400"), None);
    }
}
