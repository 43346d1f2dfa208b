//! What a view may read, as DataFusion's planner sees it: streams and views with state are tables whose scan is the leaf
//! of a lower half; a copy is inlined, so its reader reads what it reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as PlannerResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement as AstStatement};
use thalweg_engine::spec::{LookupSpec, RowTime, StreamSpec, Unit, ViewShape, ViewSpec, Window};
use thalweg_engine::view::LeafExec;

use super::syntax;
use crate::error::{Error, Result};
use crate::parse::{self, PlainViews, Statement};

/// All that there is to read.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub streams: &'a [Arc<StreamSpec>],
    pub views: &'a [Arc<ViewSpec>],
    pub tables: &'a [Arc<LookupSpec>],
    pub plain: &'a PlainViews,
}

/// One input of a view.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    Stream(&'a StreamSpec),
    View(&'a ViewSpec),
}

impl<'a> Inputs<'a> {
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let streams = self.streams.iter().map(|stream| stream.name.as_str());
        let views = self.views.iter().map(|view| view.name.as_str());
        streams
            .chain(views)
            .chain(self.tables.iter().map(|table| table.name.as_str()))
            .chain(self.plain.names())
    }

    /// A table that is looked up.
    pub(super) fn table(&self, name: &str) -> Option<&'a LookupSpec> {
        self.tables.iter().find(|table| table.name == name).map(|it| &**it)
    }

    pub(super) fn find(&self, name: &str) -> Option<Known<'a>> {
        let stream = self.streams.iter().find(|stream| stream.name == name);
        let view = || self.views.iter().find(|view| view.name == name);
        stream.map(|it| Known::Stream(it)).or_else(|| view().map(|it| Known::View(it)))
    }

    /// Makes the relations known that a query names.
    pub(super) fn register<'b>(
        &'b self,
        query: &'b Query,
        context: &'b SessionContext,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'b>> {
        Box::pin(async move {
            for (name, _) in syntax::relations(query) {
                if context.table_exist(name.as_str())? {
                    continue;
                }
                let table: Arc<dyn TableProvider> = match self.find(&name) {
                    None => match self.table(&name) {
                        Some(table) => Arc::new(InputTable { schema: Arc::clone(&table.schema) }),
                        None => continue,
                    },
                    Some(Known::View(view)) if matches!(view.shape, ViewShape::Copy { .. }) => {
                        self.inlined(view, context).await?
                    }
                    Some(known) => Arc::new(InputTable { schema: known.schema() }),
                };
                context.register_table(name.as_str(), table)?;
            }
            Ok(())
        })
    }

    async fn inlined(&self, copy: &ViewSpec, context: &SessionContext) -> Result<Arc<dyn TableProvider>> {
        let Statement::CreateView(mut create) = parse::statement(&copy.sql)?.statement else {
            return Err(Error::internal(format!("the text of {} is no view", copy.name)));
        };
        self.plain.inline(&mut create.query)?;
        self.register(&create.query, context).await?;
        let query = PlannerStatement::Statement(Box::new(AstStatement::Query(create.query.clone())));
        let plan = context.state().statement_to_plan(query).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(copy.sql.clone()))))
    }
}

impl<'a> Known<'a> {
    /// As a leaf has it: of a view every column may be NULL, as in the lake that it is read back from.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Known::Stream(stream) => Arc::clone(&stream.schema),
            Known::View(view) => {
                let fields =
                    view.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            }
        }
    }

    /// The column of the event time.
    pub fn event_time(&self) -> Option<usize> {
        match self {
            Known::Stream(stream) => stream.event_time.map(|it| it.column),
            Known::View(_) => None,
        }
    }

    /// What the column of a view tells of the row's window.
    pub fn row_time(&self, column: &str) -> Option<RowTime> {
        match self {
            Known::Stream(_) => None,
            Known::View(view) => view.times[view.schema.index_of(column).ok()?],
        }
    }

    /// Of the rows of a view: their windows.
    pub fn window(&self) -> Option<Window> {
        match self {
            Known::Stream(_) => None,
            // Those of units that look around are nobody else's.
            Known::View(view) => view.shape.window().filter(|_| !view.times.contains(&Some(RowTime::Own))),
        }
    }

    /// Likewise, and of those that look around the slices of time in which their rows become final.
    pub fn slices(&self) -> Option<Window> {
        match self {
            Known::Stream(_) => None,
            Known::View(view) => view.shape.window(),
        }
    }

    /// Whether its rows are sessions.
    pub fn is_session(&self) -> bool {
        matches!(self, Known::View(ViewSpec { shape: ViewShape::Units { unit: Unit::Session(_), .. }, .. }))
    }

    /// Whether its rows are never final.
    pub fn is_ever(&self) -> bool {
        matches!(self, Known::View(ViewSpec { shape: ViewShape::Units { unit: Unit::Ever(_), .. }, .. }))
    }
}

/// A stream, or a view with state.
#[derive(Debug)]
pub(in crate::plan) struct InputTable {
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for InputTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> PlannerResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        Ok(Arc::new(LeafExec::of_micro_batch(schema)))
    }
}
