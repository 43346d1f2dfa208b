//! The scan of a table's Parquet files, by DataFusion's own reader.
//!
//! A predicate comes down to the reader from the filter above it (DataFusion's physical rule for filters), where the
//! statistics of files, row groups and pages cut what need not be read. So nothing here looks at predicates.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

use super::PinnedStores;
use super::pinned::PinnedTable;

/// Bytes from the end of a file that are read in the hope that they hold the whole footer.
const FOOTER_BYTES: usize = 64 << 10;

/// `None` when the table has no file.
pub(crate) fn scan(
    table: &PinnedTable,
    session: &dyn Session,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let history = &table.snapshot.history;
    if history.files.is_empty() {
        return Ok(None);
    }
    let schema = &table.snapshot.schema;
    // Footers are kept between statements, by path: a file's name is never used twice, in no table.
    let footers = session.runtime_env().cache_manager.get_file_metadata_cache();
    let reader = CachedParquetFileReaderFactory::new(Arc::clone(&history.store), footers);
    let source = ParquetSource::new(Arc::clone(schema))
        .with_metadata_size_hint(FOOTER_BYTES)
        .with_parquet_file_reader_factory(Arc::new(reader));

    let files = history.files.iter().map(|file| PartitionedFile::new(file.path.to_string(), file.bytes));
    let groups = FileGroup::new(files.collect()).split_files(session.config().target_partitions());
    let mut statistics = Statistics::new_unknown(schema);
    statistics.num_rows = Precision::Exact(history.files.iter().map(|file| file.rows as usize).sum());

    let config = FileScanConfigBuilder::new(PinnedStores::url(table.store)?, Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}
