//! What a manifest names, planned again: a restart keeps statements, never plans.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_engine::job::{CatalogEntry, Replanned};
use thalweg_engine::spec::{KeptStatement, LookupSpec, StreamSpec, ViewSpec};
use uuid::Uuid;

use crate::parse::{self, PlainViews, Statement};
use crate::plan::view::{Inputs, plan_known_view, relations};
use crate::plan::{plan_stream, plan_table};
use crate::{Error, Result};

/// A stream or a view that can't be planned any more says why, and keeps nothing else from starting.
pub async fn replan(
    streams: &[CatalogEntry],
    tables: &[CatalogEntry],
    views: &[CatalogEntry],
    kept: &[KeptStatement],
) -> (Vec<StreamSpec>, Vec<LookupSpec>, Vec<Replanned>) {
    replan_some(streams, tables, views, kept, &[], |_| true).await
}

/// The same of some views, and of those that they read, where others are planned already.
pub async fn replan_some(
    streams: &[CatalogEntry],
    tables: &[CatalogEntry],
    views: &[CatalogEntry],
    kept: &[KeptStatement],
    planned_views: &[Arc<ViewSpec>],
    is_wanted: impl Fn(Uuid) -> bool,
) -> (Vec<StreamSpec>, Vec<LookupSpec>, Vec<Replanned>) {
    let plain = PlainViews::of(kept);
    let unplanned = |entry: &CatalogEntry, error: Error| {
        StreamSpec::unplanned(entry.id, entry.name.clone(), entry.sql.clone(), error.to_string())
    };
    let planned = |entry| Arc::new(replan_stream(entry).unwrap_or_else(|error| unplanned(entry, error)));
    let planned: Vec<Arc<StreamSpec>> = streams.iter().map(planned).collect();
    let unplanned = |entry: &CatalogEntry, error: Error| {
        LookupSpec::unplanned(entry.id, entry.name.clone(), entry.sql.clone(), error.to_string())
    };
    let table = |entry| Arc::new(replan_table(entry).unwrap_or_else(|error| unplanned(entry, error)));
    let tables: Vec<Arc<LookupSpec>> = tables.iter().map(table).collect();
    let mut replanned: Vec<Replanned> = vec![];
    let mut known: Vec<Arc<ViewSpec>> = planned_views.to_vec();
    let unknown = views.iter().filter(|entry| planned_views.iter().all(|view| view.id != entry.id));
    let mut left: Vec<(&CatalogEntry, Vec<String>)> =
        unknown.map(|entry| (entry, read_by(entry, &plain))).collect();
    let mut wanted: BTreeSet<String> =
        left.iter().filter(|(entry, _)| is_wanted(entry.id)).map(|(entry, _)| entry.name.clone()).collect();
    loop {
        let reads =
            left.iter().filter(|(entry, _)| wanted.contains(&entry.name)).flat_map(|(_, reads)| reads);
        let more: Vec<String> = reads.filter(|read| !wanted.contains(*read)).cloned().collect();
        if more.is_empty() {
            break;
        }
        wanted.extend(more);
    }
    left.retain(|(entry, _)| wanted.contains(&entry.name));
    while !left.is_empty() {
        // A view after those that it reads.
        let waits = |(entry, reads): &(&CatalogEntry, Vec<String>)| {
            reads.iter().any(|read| left.iter().any(|(it, _)| it.name == *read && it.id != entry.id))
        };
        let next = left.iter().position(|entry| !waits(entry)).unwrap_or(0);
        let (entry, _) = left.remove(next);
        let inputs = Inputs { streams: &planned, views: &known, tables: &tables, plain: &plain };
        let spec = replan_view(entry, inputs).await.map_err(|error| error.to_string());
        known.extend(spec.iter().map(|spec| Arc::new(spec.clone())));
        replanned.push(Replanned { id: entry.id, spec });
    }
    let planned = planned.iter().map(|stream| StreamSpec::clone(stream)).collect();
    (planned, tables.iter().map(|table| LookupSpec::clone(table)).collect(), replanned)
}

/// What a view's text names; the engine knows nothing of a copy that stands in it, for what that reads is read instead.
fn read_by(entry: &CatalogEntry, plain: &PlainViews) -> Vec<String> {
    let parsed = parse::statement(&entry.sql).map(|parsed| parsed.statement);
    let Ok(Statement::CreateView(mut create)) = parsed else { return entry.inputs.clone() };
    match plain.inline(&mut create.query) {
        Ok(()) => relations(&create.query),
        Err(_) => entry.inputs.clone(),
    }
}

fn replan_table(entry: &CatalogEntry) -> Result<LookupSpec> {
    match parse::statement(&entry.sql)?.statement {
        Statement::CreateTable(create) => plan_table(&create, entry.id),
        _ => Err(not_a(entry, "CREATE TABLE")),
    }
}

fn replan_stream(entry: &CatalogEntry) -> Result<StreamSpec> {
    match parse::statement(&entry.sql)?.statement {
        Statement::CreateStream(create) => plan_stream(&create, entry.id),
        _ => Err(not_a(entry, "CREATE STREAM")),
    }
}

pub(crate) async fn replan_view(entry: &CatalogEntry, inputs: Inputs<'_>) -> Result<ViewSpec> {
    match parse::statement(&entry.sql)?.statement {
        Statement::CreateView(create) => plan_known_view(&create, entry.id, inputs).await,
        _ => Err(not_a(entry, "CREATE MATERIALIZED VIEW")),
    }
}

fn not_a(entry: &CatalogEntry, what: &str) -> Error {
    Error::invalid(format!("the manifest's text of {} is not a {what}", entry.name))
}
