//! Runs statements one after another and writes what they answer.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::LineDelimited;
use arrow_flight::decode::FlightRecordBatchStream;
use futures::StreamExt;
use thalweg_sql::as_text;

use super::changing::Changing;
use super::client::{Answer, Client, message};
use super::fault::{self, Origin};
use super::output::Format;
use super::table::{self, Layout};
use super::text;

/// A table is laid out when all its rows are known, so there is an end to them.
const TABLE_ROWS_MAX: usize = 10_000;
/// What changes is drawn no more often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

pub struct Runner {
    pub client: Client,
    pub format: Format,
    pub expanded: bool,
    pub timing: bool,
    pub interactive: bool,
    terminal: bool,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Fine,
    Failed,
    /// By Ctrl-C.
    Interrupted,
}

impl Runner {
    pub fn new(client: Client, format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        Runner { client, format, expanded: false, timing: true, interactive: false, terminal }
    }

    /// Runs every statement up to the first that fails.
    pub async fn script(&mut self, script: &str, name: Option<&str>) -> bool {
        for statement in text::split(script).0 {
            let origin = name.map(|name| (name, statement.line));
            if self.statement(statement.text, origin).await != Ended::Fine {
                return false;
            }
        }
        true
    }

    /// Runs one statement. At a prompt Ctrl-C stops it; elsewhere Ctrl-C ends the program, and with it the statement.
    pub async fn statement(&mut self, sql: &str, origin: Origin<'_>) -> Ended {
        let interactive = self.interactive;
        let interrupted = async {
            if interactive && tokio::signal::ctrl_c().await.is_ok() {
                return;
            }
            std::future::pending().await
        };
        let ended = tokio::select! {
            biased;
            () = interrupted => None,
            ended = self.answer(sql) => Some(ended),
        };
        match ended {
            None => {
                eprintln!("cancelled");
                Ended::Interrupted
            }
            Some(Ok(())) => Ended::Fine,
            Some(Err(Failure::Gone)) => Ended::Interrupted,
            Some(Err(Failure::Said(reason))) => {
                eprint!("{}", fault::describe(&reason, sql, origin));
                Ended::Failed
            }
        }
    }

    async fn answer(&mut self, sql: &str) -> Result<(), Failure> {
        let start = Instant::now();
        match self.client.run(sql).await.map_err(Failure::Said)? {
            Answer::Done(done) => {
                let done = if done.is_empty() { "done" } else { &done };
                if self.format == Format::Table {
                    say(done)
                } else {
                    eprintln!("{done}")
                }
                Ok(())
            }
            Answer::Rows(rows) if self.format != Format::Table => self.write_rows(rows, self.format).await,
            Answer::Rows(rows) if !has_no_end(sql) => self.show_table(rows, start).await,
            Answer::Rows(rows) if self.terminal => self.show_changes(rows).await,
            Answer::Rows(rows) => self.write_rows(rows, Format::Json).await,
        }
    }

