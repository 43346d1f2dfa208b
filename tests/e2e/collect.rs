//! Events over HTTP into a real broker: what is taken, what is refused with which words, who may send, and that what was
//! answered 202 is there once, whoever dies.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use thalweg_tests::servers::Kafka;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::asking::{Answer, ask, get, post, send};
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const JSON: (&str, &str) = ("content-type", "application/json");

async fn topic(kafka: &Kafka, name: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let new = NewTopic::new(name, 3, TopicReplication::Fixed(1));
    for created in admin.create_topics([&new], &AdminOptions::new()).await? {
        created.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
    }
    Ok(())
}

async fn place(kafka: &Kafka, name: &str) -> Result<Place> {
    topic(kafka, name).await?;
    let script = format!(
        "CREATE STREAM clicks (
           event_id STRING, user_id STRING, at TIMESTAMP(3), n INT, ip STRING, agent STRING, received TIMESTAMP,
           part INT METADATA FROM 'partition', WATERMARK FOR at AS at
         ) WITH (connector = 'kafka', brokers = '{}', topic = '{name}');
         CREATE MATERIALIZED VIEW clicked AS SELECT * FROM clicks;
         CREATE ENDPOINT '/api/events' INTO clicks WITH (key = 'user_id', origins = 'https://shop.example',
           address = 'ip', user_agent = 'agent', received_at = 'received', event_id = 'event_id');
         CREATE ENDPOINT '/api/few' INTO clicks WITH (rate = '5/s per address', body_max = '1KiB');
         CREATE ENDPOINT '/api/rows' AS SELECT * FROM clicked;",
        kafka.bootstrap
    );
    Place::folder(&script, &["--http", "127.0.0.1:0"])
}

fn event(user: &str, n: impl Into<Value>) -> Value {
    json!({ "user_id": user, "at": "2025-06-01T00:00:00Z", "n": n.into() })
}

