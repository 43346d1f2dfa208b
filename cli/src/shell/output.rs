//! Rows as data for other programs: CSV with a header, or one JSON object a line. Both are exact and stream.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Csv,
    Json,
}

pub fn write_csv_header(out: &mut impl Write, schema: &Schema) -> io::Result<()> {
    let names: Vec<_> = schema.fields().iter().map(|field| quoted(field.name(), false)).collect();
    writeln!(out, "{}", names.join(","))
}

/// NULL is nothing between the commas; an empty text is `""`.
pub fn write_csv(out: &mut impl Write, batch: &RecordBatch) -> Result<(), ArrowError> {
    // Timestamps as RFC 3339.
    let options = FormatOptions::new();
    let columns = batch
        .columns()
        .iter()
        .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &options)?)))
        .collect::<Result<Vec<_>, ArrowError>>()?;
    for row in 0..batch.num_rows() {
        for (number, (column, formatter)) in columns.iter().enumerate() {
            if number > 0 {
                out.write_all(b",")?;
            }
            if !column.is_null(row) {
                let text = formatter.value(row).try_to_string()?;
                let is_text = column.data_type() == &DataType::Utf8;
                out.write_all(quoted(&text, is_text && text.is_empty()).as_bytes())?;
            }
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn quoted(text: &str, always: bool) -> String {
    if always || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

pub fn write_json(out: &mut impl Write, batch: &RecordBatch) -> Result<(), ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
    writer.write(batch)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    fn batch() -> RecordBatch {
        let decimals =
            Decimal128Array::from(vec![Some(1), Some(-250), None]).with_precision_and_scale(20, 2).unwrap();
        RecordBatch::try_from_iter([
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(0)])) as ArrayRef),
            ("s, t", Arc::new(StringArray::from(vec![Some("a \"b\"\nc"), Some(""), None]))),
            ("f", Arc::new(Float64Array::from(vec![0.1, 1e300, -0.5]))),
            ("d", Arc::new(decimals)),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 0, 0]).with_timezone("UTC"))),
        ])
        .unwrap()
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let mut out = Vec::new();
        write_csv_header(&mut out, &batch().schema()).unwrap();
        write_csv(&mut out, &batch()).unwrap();
        let expected = "i,\"s, t\",f,d,at\n\
                        9223372036854775807,\"a \"\"b\"\"\nc\",0.1,0.01,1970-01-01T00:00:00.000001Z\n\
                        ,\"\",1e300,-2.50,1970-01-01T00:00:00Z\n\
                        0,,-0.5,,1970-01-01T00:00:00Z\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_is_an_object_a_line_with_its_nulls() {
        let mut out = Vec::new();
        write_json(&mut out, &batch()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(r#"{"i":9223372036854775807,"s, t":"a \"b\"\nc","f":0.1,"d":"#), "{text}");
        assert!(text.contains(r#"{"i":null,"s, t":"","f":1.0e300,"d":-2.50,"#), "{text}");
    }
}
