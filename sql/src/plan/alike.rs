//! Columns that are called alike: which of them, as they were written, and where the second stands. A cast has no part in
//! what a column is called.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SelectItem, Spanned, Visitor, VisitorMut};

use crate::error::{Error, Position};
use crate::parse::walk;

pub(super) const CALLED_ALIKE: &str = "two columns are called ";

/// The error at the second of two, where they are found.
pub(super) fn told(error: Error, query: &Query) -> Error {
    let ControlFlow::Break((first, second, place)) = walk(query, &mut Find) else { return error };
    let (message, hint) = match first == second {
        true => (format!("{CALLED_ALIKE}\"{first}\""), "name one of them with AS".to_owned()),
        false => {
            (format!("{CALLED_ALIKE}alike: {first} and {second}"), error.hint.clone().unwrap_or_default())
        }
    };
    Error { message, hint: Some(hint), ..error }.at(place)
}

struct Find;

impl Visitor for Find {
    type Break = (String, String, Option<Position>);

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        let mut known: Vec<(String, String)> = vec![];
        for item in &select.projection {
            let (written, expr) = match item {
                SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), None),
                SelectItem::UnnamedExpr(expr) => (expr.to_string(), Some(expr)),
                _ => continue,
            };
            let called = expr.map_or_else(|| written.to_lowercase(), called);
            if let Some((_, first)) = known.iter().find(|(name, _)| *name == called) {
                return ControlFlow::Break((first.clone(), written, Position::of(item.span().start)));
            }
            known.push((called, written));
        }
        ControlFlow::Continue(())
    }
}

/// As it is called, about.
fn called(expr: &Expr) -> String {
    struct WithoutCasts;
    impl VisitorMut for WithoutCasts {
        type Break = Infallible;
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
            if let Expr::Cast { expr: inner, .. } = expr {
                *expr = (**inner).clone();
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    let ControlFlow::Continue(()) =
        datafusion::sql::sqlparser::ast::VisitMut::visit(&mut expr, &mut WithoutCasts);
    match &expr {
        Expr::CompoundIdentifier(parts) => {
            parts.last().map_or_else(String::new, |it| it.value.to_lowercase())
        }
        other => other.to_string().to_lowercase(),
    }
}
