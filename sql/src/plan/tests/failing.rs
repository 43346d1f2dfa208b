//! Which rows a view can't take, against an engine that is asked about each row alone: random expressions over random
//! rows, in several cuts. `THALWEG_ROUNDS=2000 cargo test --workspace --lib failing` looks for longer; a failure names its seed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, new_null_array,
};
use datafusion::prelude::{SessionConfig, SessionContext};
use thalweg_engine::spec::ViewSpec;
use thalweg_engine::view::arrived::Arrived;
use thalweg_engine::view::lower::LowerHalf;

use super::{STREAM, stream, view};

const ROUNDS: u64 = 30;
const ROWS: usize = 40;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn integer(&mut self, depth: u32) -> String {
        let leaf = if depth == 0 { 3 } else { 10 };
        let less = depth.saturating_sub(1);
        match self.below(leaf) {
            0 => "q".into(),
            1 => format!("(q - {})", self.below(4)),
            2 => "CAST(k AS BIGINT)".into(),
            3 | 4 => format!("({} / {})", self.integer(less), self.integer(less)),
            5 => format!("({} % {})", self.integer(less), self.integer(less)),
            6 => format!("({} + {})", self.integer(less), self.integer(less)),
            7 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.condition(less),
                self.integer(less),
                self.integer(less)
            ),
            8 => format!("coalesce({}, {})", self.integer(less), self.integer(less)),
            _ => format!("nullif({}, {})", self.integer(less), self.integer(less)),
        }
    }

    fn condition(&mut self, depth: u32) -> String {
        let leaf = if depth == 0 { 3 } else { 6 };
        let less = depth.saturating_sub(1);
        match self.below(leaf) {
            0 => format!("q <> {}", self.below(3)),
            1 => "k LIKE '%1%'".into(),
            2 => "CAST(k AS DATE) > DATE '2024-01-15'".into(),
            3 => format!("[{} AND {}]", self.condition(less), self.condition(less)),
            4 => format!("[{} OR {}]", self.condition(less), self.condition(less)),
            _ => format!("{} > {}", self.integer(less), self.integer(less)),
        }
    }

    fn rows(&mut self) -> RecordBatch {
        const TEXTS: [Option<&str>; 10] = [
            None,
            Some("0"),
            Some("1"),
            Some("2"),
            Some("31"),
            Some(""),
            Some("x"),
            Some("2024-01-31"),
            Some("2024-02-30"),
            Some("2023-11-01"),
        ];
        let schema = Arc::clone(&stream(STREAM).schema);
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "ts" => Arc::new(
                    TimestampMicrosecondArray::from_iter_values((0..ROWS as i64).map(|row| row * 1_000_000))
                        .with_timezone("UTC"),
                ),
                "k" => Arc::new((0..ROWS).map(|_| self.of(&TEXTS)).collect::<StringViewArray>()),
                "q" => Arc::new(
                    (0..ROWS)
                        .map(|_| self.of(&[None, Some(0), Some(1), Some(2), Some(7)]))
                        .collect::<Int64Array>(),
                ),
                _ => new_null_array(field.data_type(), ROWS),
            }
        });
        let columns = columns.collect();
        RecordBatch::try_new(schema, columns).unwrap()
    }
}

/// A text with each `[a AND b]` of it as it stands, or the other way round. SQL leaves open which side is looked at first,
/// and so whether the other one fails; two planners of one engine may differ.
fn ordered(text: &str, turned: bool) -> String {
    let (mut open, mut sides) = (vec![], vec![String::new()]);
    let words = text.split_inclusive(['[', ']', ' ']);
    for word in words {
        let last = sides.last_mut().expect("there is always one");
        match (word.strip_suffix('['), word.strip_suffix(']')) {
            (Some(before), _) => {
                last.push_str(before);
                open.push(None);
                sides.push(String::new());
            }
            (_, Some(before)) => {
                last.push_str(before);
                let (right, left) = (sides.pop().expect("a right side"), sides.pop().expect("a left side"));
                let operator = open.pop().flatten().expect("an operator");
                let (left, right) =
                    if turned { (right.trim(), left.trim()) } else { (left.trim(), right.trim()) };
                let whole = format!("({left} {operator} {right})");
                sides.last_mut().expect("there is always one").push_str(&whole);
            }
            _ => match (word.trim(), open.last_mut()) {
                (operator @ ("AND" | "OR"), Some(place @ None)) => {
                    *place = Some(operator);
                    sides.push(String::new());
                }
                _ => last.push_str(word),
            },
        }
    }
    sides.concat()
}

