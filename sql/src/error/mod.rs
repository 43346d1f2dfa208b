//! What is wrong with a statement: the place, the reason, and what to write instead.
//!
//! Text is lower case and names the values it speaks of; whoever decides what to do next looks at the kind alone.

mod foreign;
mod plainly;

use std::fmt;

use datafusion::sql::sqlparser::tokenizer::Location;
use thalweg_engine::ErrorKind;

pub(crate) use plainly::told_plainly;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A place in the text of a statement, both numbers from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u64,
    pub column: u64,
}

impl Position {
    /// The parser's line 0 means that it does not know.
    pub fn of(location: Location) -> Option<Position> {
        (location.line > 0).then_some(Position { line: location.line, column: location.column })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[derive(Debug, Clone)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    pub position: Option<Position>,
    /// More about the reason.
    pub detail: Option<String>,
    /// What to write instead, or where to look.
    pub hint: Option<String>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), position: None, detail: None, hint: None }
    }

    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Sets the place, unless a more exact one is known.
    pub fn at(mut self, position: impl Into<Option<Position>>) -> Error {
        self.position = self.position.or(position.into());
        self
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n{detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The one of `known` that `given` was most likely meant to be, if one is near enough.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, &name.to_lowercase()), name))
        .filter(|(distance, name)| {
            let letters = name.chars().count().max(given.chars().count());
            *distance < letters && *distance <= letters.div_ceil(3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean "topic"? known are: brokers, topic, …`, the first half only when something is near.
pub fn suggestion<'a>(given: &str, what: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let list = known.clone().into_iter().collect::<Vec<_>>().join(", ");
    match nearest(given, known) {
        Some(name) => format!("did you mean \"{name}\"? {what}: {list}"),
        None => format!("{what}: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("topc", ["topic", "brokers"]), Some("topic"));
        assert_eq!(nearest("TOPIC", ["topic", "brokers"]), Some("topic"));
        assert_eq!(nearest("format", ["topic", "brokers"]), None);
    }
}
