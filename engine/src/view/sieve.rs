//! Finds rows that a lower half fails over by asking its expressions one by one. Running the whole plan for each suspect
//! costs ten times as much, and a careless view may fail over every second row.
//!
//! Knows the plain operators of a lower half. Above one that it does not know it stops looking: the rows that it names do
//! fail, but there may be others.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take_record_batch};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CaseExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::lookup::LookupExec;
use crate::view::compact::alone;
use crate::view::fault::Fault;
use crate::view::leaf::LeafExec;
use crate::view::tally::{as_aggregate, is_tally};

/// Why rows fail, by row.
pub type Faults = BTreeMap<u32, Fault>;

/// Rows that an operator puts out, each with the row of the micro-batch that it comes from.
struct Rows {
    batch: RecordBatch,
    origin: UInt32Array,
}

/// Adds some of the rows that the plan fails over, mostly all, to those that are known already.
pub fn sift(plan: &Arc<dyn ExecutionPlan>, batch: &RecordBatch, faults: &mut Faults) {
    // What goes wrong over all rows together, and over none alone, is nothing to find here.
    let _ = catch_unwind(AssertUnwindSafe(|| rows_of(plan, batch, faults)));
}

/// What an operator puts out, unless it is one that is not known here.
fn rows_of(plan: &Arc<dyn ExecutionPlan>, batch: &RecordBatch, faults: &mut Faults) -> Result<Option<Rows>> {
    let node = plan.as_ref() as &dyn std::any::Any;
    if let Some(leaf) = node.downcast_ref::<LeafExec>() {
        let origin = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
        return Ok(Some(Rows { batch: leaf.columns_of(batch)?, origin }));
    }
    let [input] = plan.children()[..] else { return Ok(None) };
    let Some(rows) = rows_of(input, batch, faults)? else { return Ok(None) };
    if is_tally(plan) || node.is::<CooperativeExec>() {
        return Ok(Some(rows));
    }
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let rows = rows.that_stand([filter.predicate()], faults)?;
        let kept = filter.predicate().evaluate(&rows.batch)?.into_array(rows.batch.num_rows())?;
        let rows = rows.filtered(kept.as_boolean())?;
        let batch = match filter.projection() {
            Some(columns) => rows.batch.project(columns)?,
            None => rows.batch,
        };
        return Ok(Some(Rows { batch, ..rows }));
    }
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let expressions = || projection.expr().iter().map(|column| &column.expr);
        let rows = rows.that_stand(expressions(), faults)?;
        let count = rows.batch.num_rows();
        let columns = expressions().map(|expression| expression.evaluate(&rows.batch)?.into_array(count));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(
            projection.schema(),
            columns.collect::<Result<_>>()?,
            &options,
        )?;
        return Ok(Some(Rows { batch, ..rows }));
    }
    if let Some(lookup) = node.downcast_ref::<LookupExec>() {
        let rows = rows.that_stand(lookup.keys(), faults)?;
        return Ok(Some(Rows { batch: lookup.look_up(&rows.batch)?, ..rows }));
    }
    // An aggregate with keys evaluates its arguments for all rows, those that its FILTER leaves out among them.
    if let Some(aggregate) = as_aggregate(plan).filter(|aggregate| !aggregate.group_expr().is_empty()) {
        let keys = aggregate.group_expr().expr().iter().map(|(key, _)| Arc::clone(key));
        let arguments = aggregate.aggr_expr().iter().flat_map(|aggregate| aggregate.expressions());
        let filters = aggregate.filter_expr().iter().flatten().cloned();
        let expressions: Vec<_> = keys.chain(arguments).chain(filters).collect();
        rows.that_stand(&expressions, faults)?;
    }
    Ok(None)
}

