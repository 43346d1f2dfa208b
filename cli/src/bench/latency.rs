//! How long a click takes from its arrival until a statement can read it: the generator's clicks carry the moment at
//! which they arrive, and a watcher looks at the live table again and again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use thalweg_engine::clock::{Clock, SystemClock};
use thalweg_engine::ids::{Offset, PartitionId};
use thalweg_engine::job::Engine;
use thalweg_engine::source::clicks::Clicks;
use thalweg_engine::spec::SourceSpec;

use super::{Arguments, source_options, start};

const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);

pub async fn measure(data: &str, arguments: &Arguments, rate: f64) -> Result<()> {
    let engine = start(data, arguments, &source_options(arguments, Some(rate))?).await?;
    engine.begin();
    tokio::time::sleep(WARM_UP).await;
    let streams = engine.streams();
    let Some(SourceSpec::Generator(spec)) = streams.first().map(|stream| &stream.source) else {
        return Err(anyhow!("the bench's stream is not a generator"));
    };
    let clicks = Clicks::new(spec.seed, spec.partitions, Some(rate), spec.start_micros);
    let clock = SystemClock::new();
    let started = Instant::now();
    let mut seen = offsets(&engine);
    let (mut latencies, mut reads) = (vec![], vec![]);
    while started.elapsed() < MEASURED {
        // What had been taken in before the snapshot is in it; when the read is done, all of that has been seen.
        let taken = offsets(&engine);
        let read = Instant::now();
        engine.snapshot().views["by_type"].live().await?;
        reads.push(read.elapsed().as_micros() as u64);
        let now = clock.wall();
        for (partition, offset) in taken {
            let first = seen.insert(partition, offset).unwrap_or(offset);
            latencies.extend(
                (first.0..offset.0).map(|offset| (now - clicks.arrival(partition, offset)).max(0) as u64),
            );
        }
    }
    engine.stop().await?;
    println!("at {rate} events/s over {} s, {} reads of live.by_type", MEASURED.as_secs(), reads.len());
    println!("arrival to visible in a live read: {}", percentiles(&mut latencies));
    println!("of which the read itself:          {}", percentiles(&mut reads));
    Ok(())
}

fn offsets(engine: &Engine) -> BTreeMap<PartitionId, Offset> {
    engine.status().partitions.into_iter().map(|partition| (partition.partition, partition.offset)).collect()
}

fn percentiles(micros: &mut [u64]) -> String {
    micros.sort_unstable();
    let at =
        |share: f64| micros.get(((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1)));
    let millis = |share: f64| at(share).map_or(f64::NAN, |micros| *micros as f64 / 1000.0);
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", millis(0.5), millis(0.99), millis(1.0))
}
