//! What an endpoint that takes events in was told: which stream, what of an event is its key, and bounds.

use thalweg_engine::secrets::reference;
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
    pub rates: Rates,
    /// References to secrets that hold the keys of those who may send; without one, anybody may.
    pub keys: Vec<String>,
    /// Answers before what was taken is durable.
    pub is_queued: bool,
    /// Of a request as it comes.
    pub body_bytes_max: usize,
    /// Of a request once it is decompressed.
    pub expanded_bytes_max: usize,
    pub fill: Fill,
}

/// Events a second that one sender may bring.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub per_address: Option<f64>,
    pub per_key: Option<f64>,
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

const OPTIONS: [&str; 10] =
    ["key", "origins", "rate", "keys", "ack", "body_max", "received_at", "address", "user_agent", "event_id"];

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
            rates: Rates::default(),
            keys: vec![],
            is_queued: false,
            body_bytes_max: BODY_BYTES_MAX,
            expanded_bytes_max: 0,
            fill: Fill {
                received_at: text("received_at"),
                address: text("address"),
                user_agent: text("user_agent"),
                event_id: text("event_id"),
            },
        };
        if let Some(entry) = options.take("keys") {
            collect.keys = value_of(entry, keys)?;
        }
        if let Some(entry) = options.take("rate") {
            collect.rates = value_of(entry, rates)?;
            if collect.rates.per_key.is_some() && collect.keys.is_empty() {
                return Err(Error::invalid("a rate per key needs keys")
                    .at(entry.position)
                    .hint("keys = '${file:senders}' says who may send"));
            }
        }
        if let Some(entry) = options.take("ack") {
            collect.is_queued = value_of(entry, ack)?;
        }
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

/// `${file:senders}, ${env:THALWEG_SECRET_PARTNER}`
fn keys(text: &str) -> Result<Vec<String>, String> {
    let keys: Vec<String> = text.split(',').map(|key| key.trim().to_owned()).collect();
    match keys.iter().all(|key| reference(key).is_some()) {
        true => Ok(keys),
        // It may be a secret, and is not told again.
        false => Err("keys are given by reference: ${env:THALWEG_SECRET_NAME} or ${file:NAME}".into()),
    }
}

/// Whether an answer comes before what was taken is durable.
fn ack(text: &str) -> Result<bool, String> {
    match text {
        "durable" => Ok(false),
        "queued" => Ok(true),
        _ => Err("it is durable or queued".into()),
    }
}

/// `200/s per address, 5000/s per key`
fn rates(text: &str) -> Result<Rates, String> {
    let reason = "it is a number of events such as 200/s per address, or 1000/min per key";
    let mut rates = Rates::default();
    for part in text.split(',') {
        let (rate, of) = part.split_once(" per ").ok_or(reason)?;
        let place = match of.trim() {
            "address" => &mut rates.per_address,
            "key" => &mut rates.per_key,
            _ => return Err(reason.into()),
        };
        let (number, unit) = rate.split_once('/').ok_or(reason)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "min" => 60.0,
            _ => return Err(reason.into()),
        };
        match number.trim().parse::<f64>() {
            Ok(number) if (0.001..=1e9).contains(&number) && place.is_none() => {
                *place = Some(number / seconds);
            }
            _ => return Err(reason.into()),
        }
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_time_and_of_whom() {
        let told = |text| rates(text).map(|rates| (rates.per_address, rates.per_key));
        assert_eq!(told("200/s per address"), Ok((Some(200.0), None)));
        assert_eq!(told("120 / min per key, 5/s per address"), Ok((Some(5.0), Some(2.0))));
        for wrong in
            ["200", "200/s", "0/s per address", "x/s per address", "200/h per address", "1/s per day"]
        {
            assert!(rates(wrong).is_err(), "{wrong}");
        }
        assert!(rates("1/s per key, 2/s per key").is_err());
    }

    #[test]
    fn keys_are_references() {
        assert_eq!(keys("${file:a}, ${env:B}").unwrap(), ["${file:a}", "${env:B}"]);
        for wrong in ["", "secret", "${file:a}, secret"] {
            assert!(!keys(wrong).unwrap_err().contains("secret,"), "{wrong}");
        }
    }
}
