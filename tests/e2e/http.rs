//! The HTTP side of the real binary: endpoints in each form, what is refused with which words, tags, health, metrics, and
//! the lines of the documentation.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::asking::{ask, get, post, send};
use crate::instance::{Instance, rows};
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const FLAGS: [&str; 2] = ["--http", "127.0.0.1:0"];

/// Ends: so what is asked stays the same.
const SCRIPT: &str = "
CREATE STREAM clicks (
  event_type STRING, event_ts TIMESTAMP(3), country STRING, price DOUBLE, quantity INT,
  device STRUCT<type STRING, os STRING>,
  WATERMARK FOR event_ts AS event_ts - INTERVAL '5' SECOND
) WITH (connector = 'generator', rows = 20000, seed = 1, partitions = 2);
CREATE MATERIALIZED VIEW per_minute AS
SELECT window_start, window_end, country, count(*) AS events, sum(price * quantity) AS revenue
FROM TUMBLE(clicks, event_ts, INTERVAL '2 seconds') GROUP BY window_start, window_end, country;
CREATE MATERIALIZED VIEW all_clicks AS SELECT * FROM clicks;
CREATE ENDPOINT '/api/countries' (country STRING DEFAULT NULL, least BIGINT DEFAULT 0) AS
SELECT window_start, country, events, revenue FROM per_minute
WHERE ($country IS NULL OR country = $country) AND events >= $least ORDER BY window_start, country;
CREATE ENDPOINT '/api/clicks' AS SELECT * FROM all_clicks;
CREATE ENDPOINT '/api/moment' AS SELECT now() AS at;
";

