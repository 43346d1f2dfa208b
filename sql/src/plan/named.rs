//! The place of what an error names, where the planner does not say it: the columns of USING have none in its plan, nor has
//! what stands in a LATERAL, and of calls, casts and values it knows no place at all.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, Spanned, Value,
    ValueWithSpan, Visitor,
};

use super::alike;
use crate::error::{Error, Position};
use crate::parse::walk;

/// The error, at the first mention of the column that it speaks of, or at the only call, value or query that it may mean.
pub(crate) fn at_name(error: Error, query: &Query, state: &SessionState) -> Error {
    if error.position.is_some() {
        return error;
    }
    if error.message.starts_with(alike::CALLED_ALIKE) {
        return alike::told(error, query);
    }
    let named = error.message.strip_prefix("no column \"").and_then(|rest| rest.strip_suffix('"'));
    let place = match named.and_then(|name| name.rsplit('.').next()) {
        Some(name) => match walk(query, &mut Find(name)) {
            ControlFlow::Break(place) => place,
            ControlFlow::Continue(()) => None,
        },
        None => {
            let mut meant = Meant { message: &error.message, state, literals: vec![], others: vec![] };
            let ControlFlow::Continue(()) = walk(query, &mut meant);
            meant.place()
        }
    };
    error.at(place)
}

/// What a message may speak of, where it stands.
struct Meant<'a> {
    message: &'a str,
    state: &'a SessionState,
    literals: Vec<Position>,
    /// Each by the words of it that are told.
    others: Vec<(String, Position)>,
}

impl Meant<'_> {
    /// That of a value that is told, or of the outermost call. Of two that are alike it may be either.
    fn place(&self) -> Option<Position> {
        let other = self
            .others
            .first()
            .filter(|(first, _)| self.others.iter().filter(|(other, _)| other == first).count() == 1);
        match self.literals[..] {
            [only] => Some(only),
            _ => other.map(|(_, place)| *place),
        }
    }

    fn says(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    fn quotes(&self, value: &Value) -> bool {
        match value {
            Value::SingleQuotedString(text) => {
                self.says(&format!("'{text}'")) || self.says(&format!("\"{text}\""))
            }
            _ => false,
        }
    }

    /// What of the message is of this expression.
    fn told_of(&self, expr: &Expr) -> Option<String> {
        const QUERIES: [&str; 3] =
            ["looks at the row outside", "EXISTS is a condition", "ANY and ALL of a query"];
        let told = match expr {
            Expr::Function(function) => return self.told_of_call(&function.name.to_string()),
            Expr::Substring { .. } => return self.told_of_call("substr"),
            Expr::CompoundFieldAccess { .. } => {
                ["STRUCT has fields", "array_element"].iter().find(|it| self.says(it))
            }
            Expr::Like { .. } | Expr::ILike { .. } => [" LIKE expression"].iter().find(|it| self.says(it)),
            Expr::Subquery(_) => QUERIES[..1].iter().find(|it| self.says(it)),
            Expr::Exists { .. } => QUERIES[..2].iter().find(|it| self.says(it)),
            Expr::AnyOp { .. } | Expr::AllOp { .. } => QUERIES[2..].iter().find(|it| self.says(it)),
            Expr::Cast { data_type, .. } => {
                let told = format!("unsupported SQL type {data_type}");
                return self.says(&told).then_some(told);
            }
            _ => None,
        };
        told.map(ToString::to_string)
    }

    /// Its name as it is written, or its own.
    fn told_of_call(&self, written: &str) -> Option<String> {
        let written = written.to_lowercase();
        let own = self.state.scalar_functions().get(&written).map(|known| known.name().to_owned());
        let is_word = |name: &String| {
            let mut words = self.message.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            words.any(|word| word.eq_ignore_ascii_case(name))
        };
        [Some(written), own].into_iter().flatten().find(is_word)
    }
}

impl Visitor for Meant<'_> {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        let told = self.told_of(expr);
        self.others.extend(told.zip(Position::of(expr.span().start)));
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Infallible> {
        if self.quotes(&value.value) {
            self.literals.extend(Position::of(value.span.start));
        }
        ControlFlow::Continue(())
    }
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
