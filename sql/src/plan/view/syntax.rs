//! What a view can't be, seen in its text alone: joins, ORDER BY, LIMIT, subqueries. The rules that need to know what a
//! column means are in `shape`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, Ident, LimitClause, ObjectName, Query, Select, SetExpr, Spanned,
    TableFactor, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use thalweg_engine::spec::StreamSpec;

use crate::error::{Error, Position, Result, suggestion};
use crate::parse::WINDOW_FUNCTIONS;

/// Checks the text, and gives the one stream that it reads.
pub(super) fn check<'a>(query: &Query, streams: &'a [Arc<StreamSpec>]) -> Result<&'a Arc<StreamSpec>> {
    let mut rules = Rules { streams, named: HashSet::new(), arguments: HashSet::new(), stream: None };
    if let ControlFlow::Break(error) = query.visit(&mut rules) {
        return Err(error);
    }
    rules.stream.ok_or_else(|| {
        Error::invalid("the view reads no stream")
            .at(start(query.span()))
            .hint(format!("streams are: {}", names(streams)))
    })
}

fn names(streams: &[Arc<StreamSpec>]) -> String {
    match streams {
        [] => "none yet, write CREATE STREAM first".into(),
        _ => streams.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn start(span: Span) -> Option<Position> {
    Position::of(span.start)
}

pub(super) fn place_of_query(query: &Query) -> Option<Position> {
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
    match query.visit(&mut Find) {
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
    match query.visit(&mut Find) {
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
    match query.visit(&mut Find(wanted)) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    }
}

struct Rules<'a> {
    streams: &'a [Arc<StreamSpec>],
    /// What `WITH name AS (…)` has named.
    named: HashSet<String>,
    /// Subqueries that stand for `TABLE name` in a window function.
    arguments: HashSet<Span>,
    stream: Option<&'a Arc<StreamSpec>>,
}

impl Visitor for Rules<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        if let Some(with) = &query.with {
            if with.recursive {
                return refuse("a view can't be recursive", start(with.span()), "leave out RECURSIVE");
            }
            self.named.extend(with.cte_tables.iter().map(|cte| lower(&cte.alias.name)));
        }
        if let Some(order_by) = &query.order_by {
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
            SetExpr::SetOperation { op, .. } => refuse(
                format!("{op} is not supported in a view"),
                start(query.body.span()),
                "make each part a view, and combine them in the query that reads them",
            ),
            other => refuse("a view is a SELECT over a stream", start(other.span()), "write SELECT … FROM …"),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Error> {
        if let Some(Distinct::On(columns)) = &select.distinct {
            return refuse(
                "DISTINCT ON keeps the first row that comes, which is not the same in a replay",
                columns.first().and_then(|it| start(it.span())),
                "use first_value(column ORDER BY …) and GROUP BY",
            );
        }
        let joined = select.from.get(1).map(|it| it.span());
        let joined =
            joined.or(select.from.iter().find_map(|it| it.joins.first().map(|join| join.relation.span())));
        if let Some(span) = joined {
            return refuse(
                "joins are not supported in a view",
                start(span),
                "make each side a view, and join them in the query that reads them",
            );
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        collect_table_arguments(factor, &mut self.arguments);
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            TableFactor::Table { name, args: Some(_), .. }
                if !WINDOW_FUNCTIONS.iter().any(|known| name.to_string().eq_ignore_ascii_case(known)) =>
            {
                refuse(
                    format!("no window function \"{name}\""),
                    start(name.span()),
                    "windows are TUMBLE and HOP",
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Subquery(query) if self.arguments.contains(&query.span()) => ControlFlow::Continue(()),
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => refuse(
                "subqueries in expressions are not supported in a view",
                start(expr.span()),
                "compare in the query that reads the view",
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Rules<'_> {
    fn relation(&mut self, name: &ObjectName) -> ControlFlow<Error> {
        let place = start(name.span());
        let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).map(lower).collect();
        let [.., last] = parts.as_slice() else { return ControlFlow::Continue(()) };
        if parts.len() == 1 && self.named.contains(last) {
            return ControlFlow::Continue(());
        }
        let known = self.streams.iter().find(|stream| parts.len() == 1 && &stream.name == last);
        let Some(stream) = known else {
            let error = Error::invalid(format!("no stream \"{}\"", parts.join("."))).at(place);
            return ControlFlow::Break(error.hint(match self.streams {
                [] => "a view reads a stream; write CREATE STREAM first".into(),
                streams => suggestion(
                    last,
                    "a view reads a stream; streams are",
                    streams.iter().map(|it| it.name.as_str()),
                ),
            }));
        };
        match self.stream {
            Some(other) if other.name != stream.name => refuse(
                format!("a view reads one stream, not {} and {}", other.name, stream.name),
                place,
                "make a view of each, and join them in the query that reads them",
            ),
            _ => {
                self.stream = Some(stream);
                ControlFlow::Continue(())
            }
        }
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
        let _ = factor.visit(&mut Collect(found));
    }
}
