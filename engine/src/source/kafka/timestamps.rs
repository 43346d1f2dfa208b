//! Whose clock the timestamps of a topic's records are, and how far ahead it may be.
//!
//! The future guard measures an event against its record's timestamp. Of a topic with `LogAppendTime` that is the broker's
//! clock. With `CreateTime` it is the producer's own, and only the broker's bound on it keeps a clock that is years ahead
//! from making honest rows late (docs/decisions/producer-clocks.md).

use std::time::Duration;

const TYPE: &str = "message.timestamp.type";
const AFTER_MAX: &str = "message.timestamp.after.max.ms";
/// Before Kafka 3.6.
const DIFFERENCE_MAX: &str = "message.timestamp.difference.max.ms";

/// A clock that is a day ahead is a clock that is wrong.
const TOLERATED: Duration = Duration::from_secs(24 * 3600);

/// What there is to say of a topic with these settings.
pub(super) fn warning(topic: &str, settings: &[(String, String)]) -> Option<String> {
    let setting = |name: &str| settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if setting(TYPE)? != "CreateTime" {
        return None;
    }
    let (name, value) =
        [AFTER_MAX, DIFFERENCE_MAX].into_iter().find_map(|name| Some((name, setting(name)?)))?;
    let most = Duration::from_millis(value.parse().ok()?);
    (most > TOLERATED).then(|| {
        format!(
            "producers date the records of topic {topic:?} themselves, and its broker takes dates far ahead ({name}={value}): \
             one whose clock is wrong makes the rows of all others late. Bound it: kafka-configs.sh --bootstrap-server … --alter \
             --entity-type topics --entity-name {topic} --add-config {name}=3600000"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(settings: &[(&str, &str)]) -> bool {
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        warning("clicks", &settings).is_some()
    }

    #[test]
    fn a_topic_is_warned_of_whose_producers_may_date_as_they_like() {
        let unbounded = "9223372036854775807";
        assert!(warned(&[(TYPE, "CreateTime"), (AFTER_MAX, unbounded)]));
        assert!(!warned(&[(TYPE, "CreateTime"), (AFTER_MAX, "3600000")]), "as brokers have it since 4.0");
        assert!(!warned(&[(TYPE, "LogAppendTime"), (AFTER_MAX, unbounded)]));
        assert!(warned(&[(TYPE, "CreateTime"), (DIFFERENCE_MAX, unbounded)]), "an old broker");
        assert!(!warned(&[(TYPE, "CreateTime"), (AFTER_MAX, "1000"), (DIFFERENCE_MAX, unbounded)]));
        assert!(!warned(&[]), "nothing is known");
    }
}
