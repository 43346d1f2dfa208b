//! How two texts of a statement differ.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::parse::ThalwegDialect;

/// Whether two statements say the same: spaces, comments, the case of what is not quoted, and IF NOT EXISTS aside.
pub(crate) fn same_statement(left: &str, right: &str) -> bool {
    match (tokens(left), tokens(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let tokens = Tokenizer::new(&ThalwegDialect, text).tokenize().ok()?;
    let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut case = Case::default();
    for token in tokens {
        match token {
            Token::Whitespace(_) | Token::SemiColon | Token::EOF => continue,
            Token::Word(mut word) => {
                if word.quote_style.is_none() && !case.is_heeded(&kept) {
                    word.value.make_ascii_lowercase();
                }
                kept.push(Token::Word(word));
            }
            other => {
                case.take(&other, kept.last());
                kept.push(other);
            }
        }
    }
    let keyword = |token: &Token| match token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let clause = [Keyword::IF, Keyword::NOT, Keyword::EXISTS];
    if let Some(start) = kept.windows(3).take(8).position(|three| three.iter().map(keyword).eq(clause)) {
        kept.drain(start..start + 3);
    }
    Some(kept)
}

/// Where the case of a name says something: fields of a STRUCT keep theirs, and so do the values of options.
#[derive(Default)]
struct Case {
    /// What is open, innermost last.
    open: Vec<Open>,
}

#[derive(PartialEq, Eq)]
enum Open {
    /// `STRUCT<`
    Fields,
    /// `ARRAY<`
    Elements,
    /// `STRUCT(`
    Values,
    /// `WITH (`
    Options,
    Other,
}

impl Case {
    fn take(&mut self, token: &Token, before: Option<&Token>) {
        let after = |keyword| matches!(before, Some(Token::Word(word)) if word.keyword == keyword);
        match token {
            Token::Lt if after(Keyword::STRUCT) => self.open.push(Open::Fields),
            Token::Lt if after(Keyword::ARRAY) => self.open.push(Open::Elements),
            Token::LParen if after(Keyword::STRUCT) => self.open.push(Open::Values),
            Token::LParen if after(Keyword::WITH) => self.open.push(Open::Options),
            Token::LParen => self.open.push(Open::Other),
            Token::RParen => drop(self.open.pop()),
            Token::Gt if self.in_type() => drop(self.open.pop()),
            Token::ShiftRight if self.in_type() => self.open.truncate(self.open.len().saturating_sub(2)),
            _ => {}
        }
    }

    fn in_type(&self) -> bool {
        matches!(self.open.last(), Some(Open::Fields | Open::Elements))
    }

    /// Whether the case of a name that follows these tokens is heeded.
    fn is_heeded(&self, before: &[Token]) -> bool {
        let behind = |keyword| matches!(before.last(), Some(Token::Word(word)) if word.keyword == keyword);
        match self.open.last() {
            Some(Open::Fields) => matches!(before.last(), Some(Token::Lt | Token::Comma)),
            Some(Open::Values) => behind(Keyword::AS),
            Some(Open::Options) => matches!(before.last(), Some(Token::Eq)),
            // `list[1].Field`
            _ => matches!(before, [.., Token::RBracket | Token::RParen, Token::Period]),
        }
    }
}

/// The lines of both texts: `- ` was there, `+ ` is given, two spaces for what they share.
pub(crate) fn lines(there: &str, given: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (trimmed(there), trimmed(given));
    // longest[i][j] = length of the longest common subsequence of old[i..] and new[j..]
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = match old[i] == new[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::with_capacity(old.len() + new.len());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines.join("\n")
}

fn trimmed(text: &str) -> Vec<&str> {
    // A text of 64 KiB that is all line ends would make a table of gigabytes.
    const LINES_MAX: usize = 2000;
    text.lines().map(str::trim_end).take(LINES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_case_and_comments_do_not_matter() {
        let one = "CREATE STREAM clicks (a INT) WITH (topic = 'T')";
        assert!(same_statement(
            one,
            "create stream if not exists Clicks (\n a int -- number\n) with (topic='T');"
        ));
        assert!(!same_statement(one, "CREATE STREAM clicks (a INT) WITH (topic = 't')"));
        assert!(!same_statement(one, "CREATE STREAM \"Clicks\" (a INT) WITH (topic = 'T')"));
        assert!(!same_statement("SELECT a IF NOT EXISTS b", "SELECT a IF NOT EXISTS c"));
    }

    #[test]
    fn the_case_of_fields_and_of_options_matters() {
        let stream = "CREATE STREAM c (g STRUCT<City STRING, in STRUCT<a ARRAY<STRUCT<B INT>>>>, d INT) WITH (topic = T)";
        assert!(same_statement(stream, &stream.replace("d INT", "D int").replace("STRING", "string")));
        assert!(same_statement(stream, &stream.replace("STRUCT", "struct").replace("WITH", "with")));
        for (name, other) in [("City", "city"), ("<a ", "<A "), ("B INT", "b INT"), ("= T", "= t")] {
            assert!(!same_statement(stream, &stream.replace(name, other)), "{name} became {other}");
        }
        let view = "CREATE MATERIALIZED VIEW v AS SELECT struct(a AS Foo) AS b, l[1].Bar AS c FROM s";
        assert!(same_statement(view, &view.replace("AS b", "AS B").replace("l[1]", "L[1]")));
        assert!(!same_statement(view, &view.replace("Foo", "foo")));
        assert!(!same_statement(view, &view.replace("Bar", "bar")));
    }

    #[test]
    fn the_difference_is_shown_line_by_line() {
        let there = "CREATE STREAM c (\n  a INT,\n  b INT\n)";
        let given = "CREATE STREAM c (\n  a INT,\n  b BIGINT,\n  c INT\n)";
        expect_test::expect![[r#"
              CREATE STREAM c (
                a INT,
            -   b INT
            +   b BIGINT,
            +   c INT
              )"#]]
        .assert_eq(&lines(there, given));
    }
}
