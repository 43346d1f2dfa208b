//! The table of meanings in `docs/JSON.md`, case by case, each one alone and among neighbours.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::samples::{fields, list, timestamp};
use crate::decode::{Decoded, Decoder};
use crate::source::Records;

pub fn schema() -> SchemaRef {
    let inner = DataType::Struct(fields([("w", DataType::Float64)]));
    let object = DataType::Struct(fields([("x", DataType::Int32), ("y", DataType::Utf8View), ("z", inner)]));
    let element = DataType::Struct(fields([("n", DataType::Int32), ("tags", list(DataType::Utf8View))]));
    Arc::new(Schema::new(fields([
        ("b", DataType::Boolean),
        ("t", DataType::Int8),
        ("i", DataType::Int32),
        ("l", DataType::Int64),
        ("u", DataType::Int16),
        ("f", DataType::Float32),
        ("d", DataType::Float64),
        ("m", DataType::Decimal128(10, 2)),
        ("s", DataType::Utf8View),
        ("day", DataType::Date32),
        ("ts", timestamp()),
        ("o", object),
        ("a", list(DataType::Int32)),
        ("p", list(element)),
    ])))
}

pub fn decode(decoder: &mut Decoder, values: &[Option<&[u8]>]) -> Decoded {
    let mut records = Records::default();
    values.iter().for_each(|value| records.push(*value));
    // Nothing may lie behind the last record, or a sanitizer would not see it read.
    records.bytes.shrink_to_fit();
    decoder.decode(&records).unwrap()
}

/// The rows as JSON, a line each, without what is NULL.
fn text(batch: &RecordBatch) -> String {
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap()
}

/// What becomes of `value`: its row, or the reason and the place. The same alone, the second time, and among neighbours
/// of every kind; the neighbours get the same rows as without it.
fn verdict(value: Option<&[u8]>) -> Result<String, (String, usize)> {
    let whole = schema();
    let every: Vec<usize> = (0..whole.fields().len()).collect();
    let mut decoder = Decoder::new(Arc::clone(&whole), &every).unwrap();
    let alone = decode(&mut decoder, &[value]);
    let result = match alone.refused.as_slice() {
        [] => Ok(text(&alone.batch).trim_end().to_owned()),
        [refused] => Err((refused.reason.clone(), refused.at)),
        _ => panic!("one record was refused twice"),
    };
    assert_eq!(alone.batch.num_rows(), usize::from(result.is_ok()));

    let good: &[u8] =
        br#"{"s":"a neighbour with a long string","i":7,"a":[1,2],"p":[{"n":1,"tags":["x"]}],"o":{"x":1}}"#;
    let neighbours = [Some(good), value, Some(b"{\"i\":[".as_slice()), value, None, Some(good), value];
    let among = decode(&mut decoder, &neighbours);
    let without = decode(&mut decoder, &[Some(good), Some(good)]);
    let good_row = text(&without.batch).lines().next().unwrap().to_owned();
    let mut expected = vec![good_row.clone(), good_row];
    if let Ok(row) = &result {
        expected = vec![expected[0].clone(), row.clone(), row.clone(), expected[1].clone(), row.clone()];
    }
    assert_eq!(text(&among.batch).lines().collect::<Vec<_>>(), expected);
    let found = among.refused.iter().map(|refused| refused.index).collect::<Vec<_>>();
    assert_eq!(found, if result.is_ok() { vec![2, 4] } else { vec![1, 2, 3, 4, 6] });
    if let Err((reason, at)) = &result {
        assert_eq!((&among.refused[2].reason, &among.refused[2].at), (reason, at));
    }

    // Whichever columns are wanted, and none at all: the same verdict.
    for wanted in [vec![], vec![8], vec![0, 9, 11]] {
        let mut decoder = Decoder::new(Arc::clone(&whole), &wanted).unwrap();
        let part = decode(&mut decoder, &neighbours);
        assert_eq!(part.refused, among.refused);
        assert_eq!(part.batch, among.batch.project(&wanted).unwrap());
    }
    result
}

/// The record is accepted with this row.
#[track_caller]
fn reads(value: &str, row: &str) {
    assert_eq!(verdict(Some(value.as_bytes())), Ok(row.to_owned()), "{value}");
}

/// The record is refused for this reason, found at this byte.
#[track_caller]
fn refuses(value: impl AsRef<[u8]>, at: usize, reason: &str) {
    let value = value.as_ref();
    let shown = String::from_utf8_lossy(value);
    assert_eq!(verdict(Some(value)), Err((reason.to_owned(), at)), "{shown}");
}

