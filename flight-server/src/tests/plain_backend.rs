//! A backend over DataFusion alone: tables in memory, views as the only DDL. For tests and the example server.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;

use thalweg_sql::travel::Form;

use super::{Answer, Backend, Prepared, Refusal, Scope, Table};

pub struct PlainBackend(SessionContext);

impl PlainBackend {
    /// `sales`: five rows, with a NULL in `price`; a schema `history` beside `public`.
    pub fn with_sales() -> Self {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema("thalweg", "public")
            .with_information_schema(false)
            .with_target_partitions(2);
        let ctx = SessionContext::new_with_config(config);
        let catalog = ctx.catalog("thalweg").expect("the default catalog exists");
        let history = Arc::new(datafusion::catalog::MemorySchemaProvider::new());
        catalog.register_schema("history", history).expect("a memory catalog takes schemas");
        let sales = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from_iter_values(1..=5)) as ArrayRef, false),
            (
                "product",
                Arc::new(StringViewArray::from_iter_values(["tea", "mug", "tea", "pot", "mug"])),
                false,
            ),
            (
                "price",
                Arc::new(Float64Array::from(vec![Some(2.5), Some(8.0), None, Some(21.5), Some(8.0)])),
                true,
            ),
            (
                "sold_at",
                Arc::new(
                    TimestampMicrosecondArray::from_iter_values((0..5).map(|n| n * 1_000_000))
                        .with_timezone("UTC"),
                ),
                false,
            ),
        ])
        .expect("the columns are of one length");
        ctx.register_batch("sales", sales).expect("the name is free");
        PlainBackend(ctx)
    }

    async fn plan(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<(SessionContext, LogicalPlan), Refusal> {
        let state = self.0.state();
        let mut config = state.config().clone();
        config.options_mut().catalog.default_catalog = scope.catalog.clone();
        config.options_mut().catalog.default_schema = scope.schema.clone();
        // Otherwise building the state puts an empty schema in the place of the one there is.
        config.options_mut().catalog.create_default_catalog_and_schema = false;
        let ctx = SessionContext::new_with_state(
            SessionStateBuilder::new_from_existing(state).with_config(config).build(),
        );
        let plan = ctx.state().create_logical_plan(sql).await.map_err(refused)?;
        let plan = match parameters {
            None => plan,
            Some(row) => plan.with_param_values(values(row)?).map_err(refused)?,
        };
        Ok((ctx, plan))
    }
}

#[async_trait::async_trait]
impl Backend for PlainBackend {
    fn defaults(&self) -> Scope {
        Scope {
            catalog: "thalweg".to_owned(),
            schema: "public".to_owned(),
            client: None,
            limits: Default::default(),
        }
    }

    async fn prepare(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<Prepared, Refusal> {
        let (_, plan) = self.plan(scope, sql, parameters).await?;
        let types: HashMap<_, _> = plan.get_parameter_types().map_err(refused)?;
        let mut fields: Vec<_> = types
            .into_iter()
            .map(|(name, data_type)| Field::new(name, data_type.unwrap_or(DataType::Null), true))
            .collect();
        fields.sort_by(|a, b| a.name().cmp(b.name()));
        let rows = (!is_ddl(&plan)).then(|| Arc::clone(plan.schema().inner()));
        Ok(Prepared { rows, parameters: Arc::new(Schema::new(fields)) })
    }

    async fn execute(
        &self,
        scope: &Scope,
        sql: &str,
        parameters: Option<&RecordBatch>,
        _: &Form,
    ) -> Result<Answer, Refusal> {
        let (ctx, plan) = self.plan(scope, sql, parameters).await?;
        let done = is_ddl(&plan);
        let frame = ctx.execute_logical_plan(plan).await.map_err(refused)?;
        if done {
            return Ok(Answer::Done("done".to_owned()));
        }
        Ok(Answer::Rows(frame.execute_stream().await.map_err(refused)?))
    }

    async fn schemas(&self) -> Result<Vec<(String, String)>, Refusal> {
        let catalog = self.0.catalog("thalweg").expect("the default catalog exists");
        Ok(catalog.schema_names().into_iter().map(|schema| ("thalweg".to_owned(), schema)).collect())
    }

    async fn tables(&self) -> Result<Vec<Table>, Refusal> {
        let catalog = self.0.catalog("thalweg").expect("the default catalog exists");
        let mut tables = Vec::new();
        for schema in catalog.schema_names() {
            let provider = catalog.schema(&schema).expect("the name was listed");
            for name in provider.table_names() {
                let table = provider.table(&name).await.map_err(refused)?.expect("the name was listed");
                let kind = if table.table_type() == TableType::View { "VIEW" } else { "TABLE" };
                tables.push(Table {
                    catalog: "thalweg".to_owned(),
                    schema: schema.clone(),
                    name,
                    kind: kind.to_owned(),
                    columns: table.schema(),
                });
            }
        }
        Ok(tables)
    }

    fn explain(&self, error: DataFusionError) -> Refusal {
        refused(error)
    }
}

fn is_ddl(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_))
}

fn values(row: &RecordBatch) -> Result<ParamValues, Refusal> {
    let values = row
        .columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, 0).map(ScalarAndMetadata::from))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?;
    Ok(ParamValues::List(values))
}

fn refused(error: DataFusionError) -> Refusal {
    Refusal::invalid(error.strip_backtrace())
}
