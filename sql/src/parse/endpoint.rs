//! `CREATE ENDPOINT '/api/…' (parameters) AS query`, and `CREATE ENDPOINT '/api/…' INTO stream WITH (options)`.

use datafusion::sql::sqlparser::ast::{DataType, Expr, Query, UnaryOperator, Value};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::statement::{begins_query, query};
use super::tokens::{self, Name, OptionEntry, expect, expected, here, take_words};
use crate::error::{Error, Position, Result};

#[derive(Debug, Clone)]
pub struct CreateEndpoint {
    /// Its `value` is the path.
    pub path: Name,
    pub if_not_exists: bool,
    pub work: EndpointWork,
    /// The statement as it was written.
    pub text: String,
}

#[derive(Debug, Clone)]
pub enum EndpointWork {
    /// Answers with the rows of a query.
    Ask { parameters: Vec<ParameterDeclaration>, query: Box<Query> },
    /// Takes events into a stream.
    Collect { stream: Name, options: Vec<OptionEntry> },
}

/// `minutes INT DEFAULT 5`
#[derive(Debug, Clone)]
pub struct ParameterDeclaration {
    pub name: Name,
    pub data_type: DataType,
    pub type_position: Option<Position>,
    pub default: Option<Default>,
}

/// What a parameter is when nobody says.
#[derive(Debug, Clone)]
pub struct Default {
    /// As it would stand in a URL; `None` is NULL.
    pub text: Option<String>,
    pub position: Option<Position>,
}

#[derive(Debug, Clone)]
pub struct DropEndpoint {
    pub path: Name,
    pub if_exists: bool,
}

/// What follows `CREATE ENDPOINT`.
pub(super) fn create_endpoint(parser: &mut Parser) -> Result<CreateEndpoint> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let path = path(parser)?;
    let text = String::new();
    if take_words(parser, &["INTO"]) {
        let stream = tokens::name(parser)?;
        let options = tokens::with_options(parser)?;
        let work = EndpointWork::Collect { stream, options };
        return Ok(CreateEndpoint { path, if_not_exists, work, text });
    }
    let parameters = match parser.consume_token(&Token::LParen) {
        true => parameters(parser)?,
        false => vec![],
    };
    if !take_words(parser, &["AS"]) {
        return expected(parser, "AS or INTO");
    }
    if !begins_query(parser) {
        return expected(parser, "SELECT");
    }
    let query = query(parser)?;
    Ok(CreateEndpoint { path, if_not_exists, work: EndpointWork::Ask { parameters, query }, text })
}

/// What follows `DROP ENDPOINT`.
pub(super) fn drop_endpoint(parser: &mut Parser) -> Result<DropEndpoint> {
    let if_exists = take_words(parser, &["IF", "EXISTS"]);
    Ok(DropEndpoint { path: path(parser)?, if_exists })
}

fn path(parser: &mut Parser) -> Result<Name> {
    let position = here(parser);
    let Token::SingleQuotedString(value) = parser.peek_token().token else {
        return expected(parser, "a path such as '/api/metrics/live'");
    };
    parser.advance_token();
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || "_-".contains(each))
    };
    // A dot begins the form of an answer; the others are the server's own.
    let good = value
        .strip_prefix("/api/")
        .is_some_and(|rest| rest.split('/').all(plain) && !["sql", "watch", "subscribe"].contains(&rest));
    if !good || value.len() > 100 {
        return Err(Error::invalid(format!("'{value}' can't be the path of an endpoint"))
            .at(position)
            .hint("it is /api/ and up to 95 of a-z, 0-9, _, - and /, other than /api/sql, /api/watch and /api/subscribe"));
    }
    Ok(Name { value, quoted: true, position })
}

fn parameters(parser: &mut Parser) -> Result<Vec<ParameterDeclaration>> {
    let mut declared: Vec<ParameterDeclaration> = vec![];
    while !parser.consume_token(&Token::RParen) {
        let name = tokens::name(parser)?;
        if declared.iter().any(|known| known.name.value == name.value) {
            return Err(
                Error::invalid(format!("parameter \"{}\" is declared twice", name.value)).at(name.position)
            );
        }
        let type_position = here(parser);
        let data_type = parser.parse_data_type()?;
        let default = take_words(parser, &["DEFAULT"]).then(|| default(parser)).transpose()?;
        declared.push(ParameterDeclaration { name, data_type, type_position, default });
        if !parser.consume_token(&Token::Comma) {
            expect(parser, Token::RParen)?;
            break;
        }
    }
    Ok(declared)
}

fn default(parser: &mut Parser) -> Result<Default> {
    let position = here(parser);
    // TIMESTAMP '…' is the text.
    let expr = match parser.parse_expr()? {
        Expr::TypedString(typed) => Expr::Value(typed.value),
        expr => expr,
    };
    let text = match expr {
        Expr::Value(value) => literal(value.value),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match *expr {
            Expr::Value(value) => literal(value.value).map(|it| it.map(|number| format!("-{number}"))),
            _ => None,
        },
        _ => None,
    };
    let text = text.ok_or_else(|| {
        Error::invalid("the default of a parameter is a plain value")
            .at(position)
            .hint("a number, 'text', true, false or NULL; what is computed belongs into the query")
    })?;
    Ok(Default { text, position })
}

/// The text of a plain value; `Some(None)` is NULL.
fn literal(value: Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::Boolean(value) => Some(Some(value.to_string())),
        Value::Number(digits, _) => Some(Some(digits)),
        Value::SingleQuotedString(text) => Some(Some(text)),
        _ => None,
    }
}
