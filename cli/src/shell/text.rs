//! Finds where statements end: at a `;` that is in no string, name or comment.

/// One statement of a script, without its `;`.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    pub text: &'a str,
    /// Where it starts in the script, counted from 1.
    pub line: usize,
}

/// The statements of a script, and whether the last one was ended by `;`.
pub fn split(script: &str) -> (Vec<Statement<'_>>, bool) {
    let mut statements = Vec::new();
    let mut start = 0;
    for end in ends(script) {
        statements.extend(statement(script, start, end));
        start = end + 1;
    }
    let rest = statement(script, start, script.len());
    let ended = rest.is_none();
    statements.extend(rest);
    (statements, ended)
}

/// True once what has been typed can be run.
pub fn is_complete(typed: &str) -> bool {
    let typed = typed.trim();
    typed.is_empty() || typed.starts_with('\\') || ["quit", "exit"].contains(&typed) || split(typed).1
}

fn statement(script: &str, start: usize, end: usize) -> Option<Statement<'_>> {
    let text = &script[start..end];
    let skipped = leading_blank(text);
    let text = text[skipped..].trim_end();
    let line = script[..start + skipped].matches('\n').count() + 1;
    (!text.is_empty()).then_some(Statement { text, line })
}

/// The bytes of white space and comments before the first word.
fn leading_blank(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        let comment = comment_bytes(&rest[blank..]);
        if blank + comment == 0 {
            return at;
        }
        at += blank + comment;
    }
}

/// The length of the comment that `text` starts with, or 0.
fn comment_bytes(text: &str) -> usize {
    if text.starts_with("--") {
        return text.find('\n').unwrap_or(text.len());
    }
    if !text.starts_with("/*") {
        return 0;
    }
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The positions of the `;` that end statements.
fn ends(script: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(next) = script[at..].chars().next() {
        let rest = &script[at..];
        at += match next {
            // A doubled quote within a string closes one and opens the next, which comes to the same.
            '\'' | '"' => rest[1..].find(next).map_or(rest.len(), |length| length + 2),
            '-' | '/' => comment_bytes(rest).max(1),
            ';' => {
                ends.push(at);
                1
            }
            other => other.len_utf8(),
        };
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, expected: &[(usize, &str)], expect_ended: bool) {
        let (statements, ended) = split(script);
        let found: Vec<_> = statements.iter().map(|s| (s.line, s.text)).collect();
        assert_eq!((found.as_slice(), ended), (expected, expect_ended), "{script:?}");
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        check("SELECT 1", &[(1, "SELECT 1")], false);
        check("SELECT 1;\n\nSELECT 2 ; ", &[(1, "SELECT 1"), (3, "SELECT 2")], true);
        check("SELECT ';', \"a;b\", 'it''s;'; x", &[(1, "SELECT ';', \"a;b\", 'it''s;'"), (1, "x")], false);
        check("-- a; b\nSELECT 1; -- done;\n", &[(2, "SELECT 1")], true);
        check("/* a; /* b; */ c; */ SELECT 1 /* ; */;", &[(1, "SELECT 1 /* ; */")], true);
        check("SELECT 'open; ", &[(1, "SELECT 'open;")], false);
        check(";;", &[], true);
        check("SELECT 'é;ü' - 1 / 2;", &[(1, "SELECT 'é;ü' - 1 / 2")], true);
    }

    #[test]
    fn a_line_is_complete_when_it_can_be_run() {
        for complete in ["", "  ", "\\d", "SELECT 1;", "SELECT 1; -- one", "quit"] {
            assert!(is_complete(complete), "{complete:?}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "/* ; */ SELECT 1"] {
            assert!(!is_complete(open), "{open:?}");
        }
    }
}
