//! An error as it is shown: the message, and the line it speaks of with a caret under the place.

/// A place in a statement, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

/// Where the statement stands in a script: (name of the script, the statement's first line).
pub type Origin<'a> = Option<(&'a str, usize)>;

pub fn describe(message: &str, sql: &str, origin: Origin<'_>) -> String {
    let place = place(message);
    let prefix = match origin {
        Some((name, first)) => format!("{name}:{}: ", first + place.map_or(0, |place| place.line - 1)),
        None => String::new(),
    };
    let mut lines = message.lines();
    let mut shown = format!("{prefix}error: {}\n", lines.next().unwrap_or("the server gave no reason"));
    if let Some((line, caret)) = place.and_then(|place| pointed(sql, place)) {
        shown.push_str(&format!("  {line}\n  {caret}\n"));
    }
    lines.for_each(|line| shown.push_str(&format!("{line}\n")));
    shown
}

/// Reads "line 2, column 8", and "Line: 2, Column: 8" as parsers write it.
fn place(message: &str) -> Option<Place> {
    let lower = message.to_ascii_lowercase();
    lower.match_indices("line").find_map(|(at, word)| {
        let (line, rest) = number(&lower[at + word.len()..])?;
        let (column, _) = number(rest.strip_prefix(", column")?)?;
        (line > 0 && column > 0).then_some(Place { line, column })
    })
}

fn number(text: &str) -> Option<(usize, &str)> {
    let text = text.strip_prefix(':').unwrap_or(text).trim_start();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

fn pointed(sql: &str, place: Place) -> Option<(&str, String)> {
    let line = sql.lines().nth(place.line - 1)?;
    // Tabs stay tabs, so that the caret lands under its character.
    let before = line.chars().take(place.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
    Some((line, before.chain(['^']).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_pointed_at() {
        let sql = "SELECT a,\n\tb\nFROM t";
        let shown = describe("line 2, column 2: no column \"b\"\nhint: columns are a, c", sql, None);
        assert_eq!(shown, "error: line 2, column 2: no column \"b\"\n  \tb\n  \t^\nhint: columns are a, c\n");
        let shown = describe("Expected: x, found: b at Line: 2, Column: 2", sql, Some(("q.sql", 10)));
        assert_eq!(shown, "q.sql:11: error: Expected: x, found: b at Line: 2, Column: 2\n  \tb\n  \t^\n");
    }

    #[test]
    fn a_message_without_a_place_is_shown_as_it_is() {
        for message in ["no line", "line 0, column 3", "line 9, column 1: beyond the end", "line 3"] {
            assert_eq!(describe(message, "SELECT 1", None), format!("error: {message}\n"));
        }
    }
}
