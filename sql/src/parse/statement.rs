//! Which statement it is.

use datafusion::sql::sqlparser::ast::{ObjectName, Query};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::endpoint::{CreateEndpoint, DropEndpoint, create_endpoint, drop_endpoint};
use super::plain_view::CreatePlainView;
use super::sink::{AlterSink, CreateSink, DropSink, alter_sink, create_sink, drop_sink};
use super::stream::{CreateStream, create_stream};
use super::subscribe::{Subscribe, subscribe};
use super::table::{CreateTable, create_table};
use super::tokens::{self, Name, OptionEntry, expect_words, expected, here, peek_word, take_words};
use super::window_argument;
use crate::error::{Error, Position, Result};

/// A statement with its exact text (without the semicolon) and its place.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub statement: Statement,
    pub text: String,
    pub position: Position,
}

#[derive(Debug, Clone)]
pub enum Statement {
    CreateStream(CreateStream),
    CreateTable(CreateTable),
    CreateView(CreateView),
    CreatePlainView(CreatePlainView),
    CreateEndpoint(CreateEndpoint),
    CreateSink(CreateSink),
    Drop(Drop),
    DropEndpoint(DropEndpoint),
    DropSink(DropSink),
    AlterSink(AlterSink),
    Restart(Restart),
    SetWatermark(SetWatermark),
    /// `KILL QUERY 12`
    Kill(u64),
    Set(Set),
    Show(Shown),
    /// `SHOW WHY view`
    ShowWhy(Name),
    Describe(ObjectName),
    Explain(Explain),
    Subscribe(Subscribe),
    Query(Box<Query>),
}

/// `CREATE MATERIALIZED VIEW name WITH (options) AS query`
#[derive(Debug, Clone)]
pub struct CreateView {
    pub name: Name,
    pub if_not_exists: bool,
    pub options: Vec<OptionEntry>,
    pub query: Box<Query>,
    /// The statement as it was written.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    pub what: Relation,
    pub if_exists: bool,
    pub name: Name,
}

/// `ALTER VIEW name RESTART`, `ALTER STREAM name RESTART AT 'earliest'`
#[derive(Debug, Clone)]
pub struct Restart {
    pub what: Relation,
    pub name: Name,
    /// Where a stream goes on, with its place; from where it stood without it.
    pub at: Option<(String, Option<Position>)>,
}

/// `ALTER STREAM name SET WATERMARK '2025-06-01T00:00:00Z' PARTITION 3`
#[derive(Debug, Clone)]
pub struct SetWatermark {
    pub stream: Name,
    /// The moment, with its place.
    pub to: (String, Option<Position>),
    /// Of all partitions without it.
    pub partition: Option<i32>,
}

/// What CREATE makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Stream,
    Table,
    View,
    /// What only CREATE tells from the others.
    PlainView,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Streams,
    Views,
    Tables,
    Endpoints,
    Sinks,
}

#[derive(Debug, Clone)]
pub struct Explain {
    pub analyze: bool,
    pub verbose: bool,
    pub what: Explained,
}

/// Of the session alone.
#[derive(Debug, Clone)]
pub struct Set {
    pub name: Name,
    pub value: String,
    pub position: Option<Position>,
}

#[derive(Debug, Clone)]
pub enum Explained {
    Statement(Box<Statement>),
    /// `EXPLAIN revenue_per_minute`
    Name(ObjectName),
}

impl Statement {
    pub(super) fn set_text(&mut self, text: &str) {
        match self {
            Statement::CreateStream(create) => create.text = text.to_owned(),
            Statement::CreateTable(create) => create.text = text.to_owned(),
            Statement::CreateView(create) => create.text = text.to_owned(),
            Statement::CreatePlainView(create) => create.text = text.to_owned(),
            Statement::CreateEndpoint(create) => create.text = text.to_owned(),
            Statement::CreateSink(create) => create.text = text.to_owned(),
            Statement::Explain(Explain { what: Explained::Statement(inner), .. }) => {
                // What is explained is planned as if it stood alone; its text is only shown.
                inner.set_text(text);
            }
            _ => {}
        }
    }
}

