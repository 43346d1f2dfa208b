//! Statements against specs, and the words of refusals.

mod checked;
mod failing;
mod halves;
mod keys;
mod overlapping;
mod queries;
mod refusals;
mod snapshots;
mod streams;

use std::sync::Arc;

use thalweg_engine::spec::{StreamSpec, ViewSpec};
use uuid::Uuid;

use crate::error::Result;
use crate::parse::{self, Statement};
use crate::plan::{Inputs, plan_stream, plan_view};

const STREAM: &str = "CREATE STREAM t (ts TIMESTAMP, k STRING, u STRING, p DOUBLE, q BIGINT,
    g STRUCT<c STRING, d DOUBLE>, tags STRING[], WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
    WITH (connector = 'generator')";

fn stream(text: &str) -> Arc<StreamSpec> {
    match parse::statement(text).unwrap().statement {
        Statement::CreateStream(create) => Arc::new(plan_stream(&create, Uuid::nil()).unwrap()),
        other => panic!("{other:?}"),
    }
}

async fn view_of(text: &str, streams: &[Arc<StreamSpec>]) -> Result<ViewSpec> {
    match parse::statement(text)?.statement {
        Statement::CreateView(create) => {
            plan_view(
                &create,
                Uuid::nil(),
                Inputs { streams, views: &[], tables: &[], plain: crate::parse::PlainViews::NONE },
            )
            .await
        }
        other => panic!("{other:?}"),
    }
}

/// The view `v` of a query over the stream `t`.
async fn view(query: &str) -> Result<ViewSpec> {
    view_of(&format!("CREATE MATERIALIZED VIEW v AS\n{query}"), &[stream(STREAM)]).await
}
