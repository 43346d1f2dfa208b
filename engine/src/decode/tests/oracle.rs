//! What one value means to a column, found by other means than the decoder's: decimal digits as text, chrono's calendar,
//! the standard library's floats, serde_json's strings. For the tests and the fuzz target.
//!
//! The value is legal JSON and not `null`. Its meaning is exact, so that two readers agree just if they are equal.

use std::borrow::Cow;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::judge::Fault;

/// What a scalar is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning<'a> {
    Boolean(bool),
    /// An integer, an unscaled decimal, days or microseconds since 1970.
    Whole(i128),
    /// The bits of a binary64, because -0 is not 0 here.
    Float(u64),
    Text(Cow<'a, str>),
}

/// Of a value in a column that is no struct and no list; or all that is wrong with it.
pub fn read<'a>(data_type: &DataType, raw: &'a str) -> Result<Meaning<'a>, Vec<Fault>> {
    let found = kind(raw);
    let one_of = |meaning: Option<Meaning<'a>>, fault| meaning.ok_or(vec![fault]);
    let out_of_range = Fault::OutOfRange { of: name_of(data_type) };
    match (data_type, found) {
        (DataType::Boolean, "a boolean") => Ok(Meaning::Boolean(raw == "true")),
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64, "a number") => {
            let bits = data_type.primitive_width().expect("an integer") * 8;
            integer(bits, raw, out_of_range)
        }
        (DataType::Decimal128(precision, scale), "a number") => {
            decimal(*precision, *scale, raw, out_of_range)
        }
        (DataType::Float32, "a number") => {
            let value = raw.parse::<f32>().ok().filter(|value| value.is_finite());
            one_of(value.map(|value| float(f64::from(value))), out_of_range)
        }
        (DataType::Float64, "a number") => {
            let value = raw.parse::<f64>().ok().filter(|value| value.is_finite());
            one_of(value.map(float), out_of_range)
        }
        (DataType::Date32, "a string") => one_of(date(&text(raw)), Fault::NoDate),
        (DataType::Timestamp(..), "a string") => one_of(time(&text(raw)), Fault::NoTime),
        (DataType::Timestamp(..), "a number") => one_of(epoch(raw), Fault::NoEpoch),
        (DataType::Utf8View, "a string") => Ok(Meaning::Text(text(raw))),
        _ => Err(vec![Fault::Kind { expected: expectation(data_type), found }]),
    }
}

/// Of a value that is stored.
pub fn stored(array: &dyn Array, row: usize) -> Meaning<'_> {
    match array.data_type() {
        DataType::Boolean => Meaning::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => Meaning::Whole(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Meaning::Whole(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Meaning::Whole(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Meaning::Whole(array.as_primitive::<Int64Type>().value(row).into()),
        DataType::Decimal128(..) => Meaning::Whole(array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Date32 => Meaning::Whole(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(..) => {
            Meaning::Whole(array.as_primitive::<TimestampMicrosecondType>().value(row).into())
        }
        DataType::Float32 => {
            Meaning::Float(f64::from(array.as_primitive::<Float32Type>().value(row)).to_bits())
        }
        DataType::Float64 => Meaning::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8View => Meaning::Text(array.as_string_view().value(row).into()),
        other => panic!("the oracle does not know this type: {other}"),
    }
}

pub fn kind(raw: &str) -> &'static str {
    match raw.as_bytes()[0] {
        b'"' => "a string",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

pub fn expectation(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "a boolean",
        DataType::Utf8View => "a string",
        DataType::Date32 => "a string with a date",
        DataType::Timestamp(..) => "a string with a time, or an epoch number",
        DataType::Struct(_) => "an object",
        DataType::List(_) => "an array",
        _ => "a number",
    }
}

/// As the declaration says it; of a decimal, as it begins.
fn name_of(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        _ => "DECIMAL",
    }
}

/// What a string stands for.
pub fn text(raw: &str) -> Cow<'_, str> {
    match raw.contains('\\') {
        true => Cow::Owned(serde_json::from_str(raw).expect("a legal string without lone surrogates")),
        false => Cow::Borrowed(&raw[1..raw.len() - 1]),
    }
}

fn float(value: f64) -> Meaning<'static> {
    Meaning::Float((value + 0.0).to_bits())
}

fn integer(bits: usize, raw: &str, out_of_range: Fault) -> Result<Meaning<'static>, Vec<Fault>> {
    let number = Exact::read(raw);
    let bound = 1i128 << (bits - 1);
    let value = number.truncated(0).filter(|value| (-bound..bound).contains(value));
    whole(value.ok_or(out_of_range), number.is_cut_at(0).then_some(Fault::Fraction))
}

fn decimal(precision: u8, scale: i8, raw: &str, out_of_range: Fault) -> Result<Meaning<'static>, Vec<Fault>> {
    let number = Exact::read(raw);
    let fits = number.whole_digits(scale.into()) <= precision.into();
    let value = number.truncated(scale.into()).filter(|_| fits);
    let rounded = number.is_cut_at(scale.into()).then_some(Fault::Rounded { scale });
    whole(value.ok_or(out_of_range), rounded)
}

/// Both faults may be true at once.
fn whole(value: Result<i128, Fault>, cut: Option<Fault>) -> Result<Meaning<'static>, Vec<Fault>> {
    match (value, cut) {
        (Ok(value), None) => Ok(Meaning::Whole(value)),
        (value, cut) => Err(value.err().into_iter().chain(cut).collect()),
    }
}