fn counts(answer: &Answer) -> Result<(u16, i64, i64)> {
    let told = answer.json()?;
    let count = |name: &str| told[name].as_i64().with_context(|| format!("no {name}: {told}"));
    Ok((answer.status.as_u16(), count("taken")?, count("refused")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_becomes_rows_and_what_is_refused_is_told() -> Result<()> {
    let kafka = Kafka::shared()?;
    let place = place(&kafka, "collected").await?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;

    let first = event("ann", 1).to_string();
    let one = send(address, "/api/events", &[JSON, ("user-agent", "a \"test\"")], first.as_bytes()).await?;
    assert_eq!(counts(&one)?, (202, 1, 0));
    // A sender's word on itself does not count.
    let mut lying = event("bob", 2);
    lying["ip"] = "10.1.2.3".into();
    let array = json!([event("ann", 3), event("ann", "many"), lying, { "n": 1 }, 17]);
    let answer = post(address, "/api/events", "application/json", &array.to_string()).await?;
    assert_eq!(counts(&answer)?, (202, 2, 3));
    let refusals = answer.json()?["refusals"].clone();
    assert_eq!(
        (&refusals[0]["index"], &refusals[1]["index"], &refusals[2]["index"]),
        (&1.into(), &3.into(), &4.into())
    );
    ensure!(refusals[0]["reason"].as_str().is_some_and(|reason| reason.contains('n')), "{refusals}");
    ensure!(refusals[0]["at"].as_i64().is_some_and(|at| at > 0), "{refusals}");
    assert_eq!(refusals[1]["reason"], "the event time is missing");

    let lines = format!("{}\n{}\n", event("ann", 5), event("cyd", 6));
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    gzip.stdin.take().context("a pipe")?.write_all(lines.as_bytes()).await?;
    let packed = gzip.wait_with_output().await?.stdout;
    let headers = [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")];
    assert_eq!(counts(&send(address, "/api/events", &headers, &packed).await?)?, (202, 2, 0));
    // As sendBeacon sends it.
    let beacon =
        post(address, "/api/events", "text/plain;charset=UTF-8", &event("ann", 7).to_string()).await?;
    assert_eq!(counts(&beacon)?, (202, 1, 0));
    let none = post(address, "/api/events", "application/json", r#"[{"at": "soon"}]"#).await?;
    assert_eq!(
        (counts(&none)?, none.reason()?.as_str()),
        ((400, 0, 1), "400 none of the events can become a row of the stream")
    );

    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows >= 6).await?;
    let rows = instance
        .query("SELECT n, ip, agent, event_id IS NOT NULL, received > at FROM clicked ORDER BY n")
        .await?;
    let numbers: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(numbers, ["1", "2", "3", "5", "6", "7"], "nothing that was refused came to the topic");
    ensure!(rows.iter().all(|row| row[1] == "127.0.0.1" && row[3] == "true" && row[4] == "true"), "{rows:?}");
    assert_eq!(rows[0][2], "a \"test\"");
    assert_eq!(instance.number("SELECT count(*) FROM system.rejected_records").await?, 0);
    let partitions = "SELECT count(DISTINCT part) FROM clicked WHERE user_id = 'ann'";
    assert_eq!(instance.number(partitions).await?, 1, "a key has one partition");
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_send_is_told_before_anything_is_read() -> Result<()> {
    let kafka = Kafka::shared()?;
    let place = place(&kafka, "guarded").await?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    let body = event("ann", 1).to_string();
    let (listed, other) =
        ([JSON, ("origin", "https://shop.example")], [JSON, ("origin", "https://evil.example")]);
    let allowed = send(address, "/api/events", &listed, body.as_bytes()).await?;
    assert_eq!(allowed.status, StatusCode::ACCEPTED);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://shop.example"));
    let refused = send(address, "/api/events", &other, body.as_bytes()).await?;
    assert_eq!(refused.reason()?, "403 pages of https://evil.example may not send here");
    assert_eq!(refused.header("access-control-allow-origin"), None);
    for (origin, expected) in [("https://shop.example", 204), ("https://evil.example", 403)] {
        let asked = Request::builder().method(Method::OPTIONS).uri("/api/events").header("host", address);
        let answer = ask(address, asked.header("origin", origin).body(Full::default())?).await?;
        assert_eq!(answer.status.as_u16(), expected, "{origin}");
        assert_eq!(answer.header("access-control-allow-methods").is_some(), expected == 204, "{origin}");
    }
    let own = format!("http://{address}");
    let own = send(address, "/api/events", &[JSON, ("origin", &own)], body.as_bytes()).await?;
    assert_eq!(own.status, StatusCode::ACCEPTED, "a page of the server's own");

    let large = post(address, "/api/few", "application/json", &" ".repeat(2000)).await?;
    assert_eq!(large.reason()?, "413 the body is too large. bytes_max=1024");
    let mut answers = BTreeSet::new();
    for _ in 0..20 {
        let answer = post(address, "/api/few", "application/json", &body).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
        answers.insert(answer.status.as_u16());
    }
    assert_eq!(answers, BTreeSet::from([202, 429]));

    let asked = get(address, "/api/events", &[]).await?;
    assert_eq!(
        (asked.reason()?.as_str(), asked.header("allow")),
        ("405 this address takes POST", Some("POST"))
    );
    assert_eq!(
        post(address, "/api/rows", "application/json", &body).await?.reason()?,
        "405 this address takes GET"
    );
    let api = get(address, "/api", &[]).await?.json()?;
    ensure!(api["paths"]["/api/events"]["post"].is_object(), "{api}");
    let listed = instance.query("SELECT method FROM system.endpoints WHERE endpoint = '/api/events'").await?;
    assert_eq!(listed.concat(), ["POST"]);
    for (wrong, why) in [
        ("INTO clickz", "no stream \"clickz\""),
        ("INTO clicks WITH (key = 'usr_id')", "names no column of stream \"clicks\": usr_id"),
        ("INTO clicks WITH (rate = 'fast')", "option \"rate\" can't be \"fast\""),
        ("INTO clicks WITH (origin = 'x')", "unknown option \"origin\""),
    ] {
        let error = instance.command(&format!("CREATE ENDPOINT '/api/x' {wrong}")).await.expect_err(wrong);
        // The client's error shows quotes with a backslash.
        ensure!(format!("{error:#}").replace('\\', "").contains(why), "{wrong}: {error:#}");
    }
    instance.terminate().await
}

/// Thalweg is killed, the broker goes and comes again; each event that was answered 202 is in the view once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_202_is_there_once() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    let place = place(&kafka, "kept").await?;
    let mut taken = BTreeSet::new();
    let mut next = 0;
    for round in 0..4 {
        let instance = place.launch.start(&[]).await?;
        let address = instance.http()?.to_owned();
        if round == 2 {
            kafka.stop()?;
            let away =
                post(&address, "/api/events", "application/json", &event("ann", next).to_string()).await?;
            next += 1;
            assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE, "{:?}", away.body);
            assert_eq!(away.header("retry-after"), Some("1"));
            ensure!(away.reason()?.contains("Kafka did not take the records"), "{:?}", away.body);
            let broker = Arc::clone(&kafka);
            tokio::task::spawn_blocking(move || broker.start_again()).await??;
        }
        let begun = tokio::time::Instant::now();
        let mut answered = 0;
        while answered < 50 {
            let answer =
                post(&address, "/api/events", "application/json", &event("ann", next).to_string()).await?;
            if answer.status == StatusCode::ACCEPTED {
                taken.insert(next.to_string());
                answered += 1;
            }
            next += 1;
            ensure!(begun.elapsed() < WITHIN, "{answered} of 50: {:?}", answer.body);
        }
        instance.kill().await?;
    }
    let instance = place.launch.start(&[]).await?;
    let wanted = i64::try_from(taken.len())?;
    instance.until("SELECT count(DISTINCT n) FROM clicked", WITHIN, |rows| rows >= wanted).await?;
    let rows = instance.query("SELECT n FROM clicked").await?.concat();
    let distinct: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(distinct.len(), rows.len(), "each is there once");
    let missing: Vec<_> = taken.difference(&distinct).collect();
    ensure!(missing.is_empty(), "answered 202 and gone: {missing:?}");
    instance.terminate().await
}
