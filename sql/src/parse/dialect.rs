//! The SQL that we read: what DataFusion's generic dialect reads, and `TABLE name [PARTITION BY keys]` as an argument, which
//! the standard's window functions take: `TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '1' MINUTE)`. The keys are kept as
//! the `DISTRIBUTE BY` of the subquery that stands for the table.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, TableFactor};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::window_argument::name_to_subquery;

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

    /// `clicks PARTITION BY user_id` in the short form of a window.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        partitions(parser).then_some(Ok(LOOSEST))
    }

    /// Likewise, and `a IS [NOT] DISTINCT FROM b`, behind which the parser would read `b AND c` as what is compared.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let compared = |parser: &mut Parser| {
            Ok::<_, ParserError>((Box::new(expr.clone()), Box::new(parser.parse_subexpr(precedence)?)))
        };
        if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            return Some(compared(parser).map(|(left, right)| Expr::IsDistinctFrom(left, right)));
        }
        if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
            return Some(compared(parser).map(|(left, right)| Expr::IsNotDistinctFrom(left, right)));
        }
        partitions(parser).then(|| {
            let place = parser.next_token().span.start;
            let mut table = expr.clone();
            name_to_subquery(&mut table)?;
            match table {
                Expr::Subquery(query) => partitioned(*query, parser),
                _ => Err(ParserError::ParserError(format!(
                    "PARTITION BY stands behind a stream or a view{place}"
                ))),
            }
        })
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

    /// `E'a\tb'`; without it, a column `e` that is called `a\tb`.
    fn supports_string_escape_constant(&self) -> bool {
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
    let name: Vec<_> = (first..=last).map(|index| parser.token_at(index).clone()).collect();
    let table = select_all(name, keyword.span)?;
    if partitions(parser) {
        parser.next_token();
        return partitioned(table, parser);
    }
    Ok(Expr::Subquery(Box::new(table)))
}

/// Looser than any operator.
const LOOSEST: u8 = 1;

fn partitions(parser: &Parser) -> bool {
    parser.peek_keyword(Keyword::PARTITION) && parser.peek_nth_token_ref(1).token == Token::make_keyword("BY")
}

/// Reads the keys behind `PARTITION`: one, or several in parentheses.
fn partitioned(mut table: Query, parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_keyword(Keyword::BY)?;
    let keys = match parser.consume_token(&Token::LParen) {
        true => {
            let keys = parser.parse_comma_separated(|parser| parser.parse_identifier())?;
            parser.expect_token(&Token::RParen)?;
            keys
        }
        false => vec![parser.parse_identifier()?],
    };
    if !matches!(*table.body, SetExpr::Select(_)) {
        table = select_all_of(table)?;
    }
    if let SetExpr::Select(select) = table.body.as_mut() {
        select.distribute_by = keys.into_iter().map(Expr::Identifier).collect();
    }
    Ok(Expr::Subquery(Box::new(table)))
}

/// `SELECT * FROM (query)`.
fn select_all_of(query: Query) -> Result<Query, ParserError> {
    let mut outer = select_all(vec![TokenWithSpan::wrap(Token::make_word("united", None))], Span::empty())?;
    if let SetExpr::Select(select) = outer.body.as_mut() {
        for from in &mut select.from {
            let subquery = Box::new(query.clone());
            from.relation = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
        }
    }
    Ok(outer)
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
