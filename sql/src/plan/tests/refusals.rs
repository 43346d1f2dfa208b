//! What can't be a view, and the words that say so.

use expect_test::{Expect, expect};

use super::{STREAM, stream, view, view_of};

async fn check(query: &str, expected: Expect) {
    let told = match view(query).await {
        Ok(spec) => format!("planned, with {:?}\n", spec.schema),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&told);
}

const W: &str = "FROM TUMBLE(t, ts, INTERVAL '1 minute')";

#[tokio::test]
async fn names() {
    check(
        &format!("SELECT window_start, sum(prise) AS s {W} GROUP BY window_start"),
        expect![[r#"
        line 2, column 26: no column "prise"
        hint: columns are: ts, k, u, p, q, g, tags, window_start, window_end
    "#]],
    )
    .await;
    check(
        "SELECT * FROM s",
        expect![[r#"
            line 2, column 15: no stream or view "s"
            hint: a view reads a stream or a view; there are: t
        "#]],
    )
    .await;
    check(
        "SELECT 1 AS one",
        expect![[r#"
            line 2, column 1: the view reads no stream, and no view
            hint: a table is joined to what comes; there are: t
        "#]],
    )
    .await;
    check(
        "SELECT window_start, count(*) AS n FROM TUMBLE(c, ts, INTERVAL '1 minute') GROUP BY window_start",
        expect![[r#"
            line 2, column 48: no stream or view "c"
            hint: a view reads a stream or a view; there are: t
        "#]],
    )
    .await;
    check(
        &format!("SELECT window_start, summ(q) AS s {W} GROUP BY window_start"),
        expect![[r#"
            line 2, column 22: invalid function 'summ'
            hint: did you mean 'sum'?
        "#]],
    )
    .await;
    // What is nearest to it is far away.
    check(
        &format!("SELECT window_start, width_bucket(q) AS s {W} GROUP BY window_start"),
        expect![[r#"
            line 2, column 22: invalid function 'width_bucket'
        "#]],
    )
    .await;
}

#[tokio::test]
async fn windows() {
    check(
        &format!("SELECT k, count(*) AS n {W} GROUP BY k"),
        expect![[r#"
        line 2, column 74: an aggregate must name its window, or it would never be final
        hint: write GROUP BY window_start, window_end, …
    "#]],
    )
    .await;
    check(&format!("SELECT date_trunc('hour', window_start) AS h, count(*) AS n {W}\nGROUP BY date_trunc('hour', window_start)"), expect![[r#"
        line 3, column 10: GROUP BY date_trunc(Utf8("hour"), window_start) would put many windows into one group, which is final only when the last closes
        hint: take longer windows, such as INTERVAL '1' HOUR, or group in the query that reads the view
    "#]]).await;
    check(
        &format!("SELECT window_start, k, count(*) AS n {W} GROUP BY ROLLUP (window_start, k)"),
        expect![[r#"
            line 2, column 96: a grouping set leaves out the window
            hint: write GROUP BY window_start, window_end, ROLLUP (…)
        "#]],
    )
    .await;
    check(
        &format!("SELECT max(n) AS m FROM (SELECT window_start, count(*) AS n {W} GROUP BY window_start)"),
        expect![[r#"
            line 2, column 110: an aggregate must name its window, or it would never be final
            hint: write GROUP BY window_start, window_end, …
        "#]],
    )
    .await;
    check(
        "SELECT k, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY GROUPING SETS ((window_start, k), (window_end, q))",
        expect![[r#"
            line 2, column 90: grouping sets name different bounds of the window
            hint: write GROUP BY window_start, window_end, ROLLUP (…)
        "#]],
    )
    .await;
    check(
        "SELECT ts, window_start FROM HOP(t, ts, INTERVAL '1 ms', INTERVAL '1 day')",
        expect![[r#"
        line 2, column 30: each row would be one of 86400000 windows, more than 10000
        hint: take a longer slide, one that divides the size
    "#]],
    )
    .await;
    check(
        "SELECT window_start, max(ts - window_start) < INTERVAL '1 hour' AS early FROM HOP(t, ts, INTERVAL '1 s', INTERVAL '1 day') GROUP BY window_start",
        expect![[r#"
            line 2, column 79: each row would be one of 86400 windows, more than 10000
            hint: take a longer slide, one that divides the size
        "#]],
    )
    .await;
    check(
        &format!("SELECT DISTINCT k {W}"),
        expect![[r#"
            line 2, column 1: SELECT DISTINCT must name its window, or it would never be final
            hint: write GROUP BY window_start, window_end, …
        "#]],
    )
    .await;
    check(
        "SELECT window_start, count(*) AS n FROM TUMBLE(t, k, INTERVAL '1 minute') GROUP BY window_start",
        expect![[r#"
            line 2, column 41: t.k is not the event time of stream t
            hint: the watermark is declared for ts: write ts
        "#]],
    )
    .await;
    check(
        "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts) GROUP BY window_start",
        expect![[r#"
        line 2, column 41: Tumble lacks its size
        hint: write TUMBLE(clicks, event_ts, INTERVAL '1 minute')
    "#]],
    )
    .await;
    check(
        "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 month 1 day') GROUP BY window_start",
        expect![[r#"
            line 2, column 64: INTERVAL '1 month 1 day' has no fixed length: months differ
            hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'
        "#]],
    )
    .await;
    check("SELECT window_start, count(*) AS n FROM HOP(t, ts, INTERVAL '5 minutes', INTERVAL '1 minute') GROUP BY window_start", expect![[r#"
        line 2, column 41: the slide is longer than the size, so rows between windows would be lost
        hint: HOP takes the slide first, then the size
    "#]]).await;
    check("SELECT window_start, count(*) AS n FROM HOP(t, ts, INTERVAL '7 ms', INTERVAL '1 day') GROUP BY window_start", expect![[r#"
        line 2, column 41: each window would be made of 86400000 panes, more than 10000
        hint: take a longer slide, one that divides the size
    "#]]).await;
    check("SELECT window_start, count(*) AS n FROM TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), WIDTH => INTERVAL '1' MINUTE)) GROUP BY window_start", expect![[r#"
        line 2, column 47: Tumble has no argument WIDTH; it has data, timecol, size, offset, zone
        hint: write TUMBLE(clicks, event_ts, INTERVAL '1 minute')
    "#]]).await;
    check(
        "SELECT window_start, count(*) AS n FROM CUMULATE(t, ts, INTERVAL '1 minute', INTERVAL '1 hour') GROUP BY window_start",
        expect![[r#"
            line 2, column 106: an aggregate must name its window, or it would never be final
            hint: write GROUP BY window_start, window_end, …
        "#]],
    )
    .await;
}

#[tokio::test]
async fn across_windows() {
    check(
        &format!("SELECT window_start, count(*) AS n {W} GROUP BY window_start\nORDER BY n DESC"),
        expect![[r#"
            line 3, column 10: the rows of a view have no order
            hint: write ORDER BY in the query that reads the view
        "#]],
    )
    .await;
    check(&format!("SELECT window_start, count(*) AS n {W} GROUP BY window_start LIMIT 3"), expect![[r#"
        line 2, column 104: LIMIT would reach across windows
        hint: for the first n of each window, number them with row_number() OVER (PARTITION BY window_start ORDER BY …) in a subquery and keep those up to n
    "#]])
        .await;
    check(&format!("SELECT window_start, sum(n) OVER (ORDER BY window_start) AS r FROM (SELECT window_start, count(*) AS n {W} GROUP BY window_start)"), expect![[r#"
        line 2, column 22: sum() OVER would reach across windows
        hint: write OVER (PARTITION BY window_start …), or say how far it looks: OVER (… ORDER BY window_start RANGE BETWEEN INTERVAL '1 hour' PRECEDING AND CURRENT ROW)
    "#]]).await;
}

#[tokio::test]
async fn what_a_replay_would_answer_otherwise() {
    check(
        &format!("SELECT window_start, count(*) AS n {W}\nWHERE ts > now() GROUP BY window_start"),
        expect![[r#"
            line 3, column 12: now() answers otherwise in a replay, so a view can't use it
            hint: use the event time, window_start or window_end; or call it in the query that reads the view
        "#]],
    )
    .await;
    check(
        "SELECT ts, uuid() AS id FROM t",
        expect![[r#"
        line 2, column 12: uuid() answers otherwise in a replay, so a view can't use it
        hint: use the event time, window_start or window_end; or call it in the query that reads the view
    "#]],
    )
    .await;
    check(
        "SELECT ts, \"uuid\"() AS id FROM t",
        expect![[r#"
        line 2, column 12: uuid() answers otherwise in a replay, so a view can't use it
        hint: use the event time, window_start or window_end; or call it in the query that reads the view
    "#]],
    )
    .await;
    check(
        "SELECT ts, today() AS id FROM t",
        expect![[r#"
        line 2, column 12: current_date() answers otherwise in a replay, so a view can't use it
        hint: use the event time, window_start or window_end; or call it in the query that reads the view
    "#]],
    )
    .await;
    check(
        "SELECT k || current_timestamp AS id FROM t",
        expect![[r#"
        line 2, column 13: now() answers otherwise in a replay, so a view can't use it
        hint: use the event time, window_start or window_end; or call it in the query that reads the view
    "#]],
    )
    .await;
    check(
        "SELECT ts, current_date AS d FROM t",
        expect![[r#"
        line 2, column 12: current_date() answers otherwise in a replay, so a view can't use it
        hint: use the event time, window_start or window_end; or call it in the query that reads the view
    "#]],
    )
    .await;
    check(
        "SELECT DISTINCT ON (k) k, q FROM t",
        expect![[r#"
            line 2, column 21: DISTINCT ON without ORDER BY keeps the first row that comes, which is not the same in a replay
            hint: write ORDER BY the same columns, and then what comes first
        "#]],
    )
    .await;
    check(
        &format!("SELECT window_start, first_value(q) AS f {W} GROUP BY window_start"),
        expect![[r#"
        line 2, column 22: first_value without ORDER BY depends on the order in which rows come
        hint: write first_value(… ORDER BY …)
    "#]],
    )
    .await;
}

#[tokio::test]
async fn shapes() {
    check(
        "SELECT t.ts, d.k FROM t JOIN t AS d ON t.k = d.k",
        expect![[r#"
            line 2, column 30: a join in a view says how far apart its rows are, or is between rows of windows
            hint: bind the times of both sides, such as ON … AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'; or window both, and compare a bound: ON a.window_start = b.window_start AND …
        "#]],
    )
    .await;
    check(
        "SELECT t.ts FROM t, t AS d",
        expect![[r#"
            line 2, column 21: a join in a view says how far apart its rows are, or is between rows of windows
            hint: bind the times of both sides, such as ON … AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'; or window both, and compare a bound: ON a.window_start = b.window_start AND …
        "#]],
    )
    .await;
    check(
        "SELECT ts FROM t WHERE q > (SELECT 1)",
        expect![[r#"
            line 2, column 29: a subquery for a value is not supported in a view
            hint: LEFT JOIN a table by its primary key, or rows of windows on their bound; or compare in the query that reads the view
        "#]],
    )
    .await;
    check(
        "SELECT ts FROM t WHERE k IN (SELECT k FROM t)",
        expect![[r#"
            line 2, column 24: a join in a view says how far apart its rows are, or is between rows of windows
            hint: bind the times of both sides, such as ON … AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'; or window both, and compare a bound: ON a.window_start = b.window_start AND …
        "#]],
    )
    .await;
    check(
        "VALUES (1)",
        expect![[r#"
            line 2, column 8: a view is made of SELECTs over streams, views and tables
            hint: write SELECT … FROM …; values of your own are a table: CREATE TABLE … WITH (path = 'values.csv')
        "#]],
    )
    .await;
}

#[tokio::test]
async fn columns() {
    check(
        &format!("SELECT window_start, count(*) {W} GROUP BY window_start"),
        expect![[r#"
            line 2, column 22: column 2 of the view can't be called "count(*)"
            a table of Delta has no column with blanks, or with any of ,;{}()=[]
            hint: give it a name with AS
        "#]],
    )
    .await;
    check(
        "SELECT ts, g['c'] FROM t",
        expect![[r#"
            line 2, column 12: column 2 of the view can't be called "t.g[c]"
            a table of Delta has no column with blanks, or with any of ,;{}()=[]
            hint: give it a name with AS
        "#]],
    )
    .await;
    check(
        "SELECT ts, k AS ts FROM t",
        expect![[r#"
            column "ts" is there more than once
            hint: write its relation's name before it, or give one of them another name with AS
        "#]],
    )
    .await;
    check(
        "SELECT ts, k AS a, u AS \"A\" FROM t",
        expect![[r#"
        line 2, column 20: two columns of the view are called "A"
        hint: name one of them with AS
    "#]],
    )
    .await;
    check(
        &format!("SELECT window_start, max(ts) - min(ts) AS lasted {W} GROUP BY window_start"),
        expect![[r#"
            line 2, column 22: column "lasted" is Duration(µs), which a table can't hold
            hint: cast it, such as CAST(… AS BIGINT)
        "#]],
    )
    .await;
    check(
        "SELECT ts, NULL AS nothing FROM t",
        expect![[r#"
        line 2, column 12: column "nothing" is Null, which has no type
        hint: cast it, such as CAST(… AS BIGINT)
    "#]],
    )
    .await;
    check(
        "SELECT ts AS window_date FROM t",
        expect![[r#"
        line 2, column 8: a view's column can't be called "window_date"
    "#]],
    )
    .await;
}

#[tokio::test]
async fn fields_of_columns() {
    check(
        "SELECT ts, named_struct('a b', k) AS s FROM t",
        expect![[r#"
        line 2, column 12: column "s" has a field called "a b", which a table can't hold
        hint: take its fields one by one: column['field'] AS name
    "#]],
    )
    .await;
    check(
        "SELECT ts, [struct(k AS a, u AS \"A\")] AS s FROM t",
        expect![[r#"
        line 2, column 42: column "s" has two fields called "A", which differ at most in their case
        hint: take its fields one by one: column['field'] AS name
    "#]],
    )
    .await;
}

/// What the planner would drop is refused in views too.
#[tokio::test]
async fn what_would_be_dropped() {
    check(
        "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') TABLESAMPLE (10 PERCENT) GROUP BY window_start",
        expect![[r#"
            line 2, column 41: TABLESAMPLE is not supported
            hint: leave it out, or keep a share of the rows: WHERE random() < 0.1 in a query
        "#]],
    )
    .await;
    check(
        "SELECT ts FROM t TABLESAMPLE (10 PERCENT)",
        expect![[r#"
        line 2, column 16: TABLESAMPLE is not supported
        hint: leave it out, or keep a share of the rows: WHERE random() < 0.1 in a query
    "#]],
    )
    .await;
    check(
        &format!("SELECT window_start, k, count(*) AS n {W} GROUP BY window_start, k WITH ROLLUP"),
        expect![[r#"
            line 2, column 88: GROUP BY … WITH ROLLUP is not supported
            hint: write GROUP BY ROLLUP (…)
        "#]],
    )
    .await;
    check(
        &format!("SELECT window_start, abs(max(q)) FILTER (WHERE q > 1) AS n {W} GROUP BY window_start"),
        expect![[r#"
            line 2, column 22: abs takes no FILTER: it is no aggregate
            hint: leave FILTER out, or write it at an aggregate such as count(…)
        "#]],
    )
    .await;
}

/// An expression that fails on made-up values may be right on real ones.
#[tokio::test]
async fn types_are_judged_and_not_values() {
    for query in [
        "SELECT ts, CAST(concat('2025-06-', k) AS DATE) AS day FROM t",
        "SELECT ts, 100 / (q - q) AS d FROM t",
        "SELECT window_start, max(CAST(concat('2025-', k) AS TIMESTAMP)) AS m, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start",
        "SELECT window_start, 1 / (count(*) - 2) AS m FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start",
    ] {
        if let Err(error) = view(query).await {
            panic!("{query}\n{error}");
        }
    }
}

#[tokio::test]
async fn options() {
    let streams = [stream(STREAM), stream("CREATE STREAM plain (a INT) WITH (connector = 'generator')")];
    let told = async |text: &str| view_of(text, &streams).await.unwrap_err().to_string();
    expect![[r#"
        line 1, column 34: unknown option "alowed_lateness"
        hint: did you mean "allowed_lateness"? options are: allowed_lateness, keep, retention, session_max, snapshot"#]]
    .assert_eq(&told("CREATE MATERIALIZED VIEW v WITH (alowed_lateness = '1s') AS SELECT ts FROM t").await);
    expect![[r#"
        line 1, column 34: nothing is late for a view without a window
        hint: leave out allowed_lateness"#]]
    .assert_eq(&told("CREATE MATERIALIZED VIEW v WITH (allowed_lateness = '1s') AS SELECT ts FROM t").await);
    expect![[r#"
        line 1, column 26: stream plain has no time, by which the view's table is divided
        hint: declare a WATERMARK in its CREATE STREAM, or a column TIMESTAMP METADATA FROM 'timestamp'"#]]
    .assert_eq(&told("CREATE MATERIALIZED VIEW v AS SELECT a FROM plain").await);
    expect![[r#"
        line 1, column 57: stream plain has no event time, so it has no windows
        hint: declare WATERMARK FOR column AS column - INTERVAL '5' SECOND in its CREATE STREAM"#]].assert_eq(
        &told("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM TUMBLE(plain, a, INTERVAL '1 s') GROUP BY window_start").await,
    );
}

async fn check_all(queries: &[&str], expected: Expect) {
    let mut told = vec![];
    for query in queries {
        let outcome = match view(query).await {
            Ok(_) => "planned".to_owned(),
            Err(error) => error.to_string(),
        };
        told.push(format!("{query}\n{outcome}\n"));
    }
    expected.assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn what_is_too_long_to_be_told() {
    check_all(
        &[
            "SELECT window_start, window_end, k, count(*) AS n FROM SESSION(t PARTITION BY k, ts, INTERVAL '36600000 days') GROUP BY window_start, window_end, k",
            "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '36600 days') GROUP BY window_start",
            "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 day', INTERVAL '2000000000 days') GROUP BY window_start",
            "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '100000 years') GROUP BY window_start",
            "SELECT window_start, count(*) AS n FROM HOP(t, ts, INTERVAL '1 day', INTERVAL '40000 days') GROUP BY window_start",
            "SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '2000000000 days'",
            "SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts - INTERVAL '100000 years' AND a.ts",
            "SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '90 years'",
            "SELECT ts, count(*) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '36600 days' PRECEDING AND CURRENT ROW) AS n FROM t",
        ],
        expect![[r#"
            SELECT window_start, window_end, k, count(*) AS n FROM SESSION(t PARTITION BY k, ts, INTERVAL '36600000 days') GROUP BY window_start, window_end, k
            line 2, column 95: INTERVAL '36600000 days' is longer than a hundred years
            hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'

            SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '36600 days') GROUP BY window_start
            line 2, column 64: INTERVAL '36600 days' is longer than a hundred years
            hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'

            SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 day', INTERVAL '2000000000 days') GROUP BY window_start
            line 2, column 82: INTERVAL '2000000000 days' is longer than a hundred years
            hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'

            SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '100000 years') GROUP BY window_start
            line 2, column 64: INTERVAL '100000 years' is longer than a hundred years
            hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'

            SELECT window_start, count(*) AS n FROM HOP(t, ts, INTERVAL '1 day', INTERVAL '40000 days') GROUP BY window_start
            line 2, column 79: INTERVAL '40000 days' is longer than a hundred years
            hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'

            SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '2000000000 days'
            line 2, column 35: rows would be looked for more than a hundred years away
            hint: look less far

            SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts - INTERVAL '100000 years' AND a.ts
            line 2, column 35: rows would be looked for more than a hundred years away
            hint: look less far

            SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '90 years'
            planned

            SELECT ts, count(*) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '36600 days' PRECEDING AND CURRENT ROW) AS n FROM t
            line 2, column 12: rows would be looked for more than a hundred years away
            hint: look less far
        "#]],
    )
    .await;
    let text = format!(
        "CREATE MATERIALIZED VIEW v WITH (allowed_lateness = '36600d') AS\nSELECT window_start, count(*) AS n {W} GROUP BY window_start"
    );
    let error = view_of(&text, &[stream(STREAM)]).await.unwrap_err();
    expect![[
        r#"line 1, column 53: option "allowed_lateness" can't be "36600d": it is a hundred years at most"#
    ]]
    .assert_eq(&error.to_string());
}

#[tokio::test]
async fn the_order_in_which_rows_come() {
    check_all(
        &[
            "SELECT window_start, any_value(k) AS k FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start",
            "SELECT window_start, array_agg(k ORDER BY 1) AS ks FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start",
            "SELECT window_start, first_value(k ORDER BY 'q' || 'r') AS k FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start",
            "SELECT window_start, string_agg(k, ',' ORDER BY 1, q) AS ks FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start",
            "SELECT window_start, row_number() OVER (PARTITION BY window_start) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')",
            "SELECT window_start, lag(q) OVER (PARTITION BY window_start ORDER BY 1) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')",
            "SELECT window_start, sum(q) OVER (PARTITION BY window_start ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')",
            "SELECT window_start, sum(q) OVER (PARTITION BY window_start) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')",
            "SELECT window_start, sum(q) OVER (PARTITION BY window_start ORDER BY ts ROWS 1 PRECEDING) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')",
            "SELECT ts, version() AS v FROM t",
        ],
        expect![[r#"
            SELECT window_start, any_value(k) AS k FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start
            line 2, column 22: any_value takes whichever row comes first, which is not the same in a replay
            hint: write min(…) or max(…), or first_value(… ORDER BY …)

            SELECT window_start, array_agg(k ORDER BY 1) AS ks FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start
            line 2, column 43: ORDER BY 1 within array_agg would be a column of the relation, by its place
            hint: name the column

            SELECT window_start, first_value(k ORDER BY 'q' || 'r') AS k FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start
            line 2, column 22: first_value is ordered by a constant, so rows stay in the order in which they come
            hint: write ORDER BY a column: a number is no column's place here

            SELECT window_start, string_agg(k, ',' ORDER BY 1, q) AS ks FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_start
            line 2, column 49: ORDER BY 1 within string_agg would be a column of the relation, by its place
            hint: name the column

            SELECT window_start, row_number() OVER (PARTITION BY window_start) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')
            line 2, column 22: row_number() OVER without an order looks at rows as they come, which is not the same in a replay
            hint: write OVER (PARTITION BY … ORDER BY …), by columns that tell the rows apart

            SELECT window_start, lag(q) OVER (PARTITION BY window_start ORDER BY 1) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')
            line 2, column 22: lag() OVER without an order looks at rows as they come, which is not the same in a replay
            hint: write OVER (PARTITION BY … ORDER BY …), by columns that tell the rows apart

            SELECT window_start, sum(q) OVER (PARTITION BY window_start ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')
            line 2, column 22: sum() OVER without an order looks at rows as they come, which is not the same in a replay
            hint: write OVER (PARTITION BY … ORDER BY …), by columns that tell the rows apart

            SELECT window_start, sum(q) OVER (PARTITION BY window_start) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')
            planned

            SELECT window_start, sum(q) OVER (PARTITION BY window_start ORDER BY ts ROWS 1 PRECEDING) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute')
            planned

            SELECT ts, version() AS v FROM t
            line 2, column 12: version() answers otherwise after an upgrade, so a view can't use it
            hint: call it in the query that reads the view
        "#]],
    )
    .await;
}

#[tokio::test]
async fn why_a_join_is_not_bound() {
    check_all(
        &[
            "SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.k = a.k AND b.ts - a.ts BETWEEN INTERVAL '0 seconds' AND INTERVAL '1 minute'",
            "SELECT a.ts, c.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' JOIN t AS c ON c.ts BETWEEN b.ts AND b.ts + INTERVAL '1 hour'",
            "SELECT a.ts, c.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'\nJOIN t AS c ON c.ts BETWEEN b.ts AND b.ts + INTERVAL '1 hour' AND c.ts BETWEEN a.ts AND a.ts + INTERVAL '2 hours'",
            "SELECT a.ts, b.k FROM t AS a JOIN t AS b ON a.k = b.k AND b.ts > a.ts",
            "SELECT a.ts, b.k FROM t AS a LEFT JOIN t AS b ON a.k = b.k WHERE b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'",
            "SELECT a.ts, b.k FROM t AS a, t AS b WHERE a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' AND a.q > 3",
            "SELECT a.ts, b.k FROM t AS a, t AS b, t AS c WHERE a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' AND c.ts = a.ts",
            "SELECT a.ts, b.k FROM t AS a JOIN t AS b ON a.k IS NOT DISTINCT FROM b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'",
            "SELECT a.window_start, b.k FROM TUMBLE(t, ts, INTERVAL '1 minute') AS a JOIN TUMBLE(t, ts, INTERVAL '1 minute') AS b\nON a.window_start IS NOT DISTINCT FROM b.window_start",
            "SELECT a.ts FROM t AS a WHERE a.k NOT IN (SELECT b.k FROM t AS b WHERE b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour')",
            "SELECT a.ts FROM t AS a WHERE NOT EXISTS (SELECT 1 FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour')",
        ],
        expect![[r#"
            SELECT a.ts, b.k FROM t AS a JOIN t AS b ON b.k = a.k AND b.ts - a.ts BETWEEN INTERVAL '0 seconds' AND INTERVAL '1 minute'
            line 2, column 35: a join in a view says how far apart its rows are by comparing their times, not by their difference
            hint: write b.ts BETWEEN a.ts - INTERVAL '30 minutes' AND a.ts + INTERVAL '30 minutes'

            SELECT a.ts, c.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' JOIN t AS c ON c.ts BETWEEN b.ts AND b.ts + INTERVAL '1 hour'
            line 2, column 35: the join is bound to b.ts, which is not the time of the rows it stands in: that of a pair is the time of the side that keeps all its rows, of an inner join the left one
            hint: bind it to that time too, as far as both steps go together: … AND c.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'

            SELECT a.ts, c.k FROM t AS a JOIN t AS b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'
            JOIN t AS c ON c.ts BETWEEN b.ts AND b.ts + INTERVAL '1 hour' AND c.ts BETWEEN a.ts AND a.ts + INTERVAL '2 hours'
            planned

            SELECT a.ts, b.k FROM t AS a JOIN t AS b ON a.k = b.k AND b.ts > a.ts
            line 2, column 35: a join in a view says how far apart its rows are at both ends, and this one is open at one
            hint: bind the other end too: b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'

            SELECT a.ts, b.k FROM t AS a LEFT JOIN t AS b ON a.k = b.k WHERE b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'
            line 2, column 40: a join in a view says how far apart its rows are, or is between rows of windows, in its ON, for a WHERE looks at pairs alone
            hint: bind the times of both sides, such as ON … AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '30 minutes'; or window both, and compare a bound: ON a.window_start = b.window_start AND …

            SELECT a.ts, b.k FROM t AS a, t AS b WHERE a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' AND a.q > 3
            planned

            SELECT a.ts, b.k FROM t AS a, t AS b, t AS c WHERE a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' AND c.ts = a.ts
            planned

            SELECT a.ts, b.k FROM t AS a JOIN t AS b ON a.k IS NOT DISTINCT FROM b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'
            planned

            SELECT a.window_start, b.k FROM TUMBLE(t, ts, INTERVAL '1 minute') AS a JOIN TUMBLE(t, ts, INTERVAL '1 minute') AS b
            ON a.window_start IS NOT DISTINCT FROM b.window_start
            planned

            SELECT a.ts FROM t AS a WHERE a.k NOT IN (SELECT b.k FROM t AS b WHERE b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour')
            line 2, column 31: NOT IN a query that looks at the row outside would be wrong here where there are NULLs
            hint: write NOT EXISTS (SELECT 1 FROM … WHERE … AND y = x), to which a NULL is equal to nothing

            SELECT a.ts FROM t AS a WHERE NOT EXISTS (SELECT 1 FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour')
            planned
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_has_no_place_of_its_own() {
    check_all(
        &[
            "SELECT a.ts FROM t AS a\nJOIN t AS b USING (ts, nothing)",
            "SELECT a.ts, l.x FROM t AS a,\nLATERAL (SELECT a.nothing AS x) AS l",
            "SELECT ts, k FROM t WHERE false",
            "SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') WHERE 1 = 2 GROUP BY window_start",
        ],
        expect![[r#"
            SELECT a.ts FROM t AS a
            JOIN t AS b USING (ts, nothing)
            line 3, column 24: no column "nothing"
            hint: columns are: ts, k, u, p, q, g, tags

            SELECT a.ts, l.x FROM t AS a,
            LATERAL (SELECT a.nothing AS x) AS l
            line 3, column 17: no column "a.nothing"

            SELECT ts, k FROM t WHERE false
            line 2, column 1: the view would have no rows: a condition of it is never true
            hint: leave the condition out

            SELECT window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') WHERE 1 = 2 GROUP BY window_start
            line 2, column 1: the view would have no rows: a condition of it is never true
            hint: leave the condition out
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_would_be_answered_wrongly() {
    check_all(
        &[
            "SELECT a.ts FROM t AS a WHERE EXISTS (SELECT count(*) FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour')",
            "SELECT a.ts FROM t AS a WHERE EXISTS (SELECT 1 FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' OFFSET 3)",
            "SELECT a.ts FROM t AS a WHERE EXISTS (SELECT 1 FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' LIMIT 1)",
            "SELECT ts, CAST(ts AS DATE) + INTERVAL '1 hour' AS x FROM t",
            "SELECT ts, q*1_000 FROM t",
            "SELECT ts, q ^ 2 AS x FROM t",
            "SELECT ts FROM t WHERE (q, 2) < (5, 5) AND q = ANY(ARRAY[1, NULL])",
        ],
        expect![[r#"
            SELECT a.ts FROM t AS a WHERE EXISTS (SELECT count(*) FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour')
            line 2, column 79: EXISTS (SELECT …) that looks at the row outside would be answered wrongly: it aggregates without GROUP BY, and so has a row where nothing is found
            hint: aggregate in a subquery of FROM or in WITH, and join that: … LEFT JOIN (SELECT k, count(*) AS n FROM … GROUP BY k) AS a ON a.k = …, where coalesce(n, 0) is the number of none

            SELECT a.ts FROM t AS a WHERE EXISTS (SELECT 1 FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' OFFSET 3)
            line 2, column 134: LIMIT would reach across windows
            hint: for the first n of each window, number them with row_number() OVER (PARTITION BY window_start ORDER BY …) in a subquery and keep those up to n

            SELECT a.ts FROM t AS a WHERE EXISTS (SELECT 1 FROM t AS b WHERE b.k = a.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour' LIMIT 1)
            line 2, column 133: LIMIT would reach across windows
            hint: for the first n of each window, number them with row_number() OVER (PARTITION BY window_start ORDER BY …) in a subquery and keep those up to n

            SELECT ts, CAST(ts AS DATE) + INTERVAL '1 hour' AS x FROM t
            line 2, column 17: a DATE and an INTERVAL of hours would be a DATE again, without the hours
            hint: write CAST(d AS TIMESTAMP) + INTERVAL '…'; to have a DATE, CAST the sum AS DATE

            SELECT ts, q*1_000 FROM t
            line 2, column 14: 1_000 is not a number
            hint: write its digits alone: 1000

            SELECT ts, q ^ 2 AS x FROM t
            line 2, column 12: q ^ 2 is no power here, but would be the bits that differ
            hint: write power(q, 2); of bits (q | 2) - (q & 2)

            SELECT ts FROM t WHERE (q, 2) < (5, 5) AND q = ANY(ARRAY[1, NULL])
            planned
        "#]],
    )
    .await;
}
