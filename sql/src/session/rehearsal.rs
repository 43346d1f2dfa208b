//! A statement that makes a view is planned where queries run, before this process plans it and ingest runs it: what ends that
//! one, or takes its time, is refused. Planning comes to the same in both.

use std::sync::Arc;
use std::time::Duration;

use datafusion::sql::sqlparser::ast::{Query, Spanned};
use thalweg_engine::mirror::Wanted;

use super::database::Shared;
use super::elsewhere::{Asked, What};
use super::{Session, answer, change, plain_view};
use crate::parse::{self, Explain, Explained, Statement};
use crate::tables::PUBLIC;
use crate::{Error, Position, Result, plan};

/// What takes longer than this for a micro-batch is no view.
const TIME_MAX: Duration = Duration::from_secs(60);

impl Shared {
    /// `text` is the statement, and `query` that of its view.
    pub async fn rehearse(&self, text: &str, query: &Query) -> Result<()> {
        let Some(elsewhere) = self.elsewhere.get() else { return Ok(()) };
        let mut query = query.clone();
        self.plain_views().inline(&mut query)?;
        let planned = plan::relations(&query).into_iter().collect();
        let asked = Asked {
            what: What::Rehearsal(text.to_owned()),
            schema: PUBLIC.to_owned(),
            values: None,
            memory_bytes: None,
            wanted: Wanted { planned, ..Wanted::default() },
            facts: Default::default(),
            rows: None,
            repeats: false,
        };
        let limit = self.settings.query_deadline.min(TIME_MAX);
        let rehearsed = tokio::time::timeout(limit, elsewhere.rehearse(asked)).await;
        rehearsed.map_err(|_| {
            let took = format!(
                "the view took longer to plan and to try on made-up rows than it may. limit={limit:?}"
            );
            let error = Error::invalid(took).at(Position::of(query.span().start));
            error.hint("make less of it: fewer aggregates with DISTINCT, fewer columns, shorter expressions")
        })?
    }
}

impl Session {
    /// As another process is about to. Whatever it says of the statement, that says the same; only whether this process is
    /// still there tells more.
    pub async fn rehearse(&self, text: &str) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut statement = parse::statement(text)?.statement;
        if let Statement::Explain(Explain { what: Explained::Statement(inner), .. }) = statement {
            statement = *inner;
        }
        match statement {
            Statement::CreateView(create) => {
                let spec = change::plan_view(&shared, &create).await?;
                let (streams, views) = (shared.engine.streams(), shared.engine.views());
                let (tables, plain) = (shared.engine.tables(), shared.plain_views());
                let straining = async move {
                    let inputs =
                        plan::Inputs { streams: &streams, views: &views, tables: &tables, plain: &plain };
                    plan::strain(&spec, inputs).await
                };
                answer::Task::spawn(&shared.runtime, straining).join().await?
            }
            Statement::CreatePlainView(create) => plain_view::columns(&shared, &create).await.map(drop),
            _ => Err(Error::internal("this makes no view")),
        }
    }
}
