//! What a view can't be, seen in its text alone: ORDER BY, LIMIT, scalar subqueries. The rules that need to know what a
//! column means are in `shape`.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, Ident, LimitClause, Query, Select, SetExpr, SetOperator,
    SetQuantifier, Spanned, TableFactor, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::inputs::Inputs;
use crate::error::{Error, Position, Result, suggestion};
use crate::parse::{WINDOW_FUNCTIONS, walk};

/// Checks the text.
pub(super) fn check(query: &Query, inputs: Inputs<'_>) -> Result<()> {
    let mut rules = Rules { arguments: HashSet::new() };
    if let ControlFlow::Break(error) = walk(query, &mut rules) {
        return Err(error);
    }
    let read = relations(query);
    if read.iter().all(|(name, _)| inputs.table(name).is_some()) {
        let known: Vec<_> = inputs.names().collect();
        return Err(Error::invalid("the view reads no stream, and no view").at(start(query.span())).hint(
            match known.is_empty() {
                true => "streams are: none yet, write CREATE STREAM first".into(),
                false => format!("a table is joined to what comes; there are: {}", known.join(", ")),
            },
        ));
    }
    for (name, place) in read {
        if inputs.find(&name).is_none() && inputs.table(&name).is_none() {
            let known: Vec<_> = inputs.names().collect();
            let error = Error::invalid(format!("no stream or view \"{name}\"")).at(place);
            if let Some(bare) = ["live.", "history.", "public."].iter().find_map(|it| name.strip_prefix(it)) {
                return Err(error.hint(format!("a view reads the whole of another: write {bare}")));
            }
            return Err(error.hint(match known.is_empty() {
                true => "a view reads a stream; write CREATE STREAM first".into(),
                false => suggestion(&name, "a view reads a stream or a view; there are", known),
            }));
        }
    }
    Ok(())
}

/// The relations that a query names and does not define itself, in the order of the text, each once.
pub(super) fn relations(query: &Query) -> Vec<(String, Option<Position>)> {
    struct Find {
        /// What `WITH name AS (…)` has named.
        named: HashSet<String>,
        found: Vec<(String, Option<Position>)>,
    }
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let with = query.with.iter().flat_map(|with| &with.cte_tables);
            self.named.extend(with.map(|cte| lower(&cte.alias.name)));
            ControlFlow::Continue(())
        }
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            let TableFactor::Table { name, args: None, .. } = factor else {
                return ControlFlow::Continue(());
            };
            let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).map(lower).collect();
            let text = parts.join(".");
            let known = self.named.contains(&text) || self.found.iter().any(|(found, _)| *found == text);
            if !known {
                self.found.push((text, start(name.span())));
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find { named: HashSet::new(), found: vec![] };
    // The visitor never breaks.
    let _ = walk(query, &mut find);
    find.found
}

/// Where the query first names a relation.
pub(crate) fn place_of_relation(query: &Query, name: &str) -> Option<Position> {
    relations(query).into_iter().find(|(read, _)| read == name).and_then(|(_, place)| place)
}

