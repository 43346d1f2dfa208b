//! What a database is told once, and a session once per client.

use std::time::Duration;

/// Bounds on what queries may use. Data; `cli` resolves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Memory of one query's operators; one that needs more fails.
    pub query_memory_bytes: usize,
    /// How long a query may compute; that its client takes its time counts up to as much again.
    pub query_deadline: Duration,
    /// Rows that a query may answer with.
    pub query_rows_max: Option<u64>,
    /// How long a client may take nothing of what is there for it.
    pub client_patience: Duration,
    pub queries_max: usize,
    /// How long one more waits for its turn.
    pub queue_time: Duration,
    /// Parts in which one query's work is cut. Half of the cores, so that ingest keeps the other half.
    pub parallelism: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Settings {
            query_memory_bytes: 512 << 20,
            query_deadline: Duration::from_secs(600),
            query_rows_max: None,
            client_patience: Duration::from_secs(60),
            queries_max: 64,
            queue_time: Duration::from_secs(5),
            parallelism: cores.div_ceil(2),
        }
    }
}

/// Who asks, for `system.queries` and logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub user: Option<String>,
    /// The program, as it names itself.
    pub name: Option<String>,
}
