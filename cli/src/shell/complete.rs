//! What Tab offers: keywords, functions, and the names of tables and columns.

use std::sync::{Arc, PoisonError, RwLock};

use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::client::Table;

const KEYWORDS: [&str; 71] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "LIMIT",
    "OFFSET",
    "DISTINCT",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "LIKE",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "JOIN",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "ON",
    "USING",
    "UNION",
    "ALL",
    "EXISTS",
    "CAST",
    "INTERVAL",
    "ASC",
    "DESC",
    "WITH",
    "OVER",
    "PARTITION BY",
    "FILTER",
    "ROLLUP",
    "VALUES",
    "CREATE STREAM",
    "CREATE MATERIALIZED VIEW",
    "CREATE ENDPOINT",
    "CREATE SINK",
    "ALTER STREAM",
    "ALTER VIEW",
    "DROP STREAM",
    "DROP VIEW",
    "DROP ENDPOINT",
    "DROP SINK",
    "SHOW STREAMS",
    "SHOW VIEWS",
    "SHOW TABLES",
    "SHOW ENDPOINTS",
    "SHOW SINKS",
    "DESCRIBE",
    "EXPLAIN",
    "SUBSCRIBE TO",
    "WATERMARK FOR",
    "TABLE",
    "TUMBLE",
    "HOP",
    "DESCRIPTOR",
    "INT",
    "STRING",
    "DOUBLE",
    "TIMESTAMP",
    "STRUCT",
];
const FUNCTIONS: [&str; 16] = [
    "count(",
    "sum(",
    "avg(",
    "min(",
    "max(",
    "approx_distinct(",
    "coalesce(",
    "round(",
    "date_trunc(",
    "date_part(",
    "lower(",
    "upper(",
    "substr(",
    "row_number(",
    "now(",
    "abs(",
];
const COMMANDS: [&str; 8] = ["\\d", "\\l", "\\x", "\\timing", "\\watch", "\\?", "\\q", "\\help"];

/// Shared between the prompt, which reads it, and whoever learns of new tables.
#[derive(Clone, Default)]
pub struct Names(Arc<RwLock<Vec<String>>>);

impl Names {
    pub fn learn(&self, tables: &[Table]) {
        let mut names: Vec<String> = Vec::new();
        for table in tables {
            names.push(if table.schema == "public" {
                table.name.clone()
            } else {
                format!("{}.{}", table.schema, table.name)
            });
            names.extend(table.columns.fields().iter().map(|field| field.name().clone()));
        }
        names.sort_unstable();
        names.dedup();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Whatever begins with `word`, names first; keywords in the case in which the word is typed.
    fn beginning_with(&self, word: &str) -> Vec<String> {
        let lower = word.to_lowercase();
        let begins = |name: &str| name.to_lowercase().starts_with(&lower);
        if word.starts_with('\\') {
            return COMMANDS.iter().filter(|name| begins(name)).map(|name| (*name).to_owned()).collect();
        }
        let typed_low = word.chars().any(char::is_lowercase);
        let keyword = |name: &&str| if typed_low { name.to_lowercase() } else { (*name).to_owned() };
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = names.iter().filter(|name| begins(name)).cloned().collect();
        if !word.is_empty() {
            found.extend(FUNCTIONS.iter().filter(|name| begins(name)).map(|name| (*name).to_owned()));
            found.extend(KEYWORDS.iter().filter(|name| begins(name)).map(keyword));
        }
        found
    }
}

pub struct NameCompleter(pub Names);

impl Completer for NameCompleter {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let start = word_start(&line[..position]);
        let suggestions: Vec<_> = self
            .0
            .beginning_with(&line[start..position])
            .into_iter()
            .map(|value| Suggestion {
                append_whitespace: !value.ends_with('('),
                value,
                span: Span::new(start, position),
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

fn word_start(before: &str) -> usize {
    let part_of_word = |c: char| c.is_alphanumeric() || "_.\\?".contains(c);
    before
        .char_indices()
        .rev()
        .take_while(|(_, c)| part_of_word(*c))
        .last()
        .map_or(before.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let names = Names::default();
        let columns = Schema::new(vec![Field::new("event_type", DataType::Utf8, true)]);
        let table = |schema: &str| Table {
            schema: schema.to_owned(),
            name: "events".to_owned(),
            kind: "VIEW".to_owned(),
            columns: columns.clone(),
        };
        names.learn(&[table("public"), table("live")]);
        let result = NameCompleter(names).complete(line, line.len());
        let found: Vec<_> = result.suggestions().iter().map(|found| found.value.as_str()).collect();
        assert_eq!(found, expected, "{line:?}");
    }

    #[test]
    fn names_come_before_keywords_and_keywords_follow_the_case() {
        check("SELECT ev", &["event_type", "events"]);
        check("SELECT * FROM live.", &["live.events"]);
        check("sel", &["select"]);
        check("SEL", &["SELECT"]);
        check("SELECT e", &["event_type", "events", "else", "end", "exists", "explain"]);
        check("SELECT sum(dist", &["distinct"]);
        check("\\w", &["\\watch"]);
    }
}
