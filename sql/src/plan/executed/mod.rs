//! Everything that is accepted is executed (INV-21): what the parser reads and DataFusion's planner then drops in silence
//! (TABLESAMPLE, `WITH ROLLUP`, OVER at a function that is no aggregate, …) is refused, with its place; and so is what it
//! plans to something else than SQL says (INTERSECT ALL, FULL JOIN … USING, `NOT IN` of NULLs, SIMILAR TO) (INV-21).
//!
//! A walk through the whole tree of a query. Each struct is taken apart without `..` and each enum without `_`, so that
//! a field or a variant of a later parser does not compile until somebody has looked up what becomes of it. What is
//! bound to `_` here is either executed, or refused by the planner itself.

mod expression;
mod function;
mod membership;
mod relation;

pub(crate) use function::name_of;

use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, GroupByWithModifier, Ident, Interval, LimitClause,
    NamedWindowDefinition, NamedWindowExpr, Offset, OrderBy, OrderByExpr, OrderByKind, Query, Select,
    SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, TableAlias, TableAliasColumnDef, TableFactor,
    TableWithJoins, Value, Visitor, WildcardAdditionalOptions, WindowSpec, WindowType, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use self::membership::Memberships;
use crate::error::{Error, Position, Result};
use crate::parse::{partition_keys, walk};

/// Refuses what would be dropped. `state` knows the functions.
pub(crate) fn check(query: &Query, state: &SessionState) -> Result<()> {
    match walk(query, &mut Walk { state, memberships: Memberships::default(), partition_keys: vec![] }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Walk<'a> {
    state: &'a SessionState,
    memberships: Memberships,
    /// Of the tables of windows, which stand in the tree as if rows were to be distributed by them.
    partition_keys: Vec<Span>,
}

/// `what` is refused at the first of `spans` that is known.
fn refused(what: impl Into<String>, spans: &[Span], hint: impl Into<String>) -> Result<()> {
    let place = spans.iter().find_map(|span| Position::of(span.start));
    Err(Error::invalid(what).at(place).hint(hint))
}

const LEAVE_OUT: &str = "leave it out";

/// Refuses a clause that is there.
fn none(there: bool, clause: &str, spans: &[Span]) -> Result<()> {
    if there { refused(format!("{clause} is not supported"), spans, LEAVE_OUT) } else { Ok(()) }
}

fn flow(outcome: Result<()>) -> ControlFlow<Error> {
    match outcome {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl Visitor for Walk<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        self.partition_keys.extend(partition_keys(factor));
        flow(relation::check(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        flow(self.memberships.check(expr).and_then(|()| expression::check(expr, self.state)))
    }
}

impl Walk<'_> {
    fn query(&self, query: &Query) -> Result<()> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let here = &[query.span()];
        if let Some(With { with_token: _, recursive, cte_tables }) = with {
            cte_tables.iter().try_for_each(named_query)?;
            cte_tables.iter().filter(|_| *recursive).try_for_each(recursive_query)?;
        }
        set_expr(body)?;
        if let Some(order_by) = order_by {
            ordered(order_by, matches!(body.as_ref(), SetExpr::Select(_)))?;
        }
        match limit_clause {
            Some(LimitClause::LimitOffset { limit: _, offset, limit_by }) => {
                offset.iter().for_each(|Offset { value: _, rows: _ }| ());
                let spans: Vec<_> = limit_by.iter().map(Spanned::span).collect();
                none(!limit_by.is_empty(), "LIMIT … BY", &spans)?;
            }
            Some(LimitClause::OffsetCommaLimit { offset: _, limit: _ }) | None => {}
        }
        if fetch.is_some() {
            return refused("FETCH is not supported", here, "write LIMIT n");
        }
        none(!locks.is_empty(), "FOR UPDATE or SHARE", here)?;
        none(for_clause.is_some(), "FOR BROWSE, JSON or XML", here)?;
        none(settings.is_some(), "SETTINGS", here)?;
        none(format_clause.is_some(), "FORMAT", here)?;
        none(!pipe_operators.is_empty(), "|>", here)
    }

    fn select(&mut self, select: &Select) -> Result<()> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor: _,
        } = select;
        let here = &[select.span()];
        match distinct {
            Some(Distinct::All | Distinct::Distinct | Distinct::On(_)) | None => {}
        }
        none(!optimizer_hints.is_empty(), "a hint to an optimizer", here)?;
        none(select_modifiers.is_some(), "a modifier before the columns", here)?;
        if top.is_some() {
            return refused("TOP is not supported", here, "write LIMIT n at the end");
        }
        if exclude.is_some() {
            return refused("EXCLUDE behind all columns is not supported", here, "write * EXCLUDE (…)");
        }
        none(into.is_some(), "SELECT INTO", here)?;
        none(!lateral_views.is_empty(), "LATERAL VIEW", here)?;
        if let Some(prewhere) = prewhere {
            return refused("PREWHERE is not supported", &[prewhere.span()], "write WHERE");
        }
        none(!connect_by.is_empty(), "CONNECT BY", here)?;
        none(!cluster_by.is_empty(), "CLUSTER BY", here)?;
        let heeded = |key: &Expr| self.partition_keys.contains(&key.span());
        none(!distribute_by.iter().all(heeded), "DISTRIBUTE BY", here)?;
        if !sort_by.is_empty() {
            return refused("SORT BY is not supported", here, "write ORDER BY at the end");
        }
        none(value_table_mode.is_some(), "SELECT AS STRUCT or VALUE", here)?;
        projection.iter().try_for_each(|item| selected(item, here[0]))?;
        from.iter().try_for_each(|TableWithJoins { relation: _, joins }| {
            joins.iter().try_for_each(relation::check_join)
        })?;
        grouped(group_by, here[0])?;
        named_window.iter().try_for_each(|NamedWindowDefinition(_, window)| match window {
            NamedWindowExpr::NamedWindow(_) => Ok(()),
            NamedWindowExpr::WindowSpec(spec) => function::check_window(spec),
        })?;
        // The planner looks names of windows up in the SELECT list alone; elsewhere it forgets the whole OVER.
        let elsewhere = || selection.iter().chain(having).chain(qualify);
        elsewhere().for_each(|condition| self.memberships.allow(condition, true));
        let joins = from.iter().flat_map(|it| &it.joins);
        joins.filter_map(relation::condition).for_each(|condition| self.memberships.allow(condition, false));
        elsewhere().try_for_each(no_named_window)
    }
}