    async fn show_table(
        &self,
        mut rows: Box<FlightRecordBatchStream>,
        start: Instant,
    ) -> Result<(), Failure> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| Failure::Said(message(error)))?;
            let kept = batch.num_rows().min(TABLE_ROWS_MAX - count);
            batches.push(batch.slice(0, kept));
            count += kept;
            if count == TABLE_ROWS_MAX {
                break;
            }
        }
        let schema = rows.schema().cloned().unwrap_or_else(|| SchemaRef::new(Schema::empty()));
        // Taken before the drawing, which is not the server's doing.
        let took = start.elapsed();
        let width = self.terminal.then(crossterm::terminal::size).and_then(Result::ok);
        let layout = Layout {
            width: width.map(|(columns, _)| usize::from(columns)),
            colors: self.terminal && std::env::var_os("NO_COLOR").is_none(),
            expanded: self.expanded,
        };
        let table = table::render(&schema, &batches, &layout)?;
        let mut out = io::stdout().lock();
        out.write_all(table.as_bytes())?;
        writeln!(out, "{}", footer(count, self.timing.then_some(took)))?;
        Ok(())
    }

    /// In its place, until Ctrl-C.
    async fn show_changes(&self, mut rows: Box<FlightRecordBatchStream>) -> Result<(), Failure> {
        let mut changing: Option<Changing> = None;
        let (mut is_stale, mut drawn) = (false, Instant::now());
        loop {
            let told = tokio::time::timeout(DRAW_EVERY, rows.next()).await;
            let now = Instant::now();
            let mut ended = None;
            match told {
                Ok(None) => ended = Some(Ok(())),
                Ok(Some(Err(error))) => ended = Some(Err(message(error))),
                Ok(Some(Ok(batch))) => {
                    let changing = changing.get_or_insert_with(|| Changing::of(&batch.schema()));
                    is_stale |= changing.take(&batch, now)?;
                }
                Err(_) => {}
            }
            if let Some(changing) = &mut changing
                && (ended.is_some() || is_stale && now - drawn >= DRAW_EVERY)
            {
                let (columns, lines) = crossterm::terminal::size()?;
                let colors = std::env::var_os("NO_COLOR").is_none();
                let layout = Layout { width: Some(usize::from(columns)), colors, expanded: false };
                changing.draw(&layout, usize::from(lines), now, ended.is_some())?;
                // What is lit is to go out again.
                (is_stale, drawn) = (changing.is_lit(now), now);
            }
            let token = changing.as_ref().and_then(|changing| changing.token.as_deref());
            match (ended, token) {
                (None, _) => {}
                (Some(Ok(())), _) => return Ok(()),
                (Some(Err(reason)), None) => return Err(Failure::Said(reason)),
                (Some(Err(reason)), Some(token)) => {
                    let hint =
                        format!("the same with AFTER '{token}' goes on with the final rows that come next");
                    return Err(Failure::Said(format!("{reason}\nhint: {hint}")));
                }
            }
        }
    }

    async fn write_rows(
        &self,
        mut rows: Box<FlightRecordBatchStream>,
        format: Format,
    ) -> Result<(), Failure> {
        let mut header = format == Format::Csv;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| Failure::Said(message(error)))?;
            let mut out = io::BufWriter::new(io::stdout().lock());
            if std::mem::take(&mut header) {
                as_text::csv_names(&mut out, batch.schema_ref())?;
            }
            match format {
                Format::Json => {
                    let mut lines = as_text::json().build::<_, LineDelimited>(&mut out);
                    lines.write(&batch)?;
                    lines.finish()?;
                }
                _ => as_text::csv_rows(&mut out, &batch)?,
            }
            out.flush()?;
        }
        if header && let Some(schema) = rows.schema() {
            as_text::csv_names(&mut io::stdout().lock(), schema)?;
        }
        Ok(())
    }
}

/// Whether its answer goes on until somebody ends it.
fn has_no_end(sql: &str) -> bool {
    sql.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("SUBSCRIBE"))
}

fn footer(rows: usize, took: Option<Duration>) -> String {
    let count = match rows {
        TABLE_ROWS_MAX => format!("the first {rows} rows; LIMIT asks for fewer, --output csv writes all"),
        1 => "1 row".to_owned(),
        _ => format!("{rows} rows"),
    };
    match took {
        None => format!("({count})"),
        Some(took) if took < Duration::from_secs(1) => format!("({count}, {} ms)", took.as_millis()),
        Some(took) => format!("({count}, {:.1} s)", took.as_secs_f64()),
    }
}

/// Prints a line, to nobody if the reader has left.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

enum Failure {
    Said(String),
    /// Whoever read the output has left, as `head` does.
    Gone,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Gone,
            _ => Failure::Said(format!("cannot write the rows: {error}")),
        }
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => error.into(),
            other => Failure::Said(format!("cannot write the rows: {other}")),
        }
    }
}