/// The rows that a plain query fails over, each in a table of its own.
async fn refused(query: &str, rows: &RecordBatch) -> Vec<usize> {
    let mut refused = vec![];
    for row in 0..rows.num_rows() {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        context.register_batch("t", rows.slice(row, 1)).unwrap();
        let answer = match context.sql(query).await {
            Ok(frame) => frame.collect().await.map(drop),
            Err(error) => panic!("{query}: {error}"),
        };
        if answer.is_err() {
            refused.push(row);
        }
    }
    refused
}

/// The rows that the view's lower half fails over, in micro-batches of `cut`.
async fn failed(spec: &ViewSpec, rows: &RecordBatch, cut: usize) -> Vec<usize> {
    let mut half = LowerHalf::new(&spec.shape, 0).unwrap();
    let mut failed = vec![];
    for first in (0..ROWS).step_by(cut) {
        let batch = rows.slice(first, cut.min(ROWS - first));
        let given = batch.num_rows() as u64;
        let lowered = half.take_in(&Arrived { batch, observed: None }).await.unwrap();
        assert_eq!(lowered.aggregated + lowered.filtered + lowered.failed.len() as u64, given);
        failed.extend(lowered.failed.iter().map(|failed| first + failed.row));
    }
    failed
}

#[tokio::test]
async fn what_a_batch_engine_refuses_row_by_row_fails_here_in_every_cut() {
    let rounds = std::env::var("THALWEG_ROUNDS").ok().map_or(ROUNDS, |text| text.parse().unwrap());
    let (mut some, mut all, mut orders) = (0, 0, 0);
    for seed in 1..=rounds {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let rows = random.rows();
        let (one, other) = (random.integer(3), random.integer(2));
        let condition = random.condition(2);
        let windowed = "FROM TUMBLE(t, ts, INTERVAL '10 s') WHERE";
        let views = [
            (
                format!(
                    "SELECT window_start, sum({one}) AS a, count(DISTINCT {other}) AS b {windowed} {condition} GROUP BY window_start"
                ),
                format!(
                    "SELECT ts, sum({one}) AS a, count(DISTINCT {other}) AS b FROM t WHERE {condition} GROUP BY ts"
                ),
            ),
            (
                format!("SELECT ts, {one} AS a, {other} AS b FROM t WHERE {condition}"),
                format!("SELECT ts, {one} AS a, {other} AS b FROM t WHERE {condition}"),
            ),
        ];
        for (query, plain) in views {
            let of_view = async |turned| {
                let query = ordered(&query, turned);
                view(&query).await.unwrap_or_else(|error| panic!("seed {seed}: {query}\n{error}"))
            };
            let spec = of_view(false).await;
            let alone = failed(&spec, &rows, 1).await;
            for cut in [ROWS, 7] {
                assert_eq!(failed(&spec, &rows, cut).await, alone, "seed {seed}, in cuts of {cut}: {query}");
            }
            let expected = refused(&ordered(&plain, false), &rows).await;
            if alone != expected {
                let turned = refused(&ordered(&plain, true), &rows).await;
                let alone_turned = failed(&of_view(true).await, &rows, 1).await;
                let open = |row: &usize| {
                    expected.contains(row) != turned.contains(row)
                        || alone.contains(row) != alone_turned.contains(row)
                };
                let wrong = (0..ROWS).filter(|row| alone.contains(row) != expected.contains(row));
                let wrong: Vec<usize> = wrong.filter(|row| !open(row)).collect();
                assert!(wrong.is_empty(), "seed {seed}, rows {wrong:?}: {query}");
                orders += 1;
            }
            some += expected.len();
            all += ROWS;
        }
    }
    println!(
        "{all} rows, {some} of them failed; {orders} views looked at the sides of a condition in another order"
    );
    assert!(some > all / 20 && some < all * 2 / 3, "{some} of {all} rows failed: that shows little");
}
