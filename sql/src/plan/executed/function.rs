//! Calls of functions: an aggregate takes FILTER and DISTINCT, OVER makes a window function of it; at any other function
//! the planner forgets these.

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, ObjectName, OrderByExpr, Spanned, Value, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::{none, refused, sorted};
use crate::error::Result;
use crate::parse::{WINDOW_FUNCTIONS, has_months};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One value for each row, or a relation.
    Plain { names_arguments: bool },
    /// With OVER too.
    Aggregate,
    /// With OVER alone.
    Window,
    /// The planner says so.
    Unknown,
}

impl Kind {
    /// In the order in which the planner looks a name up.
    fn of(name: &str, state: &SessionState) -> Kind {
        let by_place = ["unnest", "unnest_outer", "map", "make_map", "descriptor"];
        if by_place.contains(&name) || state.higher_order_functions().contains_key(name) {
            Kind::Plain { names_arguments: false }
        } else if state.scalar_functions().contains_key(name) || WINDOW_FUNCTIONS.contains(&name) {
            Kind::Plain { names_arguments: true }
        } else if state.aggregate_functions().contains_key(name) {
            Kind::Aggregate
        } else if state.window_functions().contains_key(name) {
            Kind::Window
        } else {
            Kind::Unknown
        }
    }
}

/// Which functions of OVER heed IGNORE NULLS.
const HEED_NULLS: [&str; 5] = ["lead", "lag", "first_value", "last_value", "nth_value"];

/// A function's name as it is looked up.
pub(crate) fn name_of(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [only] => only.as_ident().map(|ident| match ident.quote_style {
            Some(_) => ident.value.clone(),
            None => ident.value.to_lowercase(),
        }),
        _ => None,
    }
}

pub(super) fn check(function: &Function, state: &SessionState) -> Result<()> {
    let Function { name, uses_odbc_syntax: _, parameters, args, filter, null_treatment, over, within_group } =
        function;
    let here = &[name.span()];
    let known = name_of(name).unwrap_or_default();
    let kind = Kind::of(&known, state);
    match parameters {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) | FunctionArguments::List(_) => {
            return refused(format!("{name} has two lists of arguments"), here, "write one");
        }
    }
    let (distinct, args, clauses): (_, &[FunctionArg], &[FunctionArgumentClause]) = match args {
        FunctionArguments::None => (&None, &[], &[]),
        FunctionArguments::Subquery(_) => {
            return refused(
                format!("a query as the argument of {name} is not supported"),
                here,
                format!("write {name}((SELECT …)), in two pairs of parentheses, if it has one row"),
            );
        }
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
            (duplicate_treatment, args.as_slice(), clauses.as_slice())
        }
    };
    let distinct = match distinct {
        Some(DuplicateTreatment::Distinct) => true,
        Some(DuplicateTreatment::All) | None => false,
    };
    args.iter().try_for_each(|arg| argument(arg, name, kind))?;
    let (mut ignores_nulls, mut order_by): (bool, &[OrderByExpr]) = (null_treatment.is_some(), &[]);
    for clause in clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(_) => ignores_nulls = true,
            FunctionArgumentClause::OrderBy(exprs) => order_by = exprs,
            // The planner refuses these.
            FunctionArgumentClause::Limit(_)
            | FunctionArgumentClause::OnOverflow(_)
            | FunctionArgumentClause::Having(_)
            | FunctionArgumentClause::Separator(_)
            | FunctionArgumentClause::JsonNullClause(_)
            | FunctionArgumentClause::JsonReturningClause(_) => {}
        }
    }
    order_by.iter().chain(within_group).try_for_each(sorted)?;
    let is_number = |expr: &Expr| matches!(expr, Expr::Value(it) if matches!(it.value, Value::Number(..)));
    if let Some(order) = order_by.iter().chain(within_group).find(|order| is_number(&order.expr)) {
        return refused(
            format!("ORDER BY {} within {name} would be a column of the relation, by its place", order.expr),
            &[order.expr.span(), name.span()],
            "name the column",
        );
    }
    match over {
        Some(WindowType::WindowSpec(spec)) => check_window(spec)?,
        Some(WindowType::NamedWindow(_)) | None => {}
    }
    let clauses = [
        (distinct, "DISTINCT"),
        (filter.is_some(), "FILTER"),
        (ignores_nulls, "IGNORE or RESPECT NULLS"),
        (!order_by.is_empty(), "ORDER BY"),
        (!within_group.is_empty(), "WITHIN GROUP"),
        (over.is_some(), "OVER"),
    ];
    let forgotten = |clause: &str| match kind {
        Kind::Plain { .. } => true,
        Kind::Window => !matches!(clause, "OVER" | "IGNORE or RESPECT NULLS"),
        Kind::Aggregate | Kind::Unknown => false,
    };
    if let Some((_, clause)) = clauses.into_iter().find(|(there, clause)| *there && forgotten(clause)) {
        return refused(
            format!("{name} takes no {clause}: it is no aggregate"),
            here,
            format!("leave {clause} out, or write it at an aggregate such as count(…)"),
        );
    }
    if ignores_nulls && over.is_some() && kind != Kind::Unknown && !HEED_NULLS.contains(&known.as_str()) {
        return refused(
            format!("{name} OVER takes no IGNORE or RESPECT NULLS"),
            here,
            format!("leave it out; functions that take it are {}", HEED_NULLS.join(", ")),
        );
    }
    if over.is_none() && kind == Kind::Aggregate {
        percentile_of_what(name, args, order_by, state, &known)?;
    }
    Ok(())
}