fn epoch(raw: &str) -> Option<Meaning<'static>> {
    let number = Exact::read(raw);
    let whole = number.floor(0)?;
    let below = |power: u32| (-10i128.pow(power)..10i128.pow(power)).contains(&whole);
    let decimals = match () {
        () if below(11) => 6,
        () if below(14) => 3,
        () if below(17) => 0,
        () => return None,
    };
    let micros = i64::try_from(number.floor(decimals)?).ok()?;
    instant(DateTime::from_timestamp_micros(micros)?)
}

fn time(text: &str) -> Option<Meaning<'static>> {
    let (date, rest) = text.split_at_checked(10)?;
    let (middle, rest) = rest.split_at_checked(1)?;
    let (clock, rest) = rest.split_at_checked(8)?;
    if !["T", "t", " "].contains(&middle) || !has_shape(clock, "00:00:00") {
        return None;
    }
    let clock = NaiveTime::from_hms_opt(number(&clock[..2]), number(&clock[3..5]), number(&clock[6..]))?;
    let zone = rest.trim_start_matches(|byte: char| byte == '.' || byte.is_ascii_digit());
    let fraction = &rest[..rest.len() - zone.len()];
    let decimals = match fraction.strip_prefix('.') {
        Some(decimals) if !decimals.is_empty() && !decimals.contains('.') => decimals,
        None if fraction.is_empty() => "",
        _ => return None,
    };
    let micros = number(&format!("{decimals:0<6}")[..6]);
    let local = calendar(date)?.and_time(clock) + TimeDelta::microseconds(micros.into());
    instant((local - east(zone)?).and_utc())
}

/// How far a zone's clock is ahead of UTC.
fn east(zone: &str) -> Option<TimeDelta> {
    let (sign, rest) = match zone {
        "" | "Z" | "z" => return Some(TimeDelta::zero()),
        _ if zone.starts_with('+') => (1, &zone[1..]),
        _ if zone.starts_with('-') => (-1, &zone[1..]),
        _ => return None,
    };
    let minutes = match rest {
        _ if has_shape(rest, "00") => 0,
        _ if has_shape(rest, "0000") => number(&rest[2..]),
        _ if has_shape(rest, "00:00") => number(&rest[3..]),
        _ => return None,
    };
    let hours = number(&rest[..2]);
    let minutes = (hours < 24 && minutes < 60).then_some(i64::from(hours * 60 + minutes))?;
    Some(TimeDelta::minutes(sign * minutes))
}

fn instant(time: DateTime<Utc>) -> Option<Meaning<'static>> {
    (1..=9999).contains(&time.year()).then(|| Meaning::Whole(time.timestamp_micros().into()))
}

fn date(text: &str) -> Option<Meaning<'static>> {
    let days = calendar(text)?.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days();
    Some(Meaning::Whole(days.into()))
}

fn calendar(text: &str) -> Option<NaiveDate> {
    if !has_shape(text, "0000-00-00") {
        return None;
    }
    let (year, month, day) = (number(&text[..4]), number(&text[5..7]), number(&text[8..]));
    NaiveDate::from_ymd_opt(year as i32, month, day).filter(|_| year > 0)
}

/// Whether `text` is `shape` but for its digits.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// A few digits.
fn number(digits: &str) -> u32 {
    digits.parse().expect("digits, as was seen before")
}

/// Beyond every number that a column holds.
const EXPONENT_MAX: i64 = 1 << 40;

/// A number as ±0.DIGITS × 10^exponent, without zeros at the ends of the digits. No digits at all are zero.
#[derive(Debug)]
struct Exact {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Exact {
    fn read(raw: &str) -> Exact {
        let unsigned = raw.trim_start_matches('-');
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let beyond = if exponent.starts_with('-') { -EXPONENT_MAX } else { EXPONENT_MAX };
        let exponent = exponent.parse().unwrap_or(beyond).clamp(-EXPONENT_MAX, EXPONENT_MAX);
        let digits = [whole, decimals].concat();
        let significant = digits.trim_start_matches('0');
        let zeros = digits.len() - significant.len();
        Exact {
            negative: raw.starts_with('-'),
            digits: significant.trim_end_matches('0').to_owned(),
            exponent: whole.len() as i64 - zeros as i64 + exponent,
        }
    }

    /// How many digits stand before the point, after it moved to the right by `scale`.
    fn whole_digits(&self, scale: i64) -> i64 {
        if self.digits.is_empty() { 0 } else { (self.exponent + scale).max(0) }
    }

    fn is_cut_at(&self, scale: i64) -> bool {
        self.digits.len() as i64 > self.whole_digits(scale)
    }

    /// Times 10^scale and cut off towards zero; absent beyond the 38 digits of the largest decimal.
    fn truncated(&self, scale: i64) -> Option<i128> {
        let length = self.whole_digits(scale);
        if length > 38 {
            return None;
        }
        let zeros = "0".repeat(38);
        let digits = format!("0{}{zeros}", self.digits);
        let magnitude: i128 = digits[..1 + length as usize].parse().ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }

    /// Times 10^scale and cut off towards less.
    fn floor(&self, scale: i64) -> Option<i128> {
        let below = self.negative && self.is_cut_at(scale);
        Some(self.truncated(scale)? - i128::from(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_digits() {
        let check = |raw: &str, scale, truncated, is_cut| {
            let number = Exact::read(raw);
            assert_eq!((number.truncated(scale), number.is_cut_at(scale)), (truncated, is_cut), "{raw}");
        };
        check("0.003e4", 0, Some(30), false);
        check("-22.745", 2, Some(-2274), true);
        check("0e99999999999999999999", 0, Some(0), false);
        check("1e-99999999999999999999", 6, Some(0), true);
        check("1e38", 0, None, false);
        assert_eq!(Exact::read("-1e-9").floor(6), Some(-1));
    }
}
