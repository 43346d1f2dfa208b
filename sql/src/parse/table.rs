//! `CREATE TABLE name (columns, PRIMARY KEY (…)) WITH (options)`.

use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::stream::{ColumnDeclaration, column};
use super::tokens::{self, Name, OptionEntry, expect, expected, here, take_words};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    pub name: Name,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDeclaration>,
    /// The columns of the primary key.
    pub key: Vec<Name>,
    pub options: Vec<OptionEntry>,
    /// The statement as it was written.
    pub text: String,
}

/// What follows `CREATE TABLE`.
pub(super) fn create_table(parser: &mut Parser) -> Result<CreateTable> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = tokens::relation_name(parser)?;
    if tokens::peek_word(parser, 0, "AS") {
        return Err(Error::invalid("a table is looked up, and its rows come from files or a topic")
            .at(here(parser))
            .hint("for the rows of a query write CREATE MATERIALIZED VIEW name AS SELECT …"));
    }
    let mut columns = vec![];
    let mut key: Option<Vec<Name>> = None;
    expect(parser, Token::LParen)?;
    loop {
        let position = here(parser);
        let declared = if take_words(parser, &["PRIMARY", "KEY"]) {
            Some(key_columns(parser)?)
        } else {
            let column = column(parser)?;
            let is_key = take_words(parser, &["PRIMARY", "KEY"]);
            let named = is_key.then(|| vec![column.name.clone()]);
            columns.push(column);
            named
        };
        if declared.is_some() && key.is_some() {
            return Err(Error::invalid("a table has one PRIMARY KEY")
                .at(position)
                .hint("name its columns together: PRIMARY KEY (a, b)"));
        }
        key = key.or(declared);
        if parser.consume_token(&Token::RParen) {
            break;
        }
        if !parser.consume_token(&Token::Comma) {
            return expected(parser, "a comma or )");
        }
    }
    let Some(key) = key else {
        return Err(Error::invalid(format!("table {} has no PRIMARY KEY", name.value))
            .at(name.position)
            .hint("add PRIMARY KEY (column): it is what a view's rows are looked up by"));
    };
    let options = tokens::with_options(parser)?;
    Ok(CreateTable { name, if_not_exists, columns, key, options, text: String::new() })
}

fn key_columns(parser: &mut Parser) -> Result<Vec<Name>> {
    expect(parser, Token::LParen)?;
    let mut names = vec![tokens::name(parser)?];
    while parser.consume_token(&Token::Comma) {
        names.push(tokens::name(parser)?);
    }
    expect(parser, Token::RParen)?;
    Ok(names)
}
