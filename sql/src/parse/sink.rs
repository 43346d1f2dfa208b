//! `CREATE SINK name INTO KAFKA | WEBHOOK (options) [ON LIVE] AS SELECT … FROM view`, and what is told a sink later.

use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::statement::{begins_query, query};
use super::tokens::{self, Name, OptionEntry, expect_words, expected, here, peek_word, take_words};
use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub struct CreateSink {
    pub name: Name,
    pub if_not_exists: bool,
    pub target: Target,
    pub options: Vec<OptionEntry>,
    /// Rows that may be taken back are sent too.
    pub live: bool,
    pub query: Box<Query>,
    /// The statement as it was written.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Kafka,
    Webhook,
}

#[derive(Debug, Clone)]
pub struct DropSink {
    pub name: Name,
    pub if_exists: bool,
}

/// `ALTER SINK name PAUSE`
#[derive(Debug, Clone)]
pub struct AlterSink {
    pub name: Name,
    pub order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Pause,
    Resume,
    /// What was refused is sent once more.
    Resend,
}

/// What follows `CREATE SINK`.
pub(super) fn create_sink(parser: &mut Parser) -> Result<CreateSink> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = tokens::relation_name(parser)?;
    expect_words(parser, &["INTO"])?;
    let target = match () {
        () if take_words(parser, &["KAFKA"]) => Target::Kafka,
        () if take_words(parser, &["WEBHOOK"]) => Target::Webhook,
        () => return expected(parser, "KAFKA (…) or WEBHOOK (…)"),
    };
    if parser.peek_token_ref().token != Token::LParen {
        return expected(parser, "the options in parentheses");
    }
    let options = tokens::options(parser)?;
    if peek_word(parser, 0, "WITH") && parser.peek_nth_token_ref(1).token == Token::LParen {
        return Err(Error::invalid("a sink has its options behind KAFKA or WEBHOOK")
            .at(here(parser))
            .hint("write INTO KAFKA (topic = '…', …)"));
    }
    let live = take_words(parser, &["ON", "LIVE"]);
    expect_words(parser, &["AS"])?;
    if !begins_query(parser) {
        return expected(parser, "SELECT");
    }
    let query = query(parser)?;
    Ok(CreateSink { name, if_not_exists, target, options, live, query, text: String::new() })
}

/// What follows `DROP SINK`.
pub(super) fn drop_sink(parser: &mut Parser) -> Result<DropSink> {
    let if_exists = take_words(parser, &["IF", "EXISTS"]);
    Ok(DropSink { name: tokens::name(parser)?, if_exists })
}

/// What follows `ALTER SINK`.
pub(super) fn alter_sink(parser: &mut Parser) -> Result<AlterSink> {
    let name = tokens::name(parser)?;
    let order = match () {
        () if take_words(parser, &["PAUSE"]) => Order::Pause,
        () if take_words(parser, &["RESUME"]) => Order::Resume,
        () if take_words(parser, &["RESEND"]) => Order::Resend,
        () => return expected(parser, "PAUSE, RESUME or RESEND"),
    };
    Ok(AlterSink { name, order })
}