fn named_query(cte: &Cte) -> Result<()> {
    let Cte { alias, query: _, from, materialized, closing_paren_token: _ } = cte;
    let here = &[alias.name.span];
    aliased(alias)?;
    none(from.is_some(), "FROM behind a query of WITH", here)?;
    none(materialized.is_some(), "[NOT] MATERIALIZED at a query of WITH", here)
}

/// Of a recursive UNION the planner takes both sides, and forgets what is around them.
fn recursive_query(cte: &Cte) -> Result<()> {
    let query = &cte.query;
    if !matches!(query.body.as_ref(), SetExpr::SetOperation { .. }) {
        return Ok(());
    }
    let here = &[cte.alias.name.span];
    let hint = "write it in the query that reads the recursive one, and end the recursion with WHERE";
    for (there, clause) in [
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY"),
        (query.limit_clause.is_some(), "LIMIT"),
    ] {
        if there {
            return refused(format!("{clause} within a recursive query is not supported"), here, hint);
        }
    }
    Ok(())
}

fn set_expr(body: &SetExpr) -> Result<()> {
    match body {
        // Queries and SELECTs are visited themselves. The rest is planned whole, or refused by the planner.
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => Ok(()),
        SetExpr::Table(_) => {
            refused("TABLE as a query is not supported", &[body.span()], "write SELECT * FROM its name")
        }
        SetExpr::SetOperation { left, op, set_quantifier, right } => {
            if let (SetOperator::Intersect | SetOperator::Except | SetOperator::Minus, SetQuantifier::All) =
                (op, set_quantifier)
            {
                return refused(
                    format!("{op} ALL would not count equal rows"),
                    &[body.span()],
                    format!(
                        "leave ALL out, or number equal rows in both queries: row_number() OVER (PARTITION BY …), and \
                         then {op}"
                    ),
                );
            }
            set_expr(left)?;
            set_expr(right)
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => refused(
            "rows are not changed by a query",
            &[body.span()],
            "nothing is inserted: rows come from streams, files and topics",
        ),
    }
}

fn ordered(order_by: &OrderBy, of_select: bool) -> Result<()> {
    let OrderBy { kind, interpolate } = order_by;
    none(interpolate.is_some(), "INTERPOLATE", &[order_by.span()])?;
    match kind {
        OrderByKind::All(_) if of_select => Ok(()),
        OrderByKind::All(_) => refused(
            "ORDER BY ALL of several queries is not supported",
            &[order_by.span()],
            "name the columns",
        ),
        OrderByKind::Expressions(exprs) => exprs.iter().try_for_each(|each| {
            no_named_window(&each.expr)?;
            sorted(each)
        }),
    }
}

fn sorted(order: &OrderByExpr) -> Result<()> {
    let OrderByExpr { expr, options: _, with_fill } = order;
    none(with_fill.is_some(), "WITH FILL", &[expr.span()])
}

fn aliased(alias: &TableAlias) -> Result<()> {
    let TableAlias { explicit: _, name: _, columns, at } = alias;
    none(at.is_some(), "AT behind the name of a relation", &[alias.name.span])?;
    columns.iter().try_for_each(|TableAliasColumnDef { name, data_type }| match data_type {
        Some(_) => refused(
            format!("column {name} of a relation's name is given a type, which it has already"),
            &[name.span],
            "write its name alone, and CAST where it is used",
        ),
        None => Ok(()),
    })
}

fn selected(item: &SelectItem, select: Span) -> Result<()> {
    match item {
        SelectItem::UnnamedExpr(_) => Ok(()),
        SelectItem::ExprWithAlias { expr, alias } => unglued(expr, alias),
        SelectItem::ExprWithAliases { expr, aliases: _ } => {
            refused("a column has one name", &[expr.span(), select], "write AS name")
        }
        SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) => {
            wildcard(options, select)
        }
    }
}

