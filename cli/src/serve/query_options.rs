//! The flags that bound what is asked.

use std::time::Duration;

use thalweg_sql::plan::values;
use thalweg_sql::session::Settings;

/// Of what a reader takes by itself, on a machine that has little or says nothing.
const READER_MEMORY_LEAST: usize = 512 << 20;
const READER_MEMORY_MOST: usize = 64 << 30;
/// Also on a machine with one core: what keeps ingest alive is worth a process that gives way to it.
const READERS: usize = 1;

#[derive(clap::Args)]
pub struct QueryOptions {
    /// Queries that run at a time; statements over system.* alone have some more
    #[arg(long, value_name = "N", default_value_t = Settings::default().queries_max as u64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    queries: u64,

    /// How long a query waits for its turn when so many run
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = values::duration)]
    query_wait: Duration,

    /// How long a query may compute; that its client takes its time counts up to as much again
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = values::duration)]
    query_time: Duration,

    /// The most memory that one query's operators may take
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = values::bytes)]
    query_memory: usize,

    /// Rows that a query may answer with [default: any number]
    #[arg(long, value_name = "N")]
    query_rows: Option<u64>,

    /// Processes that plan and run queries, so that what one does wrong costs neither ingest nor, for long, anybody else; 0 runs
    /// queries beside ingest [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=64))]
    readers: Option<u64>,

    /// The most memory that each of these may take; the system ends one that asks for more [default: a quarter of the
    /// machine's or the container's, shared by them]
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    reader_memory: Option<usize>,

    /// How long a client may take nothing of an answer that is there for it; then its query ends
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::duration)]
    client_patience: Duration,
}

impl QueryOptions {
    pub fn readers(&self) -> usize {
        self.readers.map_or(READERS, |readers| readers as usize)
    }

    /// Nobody has said how many, so where there can be none there are none.
    pub fn may_do_without_readers(&self) -> bool {
        self.readers.is_none()
    }

    pub fn reader_memory(&self, available: usize) -> usize {
        let share = available / 4 / self.readers().max(1);
        self.reader_memory.unwrap_or_else(|| share.clamp(READER_MEMORY_LEAST, READER_MEMORY_MOST))
    }

    pub fn settings(&self) -> Settings {
        Settings {
            query_memory_bytes: self.query_memory,
            open_rows_bytes: self.query_memory,
            query_deadline: self.query_time,
            query_rows_max: self.query_rows,
            client_patience: self.client_patience,
            queries_max: self.queries as usize,
            queue_time: self.query_wait,
            ..Settings::default()
        }
    }
}
