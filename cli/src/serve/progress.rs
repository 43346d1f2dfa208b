//! One line that says how things go, rewritten each second while a terminal watches.

use std::time::Duration;

use thalweg_engine::ids::{END_OF_TIME, Micros};
use thalweg_engine::job::Engine;
use thalweg_engine::status::Status;

const EVERY: Duration = Duration::from_secs(1);

pub async fn report(engine: Engine) {
    let mut before = records(&engine.status());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let status = engine.status();
        let now = records(&status);
        eprint!("\r\x1b[2K{}", line(&status, now - before));
        before = now;
    }
}

fn records(status: &Status) -> u64 {
    status.streams.iter().map(|stream| stream.records).sum()
}

fn line(status: &Status, rate: u64) -> String {
    let frontier = status.streams.iter().filter_map(|stream| stream.frontier).min();
    let open: u64 = status.views.iter().map(|view| view.open_windows).sum();
    let closed: u64 = status.views.iter().map(|view| view.history_rows + view.tail_rows).sum();
    let state: u64 = status.views.iter().map(|view| view.state_bytes).sum();
    let rejected: u64 = status.streams.iter().map(|stream| stream.rejected).sum();
    let late: u64 = status.views.iter().map(|view| view.late_rows).sum();
    let checkpoint = status.checkpoints.last();
    let failed = failed(status);
    let store = match status.store.away {
        true => format!(" · the store is away since {}", moment(status.store.since)),
        false => String::new(),
    };
    format!(
        "{rate} events/s · {} read · watermark {} · {open} windows open, {closed} rows closed · state {} MiB · \
         rejected {rejected}, late {late} · checkpoint {} in {} ms{failed}{store}",
        records(status),
        frontier.map_or_else(|| "none yet".into(), moment),
        state >> 20,
        checkpoint.map_or(0, |checkpoint| checkpoint.epoch.0),
        checkpoint.map_or(0, |checkpoint| checkpoint.duration_micros / 1000),
    )
}

/// What stands still; the reasons are in `system.views` and `system.streams`.
fn failed(status: &Status) -> String {
    let streams = status.streams.iter().filter(|it| it.failure.is_some()).map(|it| &it.stream);
    let views = status.views.iter().filter(|it| it.failure.is_some()).map(|it| &it.view);
    let names: Vec<&str> = streams.chain(views).map(String::as_str).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" · failed: {}", names.join(", ")),
    }
}

pub fn moment(micros: Micros) -> String {
    match chrono::DateTime::from_timestamp_micros(micros) {
        _ if micros == END_OF_TIME => "the end".into(),
        Some(moment) => moment.format("%H:%M:%S").to_string(),
        None => micros.to_string(),
    }
}
