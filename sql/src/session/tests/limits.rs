//! Slots, deadlines, KILL QUERY, and clients that take nothing.

use datafusion::execution::SendableRecordBatchStream;

use super::*;

/// Of an answer of many batches.
const LONG: &str = "SELECT value FROM generate_series(1, 1000000000)";

async fn rows_of(session: &Session, sql: &str) -> SendableRecordBatchStream {
    match session.execute(sql, &[]).await.unwrap() {
        Answer::Rows(rows) => rows,
        Answer::Done(message) => panic!("{message}"),
    }
}

async fn error_of(rows: SendableRecordBatchStream) -> String {
    Error::from(rows.try_collect::<Vec<_>>().await.unwrap_err()).to_string()
}

fn small() -> Settings {
    Settings { queries_max: 1, parallelism: 1, queue_time: Duration::from_millis(20), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_has_a_deadline() {
    let settings = Settings { query_deadline: Duration::from_millis(50), ..small() };
    let (database, _) = with_settings(settings).await;
    let session = database.session(Client::default());
    let error = error_of(rows_of(&session, ENDLESS).await).await;
    assert!(error.contains("longer than it may. limit=50ms"), "{error}");
    assert_eq!(database.queries()[0].state, QueryState::Failed);
    assert_eq!(number(&session, "SELECT 1").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_waits_its_turn_and_is_told_which_limit_it_met() {
    let (database, _) = with_settings(small()).await;
    let session = database.session(Client::default());
    let first = rows_of(&session, ENDLESS).await;
    let error = session.execute("SELECT 1", &[]).await.err().unwrap().to_string();
    assert!(error.contains("1 queries are running, the most allowed, and none ended within 20ms"), "{error}");
    assert!(error.contains("--queries") && error.contains("KILL QUERY"), "{error}");
    // Who wants to know why, is told.
    assert_eq!(number(&session, "SELECT count(*) FROM system.queries WHERE state = 'running'").await, 2);
    let not_alone = "SELECT count(*) FROM system.queries, generate_series(1, 2)";
    assert!(session.execute(not_alone, &[]).await.is_err());
    drop(first);
    assert_eq!(number(&session, "SELECT 1").await, 1);
    let patient = Settings { queue_time: Duration::from_secs(60), ..small() };
    let session = with_settings(patient).await.0.session(Client::default());
    let first = rows_of(&session, ENDLESS).await;
    let waiting = tokio::spawn(async move { number(&session, "SELECT 1").await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    drop(first);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_stopped_by_its_number() {
    let (database, _) = with_settings(small()).await;
    let session = database.session(Client::default());
    let rows = rows_of(&session, ENDLESS).await;
    let id = number(&session, "SELECT min(id) FROM system.queries").await;
    assert_eq!(rendered(&session, &format!("KILL QUERY {id}")).await, format!("query {id} was stopped"));
    let error = error_of(rows).await;
    assert!(error.contains("stopped by KILL QUERY"), "{error}");
    assert_eq!(number(&session, "SELECT 1").await, 1);
    let stopped = database.queries().into_iter().find(|query| query.id == id as u64).unwrap();
    assert_eq!(stopped.state, QueryState::Cancelled);
    let again = rendered(&session, &format!("KILL {id}")).await;
    assert!(again.contains(&format!("no query {id} is running")), "{again}");
    let prepared = session.prepare("KILL QUERY 1", None).await.unwrap();
    assert!(prepared.rows.is_none(), "over HTTP it is refused as what changes something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_loses_its_query_and_its_slot() {
    let settings = Settings { client_patience: Duration::from_millis(50), ..small() };
    let (database, _) = with_settings(settings).await;
    let session = database.session(Client::default());
    let rows = rows_of(&session, LONG).await;
    // Nobody polls it.
    while database.queries()[0].state == QueryState::Running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(number(&session, "SELECT 1").await, 1);
    let error = error_of(rows).await;
    assert!(error.contains("took nothing") && error.contains("--client-patience"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_a_number_of_rows() {
    let settings = Settings { query_rows_max: Some(100_000), ..small() };
    let session = with_settings(settings).await.0.session(Client::default());
    let error = error_of(rows_of(&session, LONG).await).await;
    assert!(error.contains("more rows than it may. most=100000"), "{error}");
    assert_eq!(number(&session, "SELECT count(*) FROM generate_series(1, 200000)").await, 200_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_of_the_client_are_no_computing() {
    let settings = Settings { query_deadline: Duration::from_millis(400), ..small() };
    let session = with_settings(settings).await.0.session(Client::default());
    let mut rows = rows_of(&session, LONG).await;
    let begun = std::time::Instant::now();
    // Longer than it may compute; what it computes in between is little.
    while begun.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rows.next().await.unwrap().unwrap();
    }
}
