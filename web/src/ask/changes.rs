//! What a `SUBSCRIBE` tells, as JSON: rows that come and go, and marks, at each of which they add up to the view. Which wire
//! it goes by is decided elsewhere (`subscribe`, `socket`).
//!
//! Nothing queues up here: whoever takes nothing holds up the subscription, which passes over what has changed meanwhile,
//! and leaves them after half a minute, as it does over Flight SQL.

use std::collections::VecDeque;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use serde_json::{Value, json};
use thalweg_sql::session::{Client, Database};

use super::encode::Encoder;
use super::feed::BEAT;
use super::format::Format;
use crate::fault::Fault;

/// Of one message, at most, and about so many bytes.
const ROWS: usize = 1000;
const BYTES: usize = 256 << 10;

/// The columns that come before the view's, by their places.
const CHANGE: usize = 0;
const TOKEN: usize = 2;
const EPOCH: usize = 3;

pub(super) enum Told {
    /// An array of objects, each with `change` and `final` before the columns of the view.
    Rows(Bytes),
    /// All rows so far add up to the view. The token is where to go on.
    Mark { token: String, epoch: i64 },
    /// It has come as far as was wanted.
    End,
    /// Why it goes on no more.
    Fault(Fault),
}

pub(super) struct Wanted {
    pub sql: String,
    /// A token.
    pub after: Option<String>,
    /// Values of the parameters that the statement names, each once.
    pub parameters: Vec<(String, String)>,
}

pub(super) struct Changes {
    /// `None` when it has ended.
    rows: Option<SendableRecordBatchStream>,
    waiting: VecDeque<RecordBatch>,
}

impl Changes {
    /// What is wrong with the statement or the token is told now, rather than as the first of what is told.
    pub async fn begin(database: &Database, client: Client, wanted: &Wanted) -> Result<Changes, Fault> {
        let Wanted { sql, after, parameters } = wanted;
        let session = database.session(client);
        let mut rows = session.subscribe(sql, after.as_deref(), parameters).await?;
        let mut waiting = VecDeque::new();
        // Nothing is lost of what takes longer.
        if let Ok(Some(first)) = tokio::time::timeout(BEAT, rows.next()).await {
            waiting.extend(pieces(&first.map_err(thalweg_sql::Error::from)?));
        }
        Ok(Changes { rows: Some(rows), waiting })
    }

    /// `None` after an end or a fault. Nothing is lost by not waiting for it.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(piece) = self.waiting.pop_front() {
                return Some(told(&piece).unwrap_or_else(|fault| {
                    self.rows = None;
                    self.waiting.clear();
                    Told::Fault(fault)
                }));
            }
            match self.rows.as_mut()?.next().await {
                Some(Ok(batch)) => self.waiting.extend(pieces(&batch)),
                Some(Err(error)) => {
                    self.rows = None;
                    return Some(Told::Fault(thalweg_sql::Error::from(error).into()));
                }
                None => {
                    self.rows = None;
                    return Some(Told::End);
                }
            }
        }
    }
}

/// A batch in pieces of which each is one message: rows, or one mark.
fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let changes = batch.column(CHANGE).as_primitive::<Int32Type>();
    let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
    let most = (BYTES / row_bytes.max(1)).clamp(1, ROWS);
    let mut pieces = vec![];
    let mut start = 0;
    while start < batch.num_rows() {
        let rows = (start..batch.num_rows()).take(most).take_while(|row| changes.value(*row) != 0).count();
        let piece = batch.slice(start, rows.max(1));
        start += piece.num_rows();
        pieces.push(piece);
    }
    pieces
}

fn told(piece: &RecordBatch) -> Result<Told, Fault> {
    if piece.column(CHANGE).as_primitive::<Int32Type>().value(0) == 0 {
        let token = piece.column(TOKEN).as_string::<i32>().value(0).to_owned();
        return Ok(Told::Mark { token, epoch: piece.column(EPOCH).as_primitive::<Int64Type>().value(0) });
    }
    let failed = |error| Fault::internal(format!("the rows can't be told: {error}"));
    // What marks alone have is left out.
    let columns: Vec<usize> = (0..piece.num_columns()).filter(|at| ![TOKEN, EPOCH].contains(at)).collect();
    let piece = piece.project(&columns).map_err(failed)?;
    let mut encoder = Encoder::new(Format::Json, &piece.schema())?;
    let mut rows = encoder.rows(&piece).map_err(failed)?.to_vec();
    rows.extend_from_slice(&encoder.finish().map_err(failed)?);
    Ok(Told::Rows(rows.into()))
}

/// Of a mark.
pub(super) fn mark(token: &str, epoch: i64) -> Value {
    json!({ "token": token, "epoch": epoch })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray};

    use super::*;

    fn batch(changes: &[i32]) -> RecordBatch {
        let is_mark = |change: &i32| *change == 0;
        let columns: [(&str, ArrayRef); 5] = [
            ("change", Arc::new(Int32Array::from(changes.to_vec()))),
            (
                "final",
                Arc::new(changes.iter().map(|it| (!is_mark(it)).then_some(false)).collect::<BooleanArray>()),
            ),
            (
                "token",
                Arc::new(changes.iter().map(|it| is_mark(it).then_some("view-7")).collect::<StringArray>()),
            ),
            ("epoch", Arc::new(changes.iter().map(|it| is_mark(it).then_some(7)).collect::<Int64Array>())),
            ("name", Arc::new(changes.iter().map(|it| (*it > 0).then_some("a\nb")).collect::<StringArray>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn rows_and_marks_are_told_apart() {
        let pieces = pieces(&batch(&[1, -1, 0, 0, 1]));
        let told: Vec<_> = pieces
            .iter()
            .map(|piece| match told(piece).unwrap() {
                Told::Rows(rows) => String::from_utf8(rows.to_vec()).unwrap(),
                Told::Mark { token, epoch } => mark(&token, epoch).to_string(),
                Told::End | Told::Fault(_) => unreachable!(),
            })
            .collect();
        let mark = r#"{"epoch":7,"token":"view-7"}"#;
        assert_eq!(
            told,
            [
                r#"[{"change":1,"final":false,"name":"a\nb"},{"change":-1,"final":false,"name":null}]"#,
                mark,
                mark,
                r#"[{"change":1,"final":false,"name":"a\nb"}]"#
            ]
        );
    }

    #[test]
    fn a_message_has_an_end() {
        let pieces = pieces(&batch(&vec![1; 2500]));
        assert_eq!(pieces.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1000, 1000, 500]);
    }
}
