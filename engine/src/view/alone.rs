//! Groups of which one part has all there is. Nothing is merged for them, so they need no table of groups to be finished: each
//! partial row becomes a row, in its place. Of a large state few groups have something newer, and merging all for their sake
//! was most of what a live read or a close cost.
//!
//! A part of groups has one row of each (`Part`), so all rows of the largest part are alone but for those that others have
//! something of, which their hashes tell: where two groups hash alike, both are merged, and nothing is lost but time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};

use crate::view::pieces::{Weighed, hashes_of};
use crate::view::tally::as_aggregate;

/// Hashing is worth it where others have no more than one row for so many.
const ROWS_FOR_ONE: usize = 2;
/// What operators above expect at a time.
const ROWS_AT_ONCE: usize = 8 << 10;

/// Rows of groups that are alone.
pub struct Alone {
    batch: RecordBatch,
    /// `None` where all of them are.
    rows: Option<BooleanArray>,
    bytes: usize,
}

/// Those of `parts` that are alone, and the others. `keys` columns tell groups apart.
pub fn parted(keys: usize, parts: Vec<Weighed>) -> crate::Result<(Vec<Alone>, Vec<Weighed>)> {
    let (largest, others): (Vec<_>, Vec<_>) = {
        let chosen = largest(&parts);
        parts.into_iter().partition(|part| part.of_part.is_some_and(|part| chosen.contains(&part)))
    };
    let rows = |parts: &[Weighed]| parts.iter().map(|part| part.batch.num_rows()).sum::<usize>();
    if rows(&others) * ROWS_FOR_ONE > rows(&largest) {
        return Ok((vec![], largest.into_iter().chain(others).collect()));
    }
    let mut merged = others;
    let known = Hashes::of(keys, &merged)?;
    let mut alone = vec![];
    for Weighed { batch, bytes, share, of_part } in largest {
        if known.is_empty() {
            alone.push(Alone { batch, rows: None, bytes });
            continue;
        }
        let shared: BooleanArray =
            hashes_of(keys, &batch)?.into_iter().map(|hash| Some(known.contains(hash))).collect();
        let count = shared.true_count();
        if count > 0 {
            let bytes = bytes / batch.num_rows().max(1) * count;
            merged.push(Weighed { batch: filter_record_batch(&batch, &shared)?, bytes, share, of_part });
        }
        let rows = if count > 0 { Some(not(&shared)?) } else { None };
        alone.push(Alone { batch, rows, bytes });
    }
    Ok((alone, merged))
}

/// The parts, or shares of one, that have most of the rows, and no group in common.
fn largest(parts: &[Weighed]) -> Vec<u32> {
    let mut rows: BTreeMap<u32, (usize, &Weighed)> = BTreeMap::new();
    for part in parts {
        let Some(number) = part.of_part else { continue };
        rows.entry(number).or_insert((0, part)).0 += part.batch.num_rows();
    }
    let Some((_, (_, first))) = rows.iter().max_by_key(|(_, (rows, _))| *rows) else { return vec![] };
    // One of each share: others of it are of other runs.
    let mut of_share = BTreeMap::new();
    for (number, (rows, part)) in rows.iter().filter(|(_, (_, part))| part.share.is_beside(first.share)) {
        let best = of_share.entry(part.share).or_insert((*rows, *number));
        *best = (*best).max((*rows, *number));
    }
    of_share.into_values().map(|(_, number)| number).collect()
}

impl Alone {
    /// Some after the others, each of about so many bytes.
    pub fn in_pieces(self, bytes: usize) -> impl Iterator<Item = crate::Result<RecordBatch>> {
        let all = self.batch.num_rows();
        let pieces = self.bytes.div_ceil(bytes.max(1)).max(1);
        let rows = all.div_ceil(pieces).max(1);
        (0..all).step_by(rows).map(move |first| {
            let rows = rows.min(all - first);
            let batch = self.batch.slice(first, rows);
            match &self.rows {
                None => Ok(batch),
                Some(chosen) => Ok(filter_record_batch(&batch, &chosen.slice(first, rows))?),
            }
        })
    }
}

/// Hashes of some groups, most of which are not asked for.
struct Hashes {
    /// Ascending.
    all: Vec<u64>,
    /// A bit for each, by its highest bits.
    likely: Vec<u64>,
    shift: u32,
}

