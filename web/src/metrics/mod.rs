//! `/metrics`: what the job, the queries and this server know of themselves, in Prometheus' text form.
//!
//! Everything but the counts of HTTP is read off the job's status when it is asked for, so nothing is counted twice.

mod counts;
mod names;
mod process;

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use thalweg_engine::collect::{Collector, SpoolStatus};
use thalweg_engine::ids::{END_OF_TIME, Micros};
use thalweg_engine::status::{
    CheckpointStatus, MemoryStatus, PartitionStatus, Status, StreamStatus, ViewStatus,
};
use thalweg_sql::session::{Kind, QueryState, QueryStatus, SinkState, SinkStatus};

use crate::fault::Fault;
use crate::front::Front;
pub(crate) use counts::Counts;
use names::Metric;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn answer(State(front): State<Arc<Front>>) -> Result<Response, Fault> {
    let database = front.database()?;
    let mut page = Page::default();
    page.job(&database.status());
    page.queries(&database.queries());
    page.sinks(&database.sink_status());
    page.collectors(&database.collectors());
    front.counts.tell(&mut page);
    page.process();
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], page.text).into_response())
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn job(&mut self, status: &Status) {
        let streams = &status.streams;
        let name = |stream: &StreamStatus| [stream.stream.clone()];
        self.each(&names::STREAM_RECORDS, streams, name, |it| Some(it.records as f64));
        self.each(&names::STREAM_BYTES, streams, name, |it| Some(it.bytes as f64));
        self.each(&names::STREAM_REJECTED, streams, name, |it| Some(it.rejected as f64));
        self.each(&names::STREAM_FRONTIER, streams, name, |it| seconds(it.frontier));
        self.each(&names::STREAM_FAILED, streams, name, |it| flag(it.failure.is_some()));
        let efforts: Vec<_> = streams
            .iter()
            .flat_map(|it| {
                let effort = it.effort;
                let stages = [
                    ("reading", effort.reading),
                    ("decoding", effort.decoding),
                    ("aggregating", effort.aggregating),
                ];
                stages.map(|(stage, time)| (it.stream.clone(), stage, time))
            })
            .collect();
        let labels = |(stream, stage, _): &(String, &str, _)| [stream.clone(), (*stage).to_owned()];
        self.each(&names::STREAM_EFFORT, &efforts, labels, |(_, _, time)| Some(time.as_secs_f64()));

        let partitions = &status.partitions;
        let name = |it: &PartitionStatus| [it.stream.clone(), it.partition.to_string()];
        self.each(&names::PARTITION_OFFSET, partitions, name, |it| Some(it.offset.0 as f64));
        let lag = |it: &PartitionStatus| Some((it.end_offset?.0 - it.offset.0).max(0) as f64);
        self.each(&names::PARTITION_LAG, partitions, name, lag);
        self.each(&names::PARTITION_WATERMARK, partitions, name, |it| seconds(it.watermark));
        self.each(&names::PARTITION_IDLE, partitions, name, |it| flag(it.idle_since.is_some()));

        let views = &status.views;
        let name = |it: &ViewStatus| [it.view.clone()];
        self.each(&names::VIEW_OPEN_WINDOWS, views, name, |it| Some(it.open_windows as f64));
        self.each(&names::VIEW_STATE_BYTES, views, name, |it| Some(it.state_bytes as f64));
        self.each(&names::VIEW_SPILLED_BYTES, views, name, |it| Some(it.spilled_bytes as f64));
        self.each(&names::VIEW_TAIL_ROWS, views, name, |it| Some(it.tail_rows as f64));
        self.each(&names::VIEW_HISTORY_ROWS, views, name, |it| Some(it.history_rows as f64));
        self.each(&names::VIEW_HISTORY_FILES, views, name, |it| Some(it.history_files as f64));
        self.each(&names::VIEW_CLOSED_THROUGH, views, name, |it| seconds(it.closed_through));
        self.each(&names::VIEW_LATE, views, name, |it| Some(it.late_rows as f64));
        self.each(&names::VIEW_FAILED_ROWS, views, name, |it| Some(it.failed_rows as f64));
        self.each(&names::VIEW_FAILED, views, name, |it| flag(it.failure.is_some()));

        if let Some(newest) = status.checkpoints.last() {
            self.checkpoint(newest);
        }
        let purpose = |it: &MemoryStatus| [it.purpose.to_owned()];
        self.each(&names::MEMORY_BYTES, &status.memory, purpose, |it| Some(it.bytes as f64));
        if let Some(memory) = status.memory.first() {
            self.one(&names::MEMORY_BUDGET, memory.budget as f64);
        }
        self.one(&names::STORE_AWAY, f64::from(u8::from(status.store.away)));
        self.one(&names::STORE_RETRIES, status.store.retries as f64);
        let asked = &status.store.requests;
        let requests =
            [("put", asked.puts), ("get", asked.gets), ("list", asked.lists), ("delete", asked.deletes)];
        let bytes = [("put", asked.bytes_put), ("get", asked.bytes_got)];
        let kind = |(kind, _): &(&str, u64)| [(*kind).to_owned()];
        self.each(&names::STORE_REQUESTS, &requests, kind, |(_, count)| Some(*count as f64));
        self.each(&names::STORE_BYTES, &bytes, kind, |(_, bytes)| Some(*bytes as f64));
    }

    fn checkpoint(&mut self, newest: &CheckpointStatus) {
        self.one(&names::CHECKPOINT_EPOCH, newest.epoch.0 as f64);
        self.one(&names::CHECKPOINT_COMMITTED, newest.committed_at as f64 / 1e6);
        let stages = [
            ("barrier", newest.barrier_micros),
            ("close", newest.close_micros),
            ("manifest", newest.manifest_micros),
            ("delta", newest.delta_micros),
        ];
        let stage = |(stage, _): &(&str, u64)| [(*stage).to_owned()];
        self.each(&names::CHECKPOINT_DURATION, &stages, stage, |(_, micros)| Some(*micros as f64 / 1e6));
        self.one(&names::CHECKPOINT_STATE_BYTES, newest.state_bytes as f64);
    }

    fn queries(&mut self, queries: &[QueryStatus]) {
        // They are numbered as they come.
        self.one(&names::QUERY_STARTED, queries.iter().map(|it| it.id).max().unwrap_or(0) as f64);
        for (metric, kind) in
            [(&names::QUERY_RUNNING, Kind::Query), (&names::SUBSCRIPTION_RUNNING, Kind::Subscription)]
        {
            let runs = |it: &&QueryStatus| it.kind == kind && it.state == QueryState::Running;
            self.one(metric, queries.iter().filter(runs).count() as f64);
        }
    }

    fn sinks(&mut self, sinks: &[SinkStatus]) {
        let states: Vec<_> = sinks.iter().flat_map(|it| SinkState::ALL.map(|state| (it, state))).collect();
        let labels = |(it, state): &(&SinkStatus, SinkState)| [it.sink.clone(), state.name().to_owned()];
        self.each(&names::SINK_STATE, &states, labels, |(it, state)| flag(it.state == *state));
        let name = |it: &SinkStatus| [it.sink.clone()];
        self.each(&names::SINK_CONFIRMED, sinks, name, |it| Some(it.confirmed.0 as f64));
        let lag = |it: &SinkStatus| Some(it.epoch.0.saturating_sub(it.confirmed.0) as f64);
        self.each(&names::SINK_LAG, sinks, name, lag);
        self.each(&names::SINK_ROWS, sinks, name, |it| Some(it.rows as f64));
        self.each(&names::SINK_DELIVERIES, sinks, name, |it| Some(it.deliveries as f64));
        self.each(&names::SINK_RETRIES, sinks, name, |it| Some(it.retries as f64));
        self.each(&names::SINK_DEAD_LETTERS, sinks, name, |it| Some(it.dead_letters as f64));
    }

    fn collectors(&mut self, collectors: &[Arc<Collector>]) {
        let name = |it: &Arc<Collector>| [it.stream().name.clone()];
        self.each(&names::COLLECT_LOST, collectors, name, |it| Some(it.lost() as f64));
        let spools: Vec<_> =
            collectors.iter().filter_map(|it| Some((it.stream().name.clone(), it.spool()?))).collect();
        let name = |(stream, _): &(String, SpoolStatus)| [stream.clone()];
        self.each(&names::SPOOL_RECORDS, &spools, name, |(_, spool)| Some(spool.records as f64));
        self.each(&names::SPOOL_BYTES, &spools, name, |(_, spool)| Some(spool.bytes as f64));
        self.each(&names::SPOOL_KAFKA_AWAY, &spools, name, |(_, spool)| flag(spool.is_away));
    }

    fn process(&mut self) {
        if let Some(bytes) = process::resident_bytes() {
            self.one(&names::PROCESS_RESIDENT, bytes as f64);
        }
        if let Some(seconds) = process::cpu_seconds() {
            self.one(&names::PROCESS_CPU, seconds);
        }
    }

    fn one(&mut self, metric: &Metric, value: f64) {
        self.head(metric);
        self.line(metric.name, &[], value);
    }

    fn each<R, const N: usize>(
        &mut self,
        metric: &Metric,
        rows: &[R],
        labels: impl Fn(&R) -> [String; N],
        value: impl Fn(&R) -> Option<f64>,
    ) {
        self.head(metric);
        for row in rows {
            let Some(value) = value(row) else { continue };
            let pairs: Vec<_> = metric.labels.iter().copied().zip(labels(row)).collect();
            self.line(metric.name, &pairs, value);
        }
    }

    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        // To write into a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, String)], value: f64) {
        let pair = |(name, value): &(&str, String)| format!("{name}=\"{}\"", escaped(value));
        let labels = match labels {
            [] => String::new(),
            labels => format!("{{{}}}", labels.iter().map(pair).collect::<Vec<_>>().join(",")),
        };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The end of time is no moment of a clock.
