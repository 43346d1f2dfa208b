//! Expressions. Most are planned whole; calls of functions are looked at in `function`.

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Interval, Spanned, UnaryOperator, Value};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::{function, refused};
use crate::error::Result;

fn is_zone(text: &str) -> bool {
    text.parse::<arrow::array::timezone::Tz>().is_ok()
}

pub(super) fn check(expr: &Expr, state: &SessionState) -> Result<()> {
    match expr {
        Expr::Function(call) => function::check(call, state),
        Expr::Trim { trim_where: _, trim_what: _, expr, trim_characters } => {
            function::check_trim(expr, trim_characters.as_ref())
        }
        Expr::Value(value) => whole_number(&value.value, value.span, false),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => whole_number(&value.value, value.span, true),
            _ => Ok(()),
        },
        Expr::BinaryOp { left, op: BinaryOperator::BitwiseXor, right } => refused(
            format!("{left} ^ {right} is no power here, but would be the bits that differ"),
            &[left.span(), right.span()],
            format!("write power({left}, {right}); of bits ({left} | {right}) - ({left} & {right})"),
        ),
        Expr::SimilarTo { negated: _, expr, pattern: _, escape_char: _ } => refused(
            "SIMILAR TO would find its pattern anywhere in the text",
            &[expr.span()],
            format!("write regexp_like({expr}, '^(…)$')"),
        ),
        Expr::AtTimeZone { timestamp: _, time_zone } => match time_zone.as_ref() {
            Expr::Value(value) if matches!(&value.value, Value::SingleQuotedString(zone) if is_zone(zone)) => {
                Ok(())
            }
            Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)) => refused(
                format!("there is no time zone {time_zone}"),
                &[value.span, expr.span()],
                "zones are named as in 'Europe/Berlin', or by what they are ahead of UTC, as in '+02:00'",
            ),
            other => refused(
                format!("AT TIME ZONE {other} is not supported: a zone is a text, the same for all rows"),
                &[other.span(), expr.span()],
                "write AT TIME ZONE 'Europe/Berlin'",
            ),
        },
        // Planned whole.
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::CompoundFieldAccess { root: _, access_chain: _ }
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(_, _)
        | Expr::IsNotDistinctFrom(_, _)
        | Expr::InList { expr: _, list: _, negated: _ }
        | Expr::InSubquery { expr: _, subquery: _, negated: _ }
        | Expr::Between { expr: _, negated: _, low: _, high: _ }
        | Expr::BinaryOp { left: _, op: _, right: _ }
        | Expr::AnyOp { left: _, compare_op: _, right: _, is_some: _ }
        | Expr::AllOp { left: _, compare_op: _, right: _ }
        | Expr::UnaryOp { op: _, expr: _ }
        | Expr::Extract { field: _, syntax: _, expr: _ }
        | Expr::Ceil { expr: _, field: _ }
        | Expr::Floor { expr: _, field: _ }
        | Expr::Position { expr: _, r#in: _ }
        | Expr::Substring { expr: _, substring_from: _, substring_for: _, special: _, shorthand: _ }
        | Expr::Overlay { expr: _, overlay_what: _, overlay_from: _, overlay_for: _ }
        | Expr::Nested(_)
        | Expr::TypedString(_)
        | Expr::Case { case_token: _, end_token: _, operand: _, conditions: _, else_result: _ }
        | Expr::Exists { subquery: _, negated: _ }
        | Expr::Subquery(_)
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_)
        | Expr::Tuple(_)
        | Expr::Named { expr: _, name: _ }
        | Expr::Dictionary(_)
        | Expr::Map(_)
        | Expr::Array(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(_, _)
        | Expr::Lambda(_) => Ok(()),
        // The planner refuses the fields that it does not plan: FORMAT, ANY, ESCAPE of more than a letter, the fields of
        // a STRUCT, precisions of an INTERVAL.
        Expr::Cast { kind: _, expr: _, data_type: _, array: _, format: _ }
        | Expr::Like { negated: _, any: _, expr: _, pattern: _, escape_char: _ }
        | Expr::ILike { negated: _, any: _, expr: _, pattern: _, escape_char: _ }
        | Expr::Struct { values: _, fields: _ }
        | Expr::Interval(Interval {
            value: _,
            leading_field: _,
            leading_precision: _,
            last_field: _,
            fractional_seconds_precision: _,
        }) => Ok(()),
        Expr::Collate { expr, collation } => refused(
            format!("COLLATE {collation} is not supported: texts are compared byte by byte"),
            &[expr.span()],
            format!("compare or order by lower({expr})"),
        ),
        Expr::RLike { negated: _, expr, pattern, regexp: _ } => refused(
            "RLIKE and REGEXP are not supported",
            &[expr.span()],
            format!("write regexp_like({expr}, {pattern})"),
        ),
        Expr::InUnnest { expr, array_expr, negated: _ } => refused(
            "IN UNNEST is not supported",
            &[expr.span()],
            format!("write {expr} = ANY ({array_expr})"),
        ),
        // The planner refuses them.
        Expr::JsonAccess { value: _, path: _ }
        | Expr::IsNormalized { expr: _, form: _, negated: _ }
        | Expr::Convert { is_try: _, expr: _, data_type: _, charset: _, target_before_value: _, styles: _ }
        | Expr::Prefixed { prefix: _, value: _ }
        | Expr::MatchAgainst { columns: _, match_value: _, opt_search_modifier: _ }
        | Expr::OuterJoin(_)
        | Expr::Prior(_)
        | Expr::MemberOf(_) => Ok(()),
    }
}

/// The planner makes a DOUBLE of a whole number with too many digits, most of which it forgets.
fn whole_number(value: &Value, span: Span, negative: bool) -> Result<()> {
    let Value::Number(digits, _) = value else { return Ok(()) };
    if !digits.bytes().all(|each| each.is_ascii_digit()) {
        return Ok(());
    }
    let fits = match digits.parse::<u64>() {
        Ok(number) => !negative || number <= i64::MIN.unsigned_abs(),
        Err(_) => false,
    };
    if fits {
        return Ok(());
    }
    let sign = if negative { "-" } else { "" };
    refused(
        format!("{sign}{digits} does not fit in BIGINT"),
        &[span],
        format!("write CAST('{sign}{digits}' AS DECIMAL(38, 0)), or a DOUBLE: {sign}{digits}.0"),
    )
}