#[test]
fn what_is_missing_or_null_is_null() {
    reads("{}", "{}");
    reads(r#"{"i":null,"s":null,"o":null,"a":null,"ts":null,"m":null,"b":null}"#, "{}");
    reads(r#"{"o":{},"a":[]}"#, r#"{"o":{},"a":[]}"#);
    reads(r#"{"o":{"x":null,"z":{}},"a":[null,1]}"#, r#"{"o":{"z":{}},"a":[null,1]}"#);
    reads(
        r#"{"p":[null,{},{"n":1,"tags":null},{"tags":["a",null]}]}"#,
        r#"{"p":[null,{},{"n":1},{"tags":["a",null]}]}"#,
    );
}

#[test]
fn what_is_unknown_is_ignored_if_it_is_legal() {
    reads(r#"{"x":1,"I":2,"i ":3,"":4,"i":5}"#, r#"{"i":5}"#);
    reads(r#"{"q":{"i":1,"i":[{"deep":[1e999,-0.0e-0,"\u0000\\"]}]},"q":"twice","i":5}"#, r#"{"i":5}"#);
    reads(r#"{"o":{"i":1,"x":2,"q":[]}}"#, r#"{"o":{"x":2}}"#);
    for illegal in [
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "-",
        "--1",
        "0x1",
        "NaN",
        "Infinity",
        "tru",
        "True",
        "nul",
        "'a'",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "",
        "1 2",
        "]",
        "}",
    ] {
        for value in [
            format!("{{\"q\":{illegal}}}"),
            format!("{{\"i\":{illegal}}}"),
            format!("{{\"i\":1,\"q\":[{illegal}],\"s\":\"a\"}}"),
        ] {
            if value != "{\"i\":1,\"q\":[],\"s\":\"a\"}" {
                let verdict = verdict(Some(value.as_bytes()));
                assert!(
                    matches!(&verdict, Err((reason, _)) if reason.starts_with("not legal JSON: ")),
                    "{value} {verdict:?}"
                );
            }
        }
    }
    for illegal in ["\\x", "\\u12G4", "\\ud800", "\\udc00\\ud800", "\u{1}", "\n", "\\"] {
        for value in [
            format!("{{\"q\":\"{illegal}\"}}"),
            format!("{{\"s\":\"{illegal}\"}}"),
            format!("{{\"ts\":\"{illegal}\"}}"),
            format!("{{\"{illegal}\":1}}"),
            format!("{{\"q\":[{{\"{illegal}\":1}}]}}"),
        ] {
            let verdict = verdict(Some(value.as_bytes()));
            assert!(
                matches!(&verdict, Err((reason, _)) if reason.starts_with("not legal JSON: ")),
                "{value} {verdict:?}"
            );
        }
    }
}

#[test]
fn a_record_is_one_object_and_nothing_else() {
    assert_eq!(verdict(None), Err(("the value is a tombstone".to_owned(), 0)));
    refuses("", 0, "the value is empty");
    refuses(" \n", 0, "the value is empty");
    refuses("null", 0, "the value must be an object, found null");
    refuses(" [{}]", 1, "the value must be an object, found an array");
    refuses("7", 0, "the value must be an object, found a number");
    refuses("\"{}\"", 0, "the value must be an object, found a string");
    refuses("\u{feff}{}", 0, "the value begins with a byte-order mark");
    reads(
        " \t\r\n{ \"i\" :\n1 , \"o\" : { \"x\" : 2 } , \"a\" : [ 1 , 2 ] } \r\n",
        r#"{"i":1,"o":{"x":2},"a":[1,2]}"#,
    );
    for trailing in ["x", "{}", ",", "}", "\0", "\u{b}", "\u{a0}"] {
        let value = format!("{{\"i\":1}}{trailing}");
        let verdict = verdict(Some(value.as_bytes()));
        assert!(
            matches!(&verdict, Err((reason, 6..=8)) if reason.starts_with("not legal JSON: ")),
            "{value} {verdict:?}"
        );
    }
    for cut in 1..r#"{"s":"ab\n","i":-1.5e7,"o":{"x":null},"a":[true,1]}"#.len() {
        let value = &r#"{"s":"ab\n","i":-1.5e7,"o":{"x":null},"a":[true,1]}"#[..cut];
        assert!(verdict(Some(value.as_bytes())).is_err(), "{value}");
    }
}

#[test]
fn what_is_not_utf8_is_refused_and_its_neighbours_are_not() {
    refuses(b"{\"s\":\"\xff\"}", 6, "the value is not UTF-8");
    refuses(b"{\"q\":\"a\xc3\"}", 7, "the value is not UTF-8");
    refuses(b"{\"\xed\xa0\x80\":1}", 2, "the value is not UTF-8");
    refuses(b"{\"q\":1}\xc3", 7, "the value is not UTF-8");
    reads("{\"s\":\"é€😀\u{7f}\u{feff}\"}", "{\"s\":\"é€😀\u{7f}\u{feff}\"}");
    // Two halves of one character, in two records, make legal UTF-8 of the buffer and of neither record.
    let mut decoder = Decoder::new(schema(), &[8]).unwrap();
    let decoded = decode(&mut decoder, &[Some(b"{\"i\":1}\xc3"), Some(b"\xa9{\"i\":1}"), Some(b"{\"i\":1}")]);
    assert_eq!(decoded.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(decoded.refused[0].reason, "the value is not UTF-8");
}

#[test]
fn a_key_that_comes_twice_refuses_the_record() {
    refuses(r#"{"i":1,"i":1}"#, 11, r#"the key comes twice. column="i", value=1"#);
    refuses(r#"{"i":null,"s":"","\u0069":"x"}"#, 26, r#"the key comes twice. column="i", value="x""#);
    refuses(
        r#"{"p":[{"n":1},{"n":1,"tags":[],"n":null}]}"#,
        35,
        r#"the key comes twice. column="p[].n", value=null"#,
    );
    reads(r#"{"p":[{"n":1},{"n":2}],"o":{"x":1}}"#, r#"{"o":{"x":1},"p":[{"n":1},{"n":2}]}"#);
}

#[test]
fn escapes_are_resolved_in_values_and_in_keys() {
    reads(r#"{"s":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#, r#"{"s":"\"\\/\b\f\n\r\té😀"}"#);
    reads(r#"{"\u0069":1,"\u006f":{"\u0078":2},"q\n":1}"#, r#"{"i":1,"o":{"x":2}}"#);
    reads(r#"{"s":"\u0000"}"#, r#"{"s":"\u0000"}"#);
    reads(r#"{"s":"twelve bytes"}"#, r#"{"s":"twelve bytes"}"#);
    reads(r#"{"s":"thirteen byte"}"#, r#"{"s":"thirteen byte"}"#);
    reads(
        r#"{"ts":"2025\u002d06-01T00:00:00Z","day":"2025-06-0\u0031"}"#,
        r#"{"day":"2025-06-01","ts":"2025-06-01T00:00:00Z"}"#,
    );
    refuses(r#"{"s":"ab\ud83d"}"#, 8, "not legal JSON: a surrogate without its other half");
    refuses("{\"s\":\"a\tb\"}", 7, "not legal JSON: a control character in a string is not escaped");
}

#[test]
fn a_wrong_type_is_refused() {
    refuses(r#"{"i":"1"}"#, 5, r#"expected a number, found a string. column="i", value="1""#);
    refuses(r#"{"d":"1.5"}"#, 5, r#"expected a number, found a string. column="d", value="1.5""#);
    refuses(r#"{"m":"1.5"}"#, 5, r#"expected a number, found a string. column="m", value="1.5""#);
    refuses(r#"{"b":"true"}"#, 5, r#"expected a boolean, found a string. column="b", value="true""#);
    refuses(r#"{"b":1}"#, 5, r#"expected a boolean, found a number. column="b", value=1"#);
    refuses(r#"{"s":1}"#, 5, r#"expected a string, found a number. column="s", value=1"#);
    refuses(r#"{"s":true}"#, 5, r#"expected a string, found a boolean. column="s", value=true"#);
    refuses(r#"{"s":{"a":1}}"#, 5, r#"expected a string, found an object. column="s", value={"a":1}"#);
    refuses(r#"{"s":[]}"#, 5, r#"expected a string, found an array. column="s", value=[]"#);
    refuses(r#"{"o":[]}"#, 5, r#"expected an object, found an array. column="o", value=[]"#);
    refuses(r#"{"o":"{}"}"#, 5, r#"expected an object, found a string. column="o", value="{}""#);
    refuses(
        r#"{"o":{"z":{"w":false}}}"#,
        15,
        r#"expected a number, found a boolean. column="o.z.w", value=false"#,
    );
    refuses(r#"{"a":{}}"#, 5, r#"expected an array, found an object. column="a", value={}"#);
    refuses(r#"{"a":[1,"2"]}"#, 8, r#"expected a number, found a string. column="a[]", value="2""#);
    refuses(r#"{"i":true}"#, 5, r#"expected a number, found a boolean. column="i", value=true"#);
    refuses(
        r#"{"day":20000}"#,
        7,
        r#"expected a string with a date, found a number. column="day", value=20000"#,
    );
    refuses(
        r#"{"ts":false}"#,
        6,
        r#"expected a string with a time, or an epoch number, found a boolean. column="ts", value=false"#,
    );
    let long = "x".repeat(100);
    refuses(
        format!(r#"{{"i":"{long}"}}"#),
        5,
        &format!(r#"expected a number, found a string. column="i", value="{}…"#, &long[..59]),
    );
}

#[test]
fn a_number_counts_by_its_value() {
    reads(
        r#"{"t":-128,"u":32767,"i":-0,"l":9223372036854775807}"#,
        r#"{"t":-128,"i":0,"l":9223372036854775807,"u":32767}"#,
    );
    reads(r#"{"t":1.0,"i":3e2,"l":-250e-1}"#, r#"{"t":1,"i":300,"l":-25}"#);
    refuses(r#"{"t":128}"#, 5, r#"out of the range of TINYINT. column="t", value=128"#);
    refuses(r#"{"u":-32769}"#, 5, r#"out of the range of SMALLINT. column="u", value=-32769"#);
    refuses(r#"{"i":2147483648}"#, 5, r#"out of the range of INT. column="i", value=2147483648"#);
    refuses(
        r#"{"l":9223372036854775808}"#,
        5,
        r#"out of the range of BIGINT. column="l", value=9223372036854775808"#,
    );
    refuses(r#"{"i":1.5}"#, 5, r#"not a whole number. column="i", value=1.5"#);
    reads(r#"{"d":22.74,"f":22.74,"m":22.74}"#, r#"{"f":22.74,"d":22.74,"m":22.74}"#);
    reads(r#"{"d":-0.0,"f":-0}"#, r#"{"f":0.0,"d":0.0}"#);
    reads(r#"{"d":123456789012345678901234567890}"#, r#"{"d":1.2345678901234568e29}"#);
    reads(r#"{"d":1e-400}"#, r#"{"d":0.0}"#);
    refuses(r#"{"d":1e400}"#, 5, r#"out of the range of DOUBLE. column="d", value=1e400"#);
    refuses(r#"{"f":-1e39}"#, 5, r#"out of the range of FLOAT. column="f", value=-1e39"#);
    refuses(
        r#"{"m":1.005}"#,
        5,
        r#"more than 2 decimals, which would be rounded away. column="m", value=1.005"#,
    );
    refuses(r#"{"m":100000000}"#, 5, r#"out of the range of DECIMAL(10, 2). column="m", value=100000000"#);
}

#[test]
fn a_time_has_many_forms() {
    let june = |value: &str| reads(&format!("{{\"ts\":{value}}}"), r#"{"ts":"2025-06-01T00:00:00Z"}"#);
    june(r#""2025-06-01T00:00:00Z""#);
    june(r#""2025-06-01 00:00:00.0000009""#);
    june(r#""2025-06-01T02:30:00+02:30""#);
    june("1748736000");
    june("1748736000000");
    june("1748736000000000");
    june("1748736000.0");
    june("1.748736e12");
    reads(r#"{"ts":1748736000.25}"#, r#"{"ts":"2025-06-01T00:00:00.250Z"}"#);
    refuses(
        r#"{"ts":"2025-06-01"}"#,
        6,
        r#"not a time such as 2025-06-01T00:00:04.871Z. column="ts", value="2025-06-01""#,
    );
    refuses(
        r#"{"ts":1748736000000000000}"#,
        6,
        r#"not an epoch of seconds, milliseconds or microseconds from the years 1 to 9999. column="ts", value=1748736000000000000"#,
    );
    refuses(
        r#"{"day":"2025-02-29"}"#,
        7,
        r#"not a date such as 2025-06-01. column="day", value="2025-02-29""#,
    );
}

#[test]
fn nesting_is_bounded() {
    let nest = |levels: usize| format!("{{\"q\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    reads(&nest(64), "{}");
    refuses(nest(65), 5 + 63, "the value nests deeper than 64 levels");
    let objects = |levels: usize| format!("{}1{}", "{\"q\":".repeat(levels), "}".repeat(levels));
    reads(&objects(64), "{}");
    refuses(objects(65), 64 * 5, "the value nests deeper than 64 levels");
    assert!(verdict(Some("[".repeat(1_000_000).as_bytes())).is_err());
    assert!(verdict(Some("{\"q\":".repeat(1_000_000).as_bytes())).is_err());
}

/// What follows an unfinished record may look like more of it, up to the end of the buffer and no further: only a
/// sanitizer sees that.
#[test]
fn an_unfinished_record_ends_where_it_ends() {
    let every: Vec<usize> = (0..schema().fields().len()).collect();
    let mut decoder = Decoder::new(schema(), &every).unwrap();
    let unfinished = [
        "{\"",
        "{\"s\":\"",
        "{\"s\":\"a",
        "{\"q\":\"a",
        "{\"i\":1",
        "{\"d\":1.1",
        "{\"m\":1.1",
        "{\"q\":1",
        "{\"ts\":1",
        "{\"ts\":\"2025-06-01T00:00:00.1",
        "{\"day\":\"2",
        "{\"o\":{\"y\":\"a",
        "{\"a\":[1",
        "{\"i\":1,",
    ];
    for record in unfinished {
        let finished = format!("{record}\":1}}");
        for byte in [b'1', b'a', b' '] {
            for length in 0..=130 {
                let rest = vec![byte; length];
                // The first one makes its shape known, if it is one.
                let values = [finished.as_bytes(), record.as_bytes(), &rest].map(Some);
                let refused = decode(&mut decoder, &values).refused;
                let indices: Vec<_> = refused.iter().map(|refused| refused.index).collect();
                assert!(indices.ends_with(&[1, 2]), "{record} {length} {indices:?}");
            }
        }
    }
}

#[test]
fn a_type_that_json_cannot_hold_is_refused_with_the_column() {
    let object = DataType::Struct(fields([("y", DataType::Binary)]));
    let schema = Arc::new(Schema::new(fields([("s", DataType::Utf8View), ("o", list(object))])));
    let error = Decoder::new(schema, &[]).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    assert_eq!(error.to_string(), "no JSON value can be read as this type. column=\"o[].y\", type=Binary");
}

#[test]
fn a_column_that_cannot_be_null_is_refused() {
    let element = Arc::new(Field::new("item", DataType::Int32, false));
    let schema = Arc::new(Schema::new(fields([("a", DataType::List(element))])));
    let error = Decoder::new(schema, &[0]).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    let schema = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8View, false)]));
    assert_eq!(Decoder::new(schema, &[0]).unwrap_err().kind(), crate::ErrorKind::Invalid);
}

#[test]
fn a_batch_of_nothing_is_a_batch() {
    for wanted in [vec![], vec![8, 11, 13]] {
        let mut decoder = Decoder::new(schema(), &wanted).unwrap();
        let decoded = decode(&mut decoder, &[]);
        assert_eq!((decoded.batch.num_rows(), decoded.batch.num_columns()), (0, wanted.len()));
        assert_eq!(decoded.batch.schema(), *decoder.schema());
        assert_eq!(decode(&mut decoder, &[Some(b"{}"), None]).batch.num_rows(), 1);
    }
}

#[test]
fn what_breaks_the_grammar_is_told_with_its_place() {
    for (value, at, reason) in [
        ("{\"i\":01}", 5, "no number is written so. found=01}"),
        ("{\"i\":+1}", 5, "no value begins so. found=+1}"),
        ("{\"i\":NaN}", 5, "no value begins so. found=NaN}"),
        ("{\"i\":nul}", 5, "but for true, false and null, no word stands without quotes. found=nul}"),
        ("{\"i\" 1}", 5, "a key is not followed by ':'. found=1}"),
        ("{\"i\":1 \"s\":2}", 7, "a field is followed neither by ',' nor by '}'. found=\"s\":2}"),
        ("{\"a\":[1 2]}", 8, "an element is followed neither by ',' nor by ']'. found=2]}"),
        ("{i:1}", 1, "a key must stand in double quotes. found=i:1}"),
        ("{\"i\":1,}", 7, "nothing comes behind a comma. found=}"),
        ("{\"a\":[1, ]}", 9, "nothing comes behind a comma. found=]}"),
        ("{\"i\":1}\n\t{}", 9, "something comes behind the value. found={}"),
        ("{\"i\":1", 6, "the value ends too early"),
        ("{\"s\":\"a", 7, "a string does not end"),
    ] {
        refuses(value, at, &format!("not legal JSON: {reason}"));
    }
}
