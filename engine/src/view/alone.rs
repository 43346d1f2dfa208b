//! Groups of which there is but one partial row. Nothing is merged for them, so they need no table of groups to be finished: each
//! becomes a row where it stands. Of a large state few groups have something newer, and putting all in a table for their sake
//! was most of what a live read, or a close, cost.
//!
//! Which they are is told by hashes of their keys: one that no other row has is of a group that no other row is of. Where two
//! groups look alike, both are merged, and nothing is lost but time (INV-34).

use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, not};
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

use crate::Result;
use crate::view::pieces::{Weighed, hashes_of};
use crate::view::running::Room;
use crate::view::tally::as_aggregate;

/// In each of two maps, and up to twice as many.
const BITS_OF_ROW: usize = 32;
/// What finding out takes for a row at most: its hash, and those bits.
const BYTES_OF_ROW: usize = 8 + 2 * 2 * BITS_OF_ROW / 8;
/// It is worth it where of so many rows one at least is alone.
const ROWS_FOR_ONE: usize = 4;
/// What operators above expect at a time.
const ROWS_AT_ONCE: usize = 8 << 10;

/// Rows of groups that are alone.
pub struct Alone {
    batch: RecordBatch,
    rows: BooleanArray,
    bytes: usize,
}

/// Those of `parts` that are alone, and the others. `keys` columns tell groups apart.
pub fn parted(keys: usize, parts: Vec<Weighed>, room: &Room) -> Result<(Vec<Alone>, Vec<Weighed>)> {
    let rows: usize = parts.iter().map(|part| part.batch.num_rows()).sum();
    let needed = rows * BYTES_OF_ROW;
    if rows < room.few_rows || needed > room.alone_bytes {
        return Ok((vec![], parts));
    }
    let Ok(_held) = room.hold(needed) else { return Ok((vec![], parts)) };
    let hashes = parts.iter().map(|part| hashes_of(keys, &part.batch)).collect::<Result<Vec<_>>>()?;
    let mut once = Once::of_about(rows);
    hashes.iter().flatten().for_each(|hash| once.add(*hash));
    if once.seen_again * ROWS_FOR_ONE > rows * (ROWS_FOR_ONE - 1) {
        return Ok((vec![], parts));
    }
    let (mut alone, mut merged) = (vec![], vec![]);
    for (part, hashes) in parts.into_iter().zip(hashes) {
        let Weighed { batch, bytes, share } = part;
        let rows: BooleanArray = hashes.iter().map(|hash| Some(once.has(*hash))).collect();
        let others = batch.num_rows() - rows.true_count();
        if others > 0 {
            let bytes = bytes / batch.num_rows() * others;
            merged.push(Weighed { batch: filter_record_batch(&batch, &not(&rows)?)?, bytes, share });
        }
        alone.push(Alone { batch, rows, bytes });
    }
    Ok((alone, merged))
}

impl Alone {
    /// Some after the others, each of about so many bytes.
    pub fn in_pieces(self, bytes: usize) -> impl Iterator<Item = Result<RecordBatch>> {
        let all = self.batch.num_rows();
        let pieces = self.bytes.div_ceil(bytes.max(1)).max(1);
        let rows = all.div_ceil(pieces).max(1);
        (0..all).step_by(rows).map(move |first| {
            let rows = rows.min(all - first);
            let (batch, chosen) = (self.batch.slice(first, rows), self.rows.slice(first, rows));
            Ok(if chosen.true_count() == rows { batch } else { filter_record_batch(&batch, &chosen)? })
        })
    }
}

/// Hashes that were added once, all of which it has but for some that look like others.
struct Once {
    seen: Vec<u64>,
    again: Vec<u64>,
    shift: u32,
    seen_again: usize,
}

impl Once {
    fn of_about(count: usize) -> Once {
        let bits = (count * BITS_OF_ROW).next_power_of_two().max(u64::BITS as usize);
        let map = vec![0; bits / 64];
        Once { seen: map.clone(), again: map, shift: u64::BITS - bits.trailing_zeros(), seen_again: 0 }
    }

