//! What has no order that all agree on is refused where it is asked for: values below which something may be NULL compare
//! otherwise from one operator to the next, some by the order of rows, and some are found out by the first row alone. So is
//! what an aggregate would refuse at each of its rows.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Between, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, SortExpr,
};

use crate::Error;
use crate::plan::type_text;

/// Of an expression by itself; what is ordered by another has [`sorts`].
pub(super) fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) =>
        {
            plain(&op.to_string(), [&**left, right], schema)
        }
        Expr::Between(Between { expr, negated: _, low, high }) => {
            plain("BETWEEN", [&**expr, low, high], schema)
        }
        Expr::ScalarFunction(call) if matches!(call.name(), "greatest" | "least") => {
            plain(&format!("{}()", call.name()), &call.args, schema)
        }
        Expr::AggregateFunction(function) => aggregate(function, schema),
        _ => Ok(()),
    }
}

/// Of `DISTINCT ON (…) … ORDER BY`, whose order decides which row it is.
pub(super) fn check_distinct(plan: &LogicalPlan, schema: &DFSchema) -> Result<()> {
    match plan {
        LogicalPlan::Distinct(Distinct::On(on)) => {
            sorts("DISTINCT ON", on.sort_expr.as_deref().unwrap_or_default(), schema)
        }
        _ => Ok(()),
    }
}

/// What an aggregate compares, and what its rows are ordered by.
fn aggregate(function: &AggregateFunction, schema: &DFSchema) -> Result<()> {
    let (name, params) = (function.func.name(), &function.params);
    sorts(&format!("{name}()"), &params.order_by, schema)?;
    // Its rows are gone by then, and what they were of is left.
    let is_of_another = params.order_by.iter().any(|sort| !params.args.contains(&sort.expr));
    if params.distinct && is_of_another && matches!(name, "array_agg" | "string_agg") {
        let error = Error::invalid(format!("{name}(DISTINCT …) is ordered by what it is of, in its type"));
        return Err(error
            .hint("CAST in both, as string_agg(DISTINCT CAST(x AS STRING), ',' ORDER BY CAST(x AS STRING))")
            .into());
    }
    arguments(name, &params.args, schema)
}

/// Of an aggregate over a frame.
pub(super) fn over(function: &str, args: &[Expr], schema: &DFSchema) -> Result<()> {
    if let ("avg", [value]) = (function, args)
        && value.get_type(schema)?.is_null()
    {
        let error = Error::invalid("avg() OVER is of a value that has no type");
        return Err(error.hint("write CAST(NULL AS DOUBLE)").into());
    }
    arguments(function, args, schema)
}

fn arguments(function: &str, args: &[Expr], schema: &DFSchema) -> Result<()> {
    let [value] = args else { return Ok(()) };
    let kind = value.get_type(schema)?;
    if !matches!(function, "min" | "max") || has_order(&kind) {
        return Ok(());
    }
    refused(&format!("{function}() does not compare"), &kind)
}

fn sorts(what: &str, sorts: &[SortExpr], schema: &DFSchema) -> Result<()> {
    for sort in sorts {
        let kind = sort.expr.get_type(schema)?;
        if !has_order(&kind) {
            return refused(&format!("ORDER BY of {what} does not compare"), &kind);
        }
    }
    Ok(())
}

fn plain<'a>(what: &str, compared: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> Result<()> {
    for each in compared {
        let kind = each.get_type(schema)?;
        if kind.is_nested() {
            return refused(&format!("{what} does not compare"), &kind);
        }
    }
    Ok(())
}

/// A list of plain values has, element by element, wherever values are sorted; a STRUCT has none as soon as a field is NULL.
fn has_order(kind: &DataType) -> bool {
    match kind {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            !element.data_type().is_nested()
        }
        kind => !kind.is_nested(),
    }
}

fn refused(text: &str, kind: &DataType) -> Result<()> {
    let text = format!("{text} values of the type {}", type_text(kind));
    Err(Error::invalid(text).hint("compare what is in them, with unnest(…) or by field").into())
}
