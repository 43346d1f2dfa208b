//! A table that changes in its place: what a subscription tells, added up, with what has just changed lit for a moment.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::table::{self, Column, Layout};

/// What stands before the columns of the query: `change`, `final`, `token`, `epoch`.
const TOLD: usize = 4;
/// Of rows that will not change any more so many are kept, the last ones.
const FINAL_ROWS_MAX: usize = 10_000;
pub const LIT_FOR: Duration = Duration::from_millis(900);
/// The head, its rule, what stands below the rows, and where the cursor is.
const LINES_BESIDE: usize = 4;

pub struct Changing {
    schema: SchemaRef,
    rows: Vec<Row>,
    /// Since the last mark.
    gone: Vec<Cells>,
    come: Vec<(Cells, bool)>,
    epoch: i64,
    /// Of the last mark.
    pub token: Option<String>,
    /// How many final rows were let go.
    left_out: usize,
    /// Lines that were drawn last.
    drawn: usize,
}

type Cells = Vec<Option<String>>;

struct Row {
    cells: Cells,
    is_final: bool,
    /// Which cells are lit, and until when.
    lit: Vec<bool>,
    until: Instant,
}

impl Changing {
    pub fn of(told: &Schema) -> Changing {
        let schema = SchemaRef::new(Schema::new(told.fields()[TOLD.min(told.fields().len())..].to_vec()));
        let (rows, gone, come) = (vec![], vec![], vec![]);
        Changing { schema, rows, gone, come, epoch: 0, token: None, left_out: 0, drawn: 0 }
    }

    /// Whether a mark was among them, so that there is something whole to show.
    pub fn take(&mut self, batch: &RecordBatch, now: Instant) -> Result<bool, ArrowError> {
        let values: Vec<usize> = (TOLD..batch.num_columns()).collect();
        let columns = table::columns(&self.schema, &[batch.project(&values)?])?;
        let changes = batch.column(0).as_primitive::<Int32Type>();
        let (finals, tokens) = (batch.column(1).as_boolean(), batch.column(2).as_string::<i32>());
        let epochs = batch.column(3).as_primitive::<Int64Type>();
        let mut is_whole = false;
        for row in 0..batch.num_rows() {
            let cells = || columns.iter().map(|column| column.cells[row].clone()).collect::<Cells>();
            match changes.value(row) {
                0 => {
                    self.epoch = if epochs.is_valid(row) { epochs.value(row) } else { self.epoch };
                    self.token = tokens.is_valid(row).then(|| tokens.value(row).to_owned());
                    self.add_up(now);
                    is_whole = true;
                }
                1 => self.come.push((cells(), finals.is_valid(row) && finals.value(row))),
                _ => self.gone.push(cells()),
            }
        }
        Ok(is_whole)
    }

    fn add_up(&mut self, now: Instant) {
        let is_first = self.rows.is_empty() && self.gone.is_empty();
        // What a row was before, by what of it is no number.
        let mut before: HashMap<Cells, Cells> = HashMap::new();
        let mut gone: HashMap<Cells, usize> = HashMap::new();
        for cells in self.gone.drain(..) {
            before.insert(words(&self.schema, &cells), cells.clone());
            *gone.entry(cells).or_default() += 1;
        }
        self.rows.retain(|row| match gone.get_mut(&row.cells) {
            Some(left) if !row.is_final && *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        });
        for (cells, is_final) in self.come.drain(..) {
            let lit = match before.get(&words(&self.schema, &cells)) {
                Some(before) => before.iter().zip(&cells).map(|(before, now)| before != now).collect(),
                None => vec![!is_first; cells.len()],
            };
            self.rows.push(Row { cells, is_final, lit, until: now + LIT_FOR });
        }
        self.rows.sort_by(|a, b| in_order(&a.cells, &b.cells));
        let finals = self.rows.iter().filter(|row| row.is_final).count();
        let mut too_many = finals.saturating_sub(FINAL_ROWS_MAX);
        self.left_out += too_many;
        self.rows.retain(|row| {
            let leaves = row.is_final && too_many > 0;
            too_many -= usize::from(leaves);
            !leaves
        });
    }

