//! Rows as a table that fits the terminal, or as one record after another.
//!
//! Numbers stand to the right, NULL is dim, long cells end in `…`, and columns that find no room are counted.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GAP: usize = 2;
/// No column is made narrower than this to make room for others.
const WIDTH_MIN: usize = 8;

pub struct Layout {
    /// Columns of the terminal; `None`: as wide as it gets.
    pub width: Option<usize>,
    pub colors: bool,
    /// One line per value instead of one per row.
    pub expanded: bool,
}

pub struct Column {
    pub name: String,
    pub right: bool,
    /// `None` is NULL.
    pub cells: Vec<Option<String>>,
}

pub fn render(schema: &Schema, batches: &[RecordBatch], layout: &Layout) -> Result<String, ArrowError> {
    let columns = columns(schema, batches)?;
    Ok(if layout.expanded { records(&columns, layout) } else { grid(&columns, layout, &|_, _| false) })
}

/// As a table in which some cells, by column and row, are lit.
pub fn lit(columns: &[Column], layout: &Layout, is_lit: &dyn Fn(usize, usize) -> bool) -> String {
    grid(columns, layout, is_lit)
}

/// How values are written, here and in CSV.
pub fn format_options() -> FormatOptions<'static> {
    FormatOptions::new()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"))
}

/// The values as text, column by column.
pub fn columns(schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<Column>, ArrowError> {
    let mut columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| Column {
            name: visible(field.name()),
            right: field.data_type().is_numeric(),
            cells: Vec::new(),
        })
        .collect();
    let options = format_options();
    for batch in batches {
        for (column, values) in columns.iter_mut().zip(batch.columns()) {
            let formatter = ArrayFormatter::try_new(values.as_ref(), &options)?;
            // Logical ones: a column of type NULL has no others.
            let nulls = values.logical_nulls();
            for row in 0..values.len() {
                let cell = if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    None
                } else {
                    Some(visible(&formatter.value(row).try_to_string()?))
                };
                column.cells.push(cell);
            }
        }
    }
    Ok(columns)
}

/// Control characters escaped: a value must not break the line or steer the terminal.
fn visible(text: &str) -> String {
    let utc = text.strip_suffix("+00:00").filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit()));
    let text = utc.map_or_else(|| text.to_owned(), |rest| format!("{rest}Z"));
    if !text.chars().any(char::is_control) {
        return text;
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

fn grid(columns: &[Column], layout: &Layout, is_lit: &dyn Fn(usize, usize) -> bool) -> String {
    let wanted: Vec<usize> = columns.iter().map(natural_width).collect();
    let widths = fit(wanted, layout.width);
    let mut lines = vec![
        line(columns, &widths, |column, _| (column.name.as_str(), Style::Bold), layout.colors),
        widths.iter().map(|width| "─".repeat(*width)).collect::<Vec<_>>().join(&" ".repeat(GAP)),
    ];
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        let content = |column, number| match cell(column, row) {
            (text, Style::Plain) if is_lit(number, row) => (text, Style::Lit),
            plain => plain,
        };
        lines.push(line(columns, &widths, content, layout.colors));
    }
    let hidden = columns.len() - widths.len();
    if hidden > 0 {
        let names: Vec<_> = columns[widths.len()..].iter().map(|column| column.name.as_str()).collect();
        lines.push(format!("({hidden} more columns: {}; \\x shows all)", names.join(", ")));
    }
    lines.join("\n") + "\n"
}

fn natural_width(column: &Column) -> usize {
    let cells = column.cells.iter().map(|cell| cell.as_deref().unwrap_or("NULL").width());
    cells.max().unwrap_or(0).max(column.name.width()).max(1)
}

/// Narrows the widest columns until all fit; if they cannot, leaves out the last ones.
fn fit(mut widths: Vec<usize>, room: Option<usize>) -> Vec<usize> {
    let Some(room) = room else { return widths };
    loop {
        let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if total <= room || widths.is_empty() {
            return widths;
        }
        let widest = widths.iter().copied().max().unwrap_or(0);
        if widest > WIDTH_MIN {
            let next = widths.iter().copied().filter(|width| *width < widest).max().unwrap_or(WIDTH_MIN);
            let many = widths.iter().filter(|width| **width == widest).count();
            let narrower = widest.saturating_sub((total - room).div_ceil(many)).max(next).max(WIDTH_MIN);
            widths.iter_mut().filter(|width| **width == widest).for_each(|width| *width = narrower);
        } else if widths.len() > 1 {
            widths.pop();
        } else {
            return vec![room.max(1)];
        }
    }
}

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Lit,
}