fn seconds(moment: Option<Micros>) -> Option<f64> {
    moment.filter(|&moment| moment != END_OF_TIME).map(|moment| moment as f64 / 1e6)
}

fn flag(is_so: bool) -> Option<f64> {
    Some(f64::from(u8::from(is_so)))
}

#[cfg(test)]
mod tests {
    use thalweg_engine::ids::Epoch;

    use super::*;

    #[test]
    fn the_document_is_made_of_the_list() {
        let mut text = "# Metrics\n\nWhat `GET /metrics` tells, in Prometheus' text form. Counters start at 0 with the process, unless what\n\
            they count is kept in the manifest (records, rejected, late and failed rows).\n\n| metric | labels | |\n|---|---|---|\n"
            .to_owned();
        for metric in names::ALL {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            text += &format!(
                "| `{}` | {} | {}: {} |\n",
                metric.name,
                labels.join(", "),
                metric.kind,
                metric.help
            );
        }
        expect_test::expect_file!["../../../docs/METRICS.md"].assert_eq(&text);
    }

    #[test]
    fn names_follow_the_rule() {
        for metric in names::ALL {
            assert!(metric.name.starts_with("thalweg_"), "{metric:?}");
            assert_eq!(metric.kind == names::Kind::Counter, metric.name.ends_with("_total"), "{metric:?}");
            assert!(!metric.help.ends_with('.') && !metric.help.contains('|'), "{metric:?}");
        }
    }

