//! What goes on once it was asked: views and subscriptions that mean harm. A view runs where events are taken in, so what it would
//! take is found out elsewhere before; what a subscription makes of rows is made where it may end a process.
//!
//! `THALWEG_HOSTILE=1` makes a view and a subscription of each statement of the corpus, `THALWEG_HOSTILE=8` of each eighth; otherwise of
//! a few.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::TryStreamExt;

use super::grow;
use crate::instance::Instance;
use crate::place::Place;
use crate::settings::set;
use crate::shop::Paced;

const PATIENCE: Duration = Duration::from_secs(30);
/// More than this would end it on a smaller machine.
const ENGINE_MIB_MAX: u64 = 1500;
/// So long a subscription is listened to, and a view is there: some epochs.
const LIVES: Duration = Duration::from_millis(700);

/// Of a relation with a text {text} and a number {number}. Each takes gigabytes of a few rows, or minutes.
const LETHAL: [&str; 9] = [
    "SELECT repeat('x', 60000000) AS c, {text} FROM {from}",
    "SELECT array_repeat(array_repeat(array_repeat(array_repeat({number}, 1000), 1000), 1000), 1000) AS c FROM {from}",
    "SELECT arrow_cast(NULL, 'FixedSizeList(100000000, FixedSizeList(100000, Int64))') AS c, {text} FROM {from}",
    "SELECT «s || s AS s FROM (SELECT »*40{text} AS s FROM {from}«)»*40",
    "SELECT «array_concat(s, s) AS s FROM (SELECT »*40range(0, 100 + {number}) AS s FROM {from}«)»*40",
    "SELECT array_to_string(range(0, 4000000), repeat(',', 1000000)) AS c, {text} FROM {from}",
    "SELECT concat_ws(repeat(',', 1000000)«, {text}»*200) AS c FROM {from}",
    "SELECT length(repeat({text}, 10000)« || repeat({text}, 10000)»*100) AS c FROM {from}",
    "SELECT levenshtein(repeat({text}, 500), repeat('ba', 1900)) AS c FROM {from}",
];

fn of(statement: &str, from: &str, text: &str, number: &str) -> String {
    let series = format!("(SELECT {number} AS value FROM {from})");
    let mut whole = String::new();
    let mut rest = statement;
    while let Some((before, after)) = rest.split_once("generate_series(") {
        whole.push_str(before);
        whole.push_str(&series);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    whole.push_str(rest);
    let whole = whole.replace("{from}", from).replace("{text}", text).replace("{number}", number);
    match whole.contains(" FROM ") {
        true => whole,
        false => format!("{whole} AS c FROM {from}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_view_and_no_subscription_ends_the_engine() -> Result<()> {
    let step = match set("THALWEG_HOSTILE", 0)? {
        0 => 60,
        step => step,
    };
    let mut statements = LETHAL.map(grow::expanded).into_iter().collect::<Result<Vec<_>>>()?;
    let lethal = statements.len();
    statements.extend(grow::statements()?.into_iter().step_by(step as usize));
    let shop = Paced::since(Duration::from_secs(8), 9, 2000.0, 100_000_000)?;
    let flags = [
        ["--epoch", "200ms"],
        ["--readers", "1"],
        ["--reader-memory", "768MiB"],
        ["--query-memory", "256MiB"],
        ["--query-time", "20s"],
    ];
    let place = Place::folder(&shop.script()?, flags.as_flattened())?;
    let instance = place.launch.start(&[]).await?;
    let there = "SELECT count(*) FROM public.archive";
    let mut before = instance.until(there, Duration::from_secs(60), |rows| rows > 1000).await?;
    let (mut made, mut told) = (0, 0);
    for (number, statement) in statements.iter().enumerate() {
        let view = format!("hostile_{number}");
        let query = of(statement, "clicks", "event_id", "quantity");
        if carried_out(&instance, &format!("CREATE MATERIALIZED VIEW {view} AS {query}")).await {
            tokio::time::sleep(LIVES).await;
            made += 1;
            ensure!(number >= lethal || number == lethal - 1, "it was taken: {statement}");
            instance.command(&format!("DROP VIEW {view}")).await?;
        }
        let query = of(statement, "by_second", "country", "events");
        told += usize::from(listened(&instance, &format!("SUBSCRIBE TO ({query})")).await?);
        before = instance.until(there, Duration::from_secs(60), |rows| rows > before).await?;
    }
    let peak = instance.peak_memory_bytes()? >> 20;
    ensure!(peak < ENGINE_MIB_MAX, "the engine's process took {peak} MiB");
    println!(
        "{} statements: {made} became views, {told} subscriptions told something; readers ended {} times; peak of the engine {peak} MiB",
        statements.len(),
        instance.readers_ended()?
    );
    instance.terminate().await
}

/// Whether it was. A refusal is as good.
async fn carried_out(instance: &Instance, statement: &str) -> bool {
    let Ok(mut client) = instance.client() else { return false };
    let done = client.execute_update(statement.to_owned(), None);
    matches!(tokio::time::timeout(PATIENCE, done).await, Ok(Ok(_)))
}

/// Whether it told of a row.
async fn listened(instance: &Instance, statement: &str) -> Result<bool> {
    let mut client = instance.client()?;
    let mut rows = 0;
    let listening = async {
        let info = client.execute(statement.to_owned(), None).await?;
        let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
        let mut told = client.do_get(ticket.unwrap_or_default()).await?;
        while let Some(batch) = told.try_next().await? {
            rows += batch.num_rows();
        }
        Ok::<_, anyhow::Error>(())
    };
    // It ends by itself if what it makes ends a reader.
    _ = tokio::time::timeout(LIVES * 3, listening).await;
    Ok(rows > 0)
}
