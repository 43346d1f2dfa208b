//! `SUBSCRIBE TO view [WHERE …]`, or `TO (SELECT … FROM view …)`, `[WITH (options)] [AFTER 'token'] [UP TO 'instant']`.

use datafusion::sql::sqlparser::ast::{Query, SetExpr};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::dialect::select_all;
use super::statement::{begins_query, query};
use super::tokens::{self, OptionEntry, expect, expect_words, expected, here, take_words};
use crate::error::{Position, Result};

#[derive(Debug, Clone)]
pub struct Subscribe {
    /// The rows whose changes are asked for.
    pub query: Box<Query>,
    pub options: Vec<OptionEntry>,
    /// The token to go on from, with its place.
    pub after: Option<(String, Option<Position>)>,
    /// The instant that it ends at, with its place.
    pub up_to: Option<(String, Option<Position>)>,
}

pub(super) fn subscribe(parser: &mut Parser) -> Result<Subscribe> {
    expect_words(parser, &["TO"])?;
    let query = match parser.consume_token(&Token::LParen) {
        true if begins_query(parser) => {
            let query = query(parser)?;
            expect(parser, Token::RParen)?;
            query
        }
        true => return expected(parser, "SELECT"),
        false => of_view(parser)?,
    };
    let options = tokens::with_options(parser)?;
    let after = text_behind(parser, &["AFTER"], "a token in quotes, from a row with change = 0")?;
    let up_to = text_behind(parser, &["UP", "TO"], "an instant in quotes, such as '2025-06-01T00:00:00Z'")?;
    Ok(Subscribe { query, options, after, up_to })
}

fn text_behind(
    parser: &mut Parser,
    words: &[&str],
    what: &str,
) -> Result<Option<(String, Option<Position>)>> {
    if !take_words(parser, words) {
        return Ok(None);
    }
    let position = here(parser);
    match parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => Ok(Some((parser.parse_literal_string()?, position))),
        _ => expected(parser, what),
    }
}

/// All columns of a view, and of its rows those that are wanted.
fn of_view(parser: &mut Parser) -> Result<Box<Query>> {
    let place = parser.peek_token_ref().span;
    parser.peek_token_ref();
    let first = parser.get_current_index() + 1;
    parser.parse_object_name(false)?;
    let name: Vec<TokenWithSpan> =
        (first..=parser.get_current_index()).map(|index| parser.token_at(index).clone()).collect();
    let mut query = select_all(name, place)?;
    if take_words(parser, &["WHERE"]) {
        let condition = parser.parse_expr()?;
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.selection = Some(condition);
        }
    }
    Ok(Box::new(query))
}
