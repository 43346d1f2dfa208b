//! What passes, and the words in which the rest is refused.

use datafusion::execution::SessionStateBuilder;
use expect_test::{Expect, expect};

use super::check;
use crate::parse::{self, Statement};

fn told(sql: &str) -> String {
    let state = SessionStateBuilder::new().with_default_features().build();
    let outcome = parse::statement(sql).and_then(|parsed| match parsed.statement {
        Statement::Query(query) => check(&query, &state),
        other => panic!("{other:?}"),
    });
    match outcome {
        Ok(()) => "executed".into(),
        Err(error) => error.to_string(),
    }
}

fn refuses(queries: &[&str], expected: Expect) {
    let all: Vec<_> = queries.iter().map(|sql| format!("{sql}\n{}\n", told(sql))).collect();
    expected.assert_eq(&all.join("\n"));
}

#[test]
fn what_is_planned_whole_passes() {
    for sql in [
        "SELECT a, count(DISTINCT b) FILTER (WHERE c > 1) AS n FROM t GROUP BY ROLLUP (a) HAVING count(*) > 1",
        "SELECT sum(a) OVER w, lag(a) IGNORE NULLS OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY c)",
        "SELECT * EXCLUDE (a) FROM t AS u (a, b) LEFT JOIN v USING (a) ORDER BY ALL DESC LIMIT 3 OFFSET 1",
        "WITH x AS (SELECT 1 AS a), RECURSIVE_ AS (SELECT 2 AS a) SELECT * FROM x UNION ALL BY NAME SELECT * FROM RECURSIVE_",
        "SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY a DESC), quantile_cont(a, 0.5 ORDER BY a) FROM t",
        "SELECT trim(BOTH 'x' FROM a), a::INT, CASE WHEN a THEN 1 END, EXTRACT(DAY FROM b) FROM t, LATERAL (SELECT t.a)",
        "SELECT a FROM t WHERE a NOT IN (SELECT 1) AND (b IN (SELECT 2) OR NOT c) AND NOT (d IN (SELECT 3)) AND a <> ALL (SELECT 4)",
        "SELECT a FROM t JOIN u ON a = b OR a IN (SELECT 1) WHERE a NOT IN (1, NULL) INTERSECT SELECT 1 EXCEPT SELECT 2",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r ORDER BY n LIMIT 3",
        "SELECT array_agg(a ORDER BY b), first_value(a) RESPECT NULLS, row_number() OVER () FROM t",
        "SELECT * FROM generate_series(1, 3) AS g (n) CROSS JOIN UNNEST([1, 2]) AS u (x) WHERE EXISTS (SELECT 1)",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST",
    ] {
        assert_eq!(told(sql), "executed", "{sql}");
    }
}

