//! The database as a backend: each call gets a session of its own, in the schema that the connection has chosen.

use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt};
use thalweg_sql::session::{
    self, Answered, Client, Database, Session, SessionLimits, TableKind, parameters_of_batch,
};
use thalweg_sql::travel::Form;

use crate::backend::{Answer, Backend, Prepared, Refusal, Scope, Table};

const DEFAULT_SCHEMA: &str = "public";

#[async_trait::async_trait]
impl Backend for Database {
    fn defaults(&self) -> Scope {
        Scope {
            catalog: Database::CATALOG.to_owned(),
            schema: DEFAULT_SCHEMA.to_owned(),
            client: None,
            limits: SessionLimits::default(),
        }
    }

    async fn prepare(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<Prepared, Refusal> {
        let values = parameters.map(parameters_of_batch).transpose()?;
        let prepared = session_in(self, scope)?.prepare(sql, values.as_deref()).await?;
        let session::Prepared { rows, parameters } = prepared;
        Ok(Prepared { rows, parameters })
    }

    async fn execute(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
        form: &Form,
    ) -> Result<Answer, Refusal> {
        let values = parameters.map(parameters_of_batch).transpose()?.unwrap_or_default();
        Ok(match session_in(self, scope)?.execute_for(sql, &values, form).await? {
            Answered::Rows(rows) => Answer::Rows(rows),
            Answered::Encoded { planned, messages } => {
                Answer::Encoded { planned, messages: messages.map_err(Refusal::from).boxed() }
            }
            Answered::Done(message) => Answer::Done(message),
        })
    }

    fn setting(&self, sql: &str) -> Result<Option<(String, String)>, Refusal> {
        Ok(session::setting(sql)?)
    }

    async fn schemas(&self) -> Result<Vec<(String, String)>, Refusal> {
        Ok(Database::SCHEMAS.map(|schema| (Database::CATALOG.to_owned(), schema.to_owned())).to_vec())
    }

    async fn tables(&self) -> Result<Vec<Table>, Refusal> {
        let table = |table: session::Table| Table {
            catalog: Database::CATALOG.to_owned(),
            schema: table.schema.to_owned(),
            name: table.name,
            kind: match table.kind {
                TableKind::View => "VIEW".to_owned(),
                TableKind::Table => "TABLE".to_owned(),
                TableKind::System => "SYSTEM TABLE".to_owned(),
            },
            columns: table.columns,
        };
        Ok(self.relations().await.into_iter().map(table).collect())
    }

    fn explain(&self, error: DataFusionError) -> Refusal {
        thalweg_sql::Error::from(error).into()
    }
}

fn session_in(database: &Database, scope: &Scope) -> Result<Session, Refusal> {
    let mut session = database.session(Client { user: None, name: scope.client.clone() });
    session.set_schema(&scope.schema)?;
    session.set_limits(scope.limits);
    Ok(session)
}

impl From<thalweg_sql::Error> for Refusal {
    fn from(error: thalweg_sql::Error) -> Refusal {
        Refusal::new(error.kind(), error.to_string())
    }
}
