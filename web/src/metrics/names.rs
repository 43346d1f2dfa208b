//! Every metric there is, with its labels and meaning: docs/METRICS.md is made of this list.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) const $ident: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// In the order in which they are told.
        #[cfg(test)]
        pub(crate) const ALL: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    STREAM_RECORDS = Counter "thalweg_stream_records_total" ["stream"] "Records read";
    STREAM_BYTES = Counter "thalweg_stream_bytes_total" ["stream"] "Bytes of records read, since the start";
    STREAM_REJECTED = Counter "thalweg_stream_rejected_total" ["stream"] "Records that did not become rows";
    STREAM_FRONTIER = Gauge "thalweg_stream_frontier_seconds" ["stream"] "Event time, since 1970, before which nothing is waited for any more";
    STREAM_FAILED = Gauge "thalweg_stream_failed" ["stream"] "1 while the stream stands still until ALTER STREAM … RESTART";
    STREAM_EFFORT = Counter "thalweg_stream_effort_seconds_total" ["stream", "stage"] "Time that workers spent reading, decoding, aggregating";
    PARTITION_OFFSET = Gauge "thalweg_partition_offset" ["stream", "partition"] "The next record to read";
    PARTITION_LAG = Gauge "thalweg_partition_lag_records" ["stream", "partition"] "Records that are there and not read";
    PARTITION_WATERMARK = Gauge "thalweg_partition_watermark_seconds" ["stream", "partition"] "Largest event time seen, since 1970, less the declared delay";
    PARTITION_IDLE = Gauge "thalweg_partition_idle" ["stream", "partition"] "1 while the partition is silent and holds nobody back";
    VIEW_OPEN_WINDOWS = Gauge "thalweg_view_open_windows" ["view"] "Windows that have not closed";
    VIEW_STATE_BYTES = Gauge "thalweg_view_state_bytes" ["view"] "Memory of what is open";
    VIEW_SPILLED_BYTES = Gauge "thalweg_view_spilled_bytes" ["view"] "Bytes on disk of what is open";
    VIEW_TAIL_ROWS = Gauge "thalweg_view_tail_rows" ["view"] "Closed rows that are not in Parquet yet";
    VIEW_HISTORY_ROWS = Gauge "thalweg_view_history_rows" ["view"] "Rows in Parquet";
    VIEW_HISTORY_FILES = Gauge "thalweg_view_history_files" ["view"] "Files of Parquet";
    VIEW_CLOSED_THROUGH = Gauge "thalweg_view_closed_through_seconds" ["view"] "Windows ending at or before this event time, since 1970, have closed";
    VIEW_LATE = Counter "thalweg_view_late_rows_total" ["view"] "Rows that came after all their windows had closed";
    VIEW_FAILED_ROWS = Counter "thalweg_view_failed_rows_total" ["view"] "Rows that an expression of the view could not take";
    VIEW_FAILED = Gauge "thalweg_view_failed" ["view"] "1 while the view stands still until ALTER VIEW … RESTART";
    CHECKPOINT_EPOCH = Gauge "thalweg_checkpoint_epoch" [] "The newest durable epoch";
    CHECKPOINT_COMMITTED = Gauge "thalweg_checkpoint_committed_seconds" [] "Wall time, since 1970, when it was durable";
    CHECKPOINT_DURATION = Gauge "thalweg_checkpoint_duration_seconds" ["stage"] "What the newest took, stage by stage: barrier, close, manifest, delta";
    CHECKPOINT_STATE_BYTES = Gauge "thalweg_checkpoint_state_bytes" [] "State files that the newest wrote";
    MEMORY_BYTES = Gauge "thalweg_memory_bytes" ["purpose"] "What ingest holds in memory: queues, waiting, open, closing, encoding, tails, tables";
    MEMORY_BUDGET = Gauge "thalweg_memory_budget_bytes" [] "The most that it may hold";
    STORE_AWAY = Gauge "thalweg_store_away" [] "1 while the store under --data does not answer";
    STORE_RETRIES = Counter "thalweg_store_retries_total" [] "Requests to the store that were made again, since the start";
    STORE_REQUESTS = Counter "thalweg_store_requests_total" ["kind"] "What ingest has asked of the store, since the start: put, get, list, delete";
    STORE_BYTES = Counter "thalweg_store_bytes_total" ["kind"] "What it has written and read by these: put, get";
    QUERY_STARTED = Counter "thalweg_query_started_total" [] "Queries and subscriptions, over Flight SQL and over HTTP, since the start";
    QUERY_RUNNING = Gauge "thalweg_query_running" [] "Queries that run";
    SUBSCRIPTION_RUNNING = Gauge "thalweg_subscription_running" [] "Subscriptions that run";
    SINK_STATE = Gauge "thalweg_sink_state" ["sink", "state"] "1 for the state that the sink is in: starting, running, retrying, paused, failed";
    SINK_CONFIRMED = Gauge "thalweg_sink_confirmed_epoch" ["sink"] "All that closed by it is on the other side";
    SINK_LAG = Gauge "thalweg_sink_lag_epochs" ["sink"] "Epochs that are durable behind that one";
    SINK_ROWS = Counter "thalweg_sink_rows_total" ["sink"] "Rows sent, since the start";
    SINK_DELIVERIES = Counter "thalweg_sink_deliveries_total" ["sink"] "Transactions, or posts that were taken, since the start";
    SINK_RETRIES = Counter "thalweg_sink_retries_total" ["sink"] "Attempts that failed, since the start";
    SINK_DEAD_LETTERS = Gauge "thalweg_sink_dead_letters" ["sink"] "Deliveries that were refused for good and wait to be sent again";
    COLLECT_LOST = Counter "thalweg_collect_lost_total" ["stream"] "Events that were answered 202 under ack = 'queued' and could not be made durable, since the start";
    SPOOL_RECORDS = Gauge "thalweg_spool_records" ["stream"] "Events that wait on disk for Kafka to come back";
    SPOOL_BYTES = Gauge "thalweg_spool_bytes" ["stream"] "What they weigh there";
    SPOOL_KAFKA_AWAY = Gauge "thalweg_spool_kafka_away" ["stream"] "1 while events go into the spool";
    COLLECT_EVENTS = Counter "thalweg_collect_events_total" ["endpoint", "outcome"] "Events brought, since the start: taken, refused";
    HTTP_CONNECTIONS = Gauge "thalweg_http_connections" [] "Open connections";
    HTTP_REQUESTS = Counter "thalweg_http_requests_total" ["route", "code"] "Requests answered";
    HTTP_DURATION = Histogram "thalweg_http_duration_seconds" ["route"] "From a request's headers to those of its answer";
    PROCESS_RESIDENT = Gauge "thalweg_process_resident_bytes" [] "Memory that the process has resident";
    PROCESS_CPU = Counter "thalweg_process_cpu_seconds_total" [] "CPU time of the process";
}
