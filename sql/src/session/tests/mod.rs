//! Sessions over a job that only remembers: statements in, rows, messages and errors out.

mod answers;
mod endpoints;
mod hostile;
mod limits;
mod subscribe;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::object_store::ObjectStoreExt;
use expect_test::{Expect, expect};
use futures::{StreamExt, TryStreamExt};
use thalweg_engine::clock::SystemClock;
use thalweg_engine::ids::Epoch;
use thalweg_engine::sink::{ClosedRows, HistoryFiles};
use tokio::runtime::Handle;

use super::*;
use crate::tables::test_data::{MemoryEngine, rows, three_parts};

async fn database() -> (Database, Arc<MemoryEngine>) {
    with_settings(Settings { query_memory_bytes: 64 << 20, ..Settings::default() }).await
}

async fn with_settings(settings: Settings) -> (Database, Arc<MemoryEngine>) {
    let engine = MemoryEngine::with_counts().await;
    let clock = Arc::new(SystemClock::new());
    let database = Database::new(Arc::clone(&engine) as _, clock, Handle::current(), settings).unwrap();
    (database, engine)
}

async fn batches(session: &Session, sql: &str, values: &[ScalarValue]) -> Result<Vec<RecordBatch>> {
    match session.execute(sql, values).await? {
        Answer::Rows(stream) => {
            let schema = stream.schema();
            let batches: Vec<_> = stream.try_collect().await?;
            assert!(batches.iter().all(|batch| batch.schema() == schema), "{sql}");
            Ok(batches)
        }
        Answer::Done(message) => panic!("{sql} answered {message}"),
    }
}

async fn rendered(session: &Session, sql: &str) -> String {
    match session.execute(sql, &[]).await {
        Ok(Answer::Done(message)) => message,
        Ok(Answer::Rows(stream)) => match stream.try_collect::<Vec<_>>().await {
            Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
            Err(error) => format!("error: {}", Error::from(error)),
        },
        Err(error) => format!("error: {error}"),
    }
}

async fn check(session: &Session, sql: &str, expected: Expect) {
    expected.assert_eq(&rendered(session, sql).await);
}

async fn number(session: &Session, sql: &str) -> i64 {
    let batches = batches(session, sql, &[]).await.unwrap();
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
    match ScalarValue::try_from_array(batch.column(0), 0).unwrap().cast_to(&DataType::Int64).unwrap() {
        ScalarValue::Int64(Some(number)) => number,
        other => panic!("{sql}: {other}"),
    }
}

/// It would take hours, and gives no row before.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS t(x) WHERE x % 2 = 3";

const CREATE_STREAM: &str = "CREATE STREAM clicks (\n  kind STRING,\n  price DOUBLE,\n  at TIMESTAMP(3),\n  \
    WATERMARK FOR at AS at - INTERVAL '5' SECOND\n) WITH (connector = 'generator', seed = '1')";
const CREATE_VIEW: &str = "CREATE MATERIALIZED VIEW per_minute AS\nSELECT window_start, window_end, kind, \
    count(*) AS n\nFROM TUMBLE(clicks, at, INTERVAL '1 minute')\nGROUP BY window_start, window_end, kind";

#[tokio::test]
async fn each_row_is_in_public_once_and_in_one_of_the_other_two() {
    // Open rows that are kept for all who ask, and such as there is no room for.
    for open_rows_bytes in [64 << 20, 0] {
        let settings = Settings { open_rows_bytes, ..Settings::default() };
        let session = with_settings(settings).await.0.session(Client::default());
        assert_eq!(number(&session, "SELECT sum(n) FROM counts").await, 255);
        assert_eq!(number(&session, "SELECT count(*) FROM public.counts").await, 8);
        assert_eq!(number(&session, "SELECT sum(n) FROM live.counts").await, 64 + 128);
        assert_eq!(number(&session, "SELECT n FROM live.counts ORDER BY n DESC LIMIT 1").await, 128);
        assert_eq!(number(&session, "SELECT sum(n) FROM thalweg.history.counts").await, 63);
        assert_eq!(number(&session, "SELECT count(*) FROM history.counts").await, 6);
        let both = "SELECT (SELECT sum(n) FROM history.counts) + (SELECT sum(n) FROM live.counts)";
        assert_eq!(number(&session, both).await, 255);
        let join = "SELECT count(*) FROM live.counts l JOIN history.counts h ON l.kind = h.kind";
        assert_eq!(number(&session, join).await, 6);
        let plan = rendered(&session, "EXPLAIN SELECT n FROM live.counts").await;
        assert_eq!(plan.contains("StreamingTableExec"), open_rows_bytes == 0, "{plan}");
    }
}