/// Serves, and has read to the end.
async fn settled(place: &Place) -> Result<Instance> {
    let instance = place.launch.start(&[]).await?;
    let ended = "SELECT count(*) FROM system.streams WHERE ended";
    instance.until(ended, WITHIN, |ended| ended == 1).await?;
    instance.until("SELECT sum(open_windows) FROM system.views", WITHIN, |open| open == 0).await?;
    instance.until("SELECT count(*) FROM history.all_clicks", WITHIN, |rows| rows == 20_000).await?;
    Ok(instance)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_holds_the_same_rows() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let instance = settled(&place).await?;
    let address = instance.http()?;
    let sql = "SELECT window_start, country, events, revenue FROM per_minute ORDER BY window_start, country";
    let expected = instance.query(sql).await?;
    ensure!(expected.len() > 10, "{expected:?}");

    let arrow = get(address, "/api/countries.arrow", &[]).await?;
    let batches = StreamReader::try_new(&arrow.body[..], None)?.collect::<Result<Vec<RecordBatch>, _>>()?;
    assert_eq!(rows(&batches)?, expected, "arrow");

    let parquet = get(address, "/api/countries", &[("accept", "application/vnd.apache.parquet")]).await?;
    let file = tempfile::Builder::new().suffix(".parquet").tempfile()?;
    std::fs::write(file.path(), &parquet.body)?;
    let context = SessionContext::new();
    let path = file.path().display().to_string();
    let frame = context.read_parquet(path, ParquetReadOptions::default()).await?;
    assert_eq!(rows(&frame.collect().await?)?, expected, "parquet");

    let json = get(address, "/api/countries", &[]).await?;
    assert_eq!(json.header("content-type"), Some("application/json"));
    let array = json.json()?;
    let array = array.as_array().context("an array")?.clone();
    assert_eq!(array.len(), expected.len());
    for (object, row) in array.iter().zip(&expected) {
        assert_eq!(object["window_start"], row[0].as_str());
        assert_eq!(object["events"].to_string(), row[2]);
        ensure!(object.as_object().is_some_and(|object| object.len() == 4), "NULL is told too: {object}");
    }
    let lines = get(address, "/api/countries.ndjson", &[]).await?;
    let lines = std::str::from_utf8(&lines.body)?.lines().map(serde_json::from_str::<Value>);
    assert_eq!(lines.collect::<Result<Vec<_>, _>>()?, array);
    let csv = get(address, "/api/countries", &[("accept", "text/csv")]).await?;
    let csv = std::str::from_utf8(&csv.body)?.to_owned();
    assert_eq!(csv.lines().next(), Some("window_start,country,events,revenue"));
    assert_eq!(csv.lines().count(), expected.len() + 1);

    let one = get(address, "/api/countries?country=DE&least=1", &[]).await?.json()?;
    let one = one.as_array().context("an array")?.len();
    ensure!(one > 0 && one < expected.len(), "{one} rows of one country");
    // Bound, never pasted.
    let none = get(address, "/api/countries?country=%27%20OR%201=1%20--", &[]).await?;
    assert_eq!(none.json()?, Value::Array(vec![]));
    let none = get(address, "/api/countries.csv?country=none", &[]).await?;
    assert_eq!(&none.body[..], b"window_start,country,events,revenue\n");

    // A text that is empty is one, and a moment has its zone however the statement came to it.
    let sql =
        "SELECT '' AS a, CAST(NULL AS STRING) AS b, 'x, y' AS c, TIMESTAMP '2025-06-01 10:00:00.5' AS d";
    let csv = send(address, "/api/sql", &[("accept", "text/csv")], sql.as_bytes()).await?;
    assert_eq!(&csv.body[..], b"a,b,c,d\n\"\",,\"x, y\",2025-06-01T10:00:00.500Z\n");
    let json = post(address, "/api/sql", "text/plain", sql).await?.json()?;
    assert_eq!(json, json!([{ "a": "", "b": null, "c": "x, y", "d": "2025-06-01T10:00:00.500Z" }]));

    // More than comes whole.
    let clicks = get(address, "/api/clicks", &[]).await?;
    assert_eq!(clicks.json()?.as_array().map(Vec::len), Some(20_000));
    assert_eq!(clicks.header("transfer-encoding"), Some("chunked"));
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_answer_is_told_by_its_tag_and_endpoints_survive() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let instance = settled(&place).await?;
    let address = instance.http()?;
    // The first one after a start is tagged by its bytes.
    get(address, "/api/countries", &[]).await?;
    let first = get(address, "/api/countries", &[]).await?;
    let tag = first.header("etag").context("a tag")?.to_owned();
    let ran = "SELECT count(*) FROM system.queries WHERE sql LIKE 'CREATE ENDPOINT%countries%'";
    let before = instance.number(ran).await?;
    let again = get(address, "/api/countries", &[("if-none-match", &tag)]).await?;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(instance.number(ran).await?, before, "an unchanged answer costs no query");
    let other = get(address, "/api/countries.csv", &[("if-none-match", &tag)]).await?;
    assert_eq!(other.status, StatusCode::OK, "another form is another answer");
    let moment = get(address, "/api/moment", &[]).await?;
    let of_then = moment.header("etag").context("a tag")?.to_owned();
    let moment = get(address, "/api/moment", &[("if-none-match", &of_then)]).await?;
    assert_eq!(moment.status, StatusCode::OK, "the clock has gone on");

    instance.command("CREATE ENDPOINT '/api/more' AS SELECT count(*) AS n FROM per_minute").await?;
    instance.command("DROP ENDPOINT '/api/moment'").await?;
    instance.kill().await?;
    let instance = place.launch.without_script().start(&[]).await?;
    let address = instance.http()?;
    assert_eq!(get(address, "/api/more", &[]).await?.status, StatusCode::OK);
    assert_eq!(get(address, "/api/countries", &[]).await?.body, first.body);
    assert_eq!(get(address, "/api/moment", &[]).await?.status, StatusCode::NOT_FOUND);
    let listed = instance.query("SELECT endpoint FROM system.endpoints ORDER BY endpoint").await?;
    assert_eq!(listed.concat(), ["/api/clicks", "/api/countries", "/api/more"]);
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_as_json() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    for (path, expected) in [
        ("/api/countries?least=many", "400 parameter \"least\" can't be 'many'"),
        ("/api/countries?most=1", "400 /api/countries has no parameter \"most\""),
        ("/api/countries.xml", "404 there is no form .xml"),
        ("/api/country", "404 there is no endpoint /api/country"),
        ("/api/clicks.csv", "406 column \"device\" can't be written as csv"),
        ("/nothing", "404 nothing is at this address"),
        ("/api/sql", "405 this address takes POST"),
        (
            "/api/subscribe?sql=SUBSCRIBE%20TO%20all_clicks%20WHERE%20price%3E$least",
            "400 parameter $least has no value",
        ),
    ] {
        assert_eq!(get(address, path, &[]).await?.reason()?, expected, "{path}");
    }
    let none = get(address, "/api/countries", &[("accept", "image/png")]).await?;
    assert_eq!(none.reason()?, "406 none of the types in Accept can be answered");
    let wrong = post(address, "/api/sql", "text/plain", "SELECT 1,\n  nn FROM per_minute").await?;
    assert_eq!(wrong.reason()?, "400 no column \"nn\"");
    let error = &wrong.json()?["error"];
    assert_eq!((error["line"].as_u64(), error["column"].as_u64()), (Some(2), Some(3)), "{error}");
    ensure!(error["hint"].as_str().is_some_and(|hint| hint.contains("events")), "{error}");
    for change in ["DROP VIEW per_minute", "CREATE ENDPOINT '/api/x' AS SELECT 1"] {
        let refused = post(address, "/api/sql", "text/plain", change).await?;
        assert_eq!(refused.reason()?, "403 only what answers with rows is asked over HTTP");
    }
    let long = post(address, "/api/sql", "text/plain", &" ".repeat(200 << 10)).await?;
    assert_eq!(long.reason()?, "413 the question is too long. bytes_max=131072");
    let json = post(address, "/api/sql", "application/json", r#"{"sql": "SELECT 1 AS n"}"#).await?;
    assert_eq!(json.json()?, json!([{ "n": 1 }]));
    let more = post(address, "/api/sql", "application/json", r#"{"sql": "SELECT 1", "x": 1}"#).await?;
    assert_eq!(more.status, StatusCode::BAD_REQUEST);

    let api = get(address, "/api", &[]).await?.json()?;
    assert_eq!(api["openapi"], "3.1.0");
    let least = &api["paths"]["/api/countries"]["get"]["parameters"][1];
    assert_eq!((&least["name"], &least["schema"]["default"]), (&"least".into(), &0.into()), "{least}");
    assert_eq!(api["paths"]["/api/countries"]["delete"]["operationId"], "countries_drop");
    ensure!(api["paths"]["/api/{path}"]["put"]["responses"]["201"].is_object(), "{api}");
    ensure!(api["paths"]["/api/watch"]["get"].is_object(), "{api}");
    let row = &api["paths"]["/api/countries"]["get"]["responses"]["200"]["content"]["application/json"];
    assert_eq!(row["schema"]["items"]["properties"]["revenue"]["type"][0], "number", "{row}");
    instance.terminate().await
}

/// A page whose name leads here a moment after it was loaded asks as if it were the server's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_the_servers_is_refused() -> Result<()> {
    let place = Place::folder(SCRIPT, &["--http", "127.0.0.1:0", "--http-host", "clicks.example"])?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    let port = address.rsplit_once(':').context("a port")?.1;
    let evil = format!("evil.example:{port}");
    let status = async |method: Method, path: &str, host: &str, body: &'static str| -> Result<StatusCode> {
        let request = Request::builder().method(method).uri(path).header("host", host);
        let request = request.header("origin", format!("http://{host}")).body(Full::from(body))?;
        Ok(ask(address, request).await?.status)
    };
    for (method, path) in [
        (Method::GET, "/api/countries"),
        (Method::GET, "/api"),
        (Method::GET, "/"),
        (Method::GET, "/metrics"),
        (Method::GET, "/ws"),
        (Method::POST, "/api/sql"),
        (Method::PUT, "/api/mine"),
        (Method::DELETE, "/api/countries"),
    ] {
        let refused = status(method.clone(), path, &evil, "SELECT 1").await?;
        assert_eq!(refused, StatusCode::MISDIRECTED_REQUEST, "{method} {path}");
    }
    for own in
        [format!("localhost:{port}"), address.to_owned(), format!("[::1]:{port}"), "clicks.example".into()]
    {
        assert_eq!(status(Method::POST, "/api/sql", &own, "SELECT 1").await?, StatusCode::OK, "{own}");
    }
    let request = Request::builder().uri("/api").header("host", &evil).body(Full::default())?;
    assert_eq!(ask(address, request).await?.reason()?, format!("421 this server is not known as \"{evil}\""));
    instance.terminate().await?;

    let place = Place::folder(SCRIPT, &["--http", "0.0.0.0:0"])?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?.replace("0.0.0.0", "127.0.0.1");
    let beyond =
        Request::builder().uri("/health/ready").header("host", "ours.example").body(Full::default())?;
    assert_eq!(ask(&address, beyond).await?.status, StatusCode::OK, "it can't know its names");
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_of_starting_and_of_what_has_failed_and_metrics_count() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let instance = settled(&place).await?;
    let address = instance.http()?;
    assert_eq!(get(address, "/health/live", &[]).await?.json()?["status"], "live");
    let ready = get(address, "/health/ready", &[]).await?;
    assert_eq!((ready.status, ready.json()?["degraded"].clone()), (StatusCode::OK, Value::Array(vec![])));

    get(address, "/api/countries", &[]).await?;
    let text = String::from_utf8(get(address, "/metrics", &[]).await?.body.to_vec())?;
    for line in [
        "thalweg_stream_records_total{stream=\"clicks\"} 20000",
        "thalweg_store_away 0",
        "thalweg_http_requests_total{route=\"/api/countries\",code=\"200\"} 1",
        "thalweg_view_failed{view=\"per_minute\"} 0",
    ] {
        ensure!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
    }
    let told = |line: &str| {
        line.starts_with("# ")
            || line.rsplit_once(' ').is_some_and(|(_, number)| number.parse::<f64>().is_ok())
    };
    ensure!(text.lines().all(told), "{text}");
    let resident = text.lines().find_map(|line| line.strip_prefix("thalweg_process_resident_bytes "));
    ensure!(resident.context("memory")?.parse::<f64>()? > 1e6);
    instance.terminate().await?;

    let place = Place::folder(SCRIPT, &["--http", "127.0.0.1:0", "--state-max", "1KiB"])?;
    let instance = place.launch.start(&[]).await?;
    let failed = "SELECT count(*) FROM system.views WHERE state = 'failed'";
    instance.until(failed, WITHIN, |failed| failed > 0).await?;
    let ready = get(instance.http()?, "/health/ready", &[]).await?;
    let degraded = ready.json()?["degraded"].to_string();
    ensure!(ready.status == StatusCode::OK && degraded.contains("has failed: the state of"), "{degraded}");
    instance.terminate().await
}

