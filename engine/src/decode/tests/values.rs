//! A JSON value for a column of any type, from a seed: in all forms and of all sizes that `docs/JSON.md` allows, and now
//! and then beyond. For the tests and the fuzz target's first inputs.

use arrow::datatypes::DataType;

use super::mutations::{ODDITIES, distort};
use super::samples::{Seed, object};

/// A value of this type, as a rule.
pub fn any_value(seed: &mut Seed, data_type: &DataType) -> String {
    if seed.one_in(20) {
        return if seed.one_in(4) { seed.pick(ODDITIES).to_owned() } else { "null".to_owned() };
    }
    match data_type {
        DataType::Boolean => seed.pick(&["true", "false"]).to_owned(),
        DataType::Int8 => integer(seed, 8),
        DataType::Int16 => integer(seed, 16),
        DataType::Int32 => integer(seed, 32),
        DataType::Int64 => integer(seed, 64),
        DataType::Decimal128(precision, scale) => decimal(seed, (*precision).into(), *scale as usize),
        DataType::Float32 | DataType::Float64 => match seed.below(8) {
            0 if *data_type == DataType::Float64 || seed.one_in(16) => {
                f64::from_bits(seed.draw()).to_string().replace("NaN", "0.5").replace("inf", "1")
            }
            0 | 1 => f32::from_bits(seed.draw() as u32).to_string().replace("NaN", "0.5").replace("inf", "1"),
            2..5 => format!("{:e}", seed.draw() as f64 / 7e15),
            _ => format!("{}.{:02}", seed.below(1000), seed.below(100)),
        },
        DataType::Date32 => format!("\"{}\"", date(seed)),
        DataType::Timestamp(..) if seed.one_in(3) => epoch(seed),
        DataType::Timestamp(..) => format!("\"{}\"", time(seed)),
        DataType::Struct(members) => {
            let mut entries = Vec::new();
            for field in members {
                if !seed.one_in(10) {
                    entries.push((field.name().clone(), any_value(seed, field.data_type())));
                }
            }
            if seed.one_in(24) {
                distort(seed, &mut entries);
            }
            object(&entries)
        }
        DataType::List(element) => {
            let elements: Vec<_> = (0..seed.below(4)).map(|_| any_value(seed, element.data_type())).collect();
            format!("[{}]", elements.join(","))
        }
        _ => text(seed),
    }
}

/// Mostly plain, shorter and longer than what the decoder looks at in one step.
fn text(seed: &mut Seed) -> String {
    const LENGTHS: [usize; 6] = [4, 12, 13, 32, 64, 100];
    let length = LENGTHS[seed.below(6)] + seed.below(3);
    let mut text: String =
        "é long text, of {some} words: ".chars().cycle().skip(seed.below(30)).take(length).collect();
    if seed.one_in(6) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let pieces = [
            "\\n",
            "\\b",
            "\\f",
            "\\r",
            "\\t",
            "\\\"",
            "\\\\",
            "\\/",
            "\\u0000",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\ud842\\udfb7",
            "😀",
            "\u{7f}",
            "\u{feff}",
        ];
        text.insert_str(places[seed.below(places.len())], seed.pick(&pieces));
    }
    format!("\"{}\"", if seed.one_in(16) { "" } else { &text })
}

/// Of any length that so many bits hold, the ends of their range often, and now and then one beyond.
fn integer(seed: &mut Seed, bits: usize) -> String {
    let bound = 1i128 << (bits - 1);
    let value = match seed.below(32) {
        0 => bound - seed.below(2) as i128,
        1 => -bound - (seed.below(8) / 7) as i128,
        _ => i128::from(seed.draw() as i64 >> (64 - bits + seed.below(bits))),
    };
    spelled(seed, value.to_string())
}

/// The same whole number in other words, now and then; or nearly so.
fn spelled(seed: &mut Seed, whole: String) -> String {
    let tenth = whole.strip_suffix('0').filter(|tenth| tenth.ends_with(|last: char| last.is_ascii_digit()));
    match (seed.below(60), tenth) {
        (0, _) => format!("{whole}.0"),
        (1, _) => format!("{whole}e0"),
        (2, _) => format!("{whole}00E-2"),
        (3, _) => format!("{whole}.50"),
        (4..8, Some(tenth)) => format!("{tenth}e1"),
        (8..12, Some(tenth)) => format!("{tenth}.00E+1"),
        _ => whole,
    }
}

