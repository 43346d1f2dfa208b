//! What a database is told once, and a session once per client.

use std::time::Duration;

use super::limits;
use crate::Result;
use crate::parse::{self, Statement};
use crate::plan::values;

/// Bounds on what queries may use. Data; `cli` resolves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Memory of one query's operators; one that needs more fails.
    pub query_memory_bytes: usize,
    /// Of all queries: the finished rows of open windows that they share. What is more is finished by each as it reads.
    pub open_rows_bytes: usize,
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
            open_rows_bytes: 512 << 20,
            query_deadline: Duration::from_secs(600),
            query_rows_max: None,
            client_patience: Duration::from_secs(60),
            queries_max: 64,
            queue_time: Duration::from_secs(5),
            parallelism: cores.div_ceil(2),
        }
    }
}

/// What a session asks to be held to: what is above the server's bounds is without effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionLimits {
    pub query_time: Option<Duration>,
    pub query_memory_bytes: Option<usize>,
    pub query_rows: Option<u64>,
}

/// With what a value can be, if it can't be that.
type Told<T> = std::result::Result<T, String>;

impl SessionLimits {
    pub const NAMES: [&str; 3] = ["query_time", "query_memory", "query_rows"];

    /// `default` is what the server has. `None`: there is no such limit.
    pub fn set(&mut self, name: &str, value: &str) -> Option<Told<()>> {
        fn parsed<T>(value: &str, parse: impl Fn(&str) -> Told<T>) -> Told<Option<T>> {
            if value == "default" { Ok(None) } else { parse(value).map(Some) }
        }
        let set = match name {
            "query_time" => parsed(value, some_time).map(|time| self.query_time = time),
            "query_memory" => parsed(value, values::bytes).map(|bytes| self.query_memory_bytes = bytes),
            "query_rows" => {
                parsed(value, |text| values::number(text, 1, u64::MAX)).map(|rows| self.query_rows = rows)
            }
            _ => return None,
        };
        Some(set)
    }

    /// Each as it was set.
    pub fn told(&self) -> [(&'static str, String); 3] {
        let or_default = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
        let [time, memory, rows] = SessionLimits::NAMES;
        [
            (time, or_default(self.query_time.map(|time| format!("{}ms", time.as_millis())))),
            (memory, or_default(self.query_memory_bytes.map(|bytes| bytes.to_string()))),
            (rows, or_default(self.query_rows.map(|rows| rows.to_string()))),
        ]
    }

    pub(super) fn within(&self, settings: &Settings) -> Settings {
        let rows = [self.query_rows, settings.query_rows_max];
        Settings {
            query_deadline: self.query_time.unwrap_or(Duration::MAX).min(settings.query_deadline),
            query_memory_bytes: self
                .query_memory_bytes
                .unwrap_or(usize::MAX)
                .min(settings.query_memory_bytes),
            query_rows_max: rows.into_iter().flatten().min(),
            ..settings.clone()
        }
    }
}

fn some_time(text: &str) -> Told<Duration> {
    let time = values::duration(text)?;
    if time.is_zero() { Err("it is longer than nothing".to_owned()) } else { Ok(time) }
}

/// Who asks, for `system.queries` and logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub user: Option<String>,
    /// The program, as it names itself.
    pub name: Option<String>,
}

/// What a `SET` sets, by name; `None` of any other statement.
pub fn setting(sql: &str) -> Result<Option<(String, String)>> {
    // Most statements are longer than it takes to see that they are none.
    if !sql.trim_start().get(..3).is_some_and(|word| word.eq_ignore_ascii_case("SET")) {
        return Ok(None);
    }
    limits::check_text(sql)?;
    Ok(match parse::statement(sql)?.statement {
        Statement::Set(set) => Some((set.name.value, set.value)),
        _ => None,
    })
}
