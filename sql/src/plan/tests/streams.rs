//! `CREATE STREAM`: what is understood, and what is refused.

use expect_test::{Expect, expect};
use thalweg_engine::spec::{SourceSpec, StreamSpec};
use uuid::Uuid;

use crate::error::Result;
use crate::parse::{Statement, statement};
use crate::plan::plan_stream;

fn planned(text: &str) -> Result<StreamSpec> {
    match statement(text)?.statement {
        Statement::CreateStream(create) => plan_stream(&create, Uuid::nil()),
        other => panic!("{other:?}"),
    }
}

fn check(text: &str, expected: Expect) {
    let told = match planned(text) {
        Ok(spec) => {
            let columns: Vec<_> = (spec.schema.fields().iter().zip(&spec.origins))
                .map(|(field, origin)| format!("{}: {} {origin:?}\n", field.name(), field.data_type()))
                .collect();
            format!("{}{:?}\n{:?}\n{:?}\n", columns.concat(), spec.event_time, spec.source, spec.options)
        }
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&told);
}

#[test]
fn kafka_with_every_type() {
    check(
        "CREATE STREAM s (a STRING, b BOOLEAN, c TINYINT, d SMALLINT, e INT, f BIGINT, g FLOAT, h DOUBLE,
           i DECIMAL(10, 2), j DATE, k TIMESTAMP(3), l STRUCT<type STRING, tags ARRAY<STRING>>, m INT[], n VARCHAR(20),
           p INT METADATA FROM 'partition', o BIGINT METADATA FROM 'offset', r TIMESTAMP METADATA FROM 'timestamp',
           q BYTES METADATA FROM 'key', WATERMARK FOR k AS k - INTERVAL '5' SECOND)
         WITH (connector = 'kafka', brokers = 'b:9092', topic = 't', start = '2025-06-01T00:00:00Z', idle = '3s',
           future_guard = '1h', record_bytes_max = '64KiB', 'properties.security.protocol' = 'SSL')",
        expect![[r#"
            a: Utf8View Value
            b: Boolean Value
            c: Int8 Value
            d: Int16 Value
            e: Int32 Value
            f: Int64 Value
            g: Float32 Value
            h: Float64 Value
            i: Decimal128(10, 2) Value
            j: Date32 Value
            k: Timestamp(µs, "UTC") Value
            l: Struct("type": Utf8View, "tags": List(Utf8View)) Value
            m: List(Int32) Value
            n: Utf8View Value
            p: Int32 Record(Partition)
            o: Int64 Record(Offset)
            r: Timestamp(µs, "UTC") Record(Timestamp)
            q: BinaryView Record(Key)
            Some(EventTime { column: 10, delay: 5000000 })
            Kafka(KafkaSpec { brokers: "b:9092", topic: "t", properties: {"security.protocol": "SSL"} })
            StreamOptions { start: Timestamp(1748736000000000), idle: 3s, future_guard: 3600s, record_bytes_max: 65536 }
        "#]],
    );
}

#[test]
fn other_connectors() {
    check(
        "CREATE STREAM s (a STRING) WITH (connector = generator, rate = 1000, rows = 1000000, seed = 7, partitions = 2)",
        expect![[r#"
            a: Utf8View Value
            None
            Generator(GeneratorSpec { seed: 7, partitions: 2, rate: Some(1000.0), rows: Some(1000000), start_micros: None })
            StreamOptions { start: Earliest, idle: 10s, future_guard: 300s, record_bytes_max: 1048576 }
        "#]],
    );
    check(
        "CREATE STREAM s (a STRING) WITH (connector = 'files', path = '/tmp/x/*.ndjson')",
        expect![[r#"
        a: Utf8View Value
        None
        Files(FilesSpec { location: "/tmp/x/*.ndjson", properties: {} })
        StreamOptions { start: Earliest, idle: 10s, future_guard: 300s, record_bytes_max: 1048576 }
    "#]],
    );
}

/// The generator's `now` is the moment of creation, which the id keeps.
#[test]
fn now_is_the_birth_of_the_stream() {
    let id = Uuid::parse_str("01932c07-a000-7000-8000-000000000000").unwrap();
    let Statement::CreateStream(create) =
        statement("CREATE STREAM s (a STRING) WITH (connector = 'generator', start = 'now')")
            .unwrap()
            .statement
    else {
        panic!()
    };
    let SourceSpec::Generator(spec) = plan_stream(&create, id).unwrap().source else { panic!() };
    assert_eq!(spec.start_micros, Some(0x0193_2c07_a000 * 1000));
    check(
        "CREATE STREAM s (a STRING) WITH (connector = 'generator', start = 'soon')",
        expect![[r#"
        line 1, column 67: option "start" can't be "soon": it is now or a moment such as 2025-06-01T00:00:00Z
    "#]],
    );
}

#[test]
fn mistakes_are_named() {
    check(
        "CREATE STREAM s (a STRING)\nWITH (connector = 'kafka', brokers = 'b', topc = 't')",
        expect![[r#"
            line 2, column 43: unknown option "topc"
            hint: did you mean "topic"? options are: brokers, topic, format, start, properties.*, connector, idle, future_guard, record_bytes_max
        "#]],
    );
    check(
        "CREATE STREAM s (a STRING)\nWITH (connector = 'kafka', brokers = 'b', topic = 't', topc = 't')",
        expect![[r#"
            line 2, column 56: unknown option "topc"
            hint: did you mean "topic"? options are: brokers, topic, format, start, properties.*, connector, idle, future_guard, record_bytes_max
        "#]],
    );
    check(
        "CREATE STREAM s (a STRING)",
        expect![[r#"
        line 1, column 15: stream s has no connector
        hint: add WITH (connector = 'kafka', brokers = 'localhost:9092', topic = '…')
    "#]],
    );
    check(
        "CREATE STREAM s (a STRING) WITH (connector = 'kafak')",
        expect![[r#"
        line 1, column 46: unknown connector "kafak"
        hint: did you mean "kafka"? connectors are: kafka, generator, files, log
    "#]],
    );
    check(
        "CREATE STREAM s (a STRING) WITH (connector = 'generator', idle = 'soon')",
        expect![[r#"
        line 1, column 66: option "idle" can't be "soon": it is a length of time such as 100ms, 10s, 5min, 1h or 1d
    "#]],
    );
    check(
        "CREATE STREAM s (a STRING) WITH (connector = 'generator', partitions = 0)",
        expect![[r#"
        line 1, column 72: option "partitions" can't be "0": it is a number from 1 to 1024
    "#]],
    );
    check(
        "CREATE STREAM s (a STRING, a INT) WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 28: two columns are called "a"
    "#]],
    );
    check(
        "CREATE STREAM s (a TIME) WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 20: TIME is no type of a column; types are STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIMESTAMP, BYTES, STRUCT<name type, …> and ARRAY<type>
    "#]],
    );
    check(
        "CREATE STREAM s (a STRUCT<b BYTES[]>) WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 20: no JSON value is BYTES
        hint: declare STRING; BYTES are for a record's key: BYTES METADATA FROM 'key'
    "#]],
    );
    check(
        "CREATE STREAM s (a INT METADATA FROM 'offset') WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 20: the record's offset is BIGINT, not INT
    "#]],
    );
    check(
        "CREATE STREAM s (a INT METADATA FROM 'ofset') WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 38: a record has no metadata "ofset"
        hint: did you mean "offset"? metadata are: partition, offset, timestamp, key
    "#]],
    );
    check(
        "CREATE STREAM s (a INT, WATERMARK FOR b AS b) WITH (connector = 'generator')",
        expect![[r#"
            line 1, column 39: no column "b"
            hint: columns are: a
        "#]],
    );
    check(
        "CREATE STREAM s (a INT, WATERMARK FOR a AS a) WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 39: the event time "a" is not a TIMESTAMP
        hint: declare it as a TIMESTAMP
    "#]],
    );
    check(
        "CREATE STREAM s (a DECIMAL(50, 2)) WITH (connector = 'generator')",
        expect![[r#"
        line 1, column 20: DECIMAL(p, s) has p from 1 to 38 and s from 0 to p
    "#]],
    );
    check(
        "CREATE STREAM s (a INT) WITH (connector = 'kafka', brokers = 'b', topic = 't', start = 'now')",
        expect![[r#"
            line 1, column 88: option "start" can't be "now": it is earliest, latest or a moment such as 2025-06-01T00:00:00Z
        "#]],
    );
}

#[test]
fn a_secret_in_the_open_is_refused_and_not_repeated() {
    let text = "CREATE STREAM s (a STRING) WITH (connector = 'kafka', brokers = 'b', topic = 't',\n  \
                'properties.sasl.password' = 'PASSWORD')";
    check(
        &text.replace("PASSWORD", "s3cret"),
        expect![[r#"
            line 2, column 32: option "properties.sasl.password" holds a secret in the open
            a statement is kept as it is written, in every manifest
            hint: write '${env:THALWEG_SECRET_NAME}' or '${file:NAME}', and give the secret to the server
        "#]],
    );
    for reference in ["${env:THALWEG_SECRET_KAFKA}", "${file:kafka/password}"] {
        let SourceSpec::Kafka(kafka) = planned(&text.replace("PASSWORD", reference)).unwrap().source else {
            panic!()
        };
        assert_eq!(kafka.properties["sasl.password"], reference);
    }
}
