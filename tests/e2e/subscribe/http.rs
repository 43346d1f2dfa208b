//! Changes told over HTTP: server-sent events that go on by the id of the last mark, as a browser has them, and WebSockets.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::Known;
use crate::asking::{get, post};
use crate::instance::Instance;
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);

/// What a server tells, event by event.
struct Events {
    body: Incoming,
    text: String,
}

struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Events {
    async fn of(address: &str, sql: &str, heard: Option<&str>) -> Result<Events> {
        let sql: String = url::form_urlencoded::byte_serialize(sql.as_bytes()).collect();
        let mut request = Request::builder().uri(format!("/api/subscribe?sql={sql}")).header("host", address);
        request = request.header("accept", "text/event-stream").header("user-agent", "a page");
        if let Some(heard) = heard {
            request = request.header("last-event-id", heard);
        }
        let stream = TokioIo::new(TcpStream::connect(address).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        ensure!(response.status() == StatusCode::OK, "status {}", response.status());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Events { body: response.into_body(), text: String::new() })
    }

    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let event = Event {
                    name: field("event: ").context("an event has a name")?.to_owned(),
                    id: field("id: ").map(str::to_owned),
                    data: serde_json::from_str(field("data: ").context("an event has data")?)?,
                };
                self.text = rest.to_owned();
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(bytes) = frame?.into_data() {
                self.text.push_str(std::str::from_utf8(&bytes)?);
            }
        }
    }

    async fn until(&mut self, name: &str) -> Result<Event> {
        let until = async {
            loop {
                let event = self.next().await?.with_context(|| format!("it ended without {name}"))?;
                if event.name == name {
                    return Ok(event);
                }
            }
        };
        tokio::time::timeout(WITHIN, until).await.context("it is not told")?
    }
}

pub(super) async fn listen_to_events(known: &mut Known, address: &str) -> Result<()> {
    let sql = format!("SUBSCRIBE TO {}", known.view);
    let mut events = Events::of(address, &sql, known.token.as_deref()).await?;
    while let Some(Event { name, id, data }) = events.next().await? {
        match name.as_str() {
            "rows" => changes(known, &data)?,
            "mark" => known.mark(&id.context("a mark has an id")?)?,
            "beat" => {}
            _ => bail!("{name}: {data}"),
        }
    }
    Ok(())
}

pub(super) async fn listen_to_a_socket(known: &mut Known, address: &str) -> Result<()> {
    let mut socket = socket(address).await?;
    let what = json!({ "what": format!("SUBSCRIBE TO {}", known.view), "after": known.token });
    say(&mut socket, json!({ "subscribe": { "changes": what } })).await?;
    let mut has_begun = false;
    while let Some(told) = hear(&mut socket).await? {
        if told.get("beat").is_some() {
            continue;
        }
        ensure!(told["of"] == "changes" && told.get("error").is_none(), "{told}");
        if told["begun"] == true {
            has_begun = true;
        } else if let Some(token) = told["mark"].as_str() {
            known.mark(token)?;
        } else {
            ensure!(has_begun, "rows before the beginning: {told}");
            changes(known, &told["rows"])?;
        }
    }
    Ok(())
}

fn changes(known: &mut Known, rows: &Value) -> Result<()> {
    for row in rows.as_array().with_context(|| format!("no rows: {rows}"))? {
        let mut row = row.as_object().context("a row is an object")?.clone();
        let change = row.remove("change").and_then(|change| change.as_i64()).context("a change")?;
        let is_final = row.remove("final").and_then(|is_final| is_final.as_bool()).context("final")?;
        known.change(Value::from(row).to_string(), change, is_final)?;
    }
    Ok(())
}

/// The answer to a question, as text like that of the changes.
pub(super) async fn rows(address: &str, sql: &str) -> Result<Vec<String>> {
    let answer = post(address, "/api/sql", "text/plain", sql).await?.json()?;
    Ok(answer
        .as_array()
        .with_context(|| format!("no rows: {answer}"))?
        .iter()
        .map(Value::to_string)
        .collect())
}

type Socket = WebSocketStream<TcpStream>;

async fn socket(address: &str) -> Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    Ok(tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await?.0)
}

async fn say(socket: &mut Socket, said: Value) -> Result<()> {
    Ok(socket.send(Message::text(said.to_string())).await?)
}

async fn hear(socket: &mut Socket) -> Result<Option<Value>> {
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            return Ok(Some(serde_json::from_str(&text)?));
        }
    }
    Ok(None)
}

/// It goes on, so that there is always something to tell.
const SCRIPT: &str = "
CREATE STREAM clicks (event_type STRING, event_ts TIMESTAMP(3), country STRING, WATERMARK FOR event_ts AS event_ts)
WITH (connector = 'generator', rate = 200, start = 'now', seed = 1, partitions = 1);
CREATE MATERIALIZED VIEW per_second AS
SELECT window_start, window_end, country, count(*) AS events
FROM TUMBLE(clicks, event_ts, INTERVAL '1 second') GROUP BY window_start, window_end, country;
CREATE MATERIALIZED VIEW others AS SELECT * FROM clicks WHERE event_type = 'purchase';
";

