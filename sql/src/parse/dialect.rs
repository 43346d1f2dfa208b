//! The SQL that we read: what DataFusion's generic dialect reads, and `TABLE name` as an argument, which the standard's
//! window functions take: `TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '1' MINUTE)`.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{Expr, Query};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

#[derive(Debug, Clone, Copy, Default)]
pub struct ThalwegDialect;

impl Dialect for ThalwegDialect {
    /// The parser asks for the generic dialect by name in some places.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let is_table = parser.peek_keyword(Keyword::TABLE);
        let is_named = matches!(parser.peek_nth_token_ref(1).token, Token::Word(_));
        (is_table && is_named).then(|| table_argument(parser))
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }
}

/// Reads `TABLE name` as the subquery `(SELECT * FROM name)`, whose name keeps its place in the text.
fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let keyword = parser.next_token();
    let first = parser.get_current_index() + 1;
    parser.parse_object_name(false)?;
    let last = parser.get_current_index();
    if parser.peek_keyword(Keyword::PARTITION) {
        let place = parser.peek_token().span.start;
        return Err(ParserError::ParserError(format!(
            "a window takes its stream whole, without PARTITION BY{place}"
        )));
    }
    let name: Vec<_> = (first..=last).map(|index| parser.token_at(index).clone()).collect();
    Ok(Expr::Subquery(Box::new(select_all(name, keyword.span)?)))
}

/// `SELECT * FROM name`, standing at `span`.
pub(super) fn select_all(name: Vec<TokenWithSpan>, span: Span) -> Result<Query, ParserError> {
    let tokens = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")]
        .into_iter()
        .map(|token| TokenWithSpan { token, span })
        .chain(name)
        .collect();
    Parser::new(&ThalwegDialect).with_tokens_with_locations(tokens).parse_query().map(|query| *query)
}