pub(super) fn statement(parser: &mut Parser) -> Result<Statement> {
    if take_words(parser, &["CREATE"]) {
        create(parser)
    } else if take_words(parser, &["DROP"]) {
        drop_statement(parser)
    } else if take_words(parser, &["ALTER"]) {
        alter(parser)
    } else if take_words(parser, &["KILL"]) {
        take_words(parser, &["QUERY"]);
        Ok(Statement::Kill(parser.parse_literal_uint()?))
    } else if take_words(parser, &["SET"]) {
        set(parser).map(Statement::Set)
    } else if take_words(parser, &["SHOW"]) {
        show(parser)
    } else if take_words(parser, &["DESCRIBE"]) || take_words(parser, &["DESC"]) {
        take_words(parser, &["TABLE"]);
        Ok(Statement::Describe(parser.parse_object_name(false)?))
    } else if take_words(parser, &["EXPLAIN"]) {
        explain(parser)
    } else if take_words(parser, &["SUBSCRIBE"]) {
        subscribe(parser).map(Statement::Subscribe)
    } else if begins_query(parser) {
        query(parser).map(Statement::Query)
    } else {
        let found = parser.peek_token().token;
        Err(Error::invalid(format!("expected a statement, found {found}")).at(here(parser)).hint(
            "statements are SELECT, SUBSCRIBE, CREATE STREAM, CREATE TABLE, CREATE MATERIALIZED VIEW, CREATE VIEW, CREATE ENDPOINT, CREATE SINK, ALTER, DROP, SHOW, DESCRIBE, EXPLAIN, SET and KILL QUERY; \
             nothing is inserted: rows come from streams, files and topics",
        ))
    }
}

/// `SET thalweg.query_time = '5s'`: with or without the product's name before it.
fn set(parser: &mut Parser) -> Result<Set> {
    let mut name = tokens::name(parser)?;
    if parser.consume_token(&Token::Period) {
        if name.value != "thalweg" {
            return Err(Error::invalid(format!("no setting begins with \"{}\"", name.value))
                .at(name.position)
                .hint("those of a session are schema, query_time, query_memory, query_rows and the like"));
        }
        name = tokens::name(parser)?;
    }
    if !parser.consume_token(&Token::Eq) {
        expect_words(parser, &["TO"])?;
    }
    let position = here(parser);
    let value = match parser.next_token().token {
        Token::SingleQuotedString(text) | Token::Number(text, _) => text,
        Token::Word(word) => word.value.to_lowercase(),
        found => {
            return Err(Error::invalid(format!("expected a value, found {found}")).at(position));
        }
    };
    Ok(Set { name, value, position })
}

pub(super) fn begins_query(parser: &Parser) -> bool {
    parser.peek_token_ref().token == Token::LParen
        || ["SELECT", "WITH", "VALUES", "TABLE", "FROM"].iter().any(|word| peek_word(parser, 0, word))
}

pub(super) fn query(parser: &mut Parser) -> Result<Box<Query>> {
    // The tree does not tell where it stood.
    let deep = (0..).take_while(|n| parser.peek_nth_token_ref(*n).token == Token::LParen).count();
    if peek_word(parser, deep, "TABLE") {
        return Err(Error::invalid("TABLE as a query is not supported")
            .at(Position::of(parser.peek_nth_token_ref(deep).span.start))
            .hint("write SELECT * FROM its name"));
    }
    let mut query = parser.parse_query()?;
    window_argument::resolve_names(&mut query)?;
    Ok(query)
}

fn create(parser: &mut Parser) -> Result<Statement> {
    let position = here(parser);
    if take_words(parser, &["OR", "REPLACE"]) {
        return Err(Error::invalid("what exists is not replaced by CREATE")
            .at(position)
            .hint("DROP it first: its table starts afresh"));
    }
    if take_words(parser, &["STREAM"]) {
        return create_stream(parser).map(Statement::CreateStream);
    }
    if take_words(parser, &["MATERIALIZED", "VIEW"]) {
        return create_view(parser).map(Statement::CreateView);
    }
    if take_words(parser, &["ENDPOINT"]) {
        return create_endpoint(parser).map(Statement::CreateEndpoint);
    }
    if take_words(parser, &["SINK"]) {
        return create_sink(parser).map(Statement::CreateSink);
    }
    if take_words(parser, &["VIEW"]) {
        return create_plain_view(parser).map(Statement::CreatePlainView);
    }
    if take_words(parser, &["TABLE"]) {
        return create_table(parser).map(Statement::CreateTable);
    }
    expected(parser, "STREAM, TABLE, MATERIALIZED VIEW, VIEW, ENDPOINT or SINK")
}

fn create_view(parser: &mut Parser) -> Result<CreateView> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = tokens::relation_name(parser)?;
    let options = tokens::with_options(parser)?;
    expect_words(parser, &["AS"])?;
    if !begins_query(parser) {
        return expected(parser, "SELECT");
    }
    let query = query(parser)?;
    Ok(CreateView { name, if_not_exists, options, query, text: String::new() })
}