impl Hashes {
    fn of(keys: usize, parts: &[Weighed]) -> crate::Result<Hashes> {
        let mut all = vec![];
        for part in parts {
            all.extend(hashes_of(keys, &part.batch)?);
        }
        all.sort_unstable();
        // Sixteen bits for each.
        let bits = (all.len() * 16).next_power_of_two().max(64);
        let shift = u64::BITS - bits.trailing_zeros();
        let mut likely = vec![0; bits / 64];
        for hash in &all {
            likely[(hash >> shift >> 6) as usize] |= 1 << ((hash >> shift) & 63);
        }
        Ok(Hashes { all, likely, shift })
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn contains(&self, hash: u64) -> bool {
        let bit = hash >> self.shift;
        self.likely[(bit >> 6) as usize] & (1 << (bit & 63)) != 0 && self.all.binary_search(&hash).is_ok()
    }
}

/// The same plan for groups that are alone.
pub fn each(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let of_node = |node: Arc<dyn ExecutionPlan>| {
        let Some(last) = as_aggregate(&node).filter(|last| *last.mode() == AggregateMode::Final) else {
            return Ok(Transformed::no(node));
        };
        let each: Arc<dyn ExecutionPlan> = Arc::new(EachExec::instead_of(last));
        Ok(Transformed::yes(each))
    };
    Arc::clone(plan).transform_up(of_node).data()
}

/// Finishes partial rows each by itself, where an aggregate would merge them before.
#[derive(Debug, Clone)]
struct EachExec {
    input: Arc<dyn ExecutionPlan>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// Columns that tell groups apart, before those of the states.
    keys: usize,
    properties: Arc<PlanProperties>,
}

impl EachExec {
    fn instead_of(last: &AggregateExec) -> EachExec {
        EachExec {
            input: Arc::clone(last.input()),
            aggregates: last.aggr_expr().to_vec(),
            keys: last.group_expr().expr().len(),
            properties: Arc::clone(last.properties()),
        }
    }
}

fn finished(exec: &EachExec, states: &RecordBatch) -> Result<RecordBatch> {
    let groups: Vec<usize> = (0..states.num_rows()).collect();
    let mut columns = states.columns()[..exec.keys].to_vec();
    let mut next = exec.keys;
    for aggregate in &exec.aggregates {
        let width = aggregate.state_fields()?.len();
        let mut accumulator = accumulator(aggregate)?;
        accumulator.merge_batch(&states.columns()[next..next + width], &groups, groups.len())?;
        columns.push(accumulator.evaluate(EmitTo::All)?);
        next += width;
    }
    Ok(RecordBatch::try_new(exec.schema(), columns)?)
}

fn accumulator(aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if aggregate.groups_accumulator_supported() {
        return aggregate.create_groups_accumulator();
    }
    let aggregate = Arc::clone(aggregate);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}

impl DisplayAs for EachExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EachExec")
    }
}

impl ExecutionPlan for EachExec {
    fn name(&self) -> &'static str {
        "EachExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(EachExec { input: children.swap_remove(0), ..EachExec::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(EachExec { input: children.swap_remove(0), ..EachExec::clone(&self) }))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let own = self.clone();
        let slices = |batch: Result<RecordBatch>| {
            let slices = match batch {
                Err(error) => vec![Err(error)],
                Ok(batch) => (0..batch.num_rows())
                    .step_by(ROWS_AT_ONCE)
                    .map(|first| Ok(batch.slice(first, ROWS_AT_ONCE.min(batch.num_rows() - first))))
                    .collect(),
            };
            stream::iter(slices)
        };
        let rows = self.input.execute(partition, context)?.flat_map(slices);
        let rows = rows.map(move |states| finished(&own, &states?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::view::pieces::Share;

    fn part(number: u32, keys: impl IntoIterator<Item = i64>) -> Weighed {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
        Weighed { bytes: 8 * batch.num_rows(), batch, share: Share::ALL, of_part: Some(number) }
    }

    fn keys<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<i64> {
        let of_batch = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        let mut keys: Vec<i64> = batches.into_iter().flat_map(of_batch).collect();
        keys.sort();
        keys
    }

    fn told(parts: Vec<Weighed>) -> (Vec<i64>, Vec<i64>) {
        let (alone, merged) = parted(1, parts).unwrap();
        let pieces: Vec<RecordBatch> =
            alone.into_iter().flat_map(|alone| alone.in_pieces(512)).map(Result::unwrap).collect();
        assert!(pieces.iter().all(|piece| piece.num_rows() <= 64));
        (keys(&pieces), keys(merged.iter().map(|part| &part.batch)))
    }

    #[test]
    fn what_others_have_a_row_of_is_merged_with_it() {
        let (alone, merged) = told(vec![part(1, [3, 500, 2_000]), part(0, 0..1_000), part(2, [500])]);
        assert_eq!(alone, (0..1_000).filter(|key| ![3, 500].contains(key)).collect::<Vec<_>>());
        assert_eq!(merged, [3, 3, 500, 500, 500, 2_000]);
    }

    #[test]
    fn pieces_of_one_part_have_no_group_in_common() {
        assert_eq!(told(vec![part(0, 0..10), part(0, 10..20)]), ((0..20).collect(), vec![]));
    }

    #[test]
    fn where_parts_are_about_equal_all_is_merged() {
        let (alone, merged) = told(vec![part(0, 0..10), part(1, 5..15)]);
        assert_eq!((alone.len(), merged.len()), (0, 20));
        // Nobody knows whether these are of one part.
        let unknown = |keys| Weighed { of_part: None, ..part(0, keys) };
        assert_eq!(told(vec![unknown(0..10)]), (vec![], (0..10).collect()));
    }
}
