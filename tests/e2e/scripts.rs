//! Every script of `slt/`, on every way: the same rows and the same refusals, or it fails with script, way and line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqllogictest::{Record, Runner, strict_column_validator};
use thalweg_tests::servers::Kafka;

use crate::instance::Instance;
use crate::place::Place;
use crate::script::{Block, Script};
use crate::sqllogic::{Kind, Server};
use crate::ways::{Course, Length, Way, length};

/// Beyond so many records, one a batch takes too long.
const SHORT: i64 = 200;

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<()> {
                every_way(stringify!($name)).await
            }
        )*
    };
}

scripts!(
    tumble, hop, distinct, rollup, steps, copies, types, times, nulls, late, rejected, failing, partitions,
    joins, again, catalog, refusals, topics, exact, chains, combined, ever, sessions, around, calendar,
    named, tables, unions, lists, frames, guards, members, subqueries, dates,
);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("slt")
}

#[test]
fn every_script_is_run() -> Result<()> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        ensure!(path.extension().is_some_and(|end| end == "slt"), "{} is no script", path.display());
        found.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    found.sort();
    let mut named = SCRIPTS.to_vec();
    named.sort();
    ensure!(found == named, "slt/ has {found:?}, scripts.rs runs {named:?}");
    Ok(())
}

async fn every_way(name: &str) -> Result<()> {
    let script = Script::read(&folder(), name)?;
    let kafka = if script.topics.is_empty() { None } else { Some(Kafka::shared()?) };
    let brokers = kafka.as_ref().map_or("", |kafka| &kafka.bootstrap);
    for topic in &script.topics {
        fill(topic, brokers).await.with_context(|| format!("{name}, topic {}", topic.name))?;
    }
    let way = Way::Straight;
    let lengths = play(&script, brokers, way, None).await.with_context(|| format!("{name}, {way}"))?;
    for way in other_ways(&lengths) {
        let found =
            play(&script, brokers, way, Some(&lengths)).await.with_context(|| format!("{name}, {way}"))?;
        ensure!(found == lengths, "{name}, {way}: it read {found:?}, not {lengths:?}");
    }
    Ok(())
}

/// After the straight way, which tells how long the streams are.
fn other_ways(lengths: &[Length]) -> [Way; 4] {
    let short = lengths.iter().all(|length| length.records < SHORT);
    let (few, more) = if short { (1, 7) } else { (7, 64) };
    [Way::Killed, Way::Cut(few), Way::Cut(more), Way::Workers(3)]
}

/// All acts, one after the other, on the same data. Gives how much there was to read in each.
async fn play(script: &Script, brokers: &str, way: Way, lengths: Option<&[Length]>) -> Result<Vec<Length>> {
    let place = Place::folder("", &[])?;
    for Block { name, lines } in &script.files {
        std::fs::write(place.launch.script.with_file_name(name), lines.join("\n"))?;
    }
    let mut found = vec![];
    for (number, act) in script.acts.iter().enumerate() {
        let statements = act.statements().replace("$brokers", brokers);
        let of_stream = |it: &&String| it.trim_start().starts_with("CREATE STREAM");
        let read = |topic: &&Block| {
            act.head.iter().filter(of_stream).any(|it| it.contains(&format!("topic = '{}'", topic.name)))
        };
        let of_topics = script.topics.iter().filter(read).map(|topic| topic.lines.len() as i64).sum();
        let length_known = lengths.map(|lengths| lengths[number]);
        let course = Course { place: &place, statements: &statements, of_topics, length: length_known };
        let instance = course.run(way).await?;
        found.push(length(&instance).await?);
        let wrong = ask(&act.questions, &instance).await?;
        ensure!(wrong.is_empty(), "{} answers are wrong\n\n{}", wrong.len(), wrong.join("\n"));
        match way {
            Way::Killed => instance.kill().await?,
            _ => instance.terminate().await?,
        }
    }
    Ok(found)
}

/// Makes the topic, with as many partitions as its records name.
async fn fill(topic: &Block, brokers: &str) -> Result<()> {
    let record = |line: &String| {
        let mut words = line.splitn(3, char::is_whitespace);
        let partition: i32 = words.next().context("no partition")?.parse()?;
        let nanos = string_to_timestamp_nanos(words.next().context("no timestamp")?)?;
        let (key, value) =
            words.next().and_then(|rest| rest.split_once(' ')).context("no key, or no value")?;
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| text != "-");
        Ok((partition, nanos / 1_000_000, given(key), given(value)))
    };
    let records = topic.lines.iter().map(record).collect::<Result<Vec<_>>>()?;
    let partitions = 1 + records.iter().map(|(partition, ..)| *partition).max().context("no records")?;
    let mut config = ClientConfig::new();
    // A batch that is sent again keeps its place.
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    // The records are dated in 2025, long past a broker's default.
    let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    for result in admin.create_topics([&new], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
    }
    let producer: BaseProducer = config.create()?;
    for (partition, millis, key, value) in &records {
        let mut record = BaseRecord::<str, str>::to(&topic.name).partition(*partition).timestamp(*millis);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}

async fn ask(questions: &[Record<Kind>], instance: &Instance) -> Result<Vec<String>> {
    let client = instance.client()?;
    let mut runner = Runner::new(|| {
        let server = Server(client.clone());
        async move { Ok(server) }
    });
    runner.with_column_validator(strict_column_validator);
    let mut wrong = vec![];
    for question in questions {
        if let Err(error) = runner.run_async(question.clone()).await {
            wrong.push(error.to_string());
        }
    }
    Ok(wrong)
}