/// Of an interval that is a number and no more, which would be of seconds, the number.
fn without_unit(interval: &Interval) -> Option<&str> {
    let (Expr::Value(value), None) = (interval.value.as_ref(), &interval.leading_field) else { return None };
    let text = match &value.value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => text.as_str(),
        _ => return None,
    };
    text.trim().parse::<f64>().is_ok().then_some(text)
}

/// Of `7*1_000` the parser reads a column `_000`, of `'a' 'b'` one that is called b, and of `INTERVAL '90' MINS` one that is
/// called mins.
fn unglued(expr: &Expr, alias: &Ident) -> Result<()> {
    let mut last = expr;
    loop {
        last = match last {
            Expr::BinaryOp { left: _, op: _, right } => right,
            Expr::UnaryOp { op: _, expr } => expr,
            _ => break,
        };
    }
    if let (Expr::Interval(interval), None) = (last, alias.quote_style)
        && let Some(digits) = without_unit(interval)
    {
        return refused(
            format!("INTERVAL '{digits}' has no unit, and {alias} is none"),
            &[alias.span],
            format!(
                "write SECOND, MINUTE, HOUR, DAY, WEEK, MONTH or YEAR; if it is a name, '{digits} seconds' AS {alias}"
            ),
        );
    }
    let Expr::Value(value) = last else { return Ok(()) };
    if let (Value::SingleQuotedString(text), Some('\'')) = (&value.value, alias.quote_style) {
        return refused(
            "two texts beside each other are not one",
            &[value.span, alias.span],
            format!("write || between them; if the second is a name, '{text}' AS \"{}\"", alias.value),
        );
    }
    let Value::Number(digits, _) = &value.value else { return Ok(()) };
    let known = value.span != Span::empty();
    if !known || alias.quote_style.is_some() || value.span.end != alias.span.start {
        return Ok(());
    }
    let plain = alias.value.replace('_', "");
    let hint = match plain.bytes().all(|letter| letter.is_ascii_digit()) {
        true => format!("write its digits alone: {digits}{plain}"),
        false => format!("write {digits} AS {alias}, if that is a name"),
    };
    refused(format!("{digits}{alias} is not a number"), &[value.span], hint)
}

fn wildcard(options: &WildcardAdditionalOptions, select: Span) -> Result<()> {
    let WildcardAdditionalOptions {
        wildcard_token,
        opt_ilike,
        opt_exclude: _,
        opt_except: _,
        opt_replace: _,
        opt_rename,
        opt_alias,
    } = options;
    let here = &[wildcard_token.0.span, select];
    if opt_ilike.is_some() {
        return refused("* ILIKE is not supported", here, "name the columns");
    }
    if opt_rename.is_some() || opt_alias.is_some() {
        return refused("* RENAME and * AS are not supported", here, "write column AS name, …");
    }
    Ok(())
}

fn grouped(group_by: &GroupByExpr, select: Span) -> Result<()> {
    let modifiers = match group_by {
        GroupByExpr::All(modifiers) => modifiers,
        GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    let here = &[group_by.span(), select];
    match modifiers.first() {
        None => Ok(()),
        Some(GroupByWithModifier::Rollup) => {
            refused("GROUP BY … WITH ROLLUP is not supported", here, "write GROUP BY ROLLUP (…)")
        }
        Some(GroupByWithModifier::Cube) => {
            refused("GROUP BY … WITH CUBE is not supported", here, "write GROUP BY CUBE (…)")
        }
        Some(GroupByWithModifier::Totals) => {
            refused("GROUP BY … WITH TOTALS is not supported", here, "write GROUP BY GROUPING SETS ((…), ())")
        }
        Some(GroupByWithModifier::GroupingSets(_)) => refused(
            "GROUP BY … with GROUPING SETS behind it is not supported",
            here,
            "write GROUP BY GROUPING SETS (…) alone",
        ),
    }
}

/// `OVER name` of the query itself, not of one within.
fn no_named_window(expr: &Expr) -> Result<()> {
    struct Find {
        depth: usize,
    }
    impl Visitor for Find {
        type Break = Error;

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Error> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
            match expr {
                Expr::Function(function) if self.depth == 0 => match &function.over {
                    Some(WindowType::NamedWindow(name)) => flow(refused(
                        format!("OVER {name} is known in the SELECT list alone"),
                        &[name.span],
                        "write the window out: OVER (PARTITION BY …)",
                    )),
                    Some(WindowType::WindowSpec(WindowSpec { .. })) | None => ControlFlow::Continue(()),
                },
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(expr, &mut Find { depth: 0 }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
