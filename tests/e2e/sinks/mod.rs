//! Sinks under kills: a topic that has each closed row once, whoever died, and a receiver of posts that is as bad as
//! receivers are.
//!
//! `THALWEG_KILLS` (6) says how often, `THALWEG_SEED` when.

mod exchanged;
mod receiver;
mod topic;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use thalweg_engine::checkpoint::Step;
use thalweg_tests::servers::Kafka;

use crate::instance::{Instance, Launch};
use crate::place::Place;
use crate::settings::set;
use crate::shop::Paced;
use receiver::{Manners, Receiver};

const WITHIN: Duration = Duration::from_secs(90);
const FLAGS: [&str; 2] = ["--roll", "300ms"];

/// Rows as text, with how often each is there.
type Bag = BTreeMap<String, i64>;

fn bag(rows: impl IntoIterator<Item = String>) -> Bag {
    let mut bag = Bag::new();
    rows.into_iter().for_each(|row| *bag.entry(row).or_default() += 1);
    bag
}

fn same(what: &str, told: &Bag, there: &Bag) -> Result<()> {
    let differs = |a: &Bag, b: &Bag| -> Vec<_> {
        a.iter()
            .filter(|(row, count)| b.get(*row) != Some(*count))
            .take(5)
            .map(|it| format!("{it:?}"))
            .collect()
    };
    let (missed, invented) = (differs(there, told), differs(told, there));
    ensure!(
        missed.is_empty() && invented.is_empty(),
        "{what}: {} different rows are there and {} were told; there, and told otherwise: {missed:?}; told, and there \
         otherwise: {invented:?}",
        there.len(),
        told.len()
    );
    Ok(())
}

/// What a view holds when the clicks have ended, as the sinks of these tests tell it.
async fn seconds(instance: &Instance) -> Result<Bag> {
    let rows = instance.query("SELECT window_start, country, events FROM history.by_second").await?;
    Ok(bag(rows.into_iter().map(|row| row.join("|"))))
}

async fn archive(instance: &Instance) -> Result<Bag> {
    let rows =
        instance.query("SELECT source_partition, source_offset, event_id FROM history.archive").await?;
    Ok(bag(rows.into_iter().map(|row| row.join("|"))))
}

fn random() -> Result<StdRng> {
    let seed = set("THALWEG_SEED", rand::rng().random_range(0..1 << 32))?;
    println!("THALWEG_SEED={seed}");
    Ok(StdRng::seed_from_u64(seed))
}

/// The clicks have ended, all windows with them, and the sinks have sent what there was.
async fn await_all_sent(instance: &Instance, shop: &Paced) -> Result<()> {
    let read = "SELECT count(*) FROM public.archive";
    instance.until(read, WITHIN, |rows| rows as u64 == shop.rows).await?;
    let open = "SELECT (SELECT count(*) FROM live.by_second) + (SELECT count(*) FROM live.archive)";
    instance.until(open, WITHIN, |rows| rows == 0).await?;
    let newest = "SELECT coalesce(max(epoch), 0) FROM system.checkpoints";
    let epoch = instance.until(newest, WITHIN, |epoch| epoch > 0).await?;
    let behind =
        format!("SELECT count(*) FROM system.sinks WHERE confirmed_epoch < {epoch} OR state <> 'running'");
    if let Err(error) = instance.until(&behind, WITHIN, |sinks| sinks == 0).await {
        bail!("{error:#}\n{:?}", instance.query("SELECT * FROM system.sinks").await?);
    }
    Ok(())
}

async fn kill_again_and_again(launch: &Launch, random: &mut StdRng, kills: u64) -> Result<Instance> {
    for kill in 1..=kills {
        let instance = launch.start(&[]).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
        instance.kill().await.with_context(|| format!("kill {kill}"))?;
    }
    launch.start(&[]).await
}

fn with_topics(shop: &Paced, kafka: &Kafka, topics: [&str; 2]) -> Result<String> {
    let (brokers, [seconds, archive]) = (&kafka.bootstrap, topics);
    Ok(format!(
        "{}
CREATE SINK seconds INTO KAFKA (brokers = '{brokers}', topic = '{seconds}', key = 'country')
AS SELECT window_start, country, events FROM by_second;
CREATE SINK archived INTO KAFKA (brokers = '{brokers}', topic = '{archive}')
AS SELECT source_partition, source_offset, event_id FROM archive;",
        shop.script()?
    ))
}