    #[test]
    fn a_sink_is_in_one_state_and_so_far_behind() {
        let status = SinkStatus {
            sink: "pager".to_owned(),
            view: "alerts".to_owned(),
            into: "webhook",
            target: "https://hooks.example".to_owned(),
            state: SinkState::Retrying,
            confirmed: Epoch(7),
            epoch: Epoch(9),
            rows: 12,
            deliveries: 3,
            retries: 5,
            dead_letters: 1,
            last_error: None,
            last_error_at: None,
        };
        let mut page = Page::default();
        page.sinks(&[status]);
        let told: Vec<&str> = page.text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            told,
            [
                r#"thalweg_sink_state{sink="pager",state="starting"} 0"#,
                r#"thalweg_sink_state{sink="pager",state="running"} 0"#,
                r#"thalweg_sink_state{sink="pager",state="retrying"} 1"#,
                r#"thalweg_sink_state{sink="pager",state="paused"} 0"#,
                r#"thalweg_sink_state{sink="pager",state="failed"} 0"#,
                r#"thalweg_sink_confirmed_epoch{sink="pager"} 7"#,
                r#"thalweg_sink_lag_epochs{sink="pager"} 2"#,
                r#"thalweg_sink_rows_total{sink="pager"} 12"#,
                r#"thalweg_sink_deliveries_total{sink="pager"} 3"#,
                r#"thalweg_sink_retries_total{sink="pager"} 5"#,
                r#"thalweg_sink_dead_letters{sink="pager"} 1"#,
            ]
        );
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.line("m", &[("a", "say \"no\"\\\n".to_owned())], 1.5);
        assert_eq!(page.text, "m{a=\"say \\\"no\\\"\\\\\\n\"} 1.5\n");
    }
}
