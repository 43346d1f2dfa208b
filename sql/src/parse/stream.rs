//! `CREATE STREAM name (columns, WATERMARK FOR …) WITH (options)`.

use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType, Expr, Ident, Spanned};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use thalweg_engine::ids::Micros;

use super::interval::interval_micros;
use super::tokens::{self, Name, OptionEntry, expect, expect_words, expected, here, take_words};
use crate::error::{Error, Position, Result};

#[derive(Debug, Clone, PartialEq)]
pub struct CreateStream {
    pub name: Name,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDeclaration>,
    pub watermark: Option<Watermark>,
    pub options: Vec<OptionEntry>,
    /// The statement as it was written.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDeclaration {
    pub name: Name,
    pub data_type: DataType,
    pub type_position: Option<Position>,
    /// `METADATA FROM 'partition'`
    pub metadata: Option<Name>,
}

/// `WATERMARK FOR column AS column - INTERVAL …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    pub column: Name,
    pub delay: Micros,
}

/// What follows `CREATE STREAM`.
pub(super) fn create_stream(parser: &mut Parser) -> Result<CreateStream> {
    let if_not_exists = take_words(parser, &["IF", "NOT", "EXISTS"]);
    let name = tokens::relation_name(parser)?;
    let mut columns = vec![];
    let mut watermark = None;
    expect(parser, Token::LParen)?;
    loop {
        if tokens::peek_word(parser, 0, "WATERMARK") && tokens::peek_word(parser, 1, "FOR") {
            let position = here(parser);
            let declared = watermark_clause(parser)?;
            if watermark.replace(declared).is_some() {
                return Err(Error::invalid("a stream has one WATERMARK").at(position));
            }
        } else {
            columns.push(column(parser)?);
        }
        if parser.consume_token(&Token::RParen) {
            break;
        }
        if !parser.consume_token(&Token::Comma) {
            return expected(parser, "a comma or )");
        }
    }
    let options = tokens::with_options(parser)?;
    Ok(CreateStream { name, if_not_exists, columns, watermark, options, text: String::new() })
}

pub(super) fn column(parser: &mut Parser) -> Result<ColumnDeclaration> {
    let ident = parser.parse_identifier()?;
    refuse_folded_case(&ident)?;
    let type_position = here(parser);
    let data_type = parser.parse_data_type()?;
    let metadata = if take_words(parser, &["METADATA"]) {
        expect_words(parser, &["FROM"])?;
        let position = here(parser);
        let value = parser.parse_literal_string()?;
        Some(Name { value, quoted: true, position })
    } else {
        None
    };
    Ok(ColumnDeclaration { name: Name::of(ident), data_type, type_position, metadata })
}

/// SQL reads `userId` as `userid`, which would silently be no field of the record.
fn refuse_folded_case(ident: &Ident) -> Result<()> {
    if ident.quote_style.is_some() || !ident.value.contains(char::is_uppercase) {
        return Ok(());
    }
    let (written, folded) = (&ident.value, ident.value.to_lowercase());
    Err(Error::invalid(format!(
        "column {written} has capitals and no quotes, and SQL would read it as {folded}"
    ))
    .at(Position::of(ident.span.start))
    .hint(format!("write \"{written}\" for the record's field {written}, or {folded}")))
}

fn watermark_clause(parser: &mut Parser) -> Result<Watermark> {
    expect_words(parser, &["WATERMARK", "FOR"])?;
    let column = tokens::name(parser)?;
    expect_words(parser, &["AS"])?;
    let expr = parser.parse_expr()?;
    let delay = delay_of(&expr, &column)?;
    Ok(Watermark { column, delay })
}

fn delay_of(expr: &Expr, column: &Name) -> Result<Micros> {
    let is_column =
        |expr: &Expr| matches!(expr, Expr::Identifier(it) if Name::of(it.clone()).value == column.value);
    let delay = match expr {
        expr if is_column(expr) => 0,
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(left) => {
            interval_micros(right)?
        }
        _ => {
            return Err(Error::invalid(format!("a watermark is its column less a fixed delay, not {expr}"))
                .at(Position::of(expr.span().start))
                .hint(format!("WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND", column.value)));
        }
    };
    if delay < 0 {
        return Err(
            Error::invalid("the delay of a watermark can't be negative").at(Position::of(expr.span().start))
        );
    }
    Ok(delay)
}
