//! Numbers that must not be mixed up.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Counts checkpoints. Everything that one manifest makes durable belongs to one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    pub const MAX: Epoch = Epoch(u64::MAX);

    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a stream's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub i32);

/// The position of a record in its partition. As a resume point it names the next record to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// What Kafka knows a topic by, whatever its name: one that is deleted and created again has another. As its tools write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(String);

impl TopicId {
    /// Of the text that librdkafka has; zero is the id of those that have none.
    pub fn told(text: &str) -> Option<TopicId> {
        let has_one = text.bytes().any(|byte| byte != b'A');
        has_one.then(|| TopicId(text.replace('+', "-").replace('/', "_")))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Microseconds of event time since 1970 in UTC: the one unit from the decoder to the Delta table.
pub type Micros = i64;

/// The moments that a date can hold wherever rows are read: years 1 to 9999.
pub const CALENDAR: RangeInclusive<Micros> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// No window, gap, reach, delay or lateness is longer: a hundred years. A moment of the calendar stays far from the ends of
/// [`Micros`] when hundreds of them are added to it.
pub const LENGTH_MAX: Micros = 36_525 * 24 * 3_600 * 1_000_000;

/// The watermark of a source that has ended: every window can close.
pub const END_OF_TIME: Micros = i64::MAX;