    pub fn is_lit(&self, now: Instant) -> bool {
        self.rows.iter().any(|row| row.until > now && row.lit.contains(&true))
    }

    /// Over what was drawn before.
    pub fn draw(&mut self, layout: &Layout, height: usize, now: Instant, has_ended: bool) -> io::Result<()> {
        let shown = self.rows.len().min(height.saturating_sub(LINES_BESIDE).max(1));
        let first = self.rows.len() - shown;
        let rows = &self.rows[first..];
        let column = |(index, field): (usize, &arrow::datatypes::FieldRef)| Column {
            name: field.name().clone(),
            right: field.data_type().is_numeric(),
            cells: rows.iter().map(|row| row.cells[index].clone()).collect(),
        };
        let columns: Vec<Column> = self.schema.fields().iter().enumerate().map(column).collect();
        let is_lit = |column: usize, row: usize| rows[row].until > now && rows[row].lit[column];
        let mut text = table::lit(&columns, layout, &is_lit);
        let open = self.rows.iter().filter(|row| !row.is_final).count();
        let all = self.rows.len() + self.left_out;
        let last = if shown < all { format!(", the last {shown} shown") } else { String::new() };
        let end = if has_ended { "that is the end" } else { "Ctrl-C ends" };
        text.push_str(&format!("({all} rows, {open} of them open{last}; epoch {}; {end})\n", self.epoch));
        let mut out = io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        self.drawn = text.lines().count();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// The cells of columns that are not numbers: a row that has the same ones is the same row, as people see it.
fn words(schema: &Schema, cells: &Cells) -> Cells {
    let columns = schema.fields().iter().zip(cells);
    columns.filter(|(field, _)| !field.data_type().is_numeric()).map(|(_, cell)| cell.clone()).collect()
}

fn in_order(a: &Cells, b: &Cells) -> Ordering {
    let number = |cell: &Option<String>| cell.as_ref().and_then(|text| text.parse::<f64>().ok());
    let each = a.iter().zip(b).map(|(a, b)| match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    });
    each.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, StringArray};

    use super::*;

    /// Rows of (change, final, name, n); a mark has no name.
    fn told(rows: &[(i32, bool, Option<&str>, i64)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 6] = [
            ("change", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0)))),
            ("final", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<BooleanArray>())),
            ("token", Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "t")))),
            ("epoch", Arc::new(Int64Array::from_iter_values(rows.iter().map(|_| 7)))),
            ("name", Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>())),
            ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3)))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap()
    }

    #[test]
    fn what_has_changed_is_lit() {
        let now = Instant::now();
        let first = told(&[(1, false, Some("tea"), 9), (1, false, Some("cup"), 10), (0, false, None, 0)]);
        let mut changing = Changing::of(&first.schema());
        assert!(changing.take(&first, now).unwrap());
        assert!(!changing.is_lit(now), "all is new at first");
        let open = told(&[(-1, false, Some("tea"), 9), (1, false, Some("tea"), 11)]);
        assert!(!changing.take(&open, now).unwrap(), "half a change is not shown");
        let rest = told(&[(1, true, Some("pot"), 1), (0, false, None, 0)]);
        assert!(changing.take(&rest, now).unwrap());
        let rows: Vec<_> = changing
            .rows
            .iter()
            .map(|row| (row.cells.iter().flatten().cloned().collect::<Vec<_>>().join(" "), row.lit.clone()))
            .collect();
        let expected = [("cup 10", [false; 2]), ("pot 1", [true; 2]), ("tea 11", [false, true])];
        assert_eq!(rows, expected.map(|(cells, lit)| (cells.to_owned(), lit.to_vec())));
        assert!(changing.is_lit(now) && !changing.is_lit(now + LIT_FOR));
    }
}