async fn running(instance: &Instance, wanted: i64) -> Result<()> {
    let running = "SELECT count(*) FROM system.subscriptions WHERE state = 'running'";
    instance.until(running, WITHIN, |running| running == wanted).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_over_http_is_listed_stopped_and_ends_with_its_client() -> Result<()> {
    let place = Place::folder(SCRIPT, &["--http", "127.0.0.1:0"])?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    let mut one = Events::of(address, "SUBSCRIBE TO per_second WHERE country = 'DE'", None).await?;
    let mut other = Events::of(address, "SUBSCRIBE TO per_second WITH (live = false)", None).await?;
    let mark = one.until("mark").await?;
    assert_eq!(mark.id.as_deref(), mark.data["token"].as_str());
    ensure!(mark.data["epoch"].is_number(), "{}", mark.data);
    let rows = other.until("rows").await?.data;
    ensure!(rows[0]["change"] == 1 && rows[0]["final"] == true && rows[0]["events"].is_number(), "{rows}");
    ensure!(rows[0].get("token").is_none() && rows[0].get("epoch").is_none(), "{rows}");
    running(&instance, 2).await?;
    let listed = "SELECT client FROM system.subscriptions WHERE state = 'running' AND sql LIKE '%DE%'";
    assert_eq!(instance.query(listed).await?.concat(), ["http a page"]);
    // A client that leaves is no more within a moment.
    let begun = tokio::time::Instant::now();
    drop(one);
    running(&instance, 1).await?;
    ensure!(begun.elapsed() < Duration::from_secs(3), "{:?} after it left", begun.elapsed());
    let id = instance.number("SELECT id FROM system.subscriptions WHERE state = 'running'").await?;
    instance.command(&format!("KILL QUERY {id}")).await?;
    let fault = other.until("fault").await?.data;
    assert_eq!(fault["error"]["message"], "the query was stopped by KILL QUERY");
    ensure!(other.next().await?.is_none(), "a fault is the last that is told");
    running(&instance, 0).await?;

    // What has an end says so, and a browser that comes again is told to leave it at that.
    let sql = "SUBSCRIBE TO per_second WITH (snapshot = false) UP TO '2020-01-01T00:00:00Z'";
    let mut ended = Events::of(address, sql, None).await?;
    assert_eq!(ended.until("end").await?.id.as_deref(), Some("end"));
    let again = "/api/subscribe?sql=SUBSCRIBE%20TO%20per_second";
    assert_eq!(get(address, again, &[("last-event-id", "end")]).await?.status, StatusCode::NO_CONTENT);

    let token = mark.id.context("an id")?;
    for (path, expected) in [
        ("/api/subscribe", "400 what is to be told is missing"),
        ("/api/subscribe?sql=SELECT%201", "400 this is no SUBSCRIBE"),
        ("/api/subscribe?sql=SUBSCRIBE%20TO%20nothing", "400 no table \"nothing\""),
        (&format!("{again}&after=x%27"), "400 this is no token of a subscription"),
        (
            &format!("/api/subscribe?sql=SUBSCRIBE%20TO%20others&after={token}"),
            "400 the token is of another view, or of one of the same name that was dropped",
        ),
    ] {
        assert_eq!(get(address, path, &[]).await?.reason()?, expected, "{path}");
    }
    let asked = post(address, "/api/sql", "text/plain", "SUBSCRIBE TO others").await?;
    assert_eq!(asked.reason()?, "400 the answer to SUBSCRIBE has no end");
    running(&instance, 0).await?;
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_tells_answers_and_changes_by_their_names() -> Result<()> {
    let place = Place::folder(SCRIPT, &["--http", "127.0.0.1:0"])?;
    let instance = place.launch.start(&[]).await?;
    let mut socket = socket(instance.http()?).await?;
    let said = json!({
        "watch": { "answer": "SELECT count(*) AS n FROM per_second", "never": "SUBSCRIBE TO others" },
        "subscribe": { "seconds": "SUBSCRIBE TO per_second", "wrong": "SUBSCRIBE TO nothing" },
    });
    say(&mut socket, said).await?;
    let (mut answers, mut marks, mut faults) = (0, 0, vec![]);
    let told = async {
        while answers < 2 || marks < 3 || faults.len() < 2 {
            let told = hear(&mut socket).await?.context("it goes on")?;
            match (&told["of"], told.get("error")) {
                (_, Some(error)) => faults.push(format!("{}: {}", told["of"], error["message"])),
                (of, None) if of == "answer" => answers += 1,
                (of, None) if of == "seconds" => marks += i32::from(told.get("mark").is_some()),
                _ => ensure!(told.get("beat").is_some(), "{told}"),
            }
        }
        Ok(())
    };
    tokio::time::timeout(WITHIN, told).await.context("it is not told")??;
    faults.sort();
    assert_eq!(
        faults,
        [r#""never": "the answer to SUBSCRIBE has no end""#, r#""wrong": "no table \"nothing\"""#]
    );
    running(&instance, 1).await?;
    // What is forgotten is told no more, nor what was on its way.
    say(&mut socket, json!({ "forget": ["seconds"], "watch": { "last": "SELECT 1 AS n" } })).await?;
    let last = async {
        while hear(&mut socket).await?.context("it goes on")?["of"] != "last" {}
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, last).await.context("it is not told")??;
    running(&instance, 0).await?;
    say(&mut socket, json!({ "watch": { "end": "SELECT 2 AS n" } })).await?;
    loop {
        let told = tokio::time::timeout(WITHIN, hear(&mut socket)).await??.context("it goes on")?;
        ensure!(told["of"] != "seconds", "{told}");
        if told["of"] == "end" {
            break;
        }
    }
    say(&mut socket, json!({ "subscribe": { "again": "SUBSCRIBE TO others" } })).await?;
    running(&instance, 1).await?;
    drop(socket);
    running(&instance, 0).await?;
    instance.terminate().await
}