impl Rows {
    /// The rows that no expression fails over; why the others are not among them goes to `faults`.
    fn that_stand<'a>(
        self,
        expressions: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
        faults: &mut Faults,
    ) -> Result<Rows> {
        let mut stand = vec![true; self.batch.num_rows()];
        for expression in expressions {
            for (row, fault) in failing(expression, &self.batch) {
                stand[row] = false;
                faults.entry(self.origin.value(row)).or_insert(fault);
            }
        }
        match stand.contains(&false) {
            true => self.filtered(&stand.into()),
            false => Ok(self),
        }
    }

    fn filtered(&self, kept: &BooleanArray) -> Result<Rows> {
        let kept = if kept.null_count() > 0 { prep_null_mask_filter(kept) } else { kept.clone() };
        let origin = arrow::compute::filter(&self.origin, &kept)?;
        let batch = filter_record_batch(&self.batch, &kept)?;
        Ok(Rows { batch, origin: origin.as_primitive().clone() })
    }
}

/// The rows that an expression fails over, each alone.
fn failing(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Vec<(usize, Fault)> {
    let mut failing = vec![];
    let fault = |first: usize, rows: usize| {
        let evaluate = || expression.evaluate(&alone(batch, first, rows)?);
        match catch_unwind(AssertUnwindSafe(evaluate)) {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Fault::of_expression(&error)),
            Err(panic) => Some(Fault::of_panic(&*panic)),
        }
    };
    if fault(0, batch.num_rows()).is_none() {
        return failing;
    }
    let mut gallop = Gallop::over(batch.num_rows());
    while let Some((first, rows)) = gallop.next() {
        match fault(first, rows) {
            None => gallop.succeeded(),
            Some(fault) => failing.extend(gallop.failed().map(|row| {
                let culprit = alone(batch, row, 1).map(|row| culprit(expression, &row));
                (row, fault.at(culprit.unwrap_or(expression)))
            })),
        }
    }
    failing
}

/// The innermost expression that fails over a row. Which branch of a CASE it took is not asked.
fn culprit<'a>(expression: &'a Arc<dyn PhysicalExpr>, row: &RecordBatch) -> &'a Arc<dyn PhysicalExpr> {
    let stands = |expression: &Arc<dyn PhysicalExpr>| {
        catch_unwind(AssertUnwindSafe(|| expression.evaluate(row).is_ok())).unwrap_or(false)
    };
    let is_case = (expression.as_ref() as &dyn std::any::Any).is::<CaseExpr>();
    match expression.children().into_iter().find(|child| !is_case && !stands(child)) {
        Some(child) => culprit(child, row),
        None => expression,
    }
}

/// Ranges of rows to try, one behind the other: shorter ones where one fails, longer ones where one succeeds.
pub struct Gallop {
    first: usize,
    rows: usize,
    end: usize,
}

impl Gallop {
    pub fn over(rows: usize) -> Gallop {
        Gallop { first: 0, rows, end: rows }
    }

    /// First row and number of the rows to try.
    pub fn next(&self) -> Option<(usize, usize)> {
        let rows = self.rows.min(self.end - self.first);
        (rows > 0).then_some((self.first, rows))
    }

    pub fn succeeded(&mut self) {
        if let Some((first, rows)) = self.next() {
            (self.first, self.rows) = (first + rows, rows * 2);
        }
    }

    /// The row, if it failed alone.
    pub fn failed(&mut self) -> Option<usize> {
        match self.next()? {
            (first, 1) => {
                (self.first, self.rows) = (first + 1, 1);
                Some(first)
            }
            (_, rows) => {
                self.rows = rows / 2;
                None
            }
        }
    }
}

/// The rows of a batch that are not among `faults`, and which they are.
pub fn without(batch: &RecordBatch, faults: &Faults) -> Result<(RecordBatch, UInt32Array)> {
    let rows = (0..batch.num_rows() as u32).filter(|row| !faults.contains_key(row));
    let rows = UInt32Array::from_iter_values(rows);
    Ok((take_record_batch(batch, &rows)?, rows))
}
