//! All that a view has closed up to a barrier: what a view over it begins with.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;

use crate::Result;
use crate::ids::Micros;
use crate::job::fed::Fed;
use crate::sink::{ClosedRows, HistoryFiles};
use crate::spec::ViewSpec;

pub struct Closings {
    /// Of the view that is born.
    pub leg: usize,
    pub view: Arc<ViewSpec>,
    pub tail: Arc<Vec<ClosedRows>>,
    pub history: Arc<HistoryFiles>,
    /// Windows of the reader that start up to here may lack rows.
    pub born_after: Option<Micros>,
    /// Windows of the reader that start up to here lack what has closed so far.
    pub closed_before: Option<Micros>,
}

impl Closings {
    pub async fn feed(&self, fed: Result<Fed>) -> Result<Fed> {
        let mut fed = fed?;
        fed.add(self.leg, self.rows().await?);
        Ok(fed)
    }

    async fn rows(&self) -> Result<Vec<RecordBatch>> {
        let mut rows = vec![];
        for file in self.history.files.iter() {
            for batch in self.history.read(file).await? {
                rows.push(self.as_view(&batch)?);
            }
        }
        rows.extend(self.tail.iter().map(|closed| closed.rows.clone()));
        Ok(rows)
    }

    /// The lake has other types for some columns.
    fn as_view(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.view.schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        Ok(RecordBatch::try_new(Arc::clone(&self.view.schema), columns.collect::<Result<_, _>>()?)?)
    }
}
