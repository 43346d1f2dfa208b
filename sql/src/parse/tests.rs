//! What is read, and what is refused with which words.

use expect_test::{Expect, expect};

use super::*;

fn check(text: &str, expected: Expect) {
    let told = match statements(text) {
        Ok(found) => found.iter().map(|it| format!("{}: {}\n", it.position, it.text)).collect(),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&told);
}

fn query_of(text: &str) -> String {
    match statement(text).unwrap().statement {
        Statement::Query(query) => query.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statements_keep_their_text_and_place() {
    check(
        "-- é\n  SELECT 'é;' ;\n;SHOW views; DESCRIBE live.v",
        expect![[r#"
            line 2, column 3: SELECT 'é;'
            line 3, column 2: SHOW views
            line 3, column 14: DESCRIBE live.v
        "#]],
    );
}

#[test]
fn window_functions_take_tables_in_three_forms() {
    let standard = "SELECT * FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '1' MINUTE))";
    let named = "SELECT * FROM TABLE(TUMBLE(DATA => TABLE clicks, TIMECOL => DESCRIPTOR(t), SIZE => INTERVAL '1' MINUTE))";
    let short = "SELECT * FROM TUMBLE(clicks, t, INTERVAL '1 minute') AS w";
    assert_eq!(
        query_of(standard),
        "SELECT * FROM TABLE(TUMBLE((SELECT * FROM clicks), DESCRIPTOR(t), INTERVAL '1' MINUTE))"
    );
    assert!(query_of(named).contains("DATA => (SELECT * FROM clicks), TIMECOL => DESCRIPTOR(t)"));
    assert!(query_of(short).contains("TUMBLE((SELECT * FROM clicks), t, INTERVAL '1 minute') AS w"));
}

#[test]
fn a_stream_has_columns_a_watermark_and_options() {
    let text = "create stream if not exists s (a string, \"userId\" bigint, g struct<x double, y int[]>,
        p int metadata from 'partition', at timestamp(3), watermark for at as at - interval '5' second)
        with (connector = 'kafka', 'properties.a.b' = 'x', rows = 10, properties.c = true)";
    let Statement::CreateStream(create) = statement(text).unwrap().statement else { panic!() };
    assert_eq!(create.text, text);
    assert!(create.if_not_exists);
    let names: Vec<_> = create.columns.iter().map(|it| it.name.value.as_str()).collect();
    assert_eq!(names, ["a", "userId", "g", "p", "at"]);
    assert_eq!(create.columns[3].metadata.as_ref().unwrap().value, "partition");
    assert_eq!(create.watermark.unwrap().delay, 5_000_000);
    let options: Vec<_> = create.options.iter().map(|it| format!("{}={}", it.key, it.value)).collect();
    assert_eq!(options, ["connector=kafka", "properties.a.b=x", "rows=10", "properties.c=true"]);
}

#[test]
fn intervals_have_a_fixed_length() {
    let micros = |text: &str| {
        let dialect = dialect();
        let expr = Parser::new(&dialect).try_with_sql(text).unwrap().parse_expr().unwrap();
        interval_micros(&expr).map_err(|error| error.message)
    };
    assert_eq!(micros("INTERVAL '5' SECOND"), Ok(5_000_000));
    assert_eq!(micros("INTERVAL '1 minute'"), Ok(60_000_000));
    assert_eq!(micros("INTERVAL '1 hour 30 minutes'"), Ok(5_400_000_000));
    assert_eq!(micros("INTERVAL '1' DAY"), Ok(86_400_000_000));
    assert_eq!(micros("INTERVAL '0.5' SECOND"), Ok(500_000));
    assert_eq!(
        micros("INTERVAL '1 month'"),
        Err("INTERVAL '1 month' has no fixed length: months differ".into())
    );
    assert_eq!(micros("INTERVAL '5'"), Err("INTERVAL '5' has no unit".into()));
    assert_eq!(micros("5"), Err("5 is not an interval".into()));
}

#[test]
fn mistakes_are_named_with_their_place() {
    check(
        "SELECT 1 +",
        expect![[r#"
            line 1, column 11: expected an expression, but the text ends here
        "#]],
    );
    check(
        "SELEC 1",
        expect![[r#"
            line 1, column 1: expected a statement, found SELEC
            hint: statements are SELECT, SUBSCRIBE, CREATE STREAM, CREATE TABLE, CREATE MATERIALIZED VIEW, CREATE VIEW, CREATE ENDPOINT, CREATE SINK, ALTER, DROP, SHOW, DESCRIBE, EXPLAIN, SET and KILL QUERY; nothing is inserted: rows come from streams, files and topics
        "#]],
    );
    check(
        "INSERT INTO v VALUES (1)",
        expect![[r#"
            line 1, column 1: expected a statement, found INSERT
            hint: statements are SELECT, SUBSCRIBE, CREATE STREAM, CREATE TABLE, CREATE MATERIALIZED VIEW, CREATE VIEW, CREATE ENDPOINT, CREATE SINK, ALTER, DROP, SHOW, DESCRIBE, EXPLAIN, SET and KILL QUERY; nothing is inserted: rows come from streams, files and topics
        "#]],
    );
    check(
        "((TABLE v))",
        expect![[r#"
            line 1, column 3: TABLE as a query is not supported
            hint: write SELECT * FROM its name
        "#]],
    );
    check(
        "EXPLAIN SUBSCRIBE TO v",
        expect![[r#"
            line 1, column 9: EXPLAIN of a subscription is not supported
            hint: EXPLAIN the query that it is TO
        "#]],
    );
    check(
        "SELECT 'a",
        expect![[r#"
        line 1, column 8: unterminated string literal
    "#]],
    );
    check(
        "CREATE OR REPLACE STREAM s (a INT)",
        expect![[r#"
        line 1, column 8: what exists is not replaced by CREATE
        hint: DROP it first: its table starts afresh
    "#]],
    );
    check(
        "CREATE VIEW v AS SELECT 1",
        expect![[r#"
            line 1, column 1: CREATE VIEW v AS SELECT 1
        "#]],
    );
    check(
        "CREATE STREAM s (userId STRING)",
        expect![[r#"
        line 1, column 18: column userId has capitals and no quotes, and SQL would read it as userid
        hint: write "userId" for the record's field userId, or userid
    "#]],
    );
    check(
        "CREATE STREAM s (a STRING\n b INT)",
        expect![[r#"
        line 2, column 2: expected a comma or ), found b
    "#]],
    );
    check(
        "CREATE STREAM \"My S\" (a INT)",
        expect![[r#"
        line 1, column 15: "My S" can't be the name of a stream or view
        hint: take up to 100 of a-z, 0-9 and _, beginning with a letter
    "#]],
    );
    check(
        "CREATE STREAM s (t TIMESTAMP, WATERMARK FOR t AS now())",
        expect![[r#"
        line 1, column 50: a watermark is its column less a fixed delay, not now()
        hint: WATERMARK FOR t AS t - INTERVAL '5' SECOND
    "#]],
    );
    check(
        "CREATE STREAM s (t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '1' MONTH)",
        expect![[r#"
        line 1, column 63: INTERVAL '1' MONTH has no fixed length: months differ
        hint: write a fixed length, such as INTERVAL '5' SECOND or INTERVAL '1 minute'
    "#]],
    );
    check(
        "CREATE STREAM s (a INT) WITH (topic = 'a', topic = 'b')",
        expect![[r#"
        line 1, column 44: option "topic" is given twice
    "#]],
    );
    check(
        "SELECT 1 SELECT 2",
        expect![[r#"
        line 1, column 10: expected the end of the statement, found SELECT
    "#]],
    );
}