#[test]
fn relations() {
    refuses(
        &[
            "SELECT * FROM t TABLESAMPLE BERNOULLI (10)",
            "SELECT *\nFROM (SELECT 1) AS a TABLESAMPLE (10 ROWS)",
            "SELECT * FROM t WITH (nolock)",
            "SELECT * FROM generate_series(1, 3) WITH ORDINALITY",
            "SELECT * FROM t AS u (a INT)",
            "SELECT * FROM a JOIN b ON true SEMI JOIN c ON true",
        ],
        expect![[r#"
            SELECT * FROM t TABLESAMPLE BERNOULLI (10)
            line 1, column 15: TABLESAMPLE is not supported
            hint: leave it out, or keep a share of the rows: WHERE random() < 0.1 in a query

            SELECT *
            FROM (SELECT 1) AS a TABLESAMPLE (10 ROWS)
            line 2, column 7: TABLESAMPLE is not supported
            hint: leave it out, or keep a share of the rows: WHERE random() < 0.1 in a query

            SELECT * FROM t WITH (nolock)
            line 1, column 15: WITH (…) at a table is not supported
            hint: leave it out

            SELECT * FROM generate_series(1, 3) WITH ORDINALITY
            line 1, column 15: WITH ORDINALITY is not supported
            hint: leave it out

            SELECT * FROM t AS u (a INT)
            line 1, column 23: column a of a relation's name is given a type, which it has already
            hint: write its name alone, and CAST where it is used

            SELECT * FROM a JOIN b ON true SEMI JOIN c ON true
            line 1, column 42: SEMI and ANTI joins have a side
            hint: write LEFT SEMI JOIN or LEFT ANTI JOIN
        "#]],
    );
}

#[test]
fn clauses() {
    refuses(
        &[
            "SELECT a FROM t GROUP BY a WITH ROLLUP",
            "SELECT a FROM t GROUP BY a WITH CUBE",
            "SELECT a FROM t GROUP BY ALL WITH TOTALS",
            "SELECT a FROM t FOR UPDATE",
            "SELECT a FROM t FETCH FIRST 3 ROWS ONLY",
            "SELECT a FROM t DISTRIBUTE BY a",
            "SELECT a FROM t ORDER BY sum(a) OVER w",
            "SELECT a FROM t QUALIFY sum(a) OVER w > 1 WINDOW w AS (PARTITION BY b)",
        ],
        expect![[r#"
            SELECT a FROM t GROUP BY a WITH ROLLUP
            line 1, column 26: GROUP BY … WITH ROLLUP is not supported
            hint: write GROUP BY ROLLUP (…)

            SELECT a FROM t GROUP BY a WITH CUBE
            line 1, column 26: GROUP BY … WITH CUBE is not supported
            hint: write GROUP BY CUBE (…)

            SELECT a FROM t GROUP BY ALL WITH TOTALS
            line 1, column 1: GROUP BY … WITH TOTALS is not supported
            hint: write GROUP BY GROUPING SETS ((…), ())

            SELECT a FROM t FOR UPDATE
            line 1, column 1: FOR UPDATE or SHARE is not supported
            hint: leave it out

            SELECT a FROM t FETCH FIRST 3 ROWS ONLY
            line 1, column 1: FETCH is not supported
            hint: write LIMIT n

            SELECT a FROM t DISTRIBUTE BY a
            line 1, column 1: DISTRIBUTE BY is not supported
            hint: leave it out

            SELECT a FROM t ORDER BY sum(a) OVER w
            line 1, column 38: OVER w is known in the SELECT list alone
            hint: write the window out: OVER (PARTITION BY …)

            SELECT a FROM t QUALIFY sum(a) OVER w > 1 WINDOW w AS (PARTITION BY b)
            line 1, column 37: OVER w is known in the SELECT list alone
            hint: write the window out: OVER (PARTITION BY …)
        "#]],
    );
}

#[test]
fn functions() {
    refuses(
        &[
            "SELECT abs(DISTINCT a) FROM t",
            "SELECT abs(a) FILTER (WHERE a > 1) FROM t",
            "SELECT abs(a) OVER (PARTITION BY b) FROM t",
            "SELECT \"abs\"(a ORDER BY b) FROM t",
            "SELECT row_number() FILTER (WHERE a) OVER () FROM t",
            "SELECT sum(a) IGNORE NULLS OVER () FROM t",
            "SELECT sum(a) OVER (w ORDER BY b) FROM t WINDOW w AS (PARTITION BY c)",
            "SELECT quantile_cont(a, 0.5 ORDER BY b) FROM t",
            "SELECT count(t.*) FROM t",
            "SELECT array_agg(SELECT 1)",
            "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE) FILTER (WHERE false))",
        ],
        expect![[r#"
            SELECT abs(DISTINCT a) FROM t
            line 1, column 8: abs takes no DISTINCT: it is no aggregate
            hint: leave DISTINCT out, or write it at an aggregate such as count(…)

            SELECT abs(a) FILTER (WHERE a > 1) FROM t
            line 1, column 8: abs takes no FILTER: it is no aggregate
            hint: leave FILTER out, or write it at an aggregate such as count(…)

            SELECT abs(a) OVER (PARTITION BY b) FROM t
            line 1, column 8: abs takes no OVER: it is no aggregate
            hint: leave OVER out, or write it at an aggregate such as count(…)

            SELECT "abs"(a ORDER BY b) FROM t
            line 1, column 8: "abs" takes no ORDER BY: it is no aggregate
            hint: leave ORDER BY out, or write it at an aggregate such as count(…)

            SELECT row_number() FILTER (WHERE a) OVER () FROM t
            line 1, column 8: row_number takes no FILTER: it is no aggregate
            hint: leave FILTER out, or write it at an aggregate such as count(…)

            SELECT sum(a) IGNORE NULLS OVER () FROM t
            line 1, column 8: sum OVER takes no IGNORE or RESPECT NULLS
            hint: leave it out; functions that take it are lead, lag, first_value, last_value, nth_value

            SELECT sum(a) OVER (w ORDER BY b) FROM t WINDOW w AS (PARTITION BY c)
            line 1, column 21: a window that extends window w is not supported
            hint: write the window out: (PARTITION BY … ORDER BY …)

            SELECT quantile_cont(a, 0.5 ORDER BY b) FROM t
            line 1, column 38: quantile_cont of a can't be ordered by b
            hint: write quantile_cont(…) WITHIN GROUP (ORDER BY a)

            SELECT count(t.*) FROM t
            line 1, column 14: count(t) would count rows in which nothing of the relation is, too
            hint: name a column, or write count(*)

            SELECT array_agg(SELECT 1)
            line 1, column 25: expected ), found 1

            SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE) FILTER (WHERE false))
            line 1, column 21: TUMBLE takes no FILTER: it is no aggregate
            hint: leave FILTER out, or write it at an aggregate such as count(…)
        "#]],
    );
}

#[test]
fn numbers() {
    for sql in
        ["SELECT 18446744073709551615", "SELECT -9223372036854775808", "SELECT 1e30, 99999999999999999999.0"]
    {
        assert_eq!(told(sql), "executed", "{sql}");
    }
    refuses(
        &["SELECT 18446744073709551616", "SELECT a > -9223372036854775809"],
        expect![[r#"
        SELECT 18446744073709551616
        line 1, column 8: 18446744073709551616 does not fit in BIGINT
        hint: write CAST('18446744073709551616' AS DECIMAL(38, 0)), or a DOUBLE: 18446744073709551616.0

        SELECT a > -9223372036854775809
        line 1, column 13: -9223372036854775809 does not fit in BIGINT
        hint: write CAST('-9223372036854775809' AS DECIMAL(38, 0)), or a DOUBLE: -9223372036854775809.0
    "#]],
    );
}

/// What the planner makes something else of.
#[test]
fn meanings() {
    refuses(
        &[
            "SELECT a FROM t EXCEPT ALL SELECT a FROM u",
            "SELECT a FROM t FULL JOIN u USING (a)",
            "SELECT a FROM t NATURAL RIGHT JOIN u",
            "SELECT a FROM t WHERE a NOT IN (SELECT b FROM u) OR c",
            "SELECT a FROM t WHERE 3 NOT IN (SELECT b FROM u)",
            "SELECT a FROM t WHERE (a IN (SELECT b FROM u)) IS NULL",
            "SELECT a FROM t WHERE a SIMILAR TO 'b|c'",
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r LIMIT 5) SELECT * FROM r",
        ],
        expect![[r#"
            SELECT a FROM t EXCEPT ALL SELECT a FROM u
            line 1, column 1: EXCEPT ALL would not count equal rows
            hint: leave ALL out, or number equal rows in both queries: row_number() OVER (PARTITION BY …), and then EXCEPT

            SELECT a FROM t FULL JOIN u USING (a)
            line 1, column 27: RIGHT and FULL joins with USING or NATURAL would give NULL for keys of the right side alone
            hint: write ON a.key = b.key, and coalesce(a.key, b.key) in the SELECT list

            SELECT a FROM t NATURAL RIGHT JOIN u
            line 1, column 36: RIGHT and FULL joins with USING or NATURAL would give NULL for keys of the right side alone
            hint: write ON a.key = b.key, and coalesce(a.key, b.key) in the SELECT list

            SELECT a FROM t WHERE a NOT IN (SELECT b FROM u) OR c
            line 1, column 23: NOT IN (SELECT …) would be wrong here where there are NULLs
            hint: in WHERE of a query write a <> ALL (SELECT …); elsewhere LEFT JOIN it, and ask whether its key IS NOT NULL

            SELECT a FROM t WHERE 3 NOT IN (SELECT b FROM u)
            line 1, column 23: NOT IN (SELECT …) would be wrong here where there are NULLs
            hint: in WHERE of a query write 3 <> ALL (SELECT …); elsewhere LEFT JOIN it, and ask whether its key IS NOT NULL

            SELECT a FROM t WHERE (a IN (SELECT b FROM u)) IS NULL
            line 1, column 24: IN (SELECT …) would be wrong here where there are NULLs
            hint: in WHERE of a query write a = ANY (SELECT …); elsewhere LEFT JOIN it, and ask whether its key IS NOT NULL

            SELECT a FROM t WHERE a SIMILAR TO 'b|c'
            line 1, column 23: SIMILAR TO would find its pattern anywhere in the text
            hint: write regexp_like(a, '^(…)$')

            WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r LIMIT 5) SELECT * FROM r
            line 1, column 16: LIMIT within a recursive query is not supported
            hint: write it in the query that reads the recursive one, and end the recursion with WHERE
        "#]],
    );
}

#[test]
fn lengths_and_zones() {
    refuses(
        &[
            "SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN INTERVAL '1' MONTH PRECEDING AND CURRENT ROW) FROM t",
            "SELECT sum(a) OVER (ORDER BY b\nRANGE BETWEEN CURRENT ROW AND INTERVAL '1 year 2 days' FOLLOWING) FROM t",
            "SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY b RANGE INTERVAL '2 months' PRECEDING)",
            "SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN INTERVAL '31 days' PRECEDING AND CURRENT ROW) FROM t",
            "SELECT array_agg(a ORDER BY 1) FROM t",
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY 2) FROM t",
            "SELECT a AT TIME ZONE b FROM t",
            "SELECT a AT TIME ZONE 'Europe/Berlin' FROM t",
        ],
        expect![[r#"
            SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN INTERVAL '1' MONTH PRECEDING AND CURRENT ROW) FROM t
            line 1, column 55: a RANGE of months would miss rows where months end
            hint: write days: RANGE BETWEEN INTERVAL '30 days' PRECEDING AND …

            SELECT sum(a) OVER (ORDER BY b
            RANGE BETWEEN CURRENT ROW AND INTERVAL '1 year 2 days' FOLLOWING) FROM t
            line 2, column 40: a RANGE of months would miss rows where months end
            hint: write days: RANGE BETWEEN INTERVAL '30 days' PRECEDING AND …

            SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY b RANGE INTERVAL '2 months' PRECEDING)
            line 1, column 68: a RANGE of months would miss rows where months end
            hint: write days: RANGE BETWEEN INTERVAL '30 days' PRECEDING AND …

            SELECT sum(a) OVER (ORDER BY b RANGE BETWEEN INTERVAL '31 days' PRECEDING AND CURRENT ROW) FROM t
            executed

            SELECT array_agg(a ORDER BY 1) FROM t
            line 1, column 29: ORDER BY 1 within array_agg would be a column of the relation, by its place
            hint: name the column

            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY 2) FROM t
            line 1, column 52: ORDER BY 2 within percentile_cont would be a column of the relation, by its place
            hint: name the column

            SELECT a AT TIME ZONE b FROM t
            line 1, column 23: AT TIME ZONE b is not supported: a zone is a text, the same for all rows
            hint: write AT TIME ZONE 'Europe/Berlin'

            SELECT a AT TIME ZONE 'Europe/Berlin' FROM t
            executed
        "#]],
    );
}

#[test]
fn what_means_something_else_elsewhere() {
    refuses(
        &[
            "SELECT 7*1_000",
            "SELECT a, -2kg FROM t",
            "SELECT 7*1 _000, 1 AS _2, a_1 FROM t",
            "SELECT 'a' 'b', 'a' AS \"b\"",
            "SELECT a - INTERVAL '90' MINS FROM t",
            "SELECT a - INTERVAL '90' MINUTE, INTERVAL '90 minutes' mins FROM t",
            "SELECT 2 ^ 10",
            "SELECT a FROM t ORDER BY a COLLATE \"C\"",
            "TABLE t",
            "SELECT a RLIKE 'x' FROM t",
        ],
        expect![[r#"
            SELECT 7*1_000
            line 1, column 10: 1_000 is not a number
            hint: write its digits alone: 1000

            SELECT a, -2kg FROM t
            line 1, column 12: 2kg is not a number
            hint: write 2 AS kg, if that is a name

            SELECT 7*1 _000, 1 AS _2, a_1 FROM t
            executed

            SELECT 'a' 'b', 'a' AS "b"
            line 1, column 8: two texts beside each other are not one
            hint: write || between them; if the second is a name, 'a' AS "b"

            SELECT a - INTERVAL '90' MINS FROM t
            line 1, column 26: INTERVAL '90' has no unit, and MINS is none
            hint: write SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR; if it is a name, '90 seconds' AS MINS

            SELECT a - INTERVAL '90' MINUTE, INTERVAL '90 minutes' mins FROM t
            executed

            SELECT 2 ^ 10
            line 1, column 8: 2 ^ 10 is no power here, but would be the bits that differ
            hint: write power(2, 10); of bits (2 | 10) - (2 & 10)

            SELECT a FROM t ORDER BY a COLLATE "C"
            line 1, column 26: COLLATE "C" is not supported: texts are compared byte by byte
            hint: compare or order by lower(a)

            TABLE t
            line 1, column 1: TABLE as a query is not supported
            hint: write SELECT * FROM its name

            SELECT a RLIKE 'x' FROM t
            line 1, column 8: RLIKE and REGEXP are not supported
            hint: write regexp_like(a, 'x')
        "#]],
    );
}
