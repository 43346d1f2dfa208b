//! What a reader asks of the open rows by their keys. A filter that looks at keys alone says of each partial row what it says of
//! the finished row of its group, so groups that are not asked for need not be finished.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, conjunction};

use crate::spec::Upper;
use crate::view::pieces::Weighed;

/// Which groups are asked for.
#[derive(Debug, Clone)]
pub struct Only(Arc<dyn PhysicalExpr>);

impl Only {
    /// Those that pass all filters, which are over the view's rows and look at keys alone.
    pub fn of(upper: &Upper, filters: Vec<Arc<dyn PhysicalExpr>>) -> Result<Only> {
        let over_state = conjunction(filters).transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let key = upper.keys.get(column.index()).copied().flatten();
            let key = key.ok_or_else(|| internal_datafusion_err!("a filter by what is no key: {column}"))?;
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), key)) as Arc<dyn PhysicalExpr>))
        })?;
        Ok(Only(over_state.data))
    }

    pub(super) fn weighed(&self, part: Weighed) -> Weighed {
        let of_row = part.bytes / part.batch.num_rows().max(1);
        let batch = self.rows(part.batch);
        Weighed { bytes: of_row * batch.num_rows(), batch, ..part }
    }

    /// A filter that fails is left to whoever asked: it may look at fewer rows.
    fn rows(&self, batch: RecordBatch) -> RecordBatch {
        let passed = || {
            let passes = self.0.evaluate(&batch)?.into_array(batch.num_rows())?;
            let passes = passes.as_boolean_opt().ok_or_else(|| internal_datafusion_err!("no filter"))?;
            Ok::<_, datafusion::error::DataFusionError>(filter_record_batch(&batch, passes)?)
        };
        passed().unwrap_or(batch)
    }
}