/// In `quantile_cont(x, 0.5 ORDER BY y)` the planner would take `y` for `x`.
fn percentile_of_what(
    name: &ObjectName,
    args: &[FunctionArg],
    order_by: &[OrderByExpr],
    state: &SessionState,
    known: &str,
) -> Result<()> {
    let ordered_set =
        state.aggregate_functions().get(known).is_some_and(|it| it.supports_within_group_clause());
    let ([FunctionArg::Unnamed(FunctionArgExpr::Expr(first)), _, ..], [order, ..]) = (args, order_by) else {
        return Ok(());
    };
    if ordered_set && first != &order.expr {
        return refused(
            format!("{name} of {first} can't be ordered by {}", order.expr),
            &[order.expr.span(), name.span()],
            format!("write {name}(…) WITHIN GROUP (ORDER BY {first})"),
        );
    }
    Ok(())
}

fn argument(arg: &FunctionArg, name: &ObjectName, kind: Kind) -> Result<()> {
    let (value, named) = match arg {
        FunctionArg::Named { name, arg, operator: _ } => (arg, Some(name.span)),
        FunctionArg::ExprNamed { name, arg, operator: _ } => (arg, Some(name.span())),
        FunctionArg::Unnamed(arg) => (arg, None),
    };
    if let (Some(span), Kind::Plain { names_arguments: false }) = (named, kind) {
        return refused(
            format!("{name} takes its arguments by their places, not by name"),
            &[span, name.span()],
            "leave the names out",
        );
    }
    match value {
        FunctionArgExpr::Expr(_) | FunctionArgExpr::Wildcard => Ok(()),
        FunctionArgExpr::QualifiedWildcard(relation) => refused(
            format!("{name}({relation}) would count rows in which nothing of the relation is, too"),
            &[relation.span(), name.span()],
            "name a column, or write count(*)",
        ),
        FunctionArgExpr::WildcardWithOptions(_) => {
            refused(format!("{name} takes * alone"), &[name.span()], "leave out what is behind *")
        }
    }
}

pub(super) fn check_window(spec: &WindowSpec) -> Result<()> {
    let WindowSpec { window_name, partition_by: _, order_by, window_frame } = spec;
    if let Some(name) = window_name {
        return refused(
            format!("a window that extends window {name} is not supported"),
            &[name.span],
            "write the window out: (PARTITION BY … ORDER BY …)",
        );
    }
    window_frame.iter().try_for_each(check_frame)?;
    order_by.iter().try_for_each(sorted)
}

/// The planner looks for the ends of a RANGE from row to row, and a month before the 31st is the same day as one before the 28th.
fn check_frame(WindowFrame { units, start_bound, end_bound }: &WindowFrame) -> Result<()> {
    let bounds = [Some(start_bound), end_bound.as_ref()].into_iter().flatten();
    let lengths = bounds.filter_map(|bound| match bound {
        WindowFrameBound::CurrentRow => None,
        WindowFrameBound::Preceding(length) | WindowFrameBound::Following(length) => length.as_deref(),
    });
    match lengths.filter(|_| *units == WindowFrameUnits::Range).find(|length| has_months(length)) {
        Some(months) => refused(
            "a RANGE of months would miss rows where months end",
            &[months.span()],
            "write days: RANGE BETWEEN INTERVAL '30 days' PRECEDING AND …",
        ),
        None => Ok(()),
    }
}

/// TRIM takes a list of characters, of which the planner takes the first.
pub(super) fn check_trim(expr: &Expr, characters: Option<&Vec<Expr>>) -> Result<()> {
    let spans: Vec<Span> = characters.into_iter().flatten().skip(1).map(Spanned::span).collect();
    none(!spans.is_empty(), "a second list of characters in TRIM", &[spans, vec![expr.span()]].concat())
}
