//! What a manifest names, planned again: a restart keeps statements, never plans.

use std::sync::Arc;

use thalweg_engine::job::CatalogEntry;
use thalweg_engine::spec::{StreamSpec, ViewSpec};

use crate::parse::{self, Statement};
use crate::plan::{plan_stream, plan_view};
use crate::{Error, Result};

pub async fn replan(
    streams: &[CatalogEntry],
    views: &[CatalogEntry],
) -> Result<(Vec<StreamSpec>, Vec<ViewSpec>)> {
    let mut planned = vec![];
    for entry in streams {
        match parse::statement(&entry.sql)?.statement {
            Statement::CreateStream(create) => planned.push(Arc::new(plan_stream(&create, entry.id)?)),
            _ => return Err(not_a(entry, "CREATE STREAM")),
        }
    }
    let mut specs = vec![];
    for entry in views {
        match parse::statement(&entry.sql)?.statement {
            Statement::CreateView(create) => specs.push(plan_view(&create, entry.id, &planned).await?),
            _ => return Err(not_a(entry, "CREATE MATERIALIZED VIEW")),
        }
    }
    Ok((planned.iter().map(|stream| StreamSpec::clone(stream)).collect(), specs))
}

fn not_a(entry: &CatalogEntry, what: &str) -> Error {
    Error::invalid(format!("the manifest's text of {} is not a {what}", entry.name))
}
