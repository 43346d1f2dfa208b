//! A view (or a system table of rows) as a table: which of its three parts a schema shows, read as one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use super::pinned::PinnedTable;
use super::{Pinned, parquet_scan};

/// Which parts of a table a schema shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// `public`: all three, each row exactly once.
    Whole,
    /// `live`: the windows still open.
    Live,
    /// `history`: what is closed, in Parquet or on its way there.
    History,
}

#[derive(Debug)]
pub(crate) struct PartTable {
    pub table: Arc<PinnedTable>,
    pub part: Part,
}

#[async_trait]
impl TableProvider for PartTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.snapshot.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts = Vec::with_capacity(2);
        let mut rows = Vec::new();
        if self.part != Part::Live {
            parts.extend(parquet_scan::scan(&self.table, session, projection, limit)?);
            rows.extend(self.table.tail()?);
        }
        if self.part != Part::History {
            rows.extend_from_slice(self.table.live(&session.runtime_env().memory_pool).await?);
        }
        if !rows.is_empty() || parts.is_empty() {
            parts.push(memory_scan(self.schema(), rows, projection, session.config().batch_size())?);
        }
        let promised = project_schema(&self.schema(), projection)?;
        assert!(
            parts.iter().all(|part| part.schema() == promised),
            "a part of {:?} has other columns",
            self.table
        );
        UnionExec::try_new(parts)
    }
}

/// What a table holds that views look up.
#[derive(Debug)]
pub(crate) struct ContentTable {
    pub pinned: Arc<Pinned>,
    pub name: String,
}

#[async_trait]
impl TableProvider for ContentTable {
    fn schema(&self) -> SchemaRef {
        self.pinned.lookups[&self.name].rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let content = self.pinned.lookup(&self.name).transpose()?;
        let rows = content.map(|content| content.rows.clone()).into_iter().collect();
        memory_scan(self.schema(), rows, projection, session.config().batch_size())
    }
}

/// Batches in memory, in slices of the size that operators expect.
pub(crate) fn memory_scan(
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    projection: Option<&Vec<usize>>,
    batch_size: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let slices = batches.iter().flat_map(|batch| {
        (0..batch.num_rows())
            .step_by(batch_size)
            .map(|start| batch.slice(start, batch_size.min(batch.num_rows() - start)))
    });
    Ok(MemorySourceConfig::try_new_exec(&[slices.collect()], schema, projection.cloned())?)
}
