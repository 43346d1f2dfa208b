//! Load from outside, and what it feels like to those who bring it: events from many connections at a rate, watchers of a
//! pushed answer, subscribers of a view, receivers of what sinks send. It knows nothing of Thalweg but what a client does.
//! The scripts of tests/bench run it.
//!
//! Events come by an open loop: each has an instant at which it is due, whatever became of those before, and its time
//! counts from then. So a server that stands still for a second is seen to. Without a rate each connection sends its next
//! request when the last is answered.

mod ages;
mod asked;
mod client;
mod copies;
mod events;
mod http;
mod large;
mod receiver;
mod subscribers;
mod times;
mod watchers;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "thalweg-load")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Threads that bring the load
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
}

#[derive(Subcommand)]
enum What {
    /// Sends clicks to an endpoint that takes events
    Events(events::Events),
    /// Watches an endpoint by server-sent events
    Watch(watchers::Watch),
    /// Asks statements over Flight SQL
    Ask(asked::Ask),
    /// Fetches a large answer over Flight, as fast as it comes
    Fetch(large::Fetch),
    /// Serves the rows of a statement from memory, by arrow-flight and nothing else
    Bare(large::Bare),
    /// Subscribes to a view over Flight SQL
    Subscribe(subscribers::Subscribe),
    /// Takes what sinks send to an address
    Receive(receiver::Receive),
    /// Writes the records of one topic to another, as a plain idempotent producer does
    Copy(copies::Copy),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut runtime = match arguments.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    runtime.enable_all().build()?.block_on(async {
        match arguments.what {
            What::Events(events) => events::run(events).await,
            What::Watch(watch) => watchers::run(watch).await,
            What::Ask(ask) => asked::run(ask).await,
            What::Fetch(fetch) => large::fetch(fetch).await,
            What::Bare(bare) => large::bare(bare).await,
            What::Subscribe(subscribe) => subscribers::run(subscribe).await,
            What::Receive(receive) => receiver::run(receive).await,
            What::Copy(copy) => copies::run(&copy),
        }
    })
}