    fn bit(&self, hash: u64) -> (usize, u64) {
        let bit = hash >> self.shift;
        ((bit >> 6) as usize, 1 << (bit & 63))
    }

    fn add(&mut self, hash: u64) {
        let (word, bit) = self.bit(hash);
        if self.seen[word] & bit != 0 {
            self.again[word] |= bit;
            self.seen_again += 1;
        }
        self.seen[word] |= bit;
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = self.bit(hash);
        self.again[word] & bit == 0
    }
}

/// The same plan for groups that are alone.
pub fn each(plan: &Arc<dyn ExecutionPlan>) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
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

fn finished(exec: &EachExec, states: &RecordBatch) -> datafusion::common::Result<RecordBatch> {
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

fn accumulator(
    aggregate: &Arc<AggregateFunctionExpr>,
) -> datafusion::common::Result<Box<dyn GroupsAccumulator>> {
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
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(EachExec { input: children.swap_remove(0), ..EachExec::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(EachExec { input: children.swap_remove(0), ..EachExec::clone(&self) }))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> datafusion::common::Result<TreeNodeRecursion>,
    ) -> datafusion::common::Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> datafusion::common::Result<SendableRecordBatchStream> {
        let own = self.clone();
        let slices = |batch: datafusion::common::Result<RecordBatch>| {
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
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;
    use crate::view::pieces::Share;

    const ALL: i64 = 40_000;

    fn part(keys: impl IntoIterator<Item = i64>) -> Weighed {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
        Weighed { bytes: 8 * batch.num_rows(), batch, share: Share::ALL }
    }

    fn keys<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<i64> {
        let of_batch = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        let mut keys: Vec<i64> = batches.into_iter().flat_map(of_batch).collect();
        keys.sort();
        keys
    }

    fn told(parts: Vec<Weighed>, room: &Room) -> [Vec<i64>; 2] {
        let (alone, merged) = parted(1, parts, room).unwrap();
        let pieces: Vec<RecordBatch> =
            alone.into_iter().flat_map(|alone| alone.in_pieces(512)).map(Result::unwrap).collect();
        assert!(pieces.iter().all(|piece| piece.num_rows() <= 64));
        [keys(&pieces), keys(merged.iter().map(|part| &part.batch))]
    }

    #[test]
    fn what_there_are_several_rows_of_is_merged() {
        let newer = [3, 500, 500, ALL + 1, 7];
        let parts = vec![part(newer), part(0..ALL / 2), part(ALL / 2..ALL), part([7])];
        let [alone, merged] = told(parts, &Room::unbounded());
        let several = [3, 3, 7, 7, 7, 500, 500, 500];
        assert!(several.iter().all(|key| alone.binary_search(key).is_err()));
        let of_several: Vec<i64> = merged.iter().copied().filter(|key| several.contains(key)).collect();
        assert_eq!(of_several, several);
        // Some others look alike.
        let mut all = [alone.clone(), merged].concat();
        all.sort();
        let mut expected: Vec<i64> = (0..ALL).chain(newer).chain([7]).collect();
        expected.sort();
        assert_eq!(all, expected);
        assert!(alone.len() > ALL as usize / 10 * 9, "{} are alone", alone.len());
    }

    #[test]
    fn where_it_is_not_worth_it_all_is_merged() {
        let alone = |parts, room: &Room| told(parts, room)[0].len();
        assert_eq!(alone(vec![part(0..100)], &Room::unbounded()), 0, "few");
        assert_eq!(alone(vec![part(0..ALL), part(0..ALL)], &Room::unbounded()), 0, "each twice");
        let little = Room::of(Arc::new(GreedyMemoryPool::new(100_000)), usize::MAX);
        assert_eq!(alone(vec![part(0..ALL)], &little), 0, "no memory to find out");
        assert_eq!(little.hold(100_000).map(|held| held.size()).unwrap(), 100_000, "it was given back");
    }
}
