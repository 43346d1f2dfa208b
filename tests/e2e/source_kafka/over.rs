//! A view over one that fails: it waits, and when that has begun anew it gives no window that would lack rows.

use anyhow::{Result, ensure};
use tokio::runtime::Runtime;

use super::{Topic, WITHIN};
use crate::place::Place;

/// Of each second from one to another two events, and of the fifth three, which `brittle` can't finish.
fn tell(topic: &Topic, seconds: std::ops::Range<u32>) -> Result<()> {
    let moments = |second: u32| {
        let many = if second == 5 { 3 } else { 2 };
        (0..many).map(move |event| format!("{:02}:{:02}.{event}", second / 60, second % 60))
    };
    let moments: Vec<String> = seconds.flat_map(moments).collect();
    topic.tell(0, &moments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn windows_over_the_gap_of_a_view_that_failed_do_not_come() -> Result<()> {
    let topic = Topic::create("gap", 1)?;
    let script = format!(
        "CREATE STREAM events (id STRING, at TIMESTAMP(3), WATERMARK FOR at AS at)
         WITH (connector = 'kafka', brokers = '{}', topic = 'gap');
         CREATE MATERIALIZED VIEW brittle AS SELECT window_start, window_end, 100 / (count(*) - 3) AS n
         FROM TUMBLE(events, at, INTERVAL '1 second') GROUP BY window_start, window_end;
         CREATE MATERIALIZED VIEW tens AS SELECT window_start, window_end, count(*) AS seconds
         FROM TUMBLE(brittle, window_start, INTERVAL '10 seconds') GROUP BY window_start, window_end;
         CREATE MATERIALIZED VIEW twenties AS SELECT window_start, window_end, sum(seconds) AS seconds
         FROM TUMBLE(tens, window_start, INTERVAL '20 seconds') GROUP BY window_start, window_end;",
        topic.kafka.bootstrap
    );
    let place = Place::folder(&script, &[])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    let failed = "SELECT count(*) FROM system.views WHERE state = 'failed'";
    let read = "SELECT records FROM system.streams";
    tell(&topic, 1..4)?;
    let instance = runtime.block_on(place.launch.start(&[]))?;
    runtime.block_on(instance.until(
        "SELECT coalesce(max(seconds), 0) FROM live.tens",
        WITHIN,
        |seconds| seconds >= 2,
    ))?;
    tell(&topic, 4..26)?;
    runtime.block_on(async {
        instance.until(failed, WITHIN, |views| views == 1).await?;
        instance.until(read, WITHIN, |records| records == 51).await?;
        let why = instance.query("SHOW WHY tens").await?.concat().concat();
        ensure!(why.contains("brittle") && why.contains("RESTART"), "{why}");
        ensure!(instance.number("SELECT count(*) FROM history.tens").await? == 0, "it waits");
        instance.command("ALTER VIEW brittle RESTART").await?;
        Ok::<_, anyhow::Error>(())
    })?;
    tell(&topic, 26..55)?;
    let whole = [["2025-06-01T00:00:30Z", "10"], ["2025-06-01T00:00:40Z", "10"]];
    runtime.block_on(async {
        instance.until("SELECT count(*) FROM history.tens", WITHIN, |windows| windows == 2).await?;
        let tens = "SELECT window_start, seconds FROM history.tens ORDER BY window_start";
        assert_eq!(instance.query(tens).await?, whole);
        let live = "SELECT count(*) FROM live.tens WHERE window_start < '2025-06-01T00:00:30Z'";
        assert_eq!(instance.number(live).await?, 0);
        let born = "SELECT count(*) FROM system.views WHERE born_after >= '2025-06-01T00:00:25Z'";
        assert_eq!(instance.number(born).await?, 3);
        instance.kill().await?;
        let instance = place.launch.start(&[]).await?;
        assert_eq!(instance.query(tens).await?, whole);
        assert_eq!(instance.number(born).await?, 3);
        assert_eq!(
            instance
                .number("SELECT count(*) FROM twenties WHERE window_start < '2025-06-01T00:00:40Z'")
                .await?,
            0
        );
        instance.terminate().await
    })
}
