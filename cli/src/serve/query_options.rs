//! The flags that bound what is asked.

use std::time::Duration;

use thalweg_sql::plan::values;
use thalweg_sql::session::Settings;

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

    /// How long a client may take nothing of an answer that is there for it; then its query ends
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = values::duration)]
    client_patience: Duration,
}

impl QueryOptions {
    pub fn settings(&self) -> Settings {
        Settings {
            query_memory_bytes: self.query_memory,
            query_deadline: self.query_time,
            query_rows_max: self.query_rows,
            client_patience: self.client_patience,
            queries_max: self.queries as usize,
            queue_time: self.query_wait,
            ..Settings::default()
        }
    }
}
