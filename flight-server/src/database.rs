//! The backend that serves: Thalweg's own sessions.

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use thalweg_sql::session::{self, Client, Database, Session, TableKind, parameters_of_batch};

use crate::backend::{Answer, Backend, Prepared, Refusal, Scope, Table};

pub struct DatabaseBackend {
    database: Database,
}

impl DatabaseBackend {
    pub fn new(database: Database) -> DatabaseBackend {
        DatabaseBackend { database }
    }

    fn session(&self, scope: &Scope) -> Result<Session, Refusal> {
        if scope.catalog != Database::CATALOG {
            return Err(Refusal::invalid(format!(
                "no catalog {:?}; the only one is {:?}",
                scope.catalog,
                Database::CATALOG
            )));
        }
        let mut session = self.database.session(Client { user: None, name: Some("flight sql".into()) });
        session.set_schema(&scope.schema).map_err(refused)?;
        Ok(session)
    }
}

#[async_trait::async_trait]
impl Backend for DatabaseBackend {
    fn defaults(&self) -> Scope {
        Scope { catalog: Database::CATALOG.to_owned(), schema: "public".to_owned() }
    }

    async fn prepare(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<Prepared, Refusal> {
        let values = parameters.map(parameters_of_batch).transpose().map_err(refused)?;
        let prepared = self.session(scope)?.prepare(sql, values.as_deref()).await.map_err(refused)?;
        Ok(Prepared { rows: prepared.rows, parameters: prepared.parameters })
    }

    async fn execute(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<Answer, Refusal> {
        let values = parameters.map(parameters_of_batch).transpose().map_err(refused)?.unwrap_or_default();
        match self.session(scope)?.execute(sql, &values).await.map_err(refused)? {
            session::Answer::Rows(rows) => Ok(Answer::Rows(rows)),
            session::Answer::Done(message) => Ok(Answer::Done(message)),
        }
    }

    async fn schemas(&self) -> Result<Vec<(String, String)>, Refusal> {
        let schema = |name: &str| (Database::CATALOG.to_owned(), name.to_owned());
        Ok(Database::SCHEMAS.into_iter().map(schema).collect())
    }

    async fn tables(&self) -> Result<Vec<Table>, Refusal> {
        let table = |table: session::Table| Table {
            catalog: Database::CATALOG.to_owned(),
            schema: table.schema.to_owned(),
            name: table.name,
            kind: match table.kind {
                TableKind::View => "TABLE".to_owned(),
                TableKind::System => "SYSTEM TABLE".to_owned(),
            },
            columns: table.columns,
        };
        Ok(self.database.tables().into_iter().map(table).collect())
    }

    fn explain(&self, error: DataFusionError) -> Refusal {
        refused(thalweg_sql::Error::from(error))
    }
}

fn refused(error: thalweg_sql::Error) -> Refusal {
    Refusal::new(error.kind(), error.to_string())
}
