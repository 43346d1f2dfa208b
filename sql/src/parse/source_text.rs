//! Finds the bytes between two of the parser's places, which count lines and characters from 1.

use datafusion::sql::sqlparser::tokenizer::Location;

use crate::error::Position;

pub(super) struct SourceText<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> SourceText<'a> {
    pub fn new(text: &'a str) -> SourceText<'a> {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        SourceText { text, line_starts }
    }

    pub fn slice(&self, start: Location, end: Location) -> &'a str {
        &self.text[self.byte_of(start)..self.byte_of(end)]
    }

    /// The place after the last character, for mistakes of which the parser does not say where.
    pub fn end(&self) -> Position {
        let last = self.line_starts.last().map_or("", |start| &self.text[*start..]);
        Position { line: self.line_starts.len() as u64, column: last.chars().count() as u64 + 1 }
    }

    fn byte_of(&self, place: Location) -> usize {
        let Some(&start) = self.line_starts.get((place.line as usize).wrapping_sub(1)) else {
            return self.text.len();
        };
        self.text[start..]
            .char_indices()
            .nth((place.column as usize).saturating_sub(1))
            .map_or(self.text.len(), |(index, _)| start + index)
    }
}
