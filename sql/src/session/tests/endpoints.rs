//! Endpoints: declared, bound to typed values, and told apart from what has changed.

use super::*;

const LIVE: &str = "CREATE ENDPOINT '/api/counts' (least BIGINT DEFAULT 10, kind STRING DEFAULT NULL) AS\n\
    SELECT n FROM counts WHERE n >= $least AND ($kind IS NULL OR kind = $kind) ORDER BY n";

async fn asked(database: &Database, path: &str, given: &[(&str, &str)]) -> String {
    let session = database.session(Client::default());
    let endpoint = database.endpoint(path).unwrap().expect("it is there");
    let values = match endpoint.values(given.iter().copied()) {
        Ok(values) => values,
        Err(error) => return format!("error: {error}"),
    };
    match session.ask(&endpoint, &values).await {
        Ok(Answer::Rows(stream)) => {
            let batches: Vec<_> = stream.try_collect().await.unwrap();
            let mut found = vec![];
            for batch in batches {
                for row in 0..batch.num_rows() {
                    found.push(ScalarValue::try_from_array(batch.column(0), row).unwrap().to_string());
                }
            }
            found.join(" ")
        }
        Ok(Answer::Done(message)) => message,
        Err(error) => format!("error: {error}"),
    }
}

#[tokio::test]
async fn a_start_goes_by_its_file_whatever_an_endpoint_has_become() {
    let database = database().await.0;
    let (session, start) =
        (database.session(Client::default()), database.session(Client::default()).of_start());
    check(
        &session,
        "CREATE ENDPOINT '/api/counts' AS SELECT 1 AS n",
        expect!["endpoint /api/counts was created"],
    )
    .await;
    check(&start, LIVE, expect!["endpoint /api/counts was created"]).await;
    assert_eq!(asked(&database, "/api/counts", &[]).await, "16 32 64 128");
    check(&start, LIVE, expect!["endpoint /api/counts is there already"]).await;
}

