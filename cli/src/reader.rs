//! `thalweg reader`: a process that the server starts for itself, to plan and run statements in.

use std::process::ExitCode;
use std::time::Duration;

use thalweg_readers::{Reader, Stay};
use thalweg_sql::session::Settings;

use crate::threads;

/// Where statements keep all that there are.
const THREADS_OF_MORE: usize = 2;

/// What a server tells its readers; nobody writes it by hand.
#[derive(clap::Args, Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    #[arg(long)]
    pub data: String,
    #[arg(long)]
    pub parent: u32,
    #[arg(long)]
    pub threads: usize,
    #[arg(long)]
    pub query_memory: usize,
    #[arg(long)]
    pub queries_memory: usize,
    #[arg(long)]
    pub open_rows: usize,
    #[arg(long)]
    pub query_seconds: u64,
}

impl Arguments {
    /// As they are written.
    pub fn line(&self) -> Vec<String> {
        let Arguments { data, parent, threads, query_memory, queries_memory, open_rows, query_seconds } =
            self;
        let line = [
            "reader".to_owned(),
            format!("--data={data}"),
            format!("--parent={parent}"),
            format!("--threads={threads}"),
            format!("--query-memory={query_memory}"),
            format!("--queries-memory={queries_memory}"),
            format!("--open-rows={open_rows}"),
            format!("--query-seconds={query_seconds}"),
        ];
        line.to_vec()
    }
}

pub fn run(arguments: Arguments) -> ExitCode {
    crate::serve::log("warn");
    let settings = Settings {
        query_memory_bytes: arguments.query_memory,
        open_rows_bytes: arguments.open_rows,
        // Slots, and all that has to do with clients, are the server's to watch.
        query_deadline: Duration::from_secs(arguments.query_seconds),
        client_patience: Duration::from_secs(arguments.query_seconds),
        queries_max: tokio::sync::Semaphore::MAX_PERMITS,
        ..Settings::default()
    };
    let main = match threads::reader() {
        Ok(main) => main,
        Err(error) => {
            tracing::error!(%error, "a reader has no threads");
            return ExitCode::FAILURE;
        }
    };
    let Arguments { data, parent, threads, queries_memory, .. } = arguments;
    let queries = Box::new(move |stay, crew| {
        let threads = if stay == Stay::Always { threads } else { threads.min(THREADS_OF_MORE) };
        threads::queries_of_reader(threads, crew).map_err(std::io::Error::other)
    });
    let reader = Reader { data, parent, settings, queries, memory_bytes: queries_memory };
    let outcome = main.block_on(thalweg_readers::serve(reader));
    main.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "a reader ends");
            ExitCode::FAILURE
        }
    }
}

#[test]
fn the_line_is_read_as_it_was_meant() {
    use clap::{Args, FromArgMatches};
    let meant = Arguments {
        data: "s3://b/--p q".to_owned(),
        parent: 7,
        threads: 2,
        query_memory: 1 << 20,
        queries_memory: 3 << 20,
        open_rows: 2 << 20,
        query_seconds: 600,
    };
    let command = Arguments::augment_args(clap::Command::new("reader"));
    let read = Arguments::from_arg_matches(&command.get_matches_from(meant.line())).unwrap();
    assert_eq!(read, meant);
}
