//! What a statement may ask for before anything is planned.
//!
//! The parser turns `a OR b OR c …` into a tree as deep as the chain is long, and planning (and even dropping) such a
//! tree recurses; a stack that overflows aborts the process. So chains are measured on the tokens, before there is a
//! tree. Relations are counted with common table expressions written out, since a dozen of them that each name the one
//! before twice make millions.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Visitor};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::parse::{ThalwegDialect, walk};
use crate::{Error, Position, Result};

pub(crate) const TEXT_BYTES_MAX: usize = 64 << 10;
/// Operators one below the other in the tree of a statement.
const DEPTH_MAX: usize = 500;
/// Tables read by a statement, each mention counted.
const RELATIONS_MAX: u64 = 200;

/// Types within types of a column: more of them are a message that clients take for damaged.
const TYPES_DEPTH_MAX: usize = 60;

/// Refuses columns that can't be sent.
pub(crate) fn check_columns(schema: &Schema) -> Result<()> {
    fn depth(kind: &DataType) -> usize {
        let within = match kind {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => depth(field.data_type()),
            DataType::Struct(fields) => fields.iter().map(|it| depth(it.data_type())).max().unwrap_or(0),
            DataType::Dictionary(_, values) => depth(values),
            _ => return 0,
        };
        within + 1
    }
    match schema.fields().iter().find(|field| depth(field.data_type()) > TYPES_DEPTH_MAX) {
        None => Ok(()),
        Some(field) => Err(Error::invalid(format!(
            "a column is nested too deep. column=\"{}\", most={TYPES_DEPTH_MAX}",
            field.name()
        ))),
    }
}

/// Refuses texts that are too long, or whose tree would be too deep.
pub(crate) fn check_text(sql: &str) -> Result<()> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the text is too long. bytes={}, most={TEXT_BYTES_MAX}",
            sql.len()
        )));
    }
    let tokens = Tokenizer::new(&ThalwegDialect, sql).tokenize_with_location()?;
    let mut chains = Chains::default();
    for token in &tokens {
        if chains.take(token) > DEPTH_MAX {
            return Err(Error::invalid(format!("more than {DEPTH_MAX} operators are chained or nested"))
                .at(Position::of(token.span.start))
                .hint("compare with a list (x IN (…)) or join with VALUES instead of a chain"));
        }
    }
    Ok(())
}

/// How deep the tree of the tokens so far is at most: the chains of all open levels together. A comma ends the chains
/// of its level, and an operator that binds weakly ends those that bind more strongly.
#[derive(Default)]
struct Chains {
    open: Vec<Level>,
    here: Level,
    /// The last token ends an operand, so that a word such as OR is an operator and not a name.
    after_operand: bool,
}

#[derive(Default, Clone, Copy)]
struct Level {
    /// Operators by how weakly they bind; see [`strength`].
    operators: [usize; STRENGTHS],
}

const STRENGTHS: usize = 5;

impl Chains {
    fn take(&mut self, token: &TokenWithSpan) -> usize {
        match &token.token {
            Token::Whitespace(_) => return 0,
            Token::LParen | Token::LBrace => self.deeper(),
            Token::LBracket => {
                self.operator(STRENGTHS - 1);
                self.deeper();
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                self.here = self.open.pop().unwrap_or_default();
                self.after_operand = true;
            }
            // Between relations or rows a comma also ends what is left of it; the operators of SELECTs that are
            // joined (UNION, JOIN) stay counted.
            Token::Comma => {
                self.here.operators[1..].fill(0);
                self.after_operand = false;
            }
            Token::SemiColon => *self = Chains::default(),
            // It may be a name; before its operand it is an operator, and that may be another one.
            Token::Word(word) if word.keyword == Keyword::INTERVAL => {
                self.operator(STRENGTHS - 1);
                self.after_operand = true;
            }
            other => match strength(other, self.after_operand) {
                Some(strength) => self.operator(strength),
                None => self.after_operand = true,
            },
        }
        self.depth()
    }

    fn deeper(&mut self) {
        self.open.push(self.here);
        self.here = Level::default();
        self.after_operand = false;
    }

    fn operator(&mut self, strength: usize) {
        self.here.operators[strength] += 1;
        self.here.operators[strength + 1..].fill(0);
        self.after_operand = false;
    }

    fn depth(&self) -> usize {
        let levels = self.open.iter().chain([&self.here]);
        self.open.len() + levels.map(|level| level.operators.iter().sum::<usize>()).sum::<usize>()
    }
}

/// How strongly an operator binds, weakest first; `None` for what is not an operator.
fn strength(token: &Token, after_operand: bool) -> Option<usize> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS | Keyword::JOIN => Some(0),
            // In the place of an operand these are names to the parser.
            Keyword::OR | Keyword::XOR if after_operand => Some(1),
            Keyword::AND if after_operand => Some(2),
            Keyword::NOT
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::CASE => Some(3),
            Keyword::DIV | Keyword::AT | Keyword::COLLATE | Keyword::OVERLAPS | Keyword::OPERATOR => Some(4),
            _ => None,
        },
        Token::Word(_)
        | Token::Number(..)
        | Token::Placeholder(_)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::EOF => None,
        Token::Eq | Token::DoubleEq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => {
            Some(3)
        }
        _ => Some(4),
    }
}

