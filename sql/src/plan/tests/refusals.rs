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
            line 2, column 1: the view reads no stream
            hint: it may read: t
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
            hint: join with it on the window's bound, or compare in the query that reads the view
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
        line 2, column 8: a view is a SELECT over a stream
        hint: write SELECT … FROM …
    "#]],
    )
    .await;
}

#[tokio::test]
async fn columns() {
    check(
        &format!("SELECT window_start, count(*) {W} GROUP BY window_start"),
        expect![[r#"
        line 2, column 22: column 2 of the view has no name
        it would be called "count(*)", which a table can't hold
        hint: name it with AS
    "#]],
    )
    .await;
    check(
        "SELECT ts, g['c'] FROM t",
        expect![[r#"
        line 2, column 12: column 2 of the view has no name
        it would be called "t.g[c]", which a table can't hold
        hint: name it with AS
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
        hint: did you mean "allowed_lateness"? options are: allowed_lateness"#]]
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
