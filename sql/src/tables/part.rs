//! A view (or a system table of rows) as a table: which of its three parts a schema shows, read as one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, Result, ToDFSchema, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use futures::FutureExt;
use thalweg_engine::Error;
use thalweg_engine::view::Only;

use super::pinned::PinnedTable;
use super::{Pinned, parquet_scan};
use crate::plan;

/// Of rows that are finished as they are read: how many batches wait for whoever reads.
const BATCHES_AHEAD: usize = 2;

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

    /// Rows that do not pass may come all the same.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.part != Part::History && self.is_by_key(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut parts = Vec::with_capacity(2);
        let mut rows = Vec::new();
        if self.part != Part::Live {
            parts.extend(parquet_scan::scan(&self.table, session, projection, limit)?);
            rows.extend(self.table.tail()?);
        }
        if self.part != Part::History {
            let only = self.only(filters, session)?;
            match self.table.live(only.as_ref()).await? {
                Some(live) => rows.extend(live),
                None => parts.push(finished_scan(&self.table, only, projection, limit)?),
            }
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

impl PartTable {
    /// Whether a filter looks at keys of open groups, and at nothing else.
    fn is_by_key(&self, filter: &Expr) -> bool {
        let Some(upper) = self.table.snapshot.open.upper() else { return false };
        let is_key = |column: &Column| {
            let position = self.table.snapshot.schema.index_of(&column.name);
            position.is_ok_and(|column| upper.keys.get(column).is_some_and(Option::is_some))
        };
        let asks = filter.exists(|expr| Ok(plan::asks_a_query(expr)));
        let is_plain = !filter.is_volatile() && asks.is_ok_and(|asks| !asks);
        let columns = filter.column_refs();
        is_plain && !columns.is_empty() && columns.into_iter().all(is_key)
    }

    fn only(&self, filters: &[Expr], session: &dyn Session) -> Result<Option<Only>> {
        let Some(upper) = self.table.snapshot.open.upper() else { return Ok(None) };
        let columns = self.schema().to_dfschema()?;
        let by_key = filters.iter().filter(|filter| self.is_by_key(filter));
        let by_key = by_key.map(|it| session.create_physical_expr(unnormalize_col(it.clone()), &columns));
        let by_key = by_key.collect::<Result<Vec<_>>>()?;
        if by_key.is_empty() { Ok(None) } else { Only::of(upper, by_key).map(Some) }
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

/// Open windows that are finished as they are read.
fn finished_scan(
    table: &Arc<PinnedTable>,
    only: Option<Only>,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::clone(&table.snapshot.schema);
    let finished = Arc::new(Finished { table: Arc::clone(table), only });
    let scan = StreamingTableExec::try_new(schema, vec![finished], projection, [], false, limit)?;
    Ok(Arc::new(scan))
}

#[derive(Debug)]
struct Finished {
    table: Arc<PinnedTable>,
    only: Option<Only>,
}

impl PartitionStream for Finished {
    fn schema(&self) -> &SchemaRef {
        &self.table.snapshot.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut rows = RecordBatchReceiverStreamBuilder::new(Arc::clone(self.schema()), BATCHES_AHEAD);
        let (table, only, to) = (Arc::clone(&self.table), self.only.clone(), rows.tx());
        rows.spawn(async move {
            let mut take = |batch| {
                let to = to.clone();
                async move { to.send(Ok(batch)).await.map_err(|_| nobody_reads()) }.boxed()
            };
            table.finish_each(only.as_ref(), context.memory_pool(), &mut take).await
        });
        rows.build()
    }
}

fn nobody_reads() -> Error {
    Error::Internal("nobody reads what is finished any more".into())
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
