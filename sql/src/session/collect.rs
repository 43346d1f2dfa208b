//! What an endpoint that takes events in was told: which stream, what of an event is its key, and bounds.

use thalweg_engine::spec::{ColumnOrigin, SourceSpec, StreamSpec};

use crate::error::suggestion;
use crate::parse::{Name, OptionEntry};
use crate::plan::values::{self, Options, value_of};
use crate::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub struct Collect {
    pub stream: String,
    /// The field of an event that decides to which partition it goes.
    pub key: Option<String>,
    /// Pages that may send from a browser, besides the server's own.
    pub origins: Vec<String>,
    /// Events a second that one address may send.
    pub rate: Option<f64>,
    /// Of a request as it comes.
    pub body_bytes_max: usize,
    /// Of a request once it is decompressed.
    pub expanded_bytes_max: usize,
    pub fill: Fill,
}

/// Fields that the server fills in, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fill {
    pub received_at: Option<String>,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    /// Only where the event has none.
    pub event_id: Option<String>,
}

const BODY_BYTES_MAX: usize = 1 << 20;
/// How much larger a body may be once it is decompressed.
const EXPANSION_MAX: usize = 8;

const OPTIONS: [&str; 8] =
    ["key", "origins", "rate", "body_max", "received_at", "address", "user_agent", "event_id"];

impl Collect {
    /// Without a look at what streams there are.
    pub(super) fn of(stream: &Name, entries: &[OptionEntry]) -> Result<Collect> {
        let mut options = Options::new(entries);
        options.refuse_unknown(&OPTIONS)?;
        let mut text = |key: &str| options.take(key).map(|entry| entry.value.clone());
        let origins = text("origins").unwrap_or_default();
        let origins = origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let mut collect = Collect {
            stream: stream.value.clone(),
            key: text("key"),
            origins: origins.map(|origin| origin.trim_end_matches('/').to_owned()).collect(),
            rate: None,
            body_bytes_max: BODY_BYTES_MAX,
            expanded_bytes_max: 0,
            fill: Fill {
                received_at: text("received_at"),
                address: text("address"),
                user_agent: text("user_agent"),
                event_id: text("event_id"),
            },
        };
        collect.rate = options.take("rate").map(|entry| value_of(entry, rate)).transpose()?;
        if let Some(entry) = options.take("body_max") {
            collect.body_bytes_max = value_of(entry, values::bytes)?;
        }
        collect.expanded_bytes_max = collect.body_bytes_max.saturating_mul(EXPANSION_MAX);
        Ok(collect)
    }

    /// Refuses what the stream has no place for.
    pub(super) fn check(&self, stream: &StreamSpec, written: &Name) -> Result<()> {
        if !matches!(stream.source, SourceSpec::Kafka(_) | SourceSpec::Log(_)) {
            return Err(Error::invalid(format!("stream \"{}\" takes no events from outside", stream.name))
                .at(written.position)
                .hint("events go into a topic or a log: connector = 'kafka', or 'log'"));
        }
        let columns = || {
            let columns = stream.schema.fields().iter().zip(&stream.origins);
            let values = columns.filter(|(_, origin)| **origin == ColumnOrigin::Value);
            values.map(|(field, _)| field.name().as_str()).collect::<Vec<_>>()
        };
        let fill = &self.fill;
        let named = [
            ("key", &self.key),
            ("received_at", &fill.received_at),
            ("address", &fill.address),
            ("user_agent", &fill.user_agent),
            ("event_id", &fill.event_id),
        ];
        for (option, name) in named {
            let Some(name) = name.as_deref().filter(|name| !columns().contains(name)) else { continue };
            let error = format!("option \"{option}\" names no column of stream \"{}\": {name}", stream.name);
            return Err(Error::invalid(error).hint(suggestion(name, "columns are", columns())));
        }
        Ok(())
    }
}

/// `200/s per address`
fn rate(text: &str) -> Result<f64, String> {
    let reason = "it is a number of events such as 200/s per address, or 1000/min per address";
    let rate = text.strip_suffix("per address").ok_or(reason)?.trim();
    let (number, unit) = rate.split_once('/').ok_or(reason)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "min" => 60.0,
        _ => return Err(reason.into()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if (0.001..=1e9).contains(&number) => Ok(number / seconds),
        _ => Err(reason.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_time_and_of_whom() {
        assert_eq!(rate("200/s per address"), Ok(200.0));
        assert_eq!(rate("120 / min per address"), Ok(2.0));
        for wrong in ["200", "200/s", "0/s per address", "x/s per address", "200/h per address"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