#[tokio::test]
async fn an_endpoint_comes_answers_and_goes() {
    let database = database().await.0;
    let session = database.session(Client::default());
    check(&session, LIVE, expect!["endpoint /api/counts was created"]).await;
    check(&session, LIVE, expect!["endpoint /api/counts is there already"]).await;
    assert_eq!(asked(&database, "/api/counts", &[]).await, "16 32 64 128");
    assert_eq!(asked(&database, "/api/counts", &[("least", "-3"), ("kind", "buy")]).await, "1 4 16 64");
    // Bound, never pasted.
    assert_eq!(asked(&database, "/api/counts", &[("kind", "' OR 1 = 1 --")]).await, "");
    check(
        &session,
        "SHOW ENDPOINTS",
        expect![[r#"
            +-------------+--------+---------------------------------------------------+
            | endpoint    | method | parameters                                        |
            +-------------+--------+---------------------------------------------------+
            | /api/counts | GET    | least BIGINT DEFAULT 10, kind STRING DEFAULT NULL |
            +-------------+--------+---------------------------------------------------+"#]],
    )
    .await;
    assert_eq!(number(&session, "SELECT count(*) FROM system.endpoints WHERE sql LIKE '%counts%'").await, 1);
    check(
        &session,
        &LIVE.replace("10", "11"),
        expect![[r#"
        error: line 1, column 17: endpoint "/api/counts" exists and was created differently
        - CREATE ENDPOINT '/api/counts' (least BIGINT DEFAULT 10, kind STRING DEFAULT NULL) AS
        + CREATE ENDPOINT '/api/counts' (least BIGINT DEFAULT 11, kind STRING DEFAULT NULL) AS
          SELECT n FROM counts WHERE n >= $least AND ($kind IS NULL OR kind = $kind) ORDER BY n
        hint: drop it first (DROP ENDPOINT '/api/counts'), or choose another name"#]],
    )
    .await;
    check(
        &session,
        "DROP ENDPOINT '/api/count'",
        expect![[r#"
        error: line 1, column 15: no endpoint "/api/count"
        hint: did you mean "/api/counts"? endpoints are: /api/counts"#]],
    )
    .await;
    check(&session, "DROP ENDPOINT IF EXISTS '/api/count'", expect!["there is no endpoint /api/count"]).await;
    check(&session, "DROP ENDPOINT '/api/counts'", expect!["endpoint /api/counts was dropped"]).await;
    assert!(database.endpoint("/api/counts").unwrap().is_none());
}

#[tokio::test]
async fn values_have_the_declared_types() {
    let database = database().await.0;
    let session = database.session(Client::default());
    rendered(&session, LIVE).await;
    let typed = "CREATE ENDPOINT '/api/typed' (day DATE, at TIMESTAMP DEFAULT '2025-06-01T00:00:00Z', \
        rate DOUBLE DEFAULT 1.5, price DECIMAL(8, 2) DEFAULT 9.99, flag BOOLEAN DEFAULT true, top INT DEFAULT 2) AS \
        SELECT concat_ws(' ', arrow_typeof($day), arrow_typeof($at), arrow_typeof($rate), arrow_typeof($price), \
        arrow_typeof($flag)) FROM counts LIMIT $top";
    check(&session, typed, expect!["endpoint /api/typed was created"]).await;
    let told = asked(&database, "/api/typed", &[("day", "2025-06-01"), ("top", "1")]).await;
    expect!["Date32 Timestamp(ns) Float64 Decimal128(8, 2) Boolean"].assert_eq(&told);
    for (given, expected) in [
        (
            &[("least", "ten")][..],
            expect![[r#"
            error: parameter "least" can't be 'ten'
            hint: its type is BIGINT"#]],
        ),
        (
            &[("leest", "1")],
            expect![[r#"
            error: /api/counts has no parameter "leest"
            hint: did you mean "least"? parameters are: least, kind"#]],
        ),
        (&[("least", "1"), ("least", "2")], expect![[r#"error: parameter "least" is given twice"#]]),
    ] {
        expected.assert_eq(&asked(&database, "/api/counts", given).await);
    }
    expect![[r#"
        error: /api/typed needs parameter "day"
        hint: its type is DATE; parameters are: day DATE, at TIMESTAMP DEFAULT '2025-06-01T00:00:00Z', rate DOUBLE DEFAULT 1.5, price DECIMAL(8, 2) DEFAULT 9.99, flag BOOLEAN DEFAULT true, top INT DEFAULT 2"#]].assert_eq(&asked(&database, "/api/typed", &[]).await);
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    let session = database().await.0.session(Client::default());
    for (sql, expected) in [
        (
            "CREATE ENDPOINT '/api/x' AS SELECT $n FROM counts",
            expect![[r#"
            error: line 1, column 36: no parameter $n is declared
            hint: declare it before AS: (minutes INT DEFAULT 5)"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' (n INT) AS SELECT $m FROM counts",
            expect![[r#"
            error: line 1, column 44: no parameter $m is declared
            hint: parameters are: n"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' (n INT) AS SELECT 1 FROM counts",
            expect![[r#"
            error: line 1, column 27: parameter "n" is declared and not used
            hint: the query names it $n"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' (n INT, n INT) AS SELECT $n",
            expect![[r#"error: line 1, column 34: parameter "n" is declared twice"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' (n INT DEFAULT 'one') AS SELECT $n",
            expect![[r#"
            error: line 1, column 41: parameter "n" can't be 'one'
            hint: its type is INT"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' (n INT DEFAULT 1 + 1) AS SELECT $n",
            expect![[r#"
            error: line 1, column 41: the default of a parameter is a plain value
            hint: a number, 'text', true, false or NULL; what is computed belongs into the query"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' (n STRUCT<a INT>) AS SELECT $n",
            expect![
                "error: line 1, column 29: STRUCT<a INT> is no type of a parameter: it is one value, of one line"
            ],
        ),
        (
            "CREATE ENDPOINT '/api/x' AS SELECT nn FROM counts",
            expect![[r#"
            error: line 1, column 36: no column "nn"
            hint: did you mean "n"? columns are: window_start, window_end, kind, n"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x' AS SELECT n FROM count",
            expect![[r#"
            error: line 1, column 43: no table "count"
            hint: did you mean "counts"? tables are: counts"#]],
        ),
        (
            "CREATE ENDPOINT '/api/x.csv' AS SELECT 1",
            expect![[r#"
            error: line 1, column 17: '/api/x.csv' can't be the path of an endpoint
            hint: it is /api/ and up to 95 of a-z, 0-9, _, - and /, other than /api/sql, /api/watch and /api/subscribe"#]],
        ),
        (
            "CREATE ENDPOINT '/api/sql' AS SELECT 1",
            expect![[r#"
            error: line 1, column 17: '/api/sql' can't be the path of an endpoint
            hint: it is /api/ and up to 95 of a-z, 0-9, _, - and /, other than /api/sql, /api/watch and /api/subscribe"#]],
        ),
        (
            "CREATE ENDPOINT '/other' AS SELECT 1",
            expect![[r#"
            error: line 1, column 17: '/other' can't be the path of an endpoint
            hint: it is /api/ and up to 95 of a-z, 0-9, _, - and /, other than /api/sql, /api/watch and /api/subscribe"#]],
        ),
        (
            "CREATE ENDPOINT x AS SELECT 1",
            expect!["error: line 1, column 17: expected a path such as '/api/metrics/live', found x"],
        ),
        (
            "CREATE ENDPOINT '/api/x' AS DROP VIEW counts",
            expect!["error: line 1, column 29: expected SELECT, found DROP"],
        ),
    ] {
        expected.assert_eq(&rendered(&session, sql).await);
    }
}

#[tokio::test]
async fn a_version_stays_as_long_as_the_answer() {
    let (database, engine) = database().await;
    let session = database.session(Client::default());
    rendered(&session, LIVE).await;
    engine.publish("others", three_parts("others").await);
    let endpoint = database.endpoint("/api/counts").unwrap().unwrap();
    assert_eq!(session.version(&endpoint), None, "nobody has asked yet");
    asked(&database, "/api/counts", &[]).await;
    let first = session.version(&endpoint);
    assert!(first.is_some());
    engine.publish("others", three_parts("others").await);
    assert_eq!(session.version(&endpoint), first, "another view is none of its business");
    engine.publish("counts", three_parts("counts").await);
    assert_ne!(session.version(&endpoint), first);

    for of_the_moment in ["SELECT now() - max(window_start) FROM counts", "SELECT * FROM system.queries"] {
        let sql = format!("CREATE ENDPOINT '/api/x' AS {of_the_moment}");
        rendered(&session, &sql).await;
        let endpoint = database.endpoint("/api/x").unwrap().unwrap();
        asked(&database, "/api/x", &[]).await;
        assert_eq!(session.version(&endpoint), None, "{of_the_moment}");
        rendered(&session, "DROP ENDPOINT '/api/x'").await;
    }
}
