//! Events over HTTP into a real broker: what is taken, what is refused with which words, who may send, and that what was
//! answered 202 is there once, whoever dies.

mod away;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use thalweg_tests::servers::Kafka;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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
           part INT METADATA FROM 'partition', off BIGINT METADATA FROM 'offset', WATERMARK FOR at AS at
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
    too_large_is_told_before_it_comes(address).await?;
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
        ("405 this address takes POST, OPTIONS", Some("POST, OPTIONS"))
    );
    assert_eq!(
        post(address, "/api/rows", "application/json", &body).await?.reason()?,
        "405 this address takes GET, HEAD, PUT, DELETE"
    );
    for (path, allowed) in [("/api/events", "POST, OPTIONS"), ("/api/rows", "GET, HEAD, PUT, DELETE")] {
        let patched = Request::builder().method(Method::PATCH).uri(path).header("host", address);
        let answer = ask(address, patched.body(Full::default())?).await?;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some(allowed)), "PATCH {path}");
    }
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

/// A length is enough; and who asks whether they may send is not told to.
async fn too_large_is_told_before_it_comes(address: &str) -> Result<()> {
    for (expect, sent) in [("", 0), ("expect: 100-continue\r\n", 0), ("", 8 << 20)] {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "POST /api/few HTTP/1.1\r\nhost: {address}\r\n{expect}content-length: {}\r\n\r\n",
            100 << 20
        );
        stream.write_all(head.as_bytes()).await?;
        // As much as a client sends that does not listen meanwhile: more than the system keeps on the way.
        stream.write_all(&vec![b' '; sent]).await?;
        let mut told = vec![0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(4), stream.read(&mut told)).await??;
        let told = String::from_utf8_lossy(&told[..length]);
        ensure!(told.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{expect}{sent}: {told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_rates_and_addresses_are_the_senders() -> Result<()> {
    let script = "CREATE STREAM clicks (user_id STRING, at TIMESTAMP(3), n INT, ip STRING, WATERMARK FOR at AS at) WITH (connector = 'log');
        CREATE MATERIALIZED VIEW clicked AS SELECT * FROM clicks;
        CREATE ENDPOINT '/api/events' INTO clicks WITH (address = 'ip', rate = '1/min per address');";
    let place = Place::folder(script, &["--http", "127.0.0.1:0", "--proxy", "127.0.0.0/8"])?;
    let instance = place.launch.start(&[]).await?;
    let body = event("ann", 1).to_string();
    for (sender, expected) in
        [("192.0.2.1", 202), ("192.0.2.1", 429), ("8.8.8.8, 192.0.2.2", 202), ("2001:db8::1", 202)]
    {
        let answer =
            send(instance.http()?, "/api/events", &[("x-forwarded-for", sender)], body.as_bytes()).await?;
        assert_eq!(answer.status.as_u16(), expected, "{sender}");
    }
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows == 3).await?;
    let addresses = instance.query("SELECT ip FROM clicked ORDER BY ip").await?.concat();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    instance.terminate().await
}

/// Records in the spool.
async fn waiting(address: &str) -> Result<f64> {
    let metrics = String::from_utf8(get(address, "/metrics", &[]).await?.body.to_vec())?;
    let waiting =
        metrics.lines().find_map(|line| line.strip_prefix("thalweg_spool_records{stream=\"clicks\"} "));
    Ok(waiting.map_or(Ok(0.0), str::parse)?)
}

/// Thalweg is killed, the broker is killed, and both; each event that was answered 202 is in the view once, and those of a
/// user are in their order.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_202_is_there_once() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    let place = place(&kafka, "kept").await?;
    let taken: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let next = Arc::new(AtomicU64::new(0));
    for round in 0..ROUNDS {
        let instance = place.launch.start(&[]).await?;
        let address = instance.http()?.to_owned();
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                tokio::spawn(send_until_killed(
                    address.clone(),
                    sender,
                    Arc::clone(&next),
                    Arc::clone(&taken),
                ))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(400)).await;
        match round % 3 {
            // It goes while events come, and stays away beyond the kill of Thalweg: what waits outlives that.
            0 => {
                kafka.kill()?;
                tokio::time::sleep(Duration::from_millis(1500)).await;
                let ready = get(&address, "/health/ready", &[]).await?.json()?;
                let degraded = ready["degraded"].to_string();
                ensure!(degraded.contains("Kafka is away for stream clicks"), "{ready}");
                // Whoever sent what was on its way comes again.
                let begun = tokio::time::Instant::now();
                while waiting(&address).await? <= 10.0 {
                    ensure!(begun.elapsed() < WITHIN, "nothing comes to wait");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            // It comes back, and Thalweg is killed while it sends on.
            1 => {
                let broker = Arc::clone(&kafka);
                tokio::task::spawn_blocking(move || broker.start_again()).await??;
                tokio::time::sleep(Duration::from_millis(100 + 250 * round)).await;
            }
            _ => tokio::time::sleep(Duration::from_millis(1000)).await,
        }
        instance.kill().await?;
        for sender in senders {
            sender.await??;
        }
    }
    let instance = place.launch.start(&[]).await?;
    let taken = taken.lock().expect("no sender panics").clone();
    ensure!(taken.len() > 500, "only {} were taken", taken.len());
    let wanted = i64::try_from(taken.len())?;
    instance.until("SELECT count(DISTINCT n) FROM clicked", WITHIN, |rows| rows >= wanted).await?;
    let begun = tokio::time::Instant::now();
    while get(instance.http()?, "/health/ready", &[]).await?.json()?["degraded"] != json!([]) {
        ensure!(begun.elapsed() < WITHIN, "something waits in the spool");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Behind whatever else came of each user.
    let last = next.load(Ordering::Relaxed) + 1;
    for sender in 0..SENDERS {
        let body = event(&format!("u{sender}"), last + sender).to_string();
        assert_eq!(
            counts(&post(instance.http()?, "/api/events", "application/json", &body).await?)?,
            (202, 1, 0)
        );
    }
    let all = format!("SELECT count(*) FROM clicked WHERE n >= {last}");
    instance.until(&all, WITHIN, |rows| rows == SENDERS as i64).await?;
    let rows = instance.query("SELECT user_id, n FROM clicked ORDER BY part, off").await?;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut distinct = BTreeSet::new();
    for row in &rows {
        let n: u64 = row[1].parse()?;
        ensure!(distinct.insert(n), "{n} is there twice");
        let before = last.insert(row[0].clone(), n);
        ensure!(before.is_none_or(|before| before < n), "{}: {n} after {before:?}", row[0]);
    }
    let missing: Vec<_> = taken.difference(&distinct).collect();
    ensure!(missing.is_empty(), "answered 202 and gone: {missing:?}");
    instance.terminate().await
}

const SENDERS: u64 = 6;
const ROUNDS: u64 = 6;

async fn send_until_killed(
    address: String,
    sender: u64,
    next: Arc<AtomicU64>,
    taken: Arc<Mutex<BTreeSet<u64>>>,
) -> Result<()> {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let body = event(&format!("u{sender}"), n).to_string();
        match post(&address, "/api/events", "application/json", &body).await {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                taken.lock().expect("no sender panics").insert(n);
            }
            // It is starting, or nobody knows whether the broker has it.
            Ok(answer) => {
                ensure!(answer.status == StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.body);
                ensure!(answer.header("retry-after") == Some("1"), "no Retry-After");
            }
            // Killed: whether it is there nobody was told.
            Err(_) => return Ok(()),
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_told_and_what_it_holds_arrives() -> Result<()> {
    let kafka = Arc::new(Kafka::start()?);
    let place = place(&kafka, "full").await?;
    let instance = place.launch.start(&["--spool-max", "20KiB"]).await?;
    let address = instance.http()?;
    let body = event("ann", 0).to_string();
    assert_eq!(counts(&post(address, "/api/events", "application/json", &body).await?)?, (202, 1, 0));
    kafka.stop()?;
    let mut taken = 1;
    let full = loop {
        let body = event("ann", taken).to_string();
        let answer = post(address, "/api/events", "application/json", &body).await?;
        if answer.status != StatusCode::ACCEPTED {
            break answer;
        }
        taken += 1;
        ensure!(taken < 10_000, "it is never full");
    };
    assert_eq!((full.status, full.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    ensure!(full.reason()?.contains("the spool (--spool-max) takes no more"), "{}", full.reason()?);
    ensure!(taken > 50, "{taken}");
    let broker = Arc::clone(&kafka);
    tokio::task::spawn_blocking(move || broker.start_again()).await??;
    let begun = tokio::time::Instant::now();
    while post(address, "/api/events", "application/json", &body).await?.status != StatusCode::ACCEPTED {
        ensure!(begun.elapsed() < WITHIN, "it stays full");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let wanted = i64::from(taken) + 1;
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows == wanted).await?;
    assert_eq!(instance.number("SELECT count(DISTINCT n) FROM clicked").await?, wanted - 1);
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_say_who_may_send_and_how_much() -> Result<()> {
    let script = "CREATE STREAM clicks (user_id STRING, at TIMESTAMP(3), n INT, WATERMARK FOR at AS at) WITH (connector = 'log');
        CREATE MATERIALIZED VIEW clicked AS SELECT * FROM clicks;
        CREATE ENDPOINT '/api/events' INTO clicks WITH (keys = '${env:THALWEG_SECRET_SHOPS}', rate = '3/s per key, 100/s per address');
        CREATE ENDPOINT '/api/queued' INTO clicks WITH (ack = 'queued');";
    let mut place = Place::folder(script, &["--http", "127.0.0.1:0"])?;
    place.launch.environment.push(("THALWEG_SECRET_SHOPS".into(), "first-key\nsecond-key\n".into()));
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    let body = event("ann", 1).to_string();
    let none = post(address, "/api/events", "application/json", &body).await?;
    assert_eq!(none.reason()?, "401 /api/events needs a key");
    assert_eq!(none.header("www-authenticate"), Some("Bearer"));
    let wrong = send(address, "/api/events", &[JSON, ("x-api-key", "first-kez")], body.as_bytes()).await?;
    assert_eq!(wrong.reason()?, "401 this is no key of /api/events");
    for (path, header) in [
        ("/api/events", ("authorization", "Bearer first-key")),
        ("/api/events", ("x-api-key", "first-key")),
        ("/api/events?key=first-key", JSON),
    ] {
        assert_eq!(counts(&send(address, path, &[header], body.as_bytes()).await?)?, (202, 1, 0), "{path}");
    }
    let more = send(address, "/api/events", &[("x-api-key", "first-key")], body.as_bytes()).await?;
    assert_eq!(more.status, StatusCode::TOO_MANY_REQUESTS);
    let other = send(address, "/api/events", &[("x-api-key", "second-key")], body.as_bytes()).await?;
    assert_eq!(other.status, StatusCode::ACCEPTED, "a rate of its own");

    let queued = post(address, "/api/queued", "application/json", &body).await?;
    assert_eq!((counts(&queued)?, queued.json()?["ack"].as_str()), ((202, 1, 0), Some("queued")));
    instance.until("SELECT count(*) FROM clicked", WITHIN, |rows| rows == 5).await?;
    for (wrong, why) in [
        ("keys = 'in-the-open'", "keys are given by reference"),
        ("keys = '${env:THALWEG_SECRET_OTHER}'", "it is not in the server's environment"),
        ("rate = '3/s per key'", "a rate per key needs keys"),
        ("ack = 'never'", "it is durable or queued"),
    ] {
        let create = format!("CREATE ENDPOINT '/api/x' INTO clicks WITH ({wrong})");
        let error = format!("{:#}", instance.command(&create).await.expect_err(wrong));
        ensure!(error.contains(why) && !error.contains("in-the-open\""), "{wrong}: {error}");
    }
    instance.terminate().await
}