fn create_plain_view(parser: &mut Parser) -> Result<CreatePlainView> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = tokens::relation_name(parser)?;
    if peek_word(parser, 0, "WITH") {
        return Err(Error::invalid("a view that is a name for a query has no options")
            .at(here(parser))
            .hint("write CREATE MATERIALIZED VIEW for one that is kept up to date"));
    }
    expect_words(parser, &["AS"])?;
    if !begins_query(parser) {
        return expected(parser, "SELECT");
    }
    Ok(CreatePlainView { name, if_not_exists, query: query(parser)?, text: String::new() })
}

fn relation(parser: &mut Parser) -> Result<Relation> {
    if take_words(parser, &["STREAM"]) {
        Ok(Relation::Stream)
    } else if take_words(parser, &["TABLE"]) {
        Ok(Relation::Table)
    } else if take_words(parser, &["MATERIALIZED", "VIEW"]) || take_words(parser, &["VIEW"]) {
        Ok(Relation::View)
    } else {
        expected(parser, "STREAM, TABLE or VIEW")
    }
}

fn alter(parser: &mut Parser) -> Result<Statement> {
    if take_words(parser, &["SINK"]) {
        return alter_sink(parser).map(Statement::AlterSink);
    }
    let position = here(parser);
    let what = relation(parser)?;
    let name = tokens::name(parser)?;
    if what == Relation::Table {
        return Err(Error::invalid("a table is not altered").at(position).hint(
            "it is read anew by itself when its source has changed; DROP it and CREATE it for another one",
        ));
    }
    if what == Relation::Stream && take_words(parser, &["SET", "WATERMARK"]) {
        return set_watermark(parser, name).map(Statement::SetWatermark);
    }
    if !take_words(parser, &["RESTART"]) {
        return expected(
            parser,
            if what == Relation::Stream { "RESTART or SET WATERMARK" } else { "RESTART" },
        );
    }
    let at = match what == Relation::Stream && take_words(parser, &["AT"]) {
        true => {
            let position = here(parser);
            Some((parser.parse_literal_string()?, position))
        }
        false => None,
    };
    Ok(Statement::Restart(Restart { what, name, at }))
}

fn set_watermark(parser: &mut Parser, stream: Name) -> Result<SetWatermark> {
    let position = here(parser);
    let to = (parser.parse_literal_string()?, position);
    let partition = match take_words(parser, &["PARTITION"]) {
        true => {
            let position = here(parser);
            let number = parser.parse_literal_uint()?;
            let number = i32::try_from(number)
                .map_err(|_| Error::invalid("no partition has such a number").at(position))?;
            Some(number)
        }
        false => None,
    };
    Ok(SetWatermark { stream, to, partition })
}

fn drop_statement(parser: &mut Parser) -> Result<Statement> {
    if take_words(parser, &["ENDPOINT"]) {
        return drop_endpoint(parser).map(Statement::DropEndpoint);
    }
    if take_words(parser, &["SINK"]) {
        return drop_sink(parser).map(Statement::DropSink);
    }
    let what = relation(parser)?;
    let if_exists = take_words(parser, &["IF", "EXISTS"]);
    Ok(Statement::Drop(Drop { what, if_exists, name: tokens::name(parser)? }))
}

fn show(parser: &mut Parser) -> Result<Statement> {
    if take_words(parser, &["WHY"]) {
        Ok(Statement::ShowWhy(tokens::name(parser)?))
    } else if take_words(parser, &["STREAMS"]) {
        Ok(Statement::Show(Shown::Streams))
    } else if take_words(parser, &["VIEWS"]) || take_words(parser, &["MATERIALIZED", "VIEWS"]) {
        Ok(Statement::Show(Shown::Views))
    } else if take_words(parser, &["TABLES"]) {
        Ok(Statement::Show(Shown::Tables))
    } else if take_words(parser, &["ENDPOINTS"]) {
        Ok(Statement::Show(Shown::Endpoints))
    } else if take_words(parser, &["SINKS"]) {
        Ok(Statement::Show(Shown::Sinks))
    } else {
        expected(parser, "STREAMS, VIEWS, TABLES, ENDPOINTS, SINKS or WHY")
    }
}

fn explain(parser: &mut Parser) -> Result<Statement> {
    let analyze = take_words(parser, &["ANALYZE"]);
    let verbose = take_words(parser, &["VERBOSE"]);
    if peek_word(parser, 0, "SUBSCRIBE") {
        return Err(Error::invalid("EXPLAIN of a subscription is not supported")
            .at(here(parser))
            .hint("EXPLAIN the query that it is TO"));
    }
    let is_statement = begins_query(parser) || peek_word(parser, 0, "CREATE");
    let what = if is_statement {
        Explained::Statement(Box::new(statement(parser)?))
    } else {
        Explained::Name(parser.parse_object_name(false)?)
    };
    Ok(Statement::Explain(Explain { analyze, verbose, what }))
}
