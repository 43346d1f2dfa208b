//! The place of a column that is not there, where the planner does not say it: those of USING have none in its plan, nor has
//! what stands in a LATERAL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, Spanned, Visitor,
};

use crate::error::{Error, Position};
use crate::parse::walk;

/// The error, at the first mention of the column that it speaks of.
pub(crate) fn at_name(error: Error, query: &Query) -> Error {
    let named = error.message.strip_prefix("no column \"").and_then(|rest| rest.strip_suffix('"'));
    let Some(name) = named.and_then(|name| name.rsplit('.').next()).filter(|_| error.position.is_none())
    else {
        return error;
    };
    let place = match walk(query, &mut Find(name)) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => None,
    };
    error.at(place)
}

struct Find<'a>(&'a str);

impl Find<'_> {
    fn is(&self, ident: &Ident) -> bool {
        match ident.quote_style {
            Some(_) => ident.value == self.0,
            None => ident.value.eq_ignore_ascii_case(self.0),
        }
    }

    fn in_using(&self, join: &Join) -> Option<Position> {
        let (JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint)) = &join.join_operator
        else {
            return None;
        };
        let JoinConstraint::Using(names) = constraint else { return None };
        let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).cloned();
        let found = names.iter().filter_map(last).find(|ident| self.is(ident))?;
        Position::of(found.span.start)
    }
}

impl Visitor for Find<'_> {
    type Break = Option<Position>;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Option<Position>> {
        let mut joins = select.from.iter().flat_map(|from| &from.joins);
        match joins.find_map(|join| self.in_using(join)) {
            Some(place) => ControlFlow::Break(Some(place)),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Option<Position>> {
        let found = match expr {
            Expr::Identifier(ident) => self.is(ident),
            Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|ident| self.is(ident)),
            _ => false,
        };
        match found {
            true => ControlFlow::Break(Position::of(expr.span().start)),
            false => ControlFlow::Continue(()),
        }
    }
}
