//! Rows as text, the same from the shell and over HTTP: CSV and JSON, exact, and as they come.
//!
//! Moments are RFC 3339. A timestamp without a zone is read in UTC beside a moment, and is told so: who parses `…T10:00:00`
//! would take it for the clock of their own zone.

use std::io::{self, Write};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// As those with a zone are told: as many digits as are needed, in threes.
const WITHOUT_ZONE: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// Of JSON, in which NULL is told too.
pub fn json() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true).with_timestamp_format(WITHOUT_ZONE.to_owned())
}

/// The line of the columns' names.
pub fn csv_names(out: &mut impl Write, schema: &Schema) -> io::Result<()> {
    for (number, field) in schema.fields().iter().enumerate() {
        if number > 0 {
            out.write_all(b",")?;
        }
        write_quoted(out, field.name(), false)?;
    }
    out.write_all(b"\n")
}

/// NULL is nothing between the commas, and an empty text is `""`, as PostgreSQL's `COPY … CSV` has it.
pub fn csv_rows(out: &mut impl Write, batch: &RecordBatch) -> Result<(), ArrowError> {
    let options = FormatOptions::new().with_timestamp_format(Some(WITHOUT_ZONE));
    let columns = batch
        .columns()
        .iter()
        .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &options)?)))
        .collect::<Result<Vec<_>, ArrowError>>()?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (number, (column, formatter)) in columns.iter().enumerate() {
            if number > 0 {
                out.write_all(b",")?;
            }
            // A column of nothing but NULL says of itself that it has none.
            if column.is_null(row) || column.data_type().is_null() {
                continue;
            }
            text.clear();
            formatter.value(row).write(&mut text)?;
            write_quoted(out, &text, text.is_empty())?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn write_quoted(out: &mut impl Write, text: &str, always: bool) -> io::Result<()> {
    match always || text.contains([',', '"', '\n', '\r']) {
        true => write!(out, "\"{}\"", text.replace('"', "\"\"")),
        false => out.write_all(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, StringArray, StructArray,
        TimestampMicrosecondArray, TimestampNanosecondArray,
    };
    use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
    use datafusion::arrow::json::writer::LineDelimited;

    use super::*;

    fn csv(batch: &RecordBatch) -> String {
        let mut out = vec![];
        csv_names(&mut out, batch.schema_ref()).unwrap();
        csv_rows(&mut out, batch).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn lines(batch: &RecordBatch) -> String {
        let mut out = vec![];
        let mut writer = json().build::<_, LineDelimited>(&mut out);
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn batch() -> RecordBatch {
        let decimals =
            Decimal128Array::from(vec![Some(1), Some(-250), None]).with_precision_and_scale(20, 2).unwrap();
        RecordBatch::try_from_iter([
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(0)])) as ArrayRef),
            ("s, t", Arc::new(StringArray::from(vec![Some("a \"b\"\nc"), Some(""), None]))),
            ("b", Arc::new(BinaryArray::from(vec![Some(&b"\x0f"[..]), Some(b""), None]))),
            ("f", Arc::new(Float64Array::from(vec![0.1, 1e300, -0.5]))),
            ("d", Arc::new(decimals)),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 0, 0]).with_timezone("UTC"))),
        ])
        .unwrap()
    }

    #[test]
    fn csv_is_quoted_where_it_must_be_and_tells_nothing_from_empty() {
        let expected = "i,\"s, t\",b,f,d,at\n\
                        9223372036854775807,\"a \"\"b\"\"\nc\",0f,0.1,0.01,1970-01-01T00:00:00.000001Z\n\
                        ,\"\",\"\",1e300,-2.50,1970-01-01T00:00:00Z\n\
                        0,,,-0.5,,1970-01-01T00:00:00Z\n";
        assert_eq!(csv(&batch()), expected);
    }

    #[test]
    fn json_is_an_object_a_line_with_its_nulls() {
        let text = lines(&batch());
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.starts_with(r#"{"i":9223372036854775807,"s, t":"a \"b\"\nc","b":"0f","f":0.1,"d":"#),
            "{text}"
        );
        assert!(text.contains(r#"{"i":null,"s, t":"","b":"","f":1.0e300,"d":-2.50,"#), "{text}");
    }

    #[test]
    fn a_moment_is_told_with_its_zone_wherever_it_stands() {
        let nanos = vec![1_748_736_000_120_000_000, 1_748_736_000_000_000_000];
        let zoneless: ArrayRef = Arc::new(TimestampNanosecondArray::from(nanos.clone()));
        let kind = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let inner = StructArray::from(vec![(Arc::new(Field::new("at", kind, true)), Arc::clone(&zoneless))]);
        let berlin = TimestampNanosecondArray::from(nanos).with_timezone("Europe/Berlin");
        let columns: [(&str, ArrayRef); 3] =
            [("plain", zoneless), ("berlin", Arc::new(berlin)), ("inner", Arc::new(inner))];
        let all = RecordBatch::try_from_iter(columns).unwrap();
        assert_eq!(
            lines(&all),
            "{\"plain\":\"2025-06-01T00:00:00.120Z\",\"berlin\":\"2025-06-01T02:00:00.120+02:00\",\
             \"inner\":{\"at\":\"2025-06-01T00:00:00.120Z\"}}\n\
             {\"plain\":\"2025-06-01T00:00:00Z\",\"berlin\":\"2025-06-01T02:00:00+02:00\",\
             \"inner\":{\"at\":\"2025-06-01T00:00:00Z\"}}\n"
        );
        assert_eq!(
            csv(&all.project(&[0, 1]).unwrap()),
            "plain,berlin\n2025-06-01T00:00:00.120Z,2025-06-01T02:00:00.120+02:00\n\
             2025-06-01T00:00:00Z,2025-06-01T02:00:00+02:00\n"
        );
    }
}
