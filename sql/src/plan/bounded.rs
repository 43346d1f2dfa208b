//! Whether what a query makes of a row is bounded by the row: columns, short constants, comparisons, arithmetic, and functions
//! whose answer is no larger than what they are given. Everything else may make anything of anything.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Query, TableFactor, UnaryOperator, Value, Visitor,
};

use super::scalar_type;
use crate::parse::walk;

/// Each may be as large as a row.
const EXPRESSIONS_MAX: usize = 64;
const CONSTANT_BYTES_MAX: usize = 256;

const FUNCTIONS: [&str; 25] = [
    "abs",
    "btrim",
    "ceil",
    "char_length",
    "character_length",
    "coalesce",
    "contains",
    "date_bin",
    "date_part",
    "date_trunc",
    "floor",
    "left",
    "length",
    "lower",
    "ltrim",
    "nullif",
    "octet_length",
    "right",
    "round",
    "rtrim",
    "starts_with",
    "strpos",
    "substr",
    "trim",
    "upper",
];

pub(crate) fn is_bounded(query: &Query) -> bool {
    walk(query, &mut Bounded { expressions: 0 }).is_continue()
}

struct Bounded {
    expressions: usize,
}

impl Bounded {
    fn only_if(is_bounded: bool) -> ControlFlow<()> {
        if is_bounded { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl Visitor for Bounded {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        Bounded::only_if(matches!(
            factor,
            TableFactor::Table { args: None, .. } | TableFactor::Derived { .. }
        ))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.expressions += 1;
        Bounded::only_if(self.expressions <= EXPRESSIONS_MAX && is_plain(expr))
    }
}

/// By itself: what it is made of is looked at, too.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.len() <= CONSTANT_BYTES_MAX,
            Value::Number(..) | Value::Boolean(_) | Value::Null | Value::Placeholder(_) => true,
            _ => false,
        },
        Expr::BinaryOp { op, .. } => matches!(
            op,
            BinaryOperator::Plus
                | BinaryOperator::Minus
                | BinaryOperator::Multiply
                | BinaryOperator::Divide
                | BinaryOperator::Modulo
                | BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
                | BinaryOperator::And
                | BinaryOperator::Or
        ),
        Expr::UnaryOp { op, .. } => {
            matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not)
        }
        Expr::Cast { data_type, .. } => scalar_type(data_type).is_ok(),
        Expr::Function(call) => {
            let is_known = FUNCTIONS.iter().any(|known| call.name.to_string().eq_ignore_ascii_case(known));
            is_known && call.over.is_none() && matches!(call.args, FunctionArguments::List(_))
        }
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::CompoundFieldAccess { .. }
        | Expr::Nested(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::Case { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Interval(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{self, Statement};

    fn check(query: &str, expected: bool) {
        let Statement::Query(parsed) = parse::statement(query).unwrap().statement else { panic!("{query}") };
        assert_eq!(is_bounded(&parsed), expected, "{query}");
    }

    #[test]
    fn what_a_row_bounds_is_told_from_what_it_does_not() {
        check("SELECT * FROM v WHERE country = 'DE' AND n BETWEEN 1 AND 5", true);
        check("SELECT window_start, upper(a) AS a, n * 2 + 1 AS m, d['x'] FROM v WHERE a LIKE '%x%'", true);
        check(
            "SELECT CAST(n AS STRING), CASE WHEN n > 1 THEN 'a' ELSE 'b' END FROM v WHERE t > $since",
            true,
        );
        check("SELECT x FROM (SELECT lower(a) AS x FROM v) AS inner_v", true);
        check("SELECT repeat(a, 2) FROM v", false);
        check("SELECT a || a FROM v", false);
        check("SELECT n FROM v WHERE length(repeat(a, 100000)) > 1", false);
        check("SELECT [a, a] FROM v", false);
        check("SELECT CAST(NULL AS BIGINT[3]) FROM v", false);
        check("SELECT value FROM generate_series(1, 10)", false);
        check(&format!("SELECT '{}' FROM v", "x".repeat(300)), false);
        check(&format!("SELECT a{} FROM v", ", a".repeat(100)), false);
    }
}