/// Whoever watches is told the rows, and told again when they change, and all watchers cost one query.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_told_what_changes_by_one_query() -> Result<()> {
    let script = SCRIPT.replace("rows = 20000, seed = 1", "rate = 100, start = 'now', seed = 1");
    let place = Place::folder(&script, &FLAGS)?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    instance.until("SELECT count(*) FROM per_minute", WITHIN, |rows| rows > 0).await?;
    let mut watchers = vec![];
    for _ in 0..20 {
        let url = format!("http://{address}/api/countries");
        let mut command = Command::new("curl");
        command.args(["-sSN", "--max-time", "5", "-H", "Accept: text/event-stream", &url]);
        watchers.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    }
    for watcher in watchers {
        let told = String::from_utf8(watcher.wait_with_output().await?.stdout)?;
        let rows: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("data: [")).collect();
        ensure!((2..=8).contains(&rows.len()), "{} times in 5 s: {told}", rows.len());
        ensure!(
            rows.windows(2).all(|pair| pair[0] != pair[1]),
            "told again, and nothing had changed: {told}"
        );
        ensure!(told.starts_with("event: rows\nid: ") && told.contains("\"events\":"), "{told}");
    }
    let ran = "SELECT count(*) FROM system.queries WHERE client = 'http feed'";
    let ran = instance.number(ran).await?;
    ensure!((2..=10).contains(&ran), "{ran} queries for all of them");

    let wrong = get(address, "/api/countries?least=x", &[("accept", "text/event-stream")]).await?;
    assert_eq!(wrong.reason()?, "400 parameter \"least\" can't be 'x'");
    // Nobody watches any more, so nobody asks, although three seconds of clicks come.
    let read = records(address).await?;
    let begun = tokio::time::Instant::now();
    while records(address).await? < read + 300.0 {
        ensure!(begun.elapsed() < WITHIN, "the stream stands still");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = instance.number("SELECT count(*) FROM system.queries WHERE client = 'http feed'").await?;
    ensure!(after <= ran + 1, "{ran} queries, and {after} without watchers");
    instance.terminate().await
}

