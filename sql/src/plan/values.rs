//! The values of options: lengths of time (`10s`, `5 min`), sizes (`64MiB`), moments (RFC 3339), numbers.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use thalweg_engine::ids::Micros;

use crate::error::{Error, Result, suggestion};
use crate::parse::OptionEntry;

/// The options of a statement, taken one by one.
pub(crate) struct Options<'a> {
    left: Vec<&'a OptionEntry>,
}

impl<'a> Options<'a> {
    pub fn new(entries: &'a [OptionEntry]) -> Options<'a> {
        Options { left: entries.iter().collect() }
    }

    pub fn take(&mut self, key: &str) -> Option<&'a OptionEntry> {
        let index = self.left.iter().position(|entry| entry.key.eq_ignore_ascii_case(key))?;
        Some(self.left.remove(index))
    }

    /// All options whose key begins with `prefix`, without it.
    pub fn take_prefixed(&mut self, prefix: &str) -> Vec<(String, &'a OptionEntry)> {
        let (taken, left) = self.left.iter().partition(|entry| entry.key.starts_with(prefix));
        self.left = left;
        let taken: Vec<&OptionEntry> = taken;
        taken.into_iter().map(|entry| (entry.key[prefix.len()..].to_owned(), entry)).collect()
    }

    pub fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        self.take(key).map(|entry| value_of(entry, parse)).transpose()
    }

    /// Refuses what is left and not among `known`, in which `prefix.*` stands for all that begins so.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        let is_known = |key: &str| {
            known.iter().any(|it| {
                it.strip_suffix('*').map_or(key.eq_ignore_ascii_case(it), |prefix| key.starts_with(prefix))
            })
        };
        let Some(entry) = self.left.iter().find(|entry| !is_known(&entry.key)) else { return Ok(()) };
        Err(Error::invalid(format!("unknown option \"{}\"", entry.key)).at(entry.position).hint(suggestion(
            &entry.key,
            "options are",
            known.iter().copied(),
        )))
    }
}

pub(crate) fn value_of<T>(entry: &OptionEntry, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T> {
    parse(entry.value.trim()).map_err(|reason| {
        Error::invalid(format!("option \"{}\" can't be \"{}\": {reason}", entry.key, entry.value))
            .at(entry.value_position)
    })
}

pub(crate) fn number<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("it is a number from {least} to {most}")),
    }
}

pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let reason = "it is a length of time such as 100ms, 10s, 5min, 1h or 1d";
    let (number, unit) = number_and_unit(text).ok_or(reason)?;
    let seconds = match unit.as_str() {
        "ms" => 1e-3,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return Err(reason.into()),
    };
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|it| it.as_secs() < 1 << 40)
        .ok_or(reason.into())
}

pub fn bytes(text: &str) -> Result<usize, String> {
    let reason = "it is a size such as 4096, 64KiB or 1MiB";
    let (number, unit) = number_and_unit(text).ok_or(reason)?;
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1048576.0,
        "gib" => 1073741824.0,
        "tib" => 1099511627776.0,
        _ => return Err(reason.into()),
    };
    let size = number * factor;
    if (1.0..=1e15).contains(&size) { Ok(size as usize) } else { Err(reason.into()) }
}

pub(crate) fn moment(text: &str) -> Result<Micros, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|moment| moment.timestamp_micros())
        .map_err(|_| "it is a moment such as 2025-06-01T00:00:00Z".into())
}

fn number_and_unit(text: &str) -> Option<(f64, String)> {
    let split = text.find(|each: char| !each.is_ascii_digit() && each != '.').unwrap_or(text.len());
    let number = text[..split].parse().ok()?;
    Some((number, text[split..].trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5 min"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        for wrong in ["10", "", "s", "-1s", "10 parsecs", "1e400s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert_eq!(bytes("64 kb"), Ok(64_000));
        assert_eq!(bytes("12"), Ok(12));
        assert!(bytes("0").is_err() && bytes("1 mile").is_err());
    }
}
