//! What stands after FROM.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, Join, JoinConstraint, JoinOperator, Spanned, TableFactor, TableFunctionArgs,
    TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::{LEAVE_OUT, aliased, none, refused};
use crate::error::Result;

pub(super) fn check(factor: &TableFactor) -> Result<()> {
    let here = &[factor.span()];
    match factor {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            let here = &[name.span()];
            alias.iter().try_for_each(aliased)?;
            if let Some(TableFunctionArgs { args: _, settings }) = args {
                none(settings.is_some(), "SETTINGS", here)?;
            }
            none(!with_hints.is_empty(), "WITH (…) at a table", here)?;
            none(version.is_some(), "an earlier version of a table", here)?;
            none(*with_ordinality, "WITH ORDINALITY", here)?;
            none(!partitions.is_empty(), "PARTITION (…) at a table", here)?;
            none(json_path.is_some(), "a path into a table", here)?;
            none(!index_hints.is_empty(), "a hint of an index", here)?;
            sampled(sample.is_some(), here)
        }
        TableFactor::Derived { lateral: _, subquery: _, alias, sample } => {
            alias.iter().try_for_each(aliased)?;
            sampled(sample.is_some(), here)
        }
        // Its function is looked at as an expression.
        TableFactor::TableFunction { expr: _, alias } => alias.iter().try_for_each(aliased),
        TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
            let here = &[name.span()];
            alias.iter().try_for_each(aliased)?;
            none(*with_ordinality, "WITH ORDINALITY", here)?;
            match args.iter().find(|arg| !matches!(arg, FunctionArg::Unnamed(_))) {
                Some(named) => refused(
                    format!("{name} takes its arguments by their places, not by name"),
                    &[named.span(), here[0]],
                    "leave the names out",
                ),
                None => Ok(()),
            }
        }
        TableFactor::UNNEST { alias, array_exprs: _, with_offset, with_offset_alias, with_ordinality } => {
            alias.iter().try_for_each(aliased)?;
            none(*with_offset || with_offset_alias.is_some(), "UNNEST … WITH OFFSET", here)?;
            none(*with_ordinality, "WITH ORDINALITY", here)
        }
        TableFactor::NestedJoin { table_with_joins, alias } => {
            alias.iter().try_for_each(aliased)?;
            let TableWithJoins { relation: _, joins } = table_with_joins.as_ref();
            joins.iter().try_for_each(check_join)
        }
        TableFactor::JsonTable { json_expr: _, json_path: _, columns: _, alias: _ } => {
            other("JSON_TABLE", here)
        }
        TableFactor::OpenJsonTable { json_expr: _, json_path: _, columns: _, alias: _ } => {
            other("OPENJSON", here)
        }
        TableFactor::Pivot {
            table: _,
            aggregate_functions: _,
            value_column: _,
            value_source: _,
            default_on_null: _,
            alias: _,
        } => other("PIVOT", here),
        TableFactor::Unpivot { table: _, value: _, name: _, columns: _, null_inclusion: _, alias: _ } => {
            other("UNPIVOT", here)
        }
        TableFactor::MatchRecognize {
            table: _,
            partition_by: _,
            order_by: _,
            measures: _,
            rows_per_match: _,
            after_match_skip: _,
            pattern: _,
            symbols: _,
            alias: _,
        } => other("MATCH_RECOGNIZE", here),
        TableFactor::XmlTable { namespaces: _, row_expression: _, passing: _, columns: _, alias: _ } => {
            other("XMLTABLE", here)
        }
        TableFactor::SemanticView {
            name: _,
            dimensions: _,
            metrics: _,
            facts: _,
            where_clause: _,
            alias: _,
        } => other("SEMANTIC_VIEW", here),
    }
}

fn other(what: &str, here: &[Span]) -> Result<()> {
    refused(format!("{what} is not supported"), here, LEAVE_OUT)
}

fn sampled(there: bool, here: &[Span]) -> Result<()> {
    if there {
        return refused(
            "TABLESAMPLE is not supported",
            here,
            "leave it out, or keep a share of the rows: WHERE random() < 0.1 in a query",
        );
    }
    Ok(())
}

pub(super) fn check_join(join: &Join) -> Result<()> {
    let Join { relation, global, join_operator } = join;
    let here = &[relation.span()];
    none(*global, "GLOBAL at a join", here)?;
    match join_operator {
        JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => match constraint {
            JoinConstraint::Using(_) | JoinConstraint::Natural => refused(
                "RIGHT and FULL joins with USING or NATURAL would give NULL for keys of the right side alone",
                here,
                "write ON a.key = b.key, and coalesce(a.key, b.key) in the SELECT list",
            ),
            JoinConstraint::On(_) | JoinConstraint::None => Ok(()),
        },
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => match constraint {
            JoinConstraint::On(_)
            | JoinConstraint::Using(_)
            | JoinConstraint::Natural
            | JoinConstraint::None => Ok(()),
        },
        JoinOperator::Semi(_) | JoinOperator::Anti(_) => {
            refused("SEMI and ANTI joins have a side", here, "write LEFT SEMI JOIN or LEFT ANTI JOIN")
        }
        JoinOperator::CrossApply | JoinOperator::OuterApply => {
            refused("APPLY is not supported", here, "write CROSS JOIN LATERAL or LEFT JOIN LATERAL … ON true")
        }
        JoinOperator::AsOf { match_condition: _, constraint: _ } => other("ASOF JOIN", here),
        JoinOperator::StraightJoin(_) => refused("STRAIGHT_JOIN is not supported", here, "write JOIN"),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
            refused("ARRAY JOIN is not supported", here, "write CROSS JOIN UNNEST(…)")
        }
    }
}

/// What an inner join is ON.
pub(super) fn condition(join: &Join) -> Option<&Expr> {
    match &join.join_operator {
        JoinOperator::Join(JoinConstraint::On(condition))
        | JoinOperator::Inner(JoinConstraint::On(condition)) => Some(condition),
        _ => None,
    }
}
