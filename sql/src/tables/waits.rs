//! What a view waits for, in a sentence.

use chrono::{DateTime, SecondsFormat};
use thalweg_engine::ids::Micros;
use thalweg_engine::status::Wait;

pub(crate) fn sentence(view: &str, wait: &Wait) -> String {
    match wait {
        Wait::Nothing => "nothing: its rows are there as they come".into(),
        Wait::Restart => format!("ALTER VIEW {view} RESTART: it has failed, see reason"),
        Wait::FailedStream { stream, is_tried: true } => {
            format!("stream {stream}, which has failed and is tried again by itself: system.streams says why")
        }
        Wait::FailedStream { stream, is_tried: false } => {
            format!("stream {stream}, which has failed: ALTER STREAM {stream} RESTART has it go on")
        }
        Wait::FailedView { view } => {
            format!("view {view}, which has failed: ALTER VIEW {view} RESTART has it begin anew")
        }
        Wait::FirstRecord { stream } => format!(
            "the first record of stream {stream}: none has come yet that is a row, and until one does nothing is known of its \
             time, so nothing closes that reads it"
        ),
        Wait::Rows => "rows: none that it takes is open".into(),
        Wait::Partition { stream, partition, watermark, since, closes, needs } => {
            let stands = match (watermark, since) {
                (Some(watermark), Some(since)) => {
                    format!("stands at {} since {}", moment(*watermark), moment(*since))
                }
                (Some(watermark), None) => format!("stands at {}", moment(*watermark)),
                (None, _) => "has had no record yet".into(),
            };
            format!(
                "partition {} of stream {stream}, whose watermark {stands}: what ends at {} closes when it has come to {}",
                partition.0,
                moment(*closes),
                moment(*needs)
            )
        }
        Wait::Silence { stream, closes, idle } => format!(
            "time to pass: all partitions of stream {stream} are silent, and what ends at {} closes when that has lasted {idle:?}",
            moment(*closes)
        ),
        Wait::View { view, closes, closed_through, needs } => {
            let has = closed_through.map(|through| format!(", which has closed through {}", moment(through)));
            format!(
                "view {view}{}: what ends at {} closes when that has closed through {}",
                has.unwrap_or_else(|| ", which has closed nothing yet".into()),
                moment(*closes),
                moment(*needs)
            )
        }
        Wait::Checkpoint { closes } => {
            format!("the next checkpoint, which closes what ends at {}", moment(*closes))
        }
    }
}

fn moment(micros: Micros) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(moment) => moment.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => "the end of time".into(),
    }
}

#[cfg(test)]
mod tests {
    use thalweg_engine::ids::PartitionId;

    use super::*;

    #[test]
    fn it_says_who_and_until_when() {
        let wait = Wait::Partition {
            stream: "clicks".into(),
            partition: PartitionId(3),
            watermark: Some(1_748_779_240_000_000),
            since: Some(1_748_779_300_500_000),
            closes: 1_748_779_260_000_000,
            needs: 1_748_779_265_000_000,
        };
        assert_eq!(
            sentence("v", &wait),
            "partition 3 of stream clicks, whose watermark stands at 2025-06-01T12:00:40Z since 2025-06-01T12:01:40.500Z: \
             what ends at 2025-06-01T12:01:00Z closes when it has come to 2025-06-01T12:01:05Z"
        );
    }
}
