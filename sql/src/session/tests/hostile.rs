//! What comes from outside and means harm is an error, and no death; what is merely large runs.

use super::*;

/// Text that would make the process die, run on the small stacks of a runtime's threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_text_is_an_error_and_no_death() {
    let session = database().await.0.session(Client::default());
    let chain = |first: &str, term: &str, times: usize| format!("SELECT {first}{}", term.repeat(times));
    for (sql, part) in [
        (chain("1", "+1", 20_000), "chained"),
        (chain("true", " OR n=1", 5_000), "chained"),
        (chain("1", " UNION ALL SELECT 1", 3_000), "chained"),
        (chain("", "(", 20_000), "nested"),
        (chain("", "NOT ", 10_000), "chained"),
        (format!("SELECT '{}'", "x".repeat(70_000)), "too long"),
        (format!("SELECT * FROM counts{}", ", counts".repeat(300)), "relations"),
        ("SELECT repeat('a', 1000000000)".to_owned(), "repeat() would make an answer of 1000000000 bytes"),
        ("SELECT repeat(kind, 100000000) FROM counts".to_owned(), "repeat() would make an answer"),
        ("SELECT range(0, 1000000000)".to_owned(), "range() would make"),
        ("SELECT generate_series(0, 1000000000)".to_owned(), "generate_series() would make"),
        ("SELECT lpad('a', 2000000000)".to_owned(), "lpad() would make"),
        ("SELECT array_repeat(1, 1000000000)".to_owned(), "array_repeat() would make"),
        (
            "SELECT count(DISTINCT x * 7919 % 100000007) FROM generate_series(1, 100000000) AS t(x)"
                .to_owned(),
            "the query needs more memory than it may",
        ),
        ("COPY counts TO '/tmp/x.csv'".to_owned(), "expected a statement"),
        ("INSERT INTO counts VALUES (1)".to_owned(), "expected a statement"),
        ("SET datafusion.execution.batch_size = 1".to_owned(), "no setting begins with"),
        ("EXPLAIN ANALYZE COPY counts TO '/tmp/x.csv'".to_owned(), ""),
        (
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
            "STREAM, TABLE, MATERIALIZED VIEW, VIEW, ENDPOINT or SINK",
        ),
        ("SELECT * FROM '/etc/passwd'".to_owned(), "no table"),
        ("SELECT * FROM read_csv('/etc/passwd')".to_owned(), ""),
        ("SELECT 1; SELECT 2".to_owned(), "expected one statement"),
        ("SELECT $99999999999".to_owned(), "is no parameter"),
    ] {
        let short = &sql[..sql.len().min(60)];
        let answer = rendered(&session, &sql).await;
        assert!(
            answer.starts_with("error: ") && answer.contains(part),
            "{short}: {}",
            &answer[..answer.len().min(300)]
        );
        let _ = session.prepare(&sql, None).await;
    }
    assert_eq!(number(&session, "SELECT sum(n) FROM counts").await, 255);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_just_within_the_limits_runs() {
    let session = database().await.0.session(Client::default());
    let chain = |first: &str, term: &str, times: usize| format!("SELECT {first}{}", term.repeat(times));
    assert_eq!(number(&session, &chain("0", "+1", 490)).await, 490);
    let ors = format!("SELECT count(*) FROM counts WHERE n = 1{}", " OR n = 2 AND n < 5".repeat(240));
    assert_eq!(number(&session, &ors).await, 2);
    let unions = format!("SELECT count(*) FROM (SELECT 1{})", " UNION ALL SELECT 1".repeat(150));
    assert_eq!(number(&session, &unions).await, 151);
    assert_eq!(number(&session, "SELECT length(repeat('a', 1000))").await, 1000);
    assert_eq!(number(&session, "SELECT array_length(range(0, 1000))").await, 1000);
}

#[tokio::test]
async fn only_known_table_functions_exist() {
    let (database, _) = database().await;
    let state = database.shared.state(&database.shared.pin(), PUBLIC, 1 << 20).unwrap();
    let mut names: Vec<_> = state.table_functions().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["generate_series", "range"]);
}
