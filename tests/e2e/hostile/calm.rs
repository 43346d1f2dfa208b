//! A client that asks for little, each 100 ms, and wants an answer: what others do to it is what is measured.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::instance::Instance;

const EACH: Duration = Duration::from_millis(100);
const QUESTION: &str = "SELECT count(*), max(window_start) FROM live.by_second";

#[derive(Debug, Default)]
pub struct Calm {
    pub took: Vec<Duration>,
    pub failed: Vec<String>,
}

impl Calm {
    /// Until it is told to stop.
    pub async fn ask(instance: &Instance, mut stop: tokio::sync::watch::Receiver<bool>) -> Result<Calm> {
        let mut calm = Calm::default();
        let mut ticks = tokio::time::interval(EACH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*stop.borrow_and_update() {
            ticks.tick().await;
            let begun = Instant::now();
            match instance.batches(QUESTION, Duration::from_secs(30)).await {
                Ok(_) => calm.took.push(begun.elapsed()),
                Err(error) => {
                    let text = format!("{error:#}");
                    calm.failed.push(text.chars().take(300).collect());
                }
            }
        }
        calm.took.sort();
        Ok(calm)
    }

    pub fn percentile(&self, of_hundred: usize) -> Duration {
        let last = self.took.len().saturating_sub(1);
        self.took.get(last * of_hundred / 100).copied().unwrap_or_default()
    }
}
