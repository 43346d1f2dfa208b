//! The tables that a query names, looked up before it is planned, so that a wrong name is answered with its place and
//! the right one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::{ResolvedTableReference, TableReference};
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Spanned, Statement, Visitor};
use thalweg_engine::ErrorKind;
use thalweg_engine::snapshot::Behind;

use super::engine::Engine;
use crate::error::suggestion;
use crate::parse::walk;
use crate::tables::system::SystemTable;
use crate::tables::{CATALOG, PUBLIC, Pinned, SCHEMAS};
use crate::{Error, Position, Result};

/// What names can mean here.
pub(crate) struct Names<'a> {
    pub engine: &'a dyn Engine,
    pub pinned: &'a Pinned,
    /// Where a bare name is looked up.
    pub schema: &'a str,
}

impl Names<'_> {
    pub fn check(&self, statement: &Statement, state: &SessionState) -> Result<()> {
        let wrapped = DataFusionStatement::Statement(Box::new(statement.clone()));
        // Names of common table expressions are left out of these.
        let (tables, _) = resolve_table_references(&wrapped, true)?;
        for table in tables {
            if state.table_functions().contains_key(table.table()) {
                continue;
            }
            self.check_one(table.clone())
                .and_then(|found| self.check_runs(&found))
                .map_err(|error| error.at(position_of(statement, &table)))?;
        }
        Ok(())
    }

    /// What a failed view would have open is not known, so only its closed rows can be asked for, by name: somebody who
    /// watches `v` or `live.v` would otherwise take a view that stands still for one of which nothing comes.
    fn check_runs(&self, table: &ResolvedTableReference) -> Result<()> {
        let all = match &*table.schema {
            "system" => &self.pinned.system,
            _ => &self.pinned.views,
        };
        if let Some(lost) = all.get(&*table.table).filter(|known| known.snapshot.history.is_lost) {
            let reason = lost.snapshot.failure.as_ref().map_or("", |failure| &failure.reason);
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("what {table} has closed can't be read: {reason}"),
            )
            .hint("put the log of its Delta table right, or move the table's folder away, and start again"));
        }
        let view =
            self.pinned.views.get(&*table.table).filter(|_| [PUBLIC, "live"].contains(&&*table.schema));
        let name = &table.table;
        if let Some(Behind { view, reason }) = view.and_then(|view| view.snapshot.behind.as_ref()) {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("view \"{name}\" reads view \"{view}\", which has failed: {reason}"),
            )
            .hint(format!(
                "read what it had closed from history.{name}, or have the other begin anew: ALTER VIEW {view} RESTART"
            )));
        }
        let Some(failure) = view.and_then(|view| view.snapshot.failure.as_ref()) else { return Ok(()) };
        Err(Error::new(ErrorKind::Unavailable, format!("view \"{name}\" has failed: {}", failure.reason)).hint(
            format!("read what it had closed from history.{name}, or have it begin anew: ALTER VIEW {name} RESTART"),
        ))
    }

    /// The views that a checked statement reads; `None` when it reads anything else.
    pub fn views(&self, statement: &Statement) -> Result<Option<BTreeSet<String>>> {
        let wrapped = DataFusionStatement::Statement(Box::new(statement.clone()));
        let (tables, _) = resolve_table_references(&wrapped, true)?;
        let view = |table: TableReference| {
            let table = table.resolve(CATALOG, self.schema);
            let of_views = ["public", "live", "history"].contains(&&*table.schema);
            (of_views && self.pinned.views.contains_key(&*table.table)).then(|| table.table.to_string())
        };
        Ok(tables.into_iter().map(view).collect())
    }

    /// The table's schema and name, if there is such a table.
    pub fn check_one(&self, table: TableReference) -> Result<ResolvedTableReference> {
        let written = table.to_string();
        let table = table.resolve(CATALOG, self.schema);
        if &*table.catalog != CATALOG {
            return Err(Error::invalid(format!("no catalog \"{}\"", table.catalog))
                .hint(format!("the only one is {CATALOG}; write schema.table")));
        }
        let known: Vec<&str> = match &*table.schema {
            "information_schema" => return Ok(table),
            "system" => {
                let status = SystemTable::ALL.iter().map(|table| table.name());
                status.chain(self.pinned.system.keys().map(String::as_str)).collect()
            }
            PUBLIC => {
                let tables = self.pinned.lookups.keys();
                self.pinned.views.keys().chain(tables).map(String::as_str).collect()
            }
            schema if SCHEMAS.contains(&schema) => self.pinned.views.keys().map(String::as_str).collect(),
            schema => {
                let schemas = SCHEMAS.into_iter().chain(["information_schema"]);
                return Err(Error::invalid(format!("no schema \"{schema}\"")).hint(suggestion(
                    schema,
                    "schemas are",
                    schemas,
                )));
            }
        };
        if known.contains(&&*table.table) {
            return Ok(table);
        }
        if self.engine.tables().iter().any(|known| known.name == *table.table) {
            let name = &table.table;
            return Err(match &*table.schema {
                PUBLIC => {
                    Error::new(ErrorKind::Unavailable, format!("table \"{name}\" has not been read yet"))
                        .hint("system.tables says why")
                }
                _ => Error::invalid(format!("table \"{name}\" has no \"{}\" part", table.schema))
                    .hint(format!("write SELECT * FROM {name}")),
            });
        }
        if self.engine.streams().iter().any(|stream| stream.name == *table.table) {
            return Err(unreadable(&table.table));
        }
        let error = Error::invalid(format!("no table \"{written}\""));
        Err(if known.is_empty() {
            error.hint("there is no view yet: CREATE MATERIALIZED VIEW name AS SELECT …")
        } else {
            error.hint(suggestion(&table.table, "tables are", known))
        })
    }
}

/// Whether a query reads tables of `system` and nothing else, functions that make rows included.
pub(crate) fn reads_system_alone(query: &Query, schema: &str) -> bool {
    let statement = DataFusionStatement::Statement(Box::new(Statement::Query(Box::new(query.clone()))));
    let Ok((tables, _)) = resolve_table_references(&statement, true) else { return false };
    let is_system = |table: TableReference| &*table.resolve(CATALOG, schema).schema == "system";
    !tables.is_empty() && tables.into_iter().all(is_system)
}

fn unreadable(stream: &str) -> Error {
    Error::invalid(format!("stream \"{stream}\" can't be read, a view of it can")).hint(format!(
        "write CREATE MATERIALIZED VIEW name AS SELECT … FROM {stream}, then SELECT * FROM name"
    ))
}

/// Where the text names the table.
fn position_of(statement: &Statement, table: &TableReference) -> Option<Position> {
    struct Find<'a>(&'a str);
    impl Visitor for Find<'_> {
        type Break = Option<Position>;
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<Option<Position>> {
            let is_it = match name.0.last().and_then(|part| part.as_ident()) {
                Some(last) if last.quote_style.is_none() => last.value.to_lowercase() == self.0,
                Some(last) => last.value == self.0,
                None => false,
            };
            if is_it {
                ControlFlow::Break(Position::of(name.span().start))
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    walk(statement, &mut Find(table.table())).break_value().flatten()
}
