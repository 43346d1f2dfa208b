//! Answers that were wrong in silence: right now, or an error.

use super::*;

async fn value(session: &Session, expression: &str) -> String {
    match session.execute(&format!("SELECT {expression} AS x"), &[]).await {
        Ok(Answer::Rows(stream)) => match stream.try_collect::<Vec<_>>().await {
            Ok(batches) => {
                let value = ScalarValue::try_from_array(batches[0].column(0), 0).unwrap();
                format!("{value} {}", crate::plan::type_text(&value.data_type()))
            }
            Err(error) => Error::from(error).to_string(),
        },
        Ok(Answer::Done(message)) => message,
        Err(error) => error.to_string(),
    }
}

async fn values(expressions: &[&str], expected: Expect) {
    let session = database().await.0.session(Client::default());
    let mut told = vec![];
    for expression in expressions {
        told.push(format!("{expression} = {}\n", value(&session, expression).await));
    }
    expected.assert_eq(&told.concat());
}

#[tokio::test]
async fn arithmetic_is_right_or_fails() {
    values(
        &[
            "9223372036854775807 + 1",
            "-9223372036854775807 - 2",
            "CAST(2147483647 AS INT) + CAST(1 AS INT)",
            "CAST(127 AS TINYINT) * CAST(2 AS TINYINT)",
            "-CAST(-128 AS TINYINT)",
            "9223372036854775807 * 1 - 1",
            "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) + 1",
            "CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) * 10",
            "1.5 * 2",
            "CAST(300 AS TINYINT)",
            "TRY_CAST(300 AS TINYINT)",
            "INTERVAL '1 day' + INTERVAL '2 hours'",
            "(SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS t(x))",
            "(SELECT sum(x) FROM (VALUES (9223372036854775807), (1), (-5)) AS t(x))",
            "(SELECT max(s) FROM (SELECT sum(x) OVER (ORDER BY x) AS s FROM (VALUES (9223372036854775807), (1)) AS t(x)))",
            "(SELECT max(s) FROM (SELECT sum(DISTINCT x) OVER (ORDER BY x ROWS 1 PRECEDING) AS s FROM (VALUES (9223372036854775807), (1)) AS t(x)))",
            "(SELECT sum(CAST(x AS DECIMAL(38, 0))) FROM (VALUES (9223372036854775807), (1)) AS t(x))",
            "(SELECT sum(x) FROM (VALUES (CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))), (1)) AS t(x))",
        ],
        expect![[r#"
            9223372036854775807 + 1 = 9223372036854775807 + 1 does not fit in BIGINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            -9223372036854775807 - 2 = -9223372036854775807 - 2 does not fit in BIGINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            CAST(2147483647 AS INT) + CAST(1 AS INT) = 2147483647 + 1 does not fit in INT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            CAST(127 AS TINYINT) * CAST(2 AS TINYINT) = 127 * 2 does not fit in TINYINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            -CAST(-128 AS TINYINT) = - -128 does not fit in TINYINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            9223372036854775807 * 1 - 1 = 9223372036854775806 BIGINT
            CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) + 1 = the result of 99999999999999999999999999999999999999 + 1 does not fit in DECIMAL(38, 0)
            hint: calculate in a wider type, such as CAST(… AS DOUBLE)
            CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) * 10 = the result of 99999999999999999999999999999999999999 * 10 does not fit in DECIMAL(38, 0)
            hint: calculate in a wider type, such as CAST(… AS DOUBLE)
            1.5 * 2 = 3 DOUBLE
            CAST(300 AS TINYINT) = cast error: Can't cast value 300 to type Int8
            TRY_CAST(300 AS TINYINT) = NULL TINYINT
            INTERVAL '1 day' + INTERVAL '2 hours' = IntervalMonthDayNano { months: 0, days: 1, nanoseconds: 7200000000000 } Interval(MonthDayNano)
            (SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS t(x)) = sum(t.x) does not fit in BIGINT
            hint: write sum(CAST(… AS DECIMAL(38, 0)))
            (SELECT sum(x) FROM (VALUES (9223372036854775807), (1), (-5)) AS t(x)) = 9223372036854775803 BIGINT
            (SELECT max(s) FROM (SELECT sum(x) OVER (ORDER BY x) AS s FROM (VALUES (9223372036854775807), (1)) AS t(x))) = sum(t.x) does not fit in BIGINT
            hint: write sum(CAST(… AS DECIMAL(38, 0)))
            (SELECT max(s) FROM (SELECT sum(DISTINCT x) OVER (ORDER BY x ROWS 1 PRECEDING) AS s FROM (VALUES (9223372036854775807), (1)) AS t(x))) = sum(DISTINCT t.x) does not fit in BIGINT
            hint: write sum(CAST(… AS DECIMAL(38, 0)))
            (SELECT sum(CAST(x AS DECIMAL(38, 0))) FROM (VALUES (9223372036854775807), (1)) AS t(x)) = 9223372036854775808 DECIMAL(38, 0)
            (SELECT sum(x) FROM (VALUES (CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0))), (1)) AS t(x)) = sum(t.x) does not fit in DECIMAL(38, 0)
            hint: write sum(CAST(… AS DOUBLE))
        "#]],
    )
    .await;
}