#[tokio::test]
async fn a_statement_sees_one_snapshot_and_the_next_statement_the_next() {
    let (database, engine) = database().await;
    let session = database.session(Client::default());
    let answer = session.execute("SELECT n FROM counts", &[]).await.unwrap();
    let mut table = three_parts("counts").await;
    table.tail = Arc::new(vec![ClosedRows { epoch: Epoch(1), rows: rows(&[(2, "buy", 1000)]) }]);
    engine.publish("counts", table);
    let Answer::Rows(stream) = answer else { panic!() };
    let total: usize =
        stream.map(|batch| batch.unwrap().num_rows()).fold(0, |a, b| async move { a + b }).await;
    assert_eq!(total, 8);
    assert_eq!(number(&session, "SELECT count(*) FROM counts").await, 7);
}

#[tokio::test]
async fn a_cast_is_not_the_column_that_it_casts() {
    let session = database().await.0.session(Client::default());
    check(
        &session,
        "SELECT CAST(n AS STRING), n::INT FROM counts WHERE n < 3 ORDER BY n DESC",
        expect![[r#"
            +-------------------+--------+
            | CAST(n AS STRING) | n::INT |
            +-------------------+--------+
            | 2                 | 2      |
            | 1                 | 1      |
            +-------------------+--------+"#]],
    )
    .await;
}

#[tokio::test]
async fn rows_of_all_parts_look_alike() {
    let session = database().await.0.session(Client::default());
    check(
        &session,
        "SELECT * FROM counts WHERE kind = 'buy' ORDER BY window_start",
        expect![[r#"
        +----------------------+----------------------+------+----+
        | window_start         | window_end           | kind | n  |
        +----------------------+----------------------+------+----+
        | 1970-01-01T00:00:00Z | 1970-01-01T00:01:00Z | buy  | 1  |
        | 1970-01-01T00:01:00Z | 1970-01-01T00:02:00Z | buy  | 4  |
        | 1970-01-01T00:02:00Z | 1970-01-01T00:03:00Z | buy  | 16 |
        | 1970-01-01T00:03:00Z | 1970-01-01T00:04:00Z | buy  | 64 |
        +----------------------+----------------------+------+----+"#]],
    )
    .await;
    check(
        &session,
        "SELECT max(n) AS most, min(window_start) AS first FROM history.counts",
        expect![[r#"
            +------+----------------------+
            | most | first                |
            +------+----------------------+
            | 32   | 1970-01-01T00:00:00Z |
            +------+----------------------+"#]],
    )
    .await;
}

#[tokio::test]
async fn a_predicate_reaches_the_parquet_reader() {
    let session = database().await.0.session(Client::default());
    let plan = rendered(&session, "EXPLAIN SELECT kind FROM counts WHERE n > 5").await;
    assert!(plan.contains("file_type=parquet") && plan.contains("pruning_predicate"), "{plan}");
    assert!(plan.contains("projection=[kind, n]"), "{plan}");
}

/// It could not be: it is gone.
#[tokio::test]
async fn a_file_of_other_times_is_not_opened() {
    let (database, engine) = database().await;
    let table = three_parts("counts").await;
    let lost = &table.history.files[1];
    table.history.store.delete(&lost.path).await.unwrap();
    engine.publish("counts", table);
    let session = database.session(Client::default());
    let first = "SELECT sum(n) FROM history.counts WHERE window_start < TIMESTAMP '1970-01-01 00:01:00'";
    assert_eq!(number(&session, first).await, 3);
    let both = batches(&session, "SELECT sum(n) FROM history.counts", &[]).await;
    assert!(both.is_err(), "the second file is read");
}

#[tokio::test]
async fn the_schema_of_the_answer_is_the_prepared_one() {
    let session = database().await.0.session(Client::default());
    for sql in [
        "SELECT * FROM counts",
        "SELECT max(n), min(kind), count(*) FROM history.counts",
        "SELECT n FROM counts UNION ALL SELECT 1.5",
        "SELECT named_struct('a', n, 'b', [kind]) AS s FROM counts",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM system.partitions",
        "EXPLAIN SELECT * FROM counts",
        "EXPLAIN ANALYZE SELECT * FROM counts",
        "SHOW TABLES",
        "DESCRIBE counts",
        "SHOW STREAMS",
    ] {
        let promised = session.prepare(sql, None).await.unwrap().rows.unwrap();
        let Answer::Rows(stream) = session.execute(sql, &[]).await.unwrap() else { panic!("{sql}") };
        assert_eq!(stream.schema(), promised, "{sql}");
        let batches: Vec<_> = stream.try_collect().await.unwrap();
        assert!(!batches.is_empty() || sql.starts_with("SHOW STREAMS"), "{sql}");
        assert!(batches.iter().all(|batch| batch.schema() == promised), "{sql}");
    }
}

#[tokio::test]
async fn parameters_are_typed_and_bound() {
    let session = database().await.0.session(Client::default());
    for sql in
        ["SELECT n FROM counts WHERE kind = $1 AND n > $2", "SELECT n FROM counts WHERE kind = ? AND n > ?"]
    {
        let prepared = session.prepare(sql, None).await.unwrap();
        let types: Vec<_> =
            prepared.parameters.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8View, DataType::Int64], "{sql}");
        let values = [ScalarValue::from("buy"), ScalarValue::Int32(Some(3))];
        let found = batches(&session, sql, &values).await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 3, "{sql}");
    }
    let error = |sql: &'static str, values: Vec<ScalarValue>| {
        let session = session.clone();
        async move { batches(&session, sql, &values).await.unwrap_err().to_string() }
    };
    let missing = error("SELECT n FROM counts WHERE n = $1", vec![]).await;
    assert_eq!(missing, "the statement has 1 parameters, and 0 values were given");
    let wrong = error("SELECT n FROM counts WHERE n = $1", vec![ScalarValue::from("x")]).await;
    assert!(wrong.starts_with("parameter $1 cannot be x"), "{wrong}");
    let mixed = error("SELECT ? + $1", vec![]).await;
    assert!(mixed.contains("cannot be mixed"), "{mixed}");
}

#[tokio::test]
async fn names_that_are_wrong_are_answered_with_the_right_ones() {
    let session = database().await.0.session(Client::default());
    rendered(&session, CREATE_STREAM).await;
    check(
        &session,
        "SELECT *\nFROM count",
        expect![[r#"
        error: line 2, column 6: no table "count"
        hint: did you mean "counts"? tables are: counts"#]],
    )
    .await;
    check(
        &session,
        "SELECT nn FROM counts",
        expect![[r#"
        error: line 1, column 8: no column "nn"
        hint: did you mean "n"? columns are: window_start, window_end, kind, n"#]],
    )
    .await;
    check(
        &session,
        "SELECT * FROM clicks",
        expect![[r#"
        error: line 1, column 15: stream "clicks" can't be read, a view of it can
        hint: write CREATE MATERIALIZED VIEW name AS SELECT … FROM clicks, then SELECT * FROM name"#]],
    )
    .await;
    check(
        &session,
        "SELECT * FROM hist.counts",
        expect![[r#"
        error: line 1, column 15: no schema "hist"
        hint: did you mean "history"? schemas are: public, live, history, system, information_schema"#]],
    )
    .await;
    check(
        &session,
        "SELECT * FROM other.public.counts",
        expect![[r#"
        error: line 1, column 15: no catalog "other"
        hint: the only one is thalweg; write schema.table"#]],
    )
    .await;
    check(&session, "SELECT * FROM system.partition", expect![[r#"
        error: line 1, column 15: no table "system.partition"
        hint: did you mean "partitions"? tables are: streams, partitions, views, tables, checkpoints, ledger, queries, subscriptions, store, compactions, memory, interventions, endpoints, sinks, dead_letters"#]]).await;
}

#[tokio::test]
async fn streams_and_views_come_and_go() {
    let session = database().await.0.session(Client::default());
    check(&session, CREATE_STREAM, expect!["stream clicks was created"]).await;
    check(&session, &CREATE_STREAM.to_lowercase(), expect!["stream clicks is there already"]).await;
    check(
        &session,
        &CREATE_STREAM.replace("price DOUBLE", "price INT"),
        expect![[r#"
        error: line 1, column 15: stream "clicks" exists and was created differently
          CREATE STREAM clicks (
            kind STRING,
        -   price DOUBLE,
        +   price INT,
            at TIMESTAMP(3),
            WATERMARK FOR at AS at - INTERVAL '5' SECOND
          ) WITH (connector = 'generator', seed = '1')
        hint: drop it first (DROP STREAM clicks), or choose another name"#]],
    )
    .await;
    check(&session, CREATE_VIEW, expect!["view per_minute was created"]).await;
    check(&session, CREATE_VIEW, expect!["view per_minute is there already"]).await;
    check(
        &session,
        &CREATE_VIEW.replace("per_minute", "clicks"),
        expect![[r#"error: line 1, column 26: "clicks" is the name of a stream already"#]],
    )
    .await;
    check(
        &session,
        "SHOW STREAMS",
        expect![[r#"
            +--------+-----------+--------+------------+-----------+---------+
            | stream | connector | source | event_time | delay     | state   |
            +--------+-----------+--------+------------+-----------+---------+
            | clicks | generator | seed 1 | at         | 5 seconds | running |
            +--------+-----------+--------+------------+-----------+---------+"#]],
    )
    .await;
    check(
        &session,
        "SHOW VIEWS",
        expect![[r#"
            +------------+--------+--------------------+------------------+---------+
            | view       | stream | window             | allowed_lateness | state   |
            +------------+--------+--------------------+------------------+---------+
            | per_minute | clicks | TUMBLE of 1 minute | 0 seconds        | running |
            +------------+--------+--------------------+------------------+---------+"#]],
    )
    .await;
    check(
        &session,
        "SHOW TABLES",
        expect![[r#"
            +---------+---------------+--------------+
            | schema  | table         | kind         |
            +---------+---------------+--------------+
            | history | counts        | view         |
            | history | per_minute    | view         |
            | live    | counts        | view         |
            | live    | per_minute    | view         |
            | public  | counts        | view         |
            | public  | per_minute    | view         |
            | system  | checkpoints   | system table |
            | system  | compactions   | system table |
            | system  | dead_letters  | system table |
            | system  | endpoints     | system table |
            | system  | interventions | system table |
            | system  | ledger        | system table |
            | system  | memory        | system table |
            | system  | partitions    | system table |
            | system  | queries       | system table |
            | system  | sinks         | system table |
            | system  | store         | system table |
            | system  | streams       | system table |
            | system  | subscriptions | system table |
            | system  | tables        | system table |
            | system  | views         | system table |
            +---------+---------------+--------------+"#]],
    )
    .await;
    check(
        &session,
        "DESCRIBE clicks",
        expect![[r#"
        +--------+-----------+----------+--------+
        | column | type      | nullable | origin |
        +--------+-----------+----------+--------+
        | kind   | STRING    | yes      | value  |
        | price  | DOUBLE    | yes      | value  |
        | at     | TIMESTAMP | yes      | value  |
        +--------+-----------+----------+--------+"#]],
    )
    .await;
    check(
        &session,
        "DESCRIBE live.per_minute",
        expect![[r#"
        +--------------+-----------+----------+--------+
        | column       | type      | nullable | origin |
        +--------------+-----------+----------+--------+
        | window_start | TIMESTAMP | yes      |        |
        | window_end   | TIMESTAMP | yes      |        |
        | kind         | STRING    | yes      |        |
        | n            | BIGINT    | no       |        |
        +--------------+-----------+----------+--------+"#]],
    )
    .await;
    let plan = rendered(&session, "EXPLAIN per_minute").await;
    assert!(plan.contains("AggregateExec") && plan.contains("StateScan"), "{plan}");
    let plan = rendered(&session, &format!("EXPLAIN {}", CREATE_VIEW.replace("per_minute", "again"))).await;
    assert!(plan.contains("AggregateExec") && plan.contains("StateScan"), "{plan}");
    check(
        &session,
        "DROP STREAM clicks",
        expect![[r#"
        error: line 1, column 13: stream "clicks" is read by views: per_minute
        hint: drop them first: DROP VIEW per_minute"#]],
    )
    .await;
    check(
        &session,
        "DROP VIEW per_minutes",
        expect![[r#"
        error: line 1, column 11: no view "per_minutes"
        hint: did you mean "per_minute"? views are: per_minute"#]],
    )
    .await;
    check(&session, "DROP VIEW per_minute", expect!["view per_minute was dropped"]).await;
    check(&session, "DROP STREAM clicks", expect!["stream clicks was dropped"]).await;
    check(&session, "DROP STREAM IF EXISTS clicks", expect!["there is no stream clicks"]).await;
}

#[tokio::test]
async fn what_the_job_knows_are_tables() {
    let session = database().await.0.session(Client { user: Some("ann".into()), name: Some("test".into()) });
    check(
        &session,
        "SELECT * FROM system.streams",
        expect![[r#"
            +--------+-----------+---------+----------+-------+----------+-------+---------+--------------+--------+----------+------------+-------------+----------------+
            | stream | connector | records | rejected | bytes | frontier | ended | state   | failed_since | reason | next_try | reading_ms | decoding_ms | aggregating_ms |
            +--------+-----------+---------+----------+-------+----------+-------+---------+--------------+--------+----------+------------+-------------+----------------+
            | clicks | files     | 10      | 1        | 2950  |          | true  | running |              |        |          | 1          | 20          | 3              |
            +--------+-----------+---------+----------+-------+----------+-------+---------+--------------+--------+----------+------------+-------------+----------------+"#]],
    )
    .await;
    check(
        &session,
        "SELECT view, closed_through, open_windows FROM system.views",
        expect![[r#"
        +--------+----------------------+--------------+
        | view   | closed_through       | open_windows |
        +--------+----------------------+--------------+
        | counts | 1970-01-01T00:03:00Z | 1            |
        +--------+----------------------+--------------+"#]],
    )
    .await;
    check(
        &session,
        "SELECT epoch, records FROM system.checkpoints",
        expect![[r#"
        +-------+---------+
        | epoch | records |
        +-------+---------+
        | 7     | 10      |
        +-------+---------+"#]],
    )
    .await;
    check(
        &session,
        "SELECT records, decoded + rejected AS accounted, view FROM system.ledger",
        expect![[r#"
            +---------+-----------+------+
            | records | accounted | view |
            +---------+-----------+------+
            | 10      | 10        |      |
            +---------+-----------+------+"#]],
    )
    .await;
    check(
        &session,
        "SELECT sql, \"user\", client, rows, state FROM system.queries ORDER BY id DESC LIMIT 2",
        expect![[r#"
            +--------------------------------------------------------------------------------------+------+--------+------+---------+
            | sql                                                                                  | user | client | rows | state   |
            +--------------------------------------------------------------------------------------+------+--------+------+---------+
            | SELECT sql, "user", client, rows, state FROM system.queries ORDER BY id DESC LIMIT 2 | ann  | test   | 0    | running |
            | SELECT records, decoded + rejected AS accounted, view FROM system.ledger             | ann  | test   | 1    | done    |
            +--------------------------------------------------------------------------------------+------+--------+------+---------+"#]],
    )
    .await;
}

#[tokio::test]
async fn a_dropped_answer_stops_its_query() {
    let (database, _) = database().await;
    let session = database.session(Client::default());
    let answer = session.execute(ENDLESS, &[]).await.unwrap();
    assert_eq!(database.queries()[0].state, QueryState::Running);
    drop(answer);
    assert_eq!(database.queries()[0].state, QueryState::Cancelled);
    // The task itself ends too: the runtime of a test waits for none, so ask the metrics.
    let alive = || Handle::current().metrics().num_alive_tasks();
    while alive() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bare_names_are_looked_up_in_the_schema_that_was_set() {
    let mut session = database().await.0.session(Client::default());
    session.set_schema("live").unwrap();
    assert_eq!(number(&session, "SELECT sum(n) FROM counts").await, 192);
    let error = session.set_schema("lives").unwrap_err().to_string();
    assert!(error.contains("did you mean \"live\""), "{error}");
}