fn cell(column: &Column, row: usize) -> (&str, Style) {
    match &column.cells[row] {
        Some(text) => (text, Style::Plain),
        None => ("NULL", Style::Dim),
    }
}

fn line<'a>(
    columns: &'a [Column],
    widths: &[usize],
    content: impl Fn(&'a Column, usize) -> (&'a str, Style),
    colors: bool,
) -> String {
    let cells = columns.iter().zip(widths).enumerate().map(|(number, (column, width))| {
        let (text, style) = content(column, number);
        let text = shortened(text, *width);
        let blank = " ".repeat(width.saturating_sub(text.width()));
        let text = styled(&text, style, colors);
        if column.right { format!("{blank}{text}") } else { format!("{text}{blank}") }
    });
    cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
}

fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let kept: String = text
        .chars()
        .take_while(|c| {
            let wide = c.width().unwrap_or(0);
            let fits = wide <= room;
            room = room.saturating_sub(wide);
            fits
        })
        .collect();
    kept + "…"
}

fn styled(text: &str, style: Style, colors: bool) -> String {
    match style {
        Style::Bold if colors => format!("\x1b[1m{text}\x1b[0m"),
        Style::Dim if colors => format!("\x1b[2m{text}\x1b[0m"),
        Style::Lit if colors => format!("\x1b[7m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}

fn records(columns: &[Column], layout: &Layout) -> String {
    let names = columns.iter().map(|column| column.name.width()).max().unwrap_or(0);
    let mut shown = String::new();
    for row in 0..columns.first().map_or(0, |column| column.cells.len()) {
        let title = format!("─[ row {} ]", row + 1);
        let rule = "─".repeat((names + 12).saturating_sub(title.width()));
        shown.push_str(&styled(&format!("{title}{rule}"), Style::Dim, layout.colors));
        shown.push('\n');
        for column in columns {
            let blank = " ".repeat(names - column.name.width());
            let (text, style) = cell(column, row);
            let text = styled(text, style, layout.colors);
            shown.push_str(&format!("{}{blank}  {text}\n", styled(&column.name, Style::Bold, layout.colors)));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn check(width: Option<usize>, expanded: bool, expected: &str) {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(300)])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec!["tea", "a\nlong one, longer than that", "größe"]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2_000_000]).with_timezone("UTC"))),
        ])
        .unwrap();
        let layout = Layout { width, colors: false, expanded };
        let shown = render(&batch.schema(), &[batch], &layout).unwrap();
        assert_eq!(shown, expected, "\n{shown}");
        for line in shown.lines().filter(|line| !line.starts_with('(')) {
            assert!(line.width() <= width.unwrap_or(usize::MAX), "{line:?}");
        }
    }

    #[test]
    fn numbers_stand_right_and_control_characters_are_escaped() {
        check(
            None,
            false,
            "   n  name                           at\n\
             ────  ─────────────────────────────  ───────────────────────────\n\
             \u{20}  1  tea                            1970-01-01 00:00:00Z\n\
             NULL  a\\nlong one, longer than that  1970-01-01 00:00:00.000001Z\n\
             \u{20}300  größe                          1970-01-01 00:00:02Z\n",
        );
    }

    #[test]
    fn the_widest_columns_give_way_first() {
        check(
            Some(36),
            false,
            "   n  name            at\n\
             ────  ──────────────  ──────────────\n\
             \u{20}  1  tea             1970-01-01 00…\n\
             NULL  a\\nlong one, …  1970-01-01 00…\n\
             \u{20}300  größe           1970-01-01 00…\n",
        );
    }

    #[test]
    fn columns_without_room_are_named() {
        check(
            Some(15),
            false,
            "   n  name\n\
             ────  ────────\n\
             \u{20}  1  tea\n\
             NULL  a\\nlong…\n\
             \u{20}300  größe\n\
             (1 more columns: at; \\x shows all)\n",
        );
    }

    #[test]
    fn expanded_shows_a_value_a_line() {
        check(
            None,
            true,
            "─[ row 1 ]──────\nn     1\nname  tea\nat    1970-01-01 00:00:00Z\n\
             ─[ row 2 ]──────\nn     NULL\nname  a\\nlong one, longer than that\nat    1970-01-01 00:00:00.000001Z\n\
             ─[ row 3 ]──────\nn     300\nname  größe\nat    1970-01-01 00:00:02Z\n",
        );
    }
}
