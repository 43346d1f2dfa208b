//! The small pieces that all of our own statements share: words, names, `WITH (key = 'value', …)`.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Word};

use crate::error::{Error, Position, Result};

/// A name as SQL understands it (lower case, unless quoted), and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub value: String,
    pub quoted: bool,
    pub position: Option<Position>,
}

impl Name {
    pub(super) fn of(ident: Ident) -> Name {
        let position = Position::of(ident.span.start);
        match ident.quote_style {
            Some(_) => Name { value: ident.value, quoted: true, position },
            None => Name { value: ident.value.to_lowercase(), quoted: false, position },
        }
    }
}

/// One `key = 'value'`; numbers, `true` and bare words are values too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionEntry {
    pub key: String,
    pub value: String,
    pub position: Option<Position>,
    pub value_position: Option<Position>,
}

/// The place of the next token.
pub(super) fn here(parser: &Parser) -> Option<Position> {
    Position::of(parser.peek_token_ref().span.start)
}

/// The span of the last token that was read.
pub(super) fn last_span(parser: &Parser) -> Span {
    (0..=parser.get_current_index())
        .rev()
        .map(|index| parser.token_at(index))
        .find(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
        .map_or(Span::empty(), |token| token.span)
}

fn is_word(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(expected))
}

pub(super) fn peek_word(parser: &Parser, nth: usize, expected: &str) -> bool {
    is_word(&parser.peek_nth_token_ref(nth).token, expected)
}

/// Reads all of `words`, or nothing.
pub(super) fn take_words(parser: &mut Parser, words: &[&str]) -> bool {
    let all = words.iter().enumerate().all(|(nth, word)| peek_word(parser, nth, word));
    if all {
        for _ in words {
            parser.advance_token();
        }
    }
    all
}

pub(super) fn expected<T>(parser: &Parser, what: &str) -> Result<T> {
    let found = match &parser.peek_token_ref().token {
        Token::EOF => "but the text ends here".to_owned(),
        token => format!("found {token}"),
    };
    Err(Error::invalid(format!("expected {what}, {found}")).at(here(parser)))
}

pub(super) fn expect_words(parser: &mut Parser, words: &[&str]) -> Result<()> {
    if take_words(parser, words) { Ok(()) } else { expected(parser, &words.join(" ")) }
}

pub(super) fn expect(parser: &mut Parser, token: Token) -> Result<()> {
    if parser.consume_token(&token) { Ok(()) } else { expected(parser, &token.to_string()) }
}

pub(super) fn name(parser: &mut Parser) -> Result<Name> {
    Ok(Name::of(parser.parse_identifier()?))
}

/// The name of a stream or view, which is also that of a folder.
pub(super) fn relation_name(parser: &mut Parser) -> Result<Name> {
    let name = name(parser)?;
    let plain = name.value.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.value.chars().all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '_');
    if !plain || name.value.len() > 100 {
        return Err(Error::invalid(format!("\"{}\" can't be the name of a stream or view", name.value))
            .at(name.position)
            .hint("take up to 100 of a-z, 0-9 and _, beginning with a letter"));
    }
    if parser.peek_token_ref().token == Token::Period {
        return Err(Error::invalid("streams and views are created without a schema before their name")
            .at(here(parser))
            .hint("a view v is read as v, live.v and history.v"));
    }
    Ok(name)
}

/// `WITH (key = 'value', …)`, or nothing.
pub(super) fn with_options(parser: &mut Parser) -> Result<Vec<OptionEntry>> {
    if take_words(parser, &["WITH"]) { options(parser) } else { Ok(vec![]) }
}

/// `(key = 'value', …)`
pub(super) fn options(parser: &mut Parser) -> Result<Vec<OptionEntry>> {
    let mut options = vec![];
    expect(parser, Token::LParen)?;
    while !parser.consume_token(&Token::RParen) {
        let option = option_entry(parser)?;
        if options.iter().any(|known: &OptionEntry| known.key == option.key) {
            return Err(
                Error::invalid(format!("option \"{}\" is given twice", option.key)).at(option.position)
            );
        }
        options.push(option);
        if !parser.consume_token(&Token::Comma) && parser.peek_token_ref().token != Token::RParen {
            return expected(parser, "a comma or )");
        }
    }
    Ok(options)
}

fn option_entry(parser: &mut Parser) -> Result<OptionEntry> {
    let position = here(parser);
    let key = option_key(parser)?;
    expect(parser, Token::Eq)?;
    let value_position = here(parser);
    let negative = parser.consume_token(&Token::Minus);
    let value = match parser.peek_token().token {
        Token::SingleQuotedString(text) => text,
        Token::Number(digits, _) if negative => format!("-{digits}"),
        Token::Number(digits, _) => digits,
        Token::Word(word) => word.value,
        _ => return expected(parser, "a value such as 'text'"),
    };
    parser.advance_token();
    Ok(OptionEntry { key, value, position, value_position })
}

/// `topic`, `'properties.security.protocol'` or `properties.security.protocol`.
fn option_key(parser: &mut Parser) -> Result<String> {
    if let Token::SingleQuotedString(text) = parser.peek_token().token {
        parser.advance_token();
        return Ok(text);
    }
    let mut key = String::new();
    loop {
        let Token::Word(word) = parser.peek_token().token else {
            return expected(parser, "an option's name");
        };
        parser.advance_token();
        key.push_str(&word.value);
        if !parser.consume_token(&Token::Period) {
            return Ok(key);
        }
        key.push('.');
    }
}