/// Digits up to the precision, and now and then one more, before the point or behind it.
fn decimal(seed: &mut Seed, precision: usize, scale: usize) -> String {
    let whole_max = precision - scale + usize::from(seed.one_in(40));
    let scale = scale + usize::from(seed.one_in(40));
    let digits = |seed: &mut Seed, count: usize| -> String {
        let nines = seed.one_in(8);
        (0..count).map(|_| if nines { '9' } else { char::from(b'0' + seed.below(10) as u8) }).collect()
    };
    let (whole_count, decimals_count) = (seed.below(whole_max + 1), seed.below(scale + 1));
    let whole = digits(seed, whole_count);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let sign = if seed.one_in(4) { "-" } else { "" };
    match digits(seed, decimals_count) {
        decimals if decimals.is_empty() => spelled(seed, format!("{sign}{whole}")),
        decimals if seed.one_in(16) => format!("{sign}{whole}.{decimals}00"),
        decimals if whole != "0" && seed.one_in(16) => {
            format!("{sign}{whole}{decimals}e-{}", decimals.len())
        }
        decimals => format!("{sign}{whole}.{decimals}"),
    }
}

/// Of the years 0001 to 9999, the ends of February often; but not always a day of the calendar.
fn date(seed: &mut Seed) -> String {
    const YEARS: [usize; 11] = [0, 1, 1600, 1800, 1900, 1969, 1970, 2000, 2100, 2200, 9999];
    let year = match seed.below(4) {
        0 => 1 + seed.below(9999),
        1 => YEARS[seed.below(YEARS.len())],
        _ => 1990 + seed.below(50),
    };
    let (month, day) = match seed.below(16) {
        0 => (2, 28 + seed.below(2)),
        1 => ([1, 12][seed.below(2)], [1, 31][seed.below(2)]),
        2 if seed.one_in(4) => (seed.below(14), seed.below(33)),
        _ => (1 + seed.below(12), 1 + seed.below(28)),
    };
    format!("{year:04}-{month:02}-{day:02}")
}

/// In one of the forms that docs/JSON.md allows, and now and then nearly so.
fn time(seed: &mut Seed) -> String {
    let date = date(seed);
    let (hour, minute, second) = match seed.below(32) {
        0 => (0, 0, 0),
        1 => (23, 59, 59),
        2 if seed.one_in(4) => (23 + seed.below(2), 59 + seed.below(2), 59 + seed.below(2)),
        _ => (seed.below(24), seed.below(60), seed.below(60)),
    };
    let middle = seed.pick(&["T", "T", "T", "t", " "]);
    let decimals = match seed.below(4) {
        0 => String::new(),
        1 => format!(".{:03}", seed.below(1000)),
        _ => format!(".{:012}", seed.draw() % 1_000_000_000_000)[..2 + seed.below(12)].to_owned(),
    };
    let zone = match seed.below(8) {
        0..3 => seed.pick(&["Z", "Z", "z", ""]).to_owned(),
        3 => format!("+{:02}:{:02}", seed.below(24) + seed.below(8) / 7, seed.below(60)),
        form => {
            let colon = if form < 6 { ":" } else { "" };
            let minutes = [0, 0, 30, 45][seed.below(4)];
            let minutes = if form == 7 { String::new() } else { format!("{colon}{minutes:02}") };
            format!("{}{:02}{minutes}", seed.pick(&["+", "-"]), seed.below(15))
        }
    };
    format!("{date}{middle}{hour:02}:{minute:02}:{second:02}{decimals}{zone}")
}

/// Seconds, milliseconds or microseconds, at the bounds between them too.
fn epoch(seed: &mut Seed) -> String {
    let unit = [1, 1000, 1_000_000][seed.below(3)];
    let whole = match seed.below(32) {
        0 => 100_000_000_000 * unit - seed.below(3) as i64 + 1,
        1 => -100_000_000_000 * unit + seed.below(3) as i64 - 1,
        2..6 => (seed.draw() as i64 >> seed.below(64)) % (62_135_596_800 * unit),
        _ => 1_748_736_000 * unit + seed.below(1_000_000_000) as i64,
    };
    match seed.below(6) {
        0 => format!("{whole}.{:03}", seed.below(1000)),
        1 => format!("{whole}.{:09}", seed.below(1_000_000_000)),
        2 => format!("{whole}00e-{}", 2 + seed.below(2)),
        _ => spelled(seed, whole.to_string()),
    }
}