#[tokio::test]
async fn moments_are_instants() {
    values(
        &[
            "TIMESTAMPTZ '2025-06-01 12:00:00+02:00'",
            "TIMESTAMPTZ '2025-06-01 12:00:00'",
            "CAST(TIMESTAMPTZ '2025-06-01 12:00:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING)",
            // The hour before and after clocks change.
            "CAST(TIMESTAMPTZ '2025-03-30 00:59:59Z' AT TIME ZONE 'Europe/Berlin' AS STRING)",
            "CAST(TIMESTAMPTZ '2025-03-30 01:00:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING)",
            "CAST(TIMESTAMPTZ '2025-10-26 00:30:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING)",
            "CAST(TIMESTAMPTZ '2025-10-26 01:30:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING)",
            "TIMESTAMPTZ '2025-10-26 01:30:00Z' AT TIME ZONE 'Europe/Berlin' = TIMESTAMPTZ '2025-10-26 01:30:00Z'",
            "arrow_typeof(now())",
            "now() AT TIME ZONE 'Europe/Berlin' = now()",
            "now() - TIMESTAMPTZ '1970-01-01 00:00:00Z' > INTERVAL '1 day'",
            "INTERVAL '25 hours' BETWEEN INTERVAL '1 day' AND INTERVAL '1 month'",
            "to_timestamp('2025-06-01T12:00:00')",
        ],
        expect![[r#"
            TIMESTAMPTZ '2025-06-01 12:00:00+02:00' = 1748772000000000000 Timestamp(ns, "UTC")
            TIMESTAMPTZ '2025-06-01 12:00:00' = 1748779200000000000 Timestamp(ns, "UTC")
            CAST(TIMESTAMPTZ '2025-06-01 12:00:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING) = 2025-06-01T14:00:00+02:00 STRING
            CAST(TIMESTAMPTZ '2025-03-30 00:59:59Z' AT TIME ZONE 'Europe/Berlin' AS STRING) = 2025-03-30T01:59:59+01:00 STRING
            CAST(TIMESTAMPTZ '2025-03-30 01:00:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING) = 2025-03-30T03:00:00+02:00 STRING
            CAST(TIMESTAMPTZ '2025-10-26 00:30:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING) = 2025-10-26T02:30:00+02:00 STRING
            CAST(TIMESTAMPTZ '2025-10-26 01:30:00Z' AT TIME ZONE 'Europe/Berlin' AS STRING) = 2025-10-26T02:30:00+01:00 STRING
            TIMESTAMPTZ '2025-10-26 01:30:00Z' AT TIME ZONE 'Europe/Berlin' = TIMESTAMPTZ '2025-10-26 01:30:00Z' = true BOOLEAN
            arrow_typeof(now()) = Timestamp(ns, "UTC") STRING
            now() AT TIME ZONE 'Europe/Berlin' = now() = true BOOLEAN
            now() - TIMESTAMPTZ '1970-01-01 00:00:00Z' > INTERVAL '1 day' = true BOOLEAN
            INTERVAL '25 hours' BETWEEN INTERVAL '1 day' AND INTERVAL '1 month' = true BOOLEAN
            to_timestamp('2025-06-01T12:00:00') = 1748779200000000000 Timestamp(ns, "UTC")
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_pattern_of_another_database_is_no_answer() {
    values(
        &[
            "to_char(TIMESTAMP '2025-06-01 12:00:00', 'YYYY-MM-DD')",
            "date_format(TIMESTAMP '2025-06-01 12:00:00', '%Y-%m-%d')",
        ],
        expect![[r#"
            to_char(TIMESTAMP '2025-06-01 12:00:00', 'YYYY-MM-DD') = to_char() has no % in its pattern "YYYY-MM-DD"
            hint: patterns are those of strftime, such as '%Y-%m-%d %H:%M:%S'
            date_format(TIMESTAMP '2025-06-01 12:00:00', '%Y-%m-%d') = 2025-06-01 STRING
        "#]],
    )
    .await;
}

/// Of columns, where DataFusion panics, or makes moments of another type than it has said.
#[tokio::test]
async fn functions_of_columns_are_those_of_constants() {
    values(
        &[
            "(SELECT lpad(x, n) || '.' || rpad(x, n, 'y') FROM (VALUES ('abc', -1)) AS t(x, n))",
            "lpad('abc', -1, NULL)",
            "(SELECT to_timestamp(x) FROM (VALUES ('2025-06-01T12:00:00')) AS t(x))",
            "(SELECT to_timestamp_millis(x) FROM (VALUES ('2025-06-01T12:00:00+02:00')) AS t(x))",
            "(SELECT to_timestamp(x, '%d.%m.%Y %H') FROM (VALUES ('01.06.2025 12')) AS t(x))",
            "to_timestamp(1.5)",
            "to_timestamp(CAST('NaN' AS DOUBLE))",
            "(SELECT to_timestamp(x) FROM (VALUES (1e300)) AS t(x))",
        ],
        expect![[r#"
            (SELECT lpad(x, n) || '.' || rpad(x, n, 'y') FROM (VALUES ('abc', -1)) AS t(x, n)) = . STRING
            lpad('abc', -1, NULL) = NULL STRING
            (SELECT to_timestamp(x) FROM (VALUES ('2025-06-01T12:00:00')) AS t(x)) = 1748779200000000000 Timestamp(ns, "UTC")
            (SELECT to_timestamp_millis(x) FROM (VALUES ('2025-06-01T12:00:00+02:00')) AS t(x)) = 1748772000000 Timestamp(ms, "UTC")
            (SELECT to_timestamp(x, '%d.%m.%Y %H') FROM (VALUES ('01.06.2025 12')) AS t(x)) = 1748736000000000000 Timestamp(ns, "UTC")
            to_timestamp(1.5) = 1500000000 Timestamp(ns, "UTC")
            to_timestamp(CAST('NaN' AS DOUBLE)) = seconds from 1970 that are no moment between 1677 and 2262: NaN
            (SELECT to_timestamp(x) FROM (VALUES (1e300)) AS t(x)) = seconds from 1970 that are no moment between 1677 and 2262: 1e300
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_number_times_an_interval_is_an_interval() {
    let session = database().await.0.session(Client::default());
    for (product, expected) in [
        ("3 * INTERVAL '1 minute'", "INTERVAL '3 minutes'"),
        ("INTERVAL '1 month 2 days 3 seconds' * -2", "INTERVAL '-2 months -4 days -6 seconds'"),
        ("max(n) * INTERVAL '1 hour'", "INTERVAL '128 hours'"),
    ] {
        let sql = format!("SELECT count(*) FROM (SELECT {product} AS i FROM counts) WHERE i = {expected}");
        assert!(number(&session, &sql).await > 0, "{product}");
    }
    let null = "SELECT count(*) FROM counts WHERE CAST(NULL AS INT) * INTERVAL '1 day' IS NULL";
    assert_eq!(number(&session, null).await, 8);
}

#[tokio::test]
async fn distinct_from_ends_before_and() {
    values(
        &[
            "true IS DISTINCT FROM true AND false",
            "1 IS NOT DISTINCT FROM 1 AND 2 IS DISTINCT FROM NULL",
            "false IS NOT DISTINCT FROM 1 = 2",
        ],
        expect![[r#"
            true IS DISTINCT FROM true AND false = false BOOLEAN
            1 IS NOT DISTINCT FROM 1 AND 2 IS DISTINCT FROM NULL = true BOOLEAN
            false IS NOT DISTINCT FROM 1 = 2 = true BOOLEAN
        "#]],
    )
    .await;
}

#[tokio::test]
async fn shifts_are_right_or_fail() {
    values(
        &[
            "1 << 3",
            "-3 << 2",
            "1 << 62",
            "1 << 63",
            "1 << 64",
            "0 << 100",
            "CAST(100 AS TINYINT) << CAST(1 AS TINYINT)",
            "256 >> 4",
            "-1 >> 1",
            "256 >> 64",
            "1 >> -1",
            "(SELECT max(x << 1) FROM (VALUES (1), (4611686018427387904)) AS t(x))",
        ],
        expect![[r#"
            1 << 3 = 8 BIGINT
            -3 << 2 = -12 BIGINT
            1 << 62 = 4611686018427387904 BIGINT
            1 << 63 = 1 << 63 does not fit in BIGINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            1 << 64 = 1 << 64 does not fit in BIGINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            0 << 100 = 0 BIGINT
            CAST(100 AS TINYINT) << CAST(1 AS TINYINT) = 100 << 1 does not fit in TINYINT
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
            256 >> 4 = 16 BIGINT
            -1 >> 1 = -1 BIGINT
            256 >> 64 = 0 BIGINT
            1 >> -1 = compute error: -1 is no number of bits to shift by
            (SELECT max(x << 1) FROM (VALUES (1), (4611686018427387904)) AS t(x)) = 4611686018427387904 << 1 does not fit in BIGINT, in x << 1
            hint: calculate in a wider type, such as CAST(… AS DECIMAL(38, 0))
        "#]],
    )
    .await;
}

#[tokio::test]
async fn percentiles_have_all_digits() {
    values(
        &[
            "(SELECT percentile_cont(0.123456789) WITHIN GROUP (ORDER BY x) FROM (VALUES (1e9), (2e9), (3e9)) AS t(x))",
            "(SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY x DESC) FROM generate_series(0, 10) AS t(x))",
            "(SELECT max(p) FROM (SELECT percentile_cont(0.9999999) WITHIN GROUP (ORDER BY x) AS p FROM (VALUES (1, 0.0), (1, 1e9), (2, 5.0)) AS t(k, x) GROUP BY k))",
            "(SELECT quantile_cont(DISTINCT x, 0.3333333333) FROM (VALUES (0.0), (0.0), (1e9)) AS t(x))",
            "(SELECT array_agg(p ORDER BY x) FROM (SELECT x, percentile_cont(x, 0.1) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS p FROM (VALUES (10.0), (20.0), (40.0)) AS t(x)))",
        ],
        expect![[r#"
            (SELECT percentile_cont(0.123456789) WITHIN GROUP (ORDER BY x) FROM (VALUES (1e9), (2e9), (3e9)) AS t(x)) = 1246913578 DOUBLE
            (SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY x DESC) FROM generate_series(0, 10) AS t(x)) = 1 DOUBLE
            (SELECT max(p) FROM (SELECT percentile_cont(0.9999999) WITHIN GROUP (ORDER BY x) AS p FROM (VALUES (1, 0.0), (1, 1e9), (2, 5.0)) AS t(k, x) GROUP BY k)) = 999999900 DOUBLE
            (SELECT quantile_cont(DISTINCT x, 0.3333333333) FROM (VALUES (0.0), (0.0), (1e9)) AS t(x)) = 333333333.29999995 DOUBLE
            (SELECT array_agg(p ORDER BY x) FROM (SELECT x, percentile_cont(x, 0.1) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS p FROM (VALUES (10.0), (20.0), (40.0)) AS t(x))) = [10.0, 11.0, 22.0] ARRAY<DOUBLE>
        "#]],
    )
    .await;
}

/// A side of a condition fails over no row that the other side has decided.
#[tokio::test]
async fn conditions_are_asked_row_by_row() {
    const FROM: &str = "FROM (VALUES (1), (3), (4), (5), (6)) AS t(n)";
    let of = |condition: &str| format!("(SELECT array_agg(n ORDER BY n) {FROM} WHERE {condition})");
    let conditions = [
        "n <> 3 AND 12 / (n - 3) > 1",
        "n = 3 OR 12 / (n - 3) > 1",
        "CASE WHEN n = 3 THEN false ELSE 12 / (n - 3) > 1 END",
        "n > 1 AND n <> 3 AND (n = 4 OR 12 / (n - 4) > 3 AND 12 / (n - 3) > 5)",
        "12 / (n - 3) > 1 AND n <> 3",
    ];
    let joined = format!(
        "(SELECT count(*) {FROM} JOIN (VALUES (3), (4)) AS u(m) ON m <> 3 AND n * m <> 12 AND 12 / (n * m - 12) > 0)"
    );
    let all: Vec<String> = conditions.iter().map(|condition| of(condition)).chain([joined]).collect();
    values(&all.iter().map(String::as_str).collect::<Vec<_>>(), expect![[r#"
        (SELECT array_agg(n ORDER BY n) FROM (VALUES (1), (3), (4), (5), (6)) AS t(n) WHERE n <> 3 AND 12 / (n - 3) > 1) = [4, 5, 6] ARRAY<BIGINT>
        (SELECT array_agg(n ORDER BY n) FROM (VALUES (1), (3), (4), (5), (6)) AS t(n) WHERE n = 3 OR 12 / (n - 3) > 1) = [3, 4, 5, 6] ARRAY<BIGINT>
        (SELECT array_agg(n ORDER BY n) FROM (VALUES (1), (3), (4), (5), (6)) AS t(n) WHERE CASE WHEN n = 3 THEN false ELSE 12 / (n - 3) > 1 END) = [4, 5, 6] ARRAY<BIGINT>
        (SELECT array_agg(n ORDER BY n) FROM (VALUES (1), (3), (4), (5), (6)) AS t(n) WHERE n > 1 AND n <> 3 AND (n = 4 OR 12 / (n - 4) > 3 AND 12 / (n - 3) > 5)) = [4, 5] ARRAY<BIGINT>
        (SELECT array_agg(n ORDER BY n) FROM (VALUES (1), (3), (4), (5), (6)) AS t(n) WHERE 12 / (n - 3) > 1 AND n <> 3) = [4, 5, 6] ARRAY<BIGINT>
        (SELECT count(*) FROM (VALUES (1), (3), (4), (5), (6)) AS t(n) JOIN (VALUES (3), (4)) AS u(m) ON m <> 3 AND n * m <> 12 AND 12 / (n * m - 12) > 0) = 3 BIGINT
    "#]]).await;
}

#[tokio::test]
async fn not_in_heeds_the_nulls_of_its_own_rows() {
    let with = "WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
        u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y))";
    let of = |condition: &str| {
        format!(
            "({with} SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE {condition})"
        )
    };
    let conditions = [
        "x NOT IN (SELECT y FROM u WHERE u.k = t.k)",
        "NOT (x IN (SELECT y FROM u WHERE u.k = t.k)) AND k <> 'c'",
        "x IN (SELECT y FROM u WHERE u.k = t.k)",
        "x <> ALL (SELECT y FROM u WHERE u.k = t.k)",
        "x NOT IN (SELECT y FROM u)",
        "x NOT IN (SELECT y FROM u WHERE u.k = 'a')",
    ];
    let all: Vec<String> = conditions.iter().map(|condition| of(condition)).collect();
    values(&all.iter().map(String::as_str).collect::<Vec<_>>(), expect![[r#"
        (WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
                u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y)) SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE x NOT IN (SELECT y FROM u WHERE u.k = t.k)) = a2 c4 c- STRING
        (WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
                u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y)) SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE NOT (x IN (SELECT y FROM u WHERE u.k = t.k)) AND k <> 'c') = a2 STRING
        (WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
                u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y)) SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE x IN (SELECT y FROM u WHERE u.k = t.k)) = a1 STRING
        (WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
                u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y)) SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE x <> ALL (SELECT y FROM u WHERE u.k = t.k)) = a2 c4 c- STRING
        (WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
                u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y)) SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE x NOT IN (SELECT y FROM u)) = NULL STRING
        (WITH t AS (SELECT * FROM (VALUES ('a', 1), ('a', 2), ('b', 3), ('b', NULL), ('c', 4), ('c', NULL)) AS t(k, x)),
                u AS (SELECT * FROM (VALUES ('a', 1), ('b', NULL), ('b', 9)) AS u(k, y)) SELECT string_agg(k || coalesce(CAST(x AS STRING), '-'), ' ' ORDER BY k, x) FROM t WHERE x NOT IN (SELECT y FROM u WHERE u.k = 'a')) = a2 b3 c4 STRING
    "#]]).await;
}

#[tokio::test]
async fn what_takes_long_is_refused() {
    values(
        &[
            "levenshtein(repeat('a', 4000), repeat('b', 4000))",
            "levenshtein(repeat('a', 800000), 'b')",
            "levenshtein(repeat('a', 5000), repeat('b', 5000))",
            "array_has_all(range(1, 5000), range(1, 5000))",
            "array_has_any(range(1, 50), range(49, 99))",
        ],
        expect![[r#"
            levenshtein(repeat('a', 4000), repeat('b', 4000)) = 4000 INT
            levenshtein(repeat('a', 800000), 'b') = 800000 INT
            levenshtein(repeat('a', 5000), repeat('b', 5000)) = levenshtein() would take 25000000 steps over a row, and 16777216 are the most: its arguments are too long
            array_has_all(range(1, 5000), range(1, 5000)) = array_has_all() would take 24990001 steps over a row, and 16777216 are the most: its arguments are too long
            array_has_any(range(1, 50), range(49, 99)) = true BOOLEAN
        "#]],
    )
    .await;
}

#[tokio::test]
async fn rows_and_lists_heed_nulls() {
    values(
        &[
            "(NULL, 2) < (5, 5)",
            "NOT ((CAST(NULL AS INT), 2) < (5, 5))",
            "(1, 2) < (1, 3)",
            "(2, 1) <= (1, 9)",
            "(1, NULL) < (2, 0)",
            "(1, NULL) = (2, 0)",
            "(1, NULL) <> (1, 0)",
            "(1, 2) BETWEEN (1, 2) AND (1, NULL)",
            "(1, 2) IN ((1, 3), (1, 2))",
            "(1, NULL) NOT IN ((1, 3), (2, 2))",
            "(1, (2, 3)) >= (1, (2, 3))",
            "5 = ANY(ARRAY[1, NULL])",
            "NOT (5 = ANY(ARRAY[1, NULL]))",
            "5 <> ANY(ARRAY[5, NULL])",
            "5 > ANY(ARRAY[9, NULL])",
            "5 > ANY(ARRAY[4, NULL])",
            "'a' = ANY(ARRAY['b', 'a'])",
            "CAST(NULL AS INT) = ANY(ARRAY[1])",
            "1 = ANY(CAST(NULL AS INT[]))",
            "(SELECT count(*) FROM (VALUES (1), (NULL)) AS v(x) WHERE NOT ((x, 2) < (5, 5)))",
        ],
        expect![[r#"
            (NULL, 2) < (5, 5) = NULL BOOLEAN
            NOT ((CAST(NULL AS INT), 2) < (5, 5)) = NULL BOOLEAN
            (1, 2) < (1, 3) = true BOOLEAN
            (2, 1) <= (1, 9) = false BOOLEAN
            (1, NULL) < (2, 0) = true BOOLEAN
            (1, NULL) = (2, 0) = false BOOLEAN
            (1, NULL) <> (1, 0) = NULL BOOLEAN
            (1, 2) BETWEEN (1, 2) AND (1, NULL) = NULL BOOLEAN
            (1, 2) IN ((1, 3), (1, 2)) = true BOOLEAN
            (1, NULL) NOT IN ((1, 3), (2, 2)) = NULL BOOLEAN
            (1, (2, 3)) >= (1, (2, 3)) = true BOOLEAN
            5 = ANY(ARRAY[1, NULL]) = NULL BOOLEAN
            NOT (5 = ANY(ARRAY[1, NULL])) = NULL BOOLEAN
            5 <> ANY(ARRAY[5, NULL]) = NULL BOOLEAN
            5 > ANY(ARRAY[9, NULL]) = NULL BOOLEAN
            5 > ANY(ARRAY[4, NULL]) = true BOOLEAN
            'a' = ANY(ARRAY['b', 'a']) = true BOOLEAN
            CAST(NULL AS INT) = ANY(ARRAY[1]) = NULL BOOLEAN
            1 = ANY(CAST(NULL AS INT[])) = NULL BOOLEAN
            (SELECT count(*) FROM (VALUES (1), (NULL)) AS v(x) WHERE NOT ((x, 2) < (5, 5))) = 0 BIGINT
        "#]],
    )
    .await;
}

#[tokio::test]
async fn dates_keep_their_hours() {
    values(
        &[
            "DATE '2025-01-01' + INTERVAL '1 hour'",
            "DATE '2025-01-01' - INTERVAL '1 day 30 minutes'",
            "INTERVAL '90 minutes' + CURRENT_DATE",
            "(SELECT max(d + n * INTERVAL '1 hour') FROM (VALUES (DATE '2025-01-01', 3)) AS t(d, n))",
            "(SELECT max(d + n * INTERVAL '1 day') FROM (VALUES (DATE '2025-01-01', 3)) AS t(d, n))",
            "(SELECT max(d + n * INTERVAL '1 month 2 days') FROM (VALUES (DATE '2025-01-01', 3)) AS t(d, n))",
            "CAST(DATE '2025-01-01' AS TIMESTAMP) + INTERVAL '1 hour'",
            "DATE '2025-01-01' + INTERVAL '1 month'",
            "DATE '2025-01-01' + INTERVAL '48 hours'",
            "DATE '2025-01-01' + 31",
            "DATE '9999-12-31' + 1",
            "TIMESTAMPTZ '2025-01-01 00:00:00Z' + INTERVAL '9000 years'",
            "TIMESTAMP '2025-03-30 02:30:00' AT TIME ZONE 'Europe/Berlin'",
        ],
        expect![[r#"
            DATE '2025-01-01' + INTERVAL '1 hour' = line 1, column 37: a DATE and an INTERVAL of hours would be a DATE again, without the hours
            hint: write CAST(d AS TIMESTAMP) + INTERVAL '…'; to have a DATE, CAST the sum AS DATE
            DATE '2025-01-01' - INTERVAL '1 day 30 minutes' = line 1, column 37: a DATE and an INTERVAL of hours would be a DATE again, without the hours
            hint: write CAST(d AS TIMESTAMP) + INTERVAL '…'; to have a DATE, CAST the sum AS DATE
            INTERVAL '90 minutes' + CURRENT_DATE = line 1, column 17: a DATE and an INTERVAL of hours would be a DATE again, without the hours
            hint: write CAST(d AS TIMESTAMP) + INTERVAL '…'; to have a DATE, CAST the sum AS DATE
            (SELECT max(d + n * INTERVAL '1 hour') FROM (VALUES (DATE '2025-01-01', 3)) AS t(d, n)) = line 1, column 20: a DATE and an INTERVAL of hours would be a DATE again, without the hours
            hint: write CAST(d AS TIMESTAMP) + INTERVAL '…'; to have a DATE, CAST the sum AS DATE
            (SELECT max(d + n * INTERVAL '1 day') FROM (VALUES (DATE '2025-01-01', 3)) AS t(d, n)) = 2025-01-04 DATE
            (SELECT max(d + n * INTERVAL '1 month 2 days') FROM (VALUES (DATE '2025-01-01', 3)) AS t(d, n)) = 2025-04-07 DATE
            CAST(DATE '2025-01-01' AS TIMESTAMP) + INTERVAL '1 hour' = 1735693200000000000 Timestamp(ns)
            DATE '2025-01-01' + INTERVAL '1 month' = 2025-02-01 DATE
            DATE '2025-01-01' + INTERVAL '48 hours' = 2025-01-03 DATE
            DATE '2025-01-01' + 31 = 2025-02-01 DATE
            DATE '9999-12-31' + 1 = a time of column "x" is beyond the years 1 to 9999
            hint: leave such rows out in WHERE, or CAST the time AS STRING
            TIMESTAMPTZ '2025-01-01 00:00:00Z' + INTERVAL '9000 years' = compute error: Timestamp out of range
            TIMESTAMP '2025-03-30 02:30:00' AT TIME ZONE 'Europe/Berlin' = the clocks of that zone skip this time, or show it twice: it is no certain moment
            hint: write the moment, with what it is ahead of UTC: TIMESTAMPTZ '2025-03-30 01:30:00+00:00'
        "#]],
    )
    .await;
}