async fn check_topics(kafka: &Kafka, instance: &Instance, [seconds_at, archive_at]: [&str; 2]) -> Result<()> {
    let told = topic::committed(kafka, seconds_at).await?;
    ensure!(told.iter().all(|record| record.key == record.json["country"].as_str().map(str::to_owned)));
    ensure!(told.iter().all(|record| record.headers["thalweg-view"] == "by_second"));
    let text = |json: &serde_json::Value| json.as_str().map_or(json.to_string(), str::to_owned);
    let line =
        |json: &serde_json::Value, columns: [&str; 3]| columns.map(|column| text(&json[column])).join("|");
    let rows = told.iter().map(|record| line(&record.json, ["window_start", "country", "events"]));
    same("by_second", &bag(rows), &seconds(instance).await?)?;
    // Of one key they come by their windows.
    let mut last: BTreeMap<(i32, String), String> = BTreeMap::new();
    for record in &told {
        let key = (record.partition, record.key.clone().unwrap_or_default());
        let start = text(&record.json["window_start"]);
        ensure!(
            last.get(&key).is_none_or(|last| *last < start),
            "{key:?}: {start} comes behind {:?}",
            last[&key]
        );
        last.insert(key, start);
    }
    let count = told.len();
    let told = topic::committed(kafka, archive_at).await?;
    let rows =
        told.iter().map(|record| line(&record.json, ["source_partition", "source_offset", "event_id"]));
    same("archive", &bag(rows), &archive(instance).await?)?;
    println!("{seconds_at}, {archive_at}: {} and {} records, each once", count, told.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_leave_each_closed_row_in_the_topic_once() -> Result<()> {
    let kills = set("THALWEG_KILLS", 6)?;
    let mut random = random()?;
    let kafka = Kafka::start()?;
    let topics = ["sunk-seconds", "sunk-archive"];
    for topic in topics {
        topic::create(&kafka, topic, 3).await?;
    }
    let shop = Paced::since(Duration::from_secs(8), 23, 1000.0, 1000 * (10 + kills * 2))?;
    let place = Place::folder(&with_topics(&shop, &kafka, topics)?, &FLAGS)?;
    let mut instance = kill_again_and_again(&place.launch, &mut random, kills).await?;
    // A zombie wakes up beside its successor.
    tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
    instance.signal("STOP").await?;
    let next = place.launch.start(&["--takeover"]).await?;
    tokio::time::sleep(Duration::from_millis(random.random_range(100..900))).await;
    instance.signal("CONT").await?;
    instance.ended().await?;
    // The broker goes and comes back.
    kafka.stop()?;
    // Where starts take long, all has been sent by then, and nothing needs the broker.
    let retrying = format!(
        "SELECT count(*) FROM system.sinks WHERE state = 'retrying' OR (SELECT count(*) FROM public.archive) = {}",
        shop.rows
    );
    next.until(&retrying, WITHIN, |sinks| sinks > 0).await?;
    kafka.start_again()?;
    await_all_sent(&next, &shop).await?;
    check_topics(&kafka, &next, topics).await?;
    next.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_at_a_step_of_sending_sends_nothing_twice() -> Result<()> {
    let kafka = Kafka::shared()?;
    for step in Step::OF_SINKS {
        let names = ["seconds", "archive"].map(|what| format!("step-{}-{what}", step.name()));
        let topics = [&names[0][..], &names[1]];
        for topic in topics {
            topic::create(&kafka, topic, 2).await?;
        }
        let shop = Paced::since(Duration::from_secs(8), 29, 500.0, 10_000)?;
        let place = Place::folder(&with_topics(&shop, &kafka, topics)?, &FLAGS)?;
        let mut doomed = place.launch.spawn(&["--failpoint", &format!("{}:2", step.name())])?;
        let status = doomed.ended().await.with_context(|| format!("it never reached {step}"))?;
        ensure!(!status.success(), "{step}: {status}\n{}", doomed.logged());
        let instance = place.launch.start(&["--takeover"]).await?;
        await_all_sent(&instance, &shop).await?;
        check_topics(&kafka, &instance, topics).await.with_context(|| step.to_string())?;
        instance.terminate().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thalweg_feeds_another() -> Result<()> {
    let kafka = Kafka::shared()?;
    topic::create(&kafka, "handed-on", 2).await?;
    let shop = Paced::since(Duration::from_secs(8), 31, 500.0, 5_000)?;
    let script = format!(
        "{}
CREATE SINK on INTO KAFKA (brokers = '{brokers}', topic = 'handed-on', key = 'country')
AS SELECT window_start AS at, country, events, events > 3 AS many FROM by_second WHERE country <> 'US';
CREATE STREAM handed (at TIMESTAMP(3), country STRING, events BIGINT, many BOOLEAN, WATERMARK FOR at AS at - INTERVAL '1 second')
WITH (connector = 'kafka', brokers = '{brokers}', topic = 'handed-on', start = 'earliest');
CREATE MATERIALIZED VIEW again AS SELECT at, country, events, many FROM handed;",
        shop.script()?,
        brokers = kafka.bootstrap
    );
    let place = Place::folder(&script, &FLAGS)?;
    let instance = place.launch.start(&[]).await?;
    await_all_sent(&instance, &shop).await?;
    let mine = "SELECT window_start, country, events, events > 3 FROM by_second WHERE country <> 'US'";
    let theirs = "SELECT at, country, events, many FROM again";
    let count = instance.number(&format!("SELECT count(*) FROM ({mine})")).await?;
    instance.until("SELECT count(*) FROM again", WITHIN, |rows| rows >= count).await?;
    let lines = |rows: Vec<Vec<String>>| bag(rows.into_iter().map(|row| row.join("|")));
    same("again", &lines(instance.query(theirs).await?), &lines(instance.query(mine).await?))?;
    instance.terminate().await
}

/// What changes of open rows comes too, and is taken back: a partition's records add up to what is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_still_change_adds_up_and_is_forgotten_by_who_begins_anew() -> Result<()> {
    let kills = set("THALWEG_KILLS", 6)? / 2;
    let mut random = random()?;
    let kafka = Kafka::shared()?;
    topic::create(&kafka, "still-changing", 2).await?;
    let shop = Paced::since(Duration::from_secs(8), 53, 500.0, 500 * (10 + kills * 2))?;
    let script = format!(
        "{}
CREATE SINK changing INTO KAFKA (brokers = '{}', topic = 'still-changing', key = 'country') ON LIVE
AS SELECT window_start, country, events FROM by_second;",
        shop.script()?,
        kafka.bootstrap
    );
    let place = Place::folder(&script, &FLAGS)?;
    let sends = "SELECT count(*) FROM system.sinks WHERE state = 'running'";
    for _ in 0..kills {
        let instance = place.launch.start(&[]).await?;
        instance.until(sends, WITHIN, |sinks| sinks == 1).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..600))).await;
        instance.kill().await?;
    }
    let instance = place.launch.start(&[]).await?;
    await_all_sent(&instance, &shop).await?;
    let told = topic::committed(&kafka, "still-changing").await?;
    let (mut closed, mut taken_back, mut begun) = (Bag::new(), 0, 0);
    // Open rows by partition, since they were last begun.
    let mut open: BTreeMap<i32, (String, Bag)> = BTreeMap::new();
    for record in &told {
        let since = &record.headers["thalweg-begun"];
        if record.json.is_null() {
            open.insert(record.partition, (since.clone(), Bag::new()));
            begun += 1;
            continue;
        }
        let text = |column: &str| {
            record.json[column].as_str().map_or(record.json[column].to_string(), str::to_owned)
        };
        let row = ["window_start", "country", "events"].map(text).join("|");
        let change: i64 = record.headers["thalweg-change"].parse()?;
        if record.headers["thalweg-final"] == "true" {
            ensure!(change == 1, "{row} was taken back for good");
            *closed.entry(row).or_default() += 1;
            continue;
        }
        let (known, rows) =
            open.get_mut(&record.partition).context("open rows came before they were begun")?;
        ensure!(since == known, "rows of an earlier beginning come behind a later one");
        taken_back += i64::from(change < 0);
        let count = rows.entry(row).or_default();
        *count += change;
        ensure!(*count >= 0, "a row was taken back that was not there");
    }
    same("what is final", &closed, &seconds(&instance).await?)?;
    ensure!(
        open.values().all(|(_, rows)| rows.values().all(|count| *count == 0)),
        "open rows are left: {open:?}"
    );
    // On a machine that is very busy windows are over before anybody is told of them.
    ensure!(begun as u64 == 2 * (kills + 1), "begun {begun} times");
    println!("{} records: {taken_back} taken back, begun {begun} times", told.len());
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_was_set_back_sends_nothing_under_others_epochs() -> Result<()> {
    let kafka = Kafka::shared()?;
    let topics = ["set-back-seconds", "set-back-archive"];
    for topic in topics {
        topic::create(&kafka, topic, 1).await?;
    }
    let shop = Paced::since(Duration::from_secs(8), 59, 200.0, 100_000)?;
    let place = Place::folder(&with_topics(&shop, &kafka, topics)?, &FLAGS)?;
    let sent = "SELECT coalesce(min(rows), 0) FROM system.sinks";
    let instance = place.launch.start(&[]).await?;
    instance.until(sent, WITHIN, |rows| rows > 0).await?;
    instance.kill().await?;
    let copy = format!("{}-copy", place.launch.data);
    let copied = std::process::Command::new("cp").args(["-r", &place.launch.data, &copy]).status()?;
    ensure!(copied.success());
    let instance = place.launch.start(&["--takeover"]).await?;
    // What it catches up with had closed before; then comes what the copy does not know.
    let caught_up = instance.until(sent, WITHIN, |rows| rows > 0).await?;
    instance.until(sent, WITHIN, |rows| rows > caught_up + 20).await?;
    instance.kill().await?;
    std::fs::remove_dir_all(&place.launch.data)?;
    std::fs::rename(&copy, &place.launch.data)?;
    let instance = place.launch.start(&["--takeover"]).await?;
    let told =
        "SELECT count(*) FROM system.sinks WHERE state = 'failed' AND last_error LIKE '%was set back%'";
    instance.until(told, WITHIN, |sinks| sinks == 2).await?;
    // Once its epochs are beyond those of the others, they are still not the same.
    instance
        .until("SELECT coalesce(max(epoch), 0) FROM system.checkpoints", WITHIN, |epoch| epoch > 150)
        .await?;
    instance.command("ALTER SINK seconds RESUME").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(instance.number(told).await? == 2, "{:?}", instance.query("SELECT * FROM system.sinks").await?);
    instance.kill().await?;
    let instance = place.launch.start(&["--takeover"]).await?;
    instance.until(told, WITHIN, |sinks| sinks == 2).await?;
    instance.terminate().await
}

fn with_webhook(shop: &Paced, receiver: &Receiver) -> Result<(String, Vec<String>)> {
    let script = format!(
        "{}
CREATE SINK seconds INTO WEBHOOK (url = '{}/in', batch = 3, timeout = '1s', secret = '${{env:THALWEG_SECRET_HOOK}}')
AS SELECT window_start, country, events FROM by_second;",
        shop.script()?,
        receiver.url()
    );
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
    flags.extend(["--webhooks".to_owned(), receiver.url()]);
    Ok((script, flags))
}

fn at(script: &str, flags: &[String]) -> Result<Place> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut place = Place::folder(script, &flags)?;
    place.launch.environment.push(("THALWEG_SECRET_HOOK".to_owned(), "shh".to_owned()));
    Ok(place)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_receiver_gets_every_row_in_order() -> Result<()> {
    let kills = set("THALWEG_KILLS", 6)?;
    let mut random = random()?;
    let receiver = Receiver::start(Manners::bad(random.random())).await?;
    let shop = Paced::since(Duration::from_secs(8), 37, 500.0, 500 * (10 + kills * 2))?;
    let (script, flags) = with_webhook(&shop, &receiver)?;
    let place = at(&script, &flags)?;
    let instance = kill_again_and_again(&place.launch, &mut random, kills).await?;
    receiver.stop_for(Duration::from_secs(2)).await;
    receiver.behave(Manners::GOOD);
    await_all_sent(&instance, &shop).await?;
    let rows = receiver.in_order()?;
    same("the receiver", &bag(rows), &seconds(&instance).await?)?;
    println!("{}", receiver.told());
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_waits_as_a_dead_letter_until_it_is_sent_again() -> Result<()> {
    let receiver = Receiver::start(Manners::refusing("\"US\"")).await?;
    let shop = Paced::since(Duration::from_secs(8), 43, 500.0, 5_000)?;
    let (script, flags) = with_webhook(&shop, &receiver)?;
    let place = at(&script, &flags)?;
    let instance = place.launch.start(&[]).await?;
    await_all_sent(&instance, &shop).await?;
    let dead =
        "SELECT count(*) FROM system.dead_letters WHERE sink = 'seconds' AND reason LIKE '400%not here%'";
    let count = instance.number(dead).await?;
    ensure!(count > 2, "{count} dead letters");
    ensure!(instance.number("SELECT dead_letters FROM system.sinks").await? == count);
    // They outlive the process, and so does a pause.
    instance.command("ALTER SINK seconds PAUSE").await?;
    instance.until("SELECT count(*) FROM system.sinks WHERE state = 'paused'", WITHIN, |it| it == 1).await?;
    instance.terminate().await?;
    let instance = place.launch.start(&[]).await?;
    instance.until("SELECT count(*) FROM system.sinks WHERE state = 'paused'", WITHIN, |it| it == 1).await?;
    ensure!(instance.number(dead).await? == count, "dead letters were lost");
    instance.command("ALTER SINK seconds RESUME").await?;
    receiver.behave(Manners::GOOD);
    instance.command("ALTER SINK seconds RESEND").await?;
    instance.until("SELECT count(*) FROM system.dead_letters", WITHIN, |it| it == 0).await?;
    same("the receiver", &bag(receiver.rows()?), &seconds(&instance).await?)?;
    // Nobody drops a view under a sink; and of a sink that is dropped nothing stays.
    let refused = instance.command("DROP VIEW by_second").await;
    ensure!(format!("{:#}", refused.unwrap_err()).contains("is read by"));
    let folder = std::path::Path::new(&place.launch.data).join("sinks");
    ensure!(std::fs::read_dir(&folder)?.count() == 1);
    instance.command("DROP SINK seconds").await?;
    let begun = std::time::Instant::now();
    let files = || walk(&folder);
    while files()? > 0 {
        ensure!(begun.elapsed() < WITHIN, "{} files are left of the sink", files()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    instance.terminate().await
}

/// Files below a folder.
fn walk(folder: &std::path::Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        count += if path.is_dir() { walk(&path)? } else { 1 };
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_can_not_be_is_said_with_its_place() -> Result<()> {
    let shop = Paced::since(Duration::from_secs(8), 47, 100.0, 1_000)?;
    let flags = ["--webhooks".to_owned(), "https://hooks.example/shop".to_owned()];
    let place = at(&shop.script()?, &flags)?;
    let instance = place.launch.start(&[]).await?;
    for (statement, said) in [
        (
            "CREATE SINK s INTO WEBHOOK (url = 'https://hooks.example/other') AS SELECT * FROM by_second",
            "may not be posted to",
        ),
        (
            "CREATE SINK s INTO WEBHOOK (url = 'ftp://hooks.example/shop') AS SELECT * FROM by_second",
            "http or https",
        ),
        (
            "CREATE SINK s INTO WEBHOOK (url = 'https://hooks.example/shop', secret = 'x') AS SELECT * FROM by_second",
            "in the open",
        ),
        (
            "CREATE SINK s INTO WEBHOOK (url = 'https://hooks.example/shop', secret = '${env:THALWEG_SECRET_NONE}') AS SELECT * FROM by_second",
            "not in the server's environment",
        ),
        (
            "CREATE SINK s INTO WEBHOOK (url = 'https://hooks.example/shop', template = '{\"text\": \"{{contry}}\"}') AS SELECT * FROM by_second",
            "no column \"contry\"",
        ),
        (
            "CREATE SINK s INTO WEBHOOK (url = 'https://hooks.example/shop', template = 'hello {{country}}') AS SELECT * FROM by_second",
            "no JSON",
        ),
        ("CREATE SINK s INTO KAFKA (topic = 'x') AS SELECT * FROM by_second", "lacks the option \"brokers\""),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x', key = 'contry') AS SELECT * FROM by_second",
            "did you mean \"country\"",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x', 'properties.sasl.passwort' = 'y') AS SELECT * FROM by_second",
            "sasl.passwort",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT count(*) AS n FROM by_second",
            "several rows",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT now() AS n FROM by_second",
            "looks at the clock",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT * FROM live.by_second",
            "line 1, column 74: the rows of schema live are not told",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT country, events, country FROM by_second",
            "line 1, column 84: two columns are called \"country\"",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT CAST(events AS TEXT), CAST(events AS DOUBLE) FROM by_second",
            "line 1, column 94: two columns are called alike",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT count(*) AS n FROM by_second",
            "line 1, column 60: aggregate looks at several rows",
        ),
        ("CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT * FROM clicks", "clicks"),
        ("CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x') AS SELECT * FROM totals", "never final"),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x', 'properties.acks' = '1') AS SELECT * FROM by_second",
            "\"acks\"",
        ),
        (
            "CREATE SINK s INTO KAFKA (brokers = 'b:1', topic = 'x', key = 'k') AS SELECT make_array(country) AS k FROM by_second",
            "several values",
        ),
        (
            "CREATE SINK s INTO WEBHOOK (url = 'https://hooks.example/shop', template = '{\"a\": {{events}}}') ON LIVE AS SELECT * FROM by_second",
            "taken back",
        ),
        ("ALTER SINK s PAUSE", "no sink \"s\""),
        ("DROP SINK s", "no sink \"s\""),
    ] {
        // The driver's text has escapes.
        let error = format!("{:#}", instance.command(statement).await.unwrap_err()).replace('\\', "");
        ensure!(error.contains(said), "{statement}\n{error}");
    }
    ensure!(instance.number("SELECT count(*) FROM system.sinks").await? == 0);
    instance.terminate().await
}
