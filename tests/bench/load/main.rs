//! Load on the HTTP side, and what it feels like to those who bring it: events from many connections at a rate, and watchers
//! of a pushed answer. It knows nothing of Thalweg but what a client does. tests/bench/collect.sh and watch.sh run it.
//!
//! Events come by an open loop: each has an instant at which it is due, whatever became of those before, and its time
//! counts from then. So a server that stands still for a second is seen to. Without a rate each connection sends its next
//! request when the last is answered.

mod events;
mod http;
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
        }
    })
}
