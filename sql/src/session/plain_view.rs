//! Plain views: names for queries, checked when they are made and kept in the catalog.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::spec::{CatalogChange, KeptStatement};
use uuid::Uuid;

use super::answer::Task;
use super::change;
use super::database::Shared;
use super::{Client, Session, What};
use crate::parse::{self, CreatePlainView, PlainViews, Relation, Statement};
use crate::{Error, Result, plan};

impl Shared {
    /// Those that there are.
    pub fn plain_views(&self) -> PlainViews {
        PlainViews::of(self.engine.kept().iter().map(|it| &**it))
    }
}

pub(super) async fn create(shared: &Arc<Shared>, create: &CreatePlainView) -> Result<String> {
    if shared.plain_views().text(&create.name.value).is_none() && reads_stream(shared, &create.query)? {
        shared.rehearse(&create.text, &create.query).await?;
    }
    let _one_at_a_time = shared.changes.lock().await;
    let name = &create.name.value;
    change::refuse_same_name(shared, &create.name, Relation::PlainView)?;
    if let Some(text) = shared.plain_views().text(name) {
        return change::unchanged("view", &create.name, create.if_not_exists, text, &create.text);
    }
    columns(shared, create).await?;
    let kept = KeptStatement { id: Uuid::now_v7(), name: name.clone(), sql: create.text.clone() };
    shared.engine.apply(CatalogChange::Keep(Arc::new(kept))).await?;
    Ok(format!("view {name} was created"))
}

fn reads_stream(shared: &Shared, query: &Query) -> Result<bool> {
    let mut query = query.clone();
    shared.plain_views().inline(&mut query)?;
    let streams = shared.engine.streams();
    Ok(plan::relations(&query).iter().any(|name| streams.iter().any(|stream| stream.name == *name)))
}

/// Its columns: as a query has them, or, where it reads a stream, as a materialized view has them.
pub(super) async fn columns(shared: &Arc<Shared>, create: &CreatePlainView) -> Result<SchemaRef> {
    let mut query = create.query.clone();
    shared.plain_views().inline(&mut query)?;
    let (streams, views) = (shared.engine.streams(), shared.engine.views());
    let tables = shared.engine.tables();
    if plan::relations(&query).iter().any(|name| streams.iter().any(|stream| stream.name == *name)) {
        let planning = async move {
            // It is inlined already.
            let inputs =
                plan::Inputs { streams: &streams, views: &views, tables: &tables, plain: PlainViews::NONE };
            plan::columns_of(&query, inputs).await
        };
        return Task::spawn(&shared.runtime, planning).join().await?;
    }
    let session = Session::new(Arc::clone(shared), Client::default());
    let planned = session.prepare_query(query, None, None, What::View(create.text.clone())).await?;
    if !planned.parameters.fields().is_empty() {
        return Err(Error::invalid("a view has no parameters")
            .at(create.name.position)
            .hint("CREATE ENDPOINT has, and a query that reads the view"));
    }
    planned.rows.ok_or_else(|| Error::internal("a query was planned without rows"))
}

/// Those that a query can read, with their columns: what reads a stream is for materialized views.
pub(super) async fn readable(shared: &Arc<Shared>) -> Vec<(String, SchemaRef)> {
    let plain = shared.plain_views();
    let streams = shared.engine.streams();
    let mut readable = vec![];
    for name in plain.names() {
        let Some(Ok(Statement::CreatePlainView(create))) =
            plain.text(name).map(|text| parse::statement(text).map(|parsed| parsed.statement))
        else {
            continue;
        };
        let mut query = create.query.clone();
        let inlined = plain.inline(&mut query);
        let reads = plan::relations(&query);
        if inlined.is_err() || reads.iter().any(|name| streams.iter().any(|stream| stream.name == *name)) {
            continue;
        }
        // One that reads what is gone is told of when somebody reads it.
        if let Ok(columns) = columns(shared, &create).await {
            readable.push((name.to_owned(), columns));
        }
    }
    readable
}

/// The columns of a view of that name, if there is one.
pub(super) async fn described(shared: &Arc<Shared>, name: &str) -> Result<Option<SchemaRef>> {
    let views = shared.plain_views();
    let Some(text) = views.text(name) else { return Ok(None) };
    match parse::statement(text)?.statement {
        Statement::CreatePlainView(create) => columns(shared, &create).await.map(Some),
        _ => Err(Error::internal(format!("the catalog's text of {name} is no view"))),
    }
}
