//! Time passes fast: a little over an hour of epochs, by `thalweg bench --lapse`, which judges what an epoch costs.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::instance::binary;

const LAPSE_MAX: Duration = Duration::from_secs(300);

#[tokio::test]
async fn an_epoch_costs_at_the_end_what_it_cost_at_the_beginning() -> Result<()> {
    let mut bench = Command::new(binary()?);
    bench.args(["bench", "--lapse", "4000", "--views", "6"]).stdin(Stdio::null()).kill_on_drop(true);
    let told = timeout(LAPSE_MAX, bench.output()).await??;
    let (said, failed) = (String::from_utf8(told.stdout)?, String::from_utf8(told.stderr)?);
    println!("{said}");
    ensure!(told.status.success(), "{said}{failed}");
    ensure!(said.contains("µs of CPU: "), "nothing was compared: {said}");
    Ok(())
}
