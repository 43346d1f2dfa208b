//! The scan of a table's Parquet files, by DataFusion's own reader.
//!
//! A predicate comes down to the reader from the filter above it (DataFusion's physical rule for filters), where the
//! statistics of files, row groups and pages cut what need not be read. So nothing here looks at predicates. What is known
//! of a file before it is opened, the bounds of its instants, goes with it: a query about yesterday opens yesterday.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use thalweg_engine::sink::{HistoryFile, Instants};

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

    let files = history.files.iter().map(|file| {
        let known = Arc::new(bounds(schema, file));
        PartitionedFile::new(file.path.to_string(), file.bytes).with_statistics(known)
    });
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

fn bounds(schema: &SchemaRef, file: &HistoryFile) -> Statistics {
    let mut known = Statistics::new_unknown(schema);
    known.num_rows = Precision::Exact(file.rows as usize);
    for Instants { column, least, most } in &file.instants {
        let Some((at, field)) = schema.column_with_name(column) else { continue };
        let DataType::Timestamp(TimeUnit::Microsecond, zone) = field.data_type() else { continue };
        let instant =
            |micros| Precision::Exact(ScalarValue::TimestampMicrosecond(Some(micros), zone.clone()));
        let column = &mut known.column_statistics[at];
        (column.min_value, column.max_value) = (instant(*least), instant(*most));
    }
    known
}
