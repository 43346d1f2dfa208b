//! `thalweg sql`: statements to a server, answers to a terminal, a file or a pipe.
//!
//! Owns: the prompt, what is typed at it, and how answers and errors look. Leaves to others: everything about SQL, which
//! the server knows.

mod changing;
mod client;
mod command;
mod complete;
mod fault;
mod output;
mod prompt;
mod runner;
pub mod table;
mod text;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use client::Client;
use output::Format;
use runner::Runner;

const STATEMENT_FAILED: u8 = 1;
const CANNOT_START: u8 = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// The server's Flight SQL address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    connect: String,

    /// Run these statements and leave
    #[arg(short = 'c', long = "command", value_name = "SQL", conflicts_with = "file")]
    command: Option<String>,

    /// Run the statements of this file and leave ("-" reads standard input)
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// How rows are written; csv and json write every digit and nothing else
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cannot_start(&format!("cannot start: {error}")),
    };
    runtime.block_on(run_async(arguments))
}

async fn run_async(arguments: Arguments) -> ExitCode {
    let script = match script(&arguments) {
        Ok(script) => script,
        Err(message) => return cannot_start(&message),
    };
    let client = match Client::connect(&arguments.connect).await {
        Ok(client) => client,
        Err(message) => return cannot_start(&message),
    };
    let mut runner = Runner::new(client, arguments.output);
    let fine = match script {
        Some(Script { text, name }) => runner.script(&text, name.as_deref()).await,
        None => match prompt::talk(&mut runner, &arguments.connect).await {
            Ok(()) => true,
            Err(error) => return cannot_start(&format!("cannot use this terminal: {error}")),
        },
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::from(STATEMENT_FAILED) }
}

struct Script {
    text: String,
    /// Shown before line numbers in errors.
    name: Option<String>,
}

/// What is to be run without a prompt. Input that is piped in is a script too.
fn script(arguments: &Arguments) -> Result<Option<Script>, String> {
    if let Some(text) = &arguments.command {
        return Ok(Some(Script { text: text.clone(), name: None }));
    }
    let from_pipe = || {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        Ok(Some(Script { text, name: Some("stdin".to_owned()) }))
    };
    match &arguments.file {
        Some(path) if path.as_os_str() == "-" => from_pipe(),
        Some(path) => {
            let name = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
            Ok(Some(Script { text, name: Some(name) }))
        }
        None if !std::io::stdin().is_terminal() => from_pipe(),
        None => Ok(None),
    }
}

fn cannot_start(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(CANNOT_START)
}