/// Refuses queries that read too many relations once their common table expressions are written out.
pub(crate) fn check_query(query: &Query) -> Result<()> {
    let mut relations = Relations::default();
    let _ = walk(query, &mut relations);
    if relations.total > RELATIONS_MAX {
        return Err(Error::invalid(format!(
            "the query reads more than {RELATIONS_MAX} relations, those within its WITH clauses counted each time"
        )));
    }
    Ok(())
}

/// One pass: a query's own count is known when the visit leaves it, and a `WITH` is visited before what follows it.
#[derive(Default)]
struct Relations {
    /// Names of the common table expressions whose queries (by address) are still to be visited.
    names: HashMap<*const Query, String>,
    /// How many relations a common table expression reads. Scopes are ignored: a name that is used twice counts as the
    /// larger of the two.
    worth: HashMap<String, u64>,
    /// Counts of the queries that the visit is in, outermost first.
    open: Vec<u64>,
    total: u64,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.names.insert(&raw const *cte.query, cte.alias.name.value.to_lowercase());
        }
        self.open.push(0);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let relations = self.open.pop().unwrap_or(0);
        match self.names.remove(&(&raw const *query)) {
            Some(name) => {
                let worth = self.worth.entry(name).or_default();
                *worth = (*worth).max(relations);
            }
            None => self.add(relations),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let known = match relation.0.as_slice() {
            [part] => part.as_ident().and_then(|name| self.worth.get(&name.value.to_lowercase())),
            _ => None,
        };
        self.add(known.copied().unwrap_or(1).max(1));
        ControlFlow::Continue(())
    }
}

impl Relations {
    fn add(&mut self, relations: u64) {
        let count = self.open.last_mut().unwrap_or(&mut self.total);
        *count = count.saturating_add(relations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::parser::Parser;

    fn check(sql: &str, expected: Result<(), &str>) {
        let verdict = check_text(sql).map_err(|error| error.message);
        let short = &sql[..sql.len().min(60)];
        match (verdict, expected) {
            (Ok(()), Ok(())) => {}
            (Err(message), Err(part)) => assert!(message.contains(part), "{short}: {message}"),
            (verdict, expected) => panic!("{short}: {verdict:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn long_chains_are_refused_and_long_lists_are_not() {
        let chain = |term: &str, times| format!("SELECT 1{}", term.repeat(times));
        check(&chain("+1", 490), Ok(()));
        check(&chain("+1", 2000), Err("chained"));
        check(&chain(" OR 1=1 AND x > 2", 400), Ok(()));
        check(&chain(" OR x", 501), Err("chained"));
        check(&chain("::int", 501), Err("chained"));
        check(&format!("SELECT {}'1 day'", "INTERVAL ".repeat(501)), Err("chained"));
        check(&chain(", now() - INTERVAL '1 day'", 600), Ok(()));
        check(&chain("[1]", 501), Err("chained"));
        check(&chain(" UNION ALL SELECT 1", 501), Err("chained"));
        check(&chain(", 1+1", 2000), Ok(()));
        check(&chain(", t.a + t.b", 1000), Ok(()));
        check(&format!("SELECT x IN (1{})", ", 2".repeat(5000)), Ok(()));
        check(&chain("+CASE WHEN 1=1 THEN 1 END", 501), Err("chained"));
        check(&chain("-(1", 501), Err("chained"));
    }

    #[test]
    fn a_keyword_as_a_name_does_not_start_a_chain_anew() {
        check(&format!("SELECT 1{}", "+or".repeat(501)), Err("chained"));
        check(&format!("SELECT 1{}", "+and".repeat(501)), Err("chained"));
        check(&format!("SELECT 1{}", "+select".repeat(501)), Err("chained"));
        check(&format!("SELECT 1{}", "+case".repeat(501)), Err("chained"));
    }

    #[test]
    fn the_text_is_bounded() {
        check(&format!("SELECT '{}'", "a".repeat(TEXT_BYTES_MAX)), Err("too long"));
    }

    #[test]
    fn expressions_that_multiply_are_counted_written_out() {
        let doubling = |levels: usize| {
            let mut sql = "WITH a0 AS (SELECT 1 AS x)".to_owned();
            for level in 1..=levels {
                sql += &format!(", a{level} AS (SELECT l.x FROM a{0} l, a{0} r)", level - 1);
            }
            sql + &format!(" SELECT * FROM a{levels}")
        };
        let verdict = |sql: &str| {
            let mut statements = Parser::parse_sql(&ThalwegDialect, sql).unwrap();
            let datafusion::sql::sqlparser::ast::Statement::Query(query) = statements.remove(0) else {
                panic!()
            };
            check_query(&query)
        };
        assert!(verdict(&doubling(3)).is_ok());
        assert!(verdict(&doubling(30)).is_err());
        assert!(verdict("SELECT * FROM a JOIN b ON a.x = b.x, c").is_ok());
    }
}
