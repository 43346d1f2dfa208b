//! The binary `thalweg`: reads the command line and hands over to the part that was asked for.
//!
//! Exit codes: 0 it did what was asked; 1 it failed; 2 it was asked wrongly, or could not reach a server.

mod allocator;
mod bench;
mod doctor;
mod reader;
mod serve;
mod shell;
mod threads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kafka clickstreams as SQL tables: live the moment an event arrives, final once its window closes.
#[derive(Parser)]
#[command(name = "thalweg", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show it all: a generator of clicks, the views of queries/, Delta tables in a folder, Flight SQL on loopback
    Demo(serve::DemoArguments),
    /// Run streams and views, and serve them over Flight SQL
    Serve(serve::ServeArguments),
    /// Measure events a second, cost, and how soon an event can be read
    Bench(bench::Arguments),
    /// Say what is in a data root, how large and how old it is, and what is wrong; nothing is written, and nobody need run on it
    Doctor(doctor::Arguments),
    /// A process that a server starts for itself
    #[command(hide = true)]
    Reader(reader::Arguments),
    /// Ask questions in SQL: a prompt, or one statement, or a file of them
    Sql(shell::Arguments),
}

fn main() -> ExitCode {
    allocator::give_back_what_is_large();
    match Arguments::parse().command {
        Command::Demo(arguments) => serve::demo(arguments),
        Command::Serve(arguments) => serve::serve(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Reader(arguments) => reader::run(arguments),
        Command::Sql(arguments) => shell::run(arguments),
    }
}
