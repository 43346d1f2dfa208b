//! `CREATE VIEW name AS SELECT …`: a name for a query. Where the name is read, the query takes its place, in queries and
//! in views alike, before anything else looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, Query, Spanned, TableAlias, TableFactor, VisitorMut};
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Tokenizer};
use thalweg_engine::spec::KeptStatement;

use super::statement::{self, Statement};
use super::tokens::Name;
use super::walk::walk_mut;
use crate::error::{Error, Position, Result};

/// Names that stand for names that stand for names.
const DEPTH_MAX: usize = 32;
/// How many queries one may come to.
const QUERIES_MAX: usize = 1_000;

#[derive(Debug, Clone)]
pub struct CreatePlainView {
    pub name: Name,
    pub if_not_exists: bool,
    pub query: Box<Query>,
    /// The statement as it was written.
    pub text: String,
}

/// All that there are: the statements by name.
#[derive(Debug, Clone, Default)]
pub struct PlainViews(BTreeMap<String, String>);

impl PlainViews {
    pub const NONE: &PlainViews = &PlainViews(BTreeMap::new());

    /// Among what is kept; endpoints and sinks, which are kept beside them, are known by paths.
    pub fn of<'a>(kept: impl IntoIterator<Item = &'a KeptStatement>) -> PlainViews {
        let named = kept.into_iter().filter(|it| !it.name.contains('/'));
        PlainViews(named.map(|it| (it.name.clone(), it.sql.clone())).collect())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a query reads what has a name, which something else may have in places.
    pub fn is_read(name: &str, query: &Query) -> bool {
        let text = "CREATE VIEW it AS SELECT 1".to_owned();
        let mut inlined = query.clone();
        // What can't be inlined has been found.
        PlainViews(BTreeMap::from([(name.to_owned(), text)])).inline(&mut inlined).is_err()
            || inlined != *query
    }

    /// Puts the queries in place of their names.
    pub fn inline(&self, query: &mut Query) -> Result<()> {
        let mut inlining = Inlining { views: self, scopes: vec![], depth: 0, left: QUERIES_MAX };
        inlining.of(query)
    }
}

struct Inlining<'a> {
    views: &'a PlainViews,
    /// What `WITH name AS (…)` has named, in each query around.
    scopes: Vec<BTreeSet<String>>,
    depth: usize,
    left: usize,
}

impl Inlining<'_> {
    fn of(&mut self, query: &mut Query) -> Result<()> {
        match walk_mut(query, self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// The query of a view, wherever it is read: what is wrong in it is told to be there.
    fn query_of(&mut self, name: &str, place: Span) -> Result<Option<Box<Query>>> {
        let Some(text) = self.views.text(name) else { return Ok(None) };
        if self.depth == DEPTH_MAX || self.left == 0 {
            return Err(Error::invalid(format!("too many views stand for \"{name}\""))
                .at(Position::of(place.start))
                .hint(format!("at most {DEPTH_MAX} within each other, and {QUERIES_MAX} in all")));
        }
        self.left -= 1;
        let mut query = query_at(text, place)?;
        let mut inner =
            Inlining { views: self.views, scopes: vec![], depth: self.depth + 1, left: self.left };
        inner.of(&mut query)?;
        self.left = inner.left;
        Ok(Some(query))
    }
}

impl VisitorMut for Inlining<'_> {
    type Break = Error;

    /// A name that WITH gives is known to what comes behind it, and to itself where it is recursive.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let mut named = BTreeSet::new();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let name = spelled(&cte.alias.name);
                if with.recursive {
                    named.insert(name.clone());
                }
                self.scopes.push(named.clone());
                let outcome = self.of(&mut cte.query);
                self.scopes.pop();
                if let Err(error) = outcome {
                    return ControlFlow::Break(error);
                }
                named.insert(name);
            }
        }
        self.scopes.push(named);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, args: None, alias, .. } = factor else {
            return ControlFlow::Continue(());
        };
        let parts: Option<Vec<&Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
        let ident = match parts.as_deref() {
            Some([ident]) => *ident,
            Some([schema, ident]) if spelled(schema) == "public" => *ident,
            _ => return ControlFlow::Continue(()),
        };
        let known = spelled(ident);
        let is_bare = name.0.len() == 1;
        if is_bare && self.scopes.iter().any(|scope| scope.contains(&known)) {
            return ControlFlow::Continue(());
        }
        let alias = alias.clone().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: ident.clone(),
            columns: vec![],
            at: None,
        });
        match self.query_of(&known, name.span()) {
            Ok(Some(subquery)) => {
                *factor = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn spelled(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The query of a `CREATE VIEW`, with every word of it at one place of another text.
fn query_at(text: &str, place: Span) -> Result<Box<Query>> {
    let dialect = super::dialect();
    let mut tokens = Tokenizer::new(&dialect, text).tokenize_with_location()?;
    tokens.iter_mut().for_each(|token| token.span = place);
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    match statement::statement(&mut parser)? {
        Statement::CreatePlainView(create) => Ok(create.query),
        _ => Err(Error::internal("the catalog's text of a view is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inlined(views: &[(&str, &str)], query: &str) -> Result<String> {
        let views = views.iter();
        let views = views.map(|(name, query)| (name.to_string(), format!("CREATE VIEW {name} AS {query}")));
        let views = PlainViews(views.collect());
        let Statement::Query(mut query) = super::super::statement(query)?.statement else {
            return Err(Error::internal("no query"));
        };
        views.inline(&mut query)?;
        Ok(query.to_string())
    }

    #[test]
    fn a_name_is_its_query_unless_another_is_meant() {
        let views = [("a", "SELECT 1 AS n"), ("b", "SELECT n + 1 AS n FROM a AS x")];
        let check = |query: &str, expected: &str| assert_eq!(inlined(&views, query).unwrap(), expected);
        check("SELECT a.n FROM A", "SELECT a.n FROM (SELECT 1 AS n) AS A");
        check("SELECT n FROM b y(m)", "SELECT n FROM (SELECT n + 1 AS n FROM (SELECT 1 AS n) AS x) y (m)");
        check("SELECT * FROM public.a, live.a", "SELECT * FROM (SELECT 1 AS n) AS a, live.a");
        check("WITH a AS (SELECT 2) SELECT * FROM a", "WITH a AS (SELECT 2) SELECT * FROM a");
        check(
            "WITH a AS (SELECT * FROM a) SELECT * FROM a",
            "WITH a AS (SELECT * FROM (SELECT 1 AS n) AS a) SELECT * FROM a",
        );
        check(
            "SELECT 1 WHERE 1 IN (SELECT n FROM a)",
            "SELECT 1 WHERE 1 IN (SELECT n FROM (SELECT 1 AS n) AS a)",
        );
        check("SELECT * FROM \"A\"", "SELECT * FROM \"A\"");
    }

    #[test]
    fn names_without_end_are_refused() {
        let views = [("a", "SELECT * FROM b"), ("b", "SELECT * FROM a")];
        let error = inlined(&views, "SELECT *\nFROM a").unwrap_err().to_string();
        assert!(error.starts_with("line 2, column 6: too many views stand for"), "{error}");
    }
}