/// How many clicks were read, by the metrics: a query would be one more to count.
async fn records(address: &str) -> Result<f64> {
    let metrics = get(address, "/metrics", &[]).await?;
    let text = std::str::from_utf8(&metrics.body)?;
    let told =
        text.lines().find_map(|line| line.strip_prefix("thalweg_stream_records_total{stream=\"clicks\"} "));
    Ok(told.context("no such metric")?.parse()?)
}

/// Its broker does not answer, so the start waits; whoever asks is told that nobody is there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_lives_and_is_not_ready() -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let address = port.to_string();
    let stream =
        "CREATE STREAM s (a STRING) WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't')";
    let place = Place::folder(stream, &["--http", &address])?;
    let instance = place.launch.spawn(&[])?;
    let begun = tokio::time::Instant::now();
    let ready = loop {
        match get(&address, "/health/ready", &[]).await {
            Ok(answer) => break answer,
            Err(error) => ensure!(begun.elapsed() < WITHIN, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()?["reason"], "the server is still starting");
    assert_eq!(get(&address, "/health/live", &[]).await?.status, StatusCode::OK);
    let early = get(&address, "/api/metrics/live", &[]).await?;
    assert_eq!(early.reason()?, "503 the server is still starting");
    assert_eq!(early.header("retry-after"), Some("1"));
    instance.kill().await
}

/// The blocks of shell in the document, line by line, against the files of `queries/` as they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_curl_lines_of_the_document_answer() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = std::fs::read_to_string(root.join("docs/HTTP.md"))?;
    let lines: Vec<&str> = document.lines().filter(|line| line.starts_with("curl ")).collect();
    ensure!(lines.len() > 20, "the document has {} curl lines", lines.len());
    let mut files: Vec<_> =
        std::fs::read_dir(root.join("queries"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file: &std::path::PathBuf| file.extension().is_some_and(|it| it == "sql"));
    files.sort();
    let script = files.iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>()?.concat();
    let place = Place::folder(&script, &FLAGS)?;
    let instance = place.launch.start(&[]).await?;
    let address = instance.http()?;
    instance.until("SELECT count(*) FROM live.kpis_per_minute", WITHIN, |rows| rows > 0).await?;
    let folder = place.launch.script.parent().context("a folder")?;
    for line in lines {
        let line = line.replace("127.0.0.1:8080", address);
        let mut command = Command::new("sh");
        command.args(["-c", &line]).current_dir(folder).stdin(Stdio::null());
        let done = tokio::time::timeout(WITHIN, command.output()).await.context(line.clone())??;
        let told = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{line}\n{told}{}", String::from_utf8_lossy(&done.stdout));
        // Lines alone may be none.
        let may_be_silent = line.contains(" -o ") || line.contains(".ndjson");
        ensure!(may_be_silent || !done.stdout.is_empty(), "{line} answered nothing");
    }
    let live = get(address, "/api/metrics/live", &[]).await?.json()?;
    ensure!(live[0]["events"].as_i64().is_some_and(|events| events > 0), "{live}");
    let funnel = get(address, "/api/funnel", &[]).await?.json()?;
    assert_eq!(funnel[0]["step"], "view", "{funnel}");
    ensure!(std::fs::metadata(folder.join("kpis.parquet"))?.len() > 100);
    instance.terminate().await
}
