//! Rows as JSON, the way streams read it: an object a row, instants by RFC 3339, NULL where there is nothing.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use thalweg_sql::plain;
use thalweg_sql::{Error, Result};

/// The rows of a delivery: a template makes one of each.
pub fn rows_of(body: &str) -> u64 {
    #[derive(Default, Deserialize)]
    struct Delivery {
        #[serde(default, alias = "changes")]
        rows: Vec<IgnoredAny>,
    }
    let delivery: Delivery = serde_json::from_str(body).unwrap_or_default();
    delivery.rows.len().max(1) as u64
}

/// An object a row.
pub fn objects(rows: &RecordBatch) -> Result<Vec<Bytes>> {
    let schema = Arc::new(plain::schema(&rows.schema(), false));
    let rows = plain::batch(rows, &schema)?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(vec![]);
    writer.write(&rows)?;
    writer.finish()?;
    let lines = Bytes::from(writer.into_inner());
    // No JSON holds a line end but between objects.
    let mut objects = Vec::with_capacity(rows.num_rows());
    let mut start = 0;
    for (end, _) in lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        objects.push(lines.slice(start..end));
        start = end + 1;
    }
    match objects.len() == rows.num_rows() {
        true => Ok(objects),
        false => Err(Error::internal("rows became more or fewer objects than they are")),
    }
}

/// The bytes of a column, or its text, a row each.
pub fn keys(rows: &RecordBatch, column: &str) -> Result<Vec<Option<Vec<u8>>>> {
    let column = rows.column_by_name(column);
    let column = column.ok_or_else(|| Error::internal("the column of keys is gone"))?;
    let column = match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Arc::clone(column)
        }
        _ => cast(column, &DataType::Utf8)?,
    };
    let bytes = cast(&column, &DataType::Binary)?;
    Ok(bytes.as_binary::<i32>().iter().map(|key| key.map(<[u8]>::to_vec)).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringViewArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn a_row_is_an_object() {
        let texts = StringViewArray::from(vec![Some("a\n\"b\""), None]);
        let at = TimestampMicrosecondArray::from(vec![0, 1_500_000]).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 3] =
            [("k", Arc::new(texts)), ("at", Arc::new(at)), ("n", Arc::new(Int64Array::from(vec![1, 2])))];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
        assert_eq!(
            objects(&rows).unwrap(),
            [
                &br#"{"k":"a\n\"b\"","at":"1970-01-01T00:00:00Z","n":1}"#[..],
                br#"{"k":null,"at":"1970-01-01T00:00:01.500Z","n":2}"#
            ]
        );
        assert_eq!(keys(&rows, "n").unwrap(), [Some(b"1".to_vec()), Some(b"2".to_vec())]);
        assert_eq!(keys(&rows, "k").unwrap(), [Some(b"a\n\"b\"".to_vec()), None]);
    }
}