/// Where the first join stands: what it joins.
pub(super) fn place_of_join(query: &Query) -> Option<Position> {
    struct Find;
    impl Visitor for Find {
        type Break = Option<Position>;
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Option<Position>> {
            let listed = select.from.get(1).map(|it| it.span());
            let joined =
                || select.from.iter().find_map(|it| it.joins.first().map(|join| join.relation.span()));
            match listed.or_else(joined) {
                Some(span) => ControlFlow::Break(start(span)),
                None => ControlFlow::Continue(()),
            }
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Option<Position>> {
            match expr {
                Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(start(expr.span())),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(query, &mut Find) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}

/// Whether the query names a column so.
pub(super) fn names_column(query: &Query, name: &str) -> bool {
    struct Find<'a>(&'a str);
    impl Visitor for Find<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let named = match expr {
                Expr::Identifier(ident) => lower(ident) == self.0,
                Expr::CompoundIdentifier(parts) => parts.iter().any(|part| lower(part) == self.0),
                _ => false,
            };
            if named { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    walk(query, &mut Find(name)).is_break()
}

pub(super) fn start(span: Span) -> Option<Position> {
    Position::of(span.start)
}

pub(crate) fn place_of_query(query: &Query) -> Option<Position> {
    start(query.span())
}

/// Where the first GROUP BY stands, for rules about it.
pub(super) fn place_of_grouping(query: &Query) -> Option<Position> {
    struct Find;
    impl Visitor for Find {
        type Break = Option<Position>;
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Option<Position>> {
            match &select.group_by {
                GroupByExpr::Expressions(exprs, _) if exprs.is_empty() => ControlFlow::Continue(()),
                group_by => ControlFlow::Break(start(group_by.span())),
            }
        }
    }
    match walk(query, &mut Find) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}

/// Where the first TUMBLE or HOP stands.
pub(super) fn place_of_window(query: &Query) -> Option<Position> {
    struct Find;
    impl Visitor for Find {
        type Break = Option<Position>;
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Option<Position>> {
            match factor {
                TableFactor::TableFunction { .. } | TableFactor::Table { args: Some(_), .. } => {
                    ControlFlow::Break(start(factor.span()))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(query, &mut Find) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}

/// Where the first function stands that `wanted` accepts.
pub(super) fn place_of_function(query: &Query, wanted: impl Fn(&Function) -> bool) -> Option<Position> {
    struct Find<F>(F);
    impl<F: Fn(&Function) -> bool> Visitor for Find<F> {
        type Break = Option<Position>;
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Option<Position>> {
            match expr {
                Expr::Function(function) if (self.0)(function) => {
                    ControlFlow::Break(start(function.name.span()))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match walk(query, &mut Find(wanted)) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}

struct Rules {
    /// Subqueries that stand for `TABLE name` in a window function.
    arguments: HashSet<Span>,
}

impl Visitor for Rules {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        if let Some(with) = query.with.as_ref().filter(|with| with.recursive) {
            return refuse("a view can't be recursive", start(with.span()), "leave out RECURSIVE");
        }
        let first_of = first_of(query);
        if let (Some(columns), None) = (first_of, &query.order_by) {
            return refuse(
                "DISTINCT ON without ORDER BY keeps the first row that comes, which is not the same in a replay",
                columns.first().and_then(|it| start(it.span())),
                "write ORDER BY the same columns, and then what comes first",
            );
        }
        if let (None, Some(order_by)) = (first_of, &query.order_by) {
            return refuse(
                "the rows of a view have no order",
                start(order_by.span()),
                "write ORDER BY in the query that reads the view",
            );
        }
        if let Some(place) = limit_place(query) {
            return refuse(
                "LIMIT would reach across windows",
                place,
                "for the first n of each window, number them with row_number() OVER (PARTITION BY window_start ORDER BY …) \
                 in a subquery and keep those up to n",
            );
        }
        match query.body.as_ref() {
            SetExpr::Select(_) | SetExpr::Query(_) => ControlFlow::Continue(()),
            SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: SetQuantifier::All, .. } => {
                ControlFlow::Continue(())
            }
            SetExpr::SetOperation { op: SetOperator::Union, .. } => refuse(
                "UNION without ALL is not supported in a view",
                start(query.body.span()),
                "write UNION ALL, and SELECT DISTINCT above it",
            ),
            SetExpr::SetOperation { op, .. } => refuse(
                format!("{op} is not supported in a view"),
                start(query.body.span()),
                "make each part a view, and combine them in the query that reads them",
            ),
            other => refuse(
                "a view is made of SELECTs over streams, views and tables",
                start(other.span()),
                "write SELECT … FROM …; values of your own are a table: CREATE TABLE … WITH (path = 'values.csv')",
            ),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        collect_table_arguments(factor, &mut self.arguments);
        match factor {
            TableFactor::Table { name, args: Some(_), .. }
                if !WINDOW_FUNCTIONS.iter().any(|known| name.to_string().eq_ignore_ascii_case(known)) =>
            {
                refuse(
                    format!("no window function \"{name}\""),
                    start(name.span()),
                    "windows are TUMBLE, HOP, CUMULATE and SESSION",
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Subquery(query) if self.arguments.contains(&query.span()) => ControlFlow::Continue(()),
            Expr::Subquery(_) => refuse(
                "a subquery for a value is not supported in a view",
                start(expr.span()),
                "LEFT JOIN a table by its primary key, or rows of windows on their bound; or compare in the query that reads \
                 the view",
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The columns of a `DISTINCT ON`, which takes the first row of each group by the query's order.
fn first_of(query: &Query) -> Option<&[Expr]> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match &select.distinct {
        Some(Distinct::On(columns)) => Some(columns),
        _ => None,
    }
}

fn lower(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn refuse(
    message: impl Into<String>,
    place: Option<Position>,
    hint: impl Into<String>,
) -> ControlFlow<Error> {
    ControlFlow::Break(Error::invalid(message).at(place).hint(hint))
}

fn limit_place(query: &Query) -> Option<Option<Position>> {
    match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit: Some(expr), .. }) => Some(start(expr.span())),
        Some(LimitClause::LimitOffset { offset: Some(offset), .. }) => Some(start(offset.value.span())),
        Some(LimitClause::OffsetCommaLimit { offset, .. }) => Some(start(offset.span())),
        _ => query.fetch.as_ref().map(|_| start(query.span())),
    }
}

fn collect_table_arguments(factor: &TableFactor, found: &mut HashSet<Span>) {
    struct Collect<'a>(&'a mut HashSet<Span>);
    impl Visitor for Collect<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Subquery(query) = expr {
                self.0.insert(query.span());
            }
            ControlFlow::Continue(())
        }
    }
    let is_function =
        matches!(factor, TableFactor::TableFunction { .. } | TableFactor::Table { args: Some(_), .. });
    if is_function {
        // The collector never breaks.
        let _ = walk(factor, &mut Collect(found));
    }
}
