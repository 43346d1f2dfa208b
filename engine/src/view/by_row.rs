//! `AND` and `OR` row by row: the right side fails over no row that the left one has decided, as in
//! `n <> 0 AND 100 / n > 3`. DataFusion looks at the right side over a whole batch as soon as the left one leaves many of
//! its rows open.
//!
//! A rule of the physical optimizer, the last one, so that conditions are as they were for those before it; but those of
//! joins come first, or their pieces would be computed of each row of a side. Of an aggregate's arguments, and of what is
//! sorted by, it knows nothing.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::filters_first::filters_first;
use super::names_tell::names_tell;

pub type Rules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// The rules, as far as they are right, and those that have conditions be evaluated row by row, and before what stands above
/// them.
pub fn by_row_too(rules: Rules) -> Rules {
    let first: Rules = vec![Arc::new(ByRowRule::Joins)];
    first.into_iter().chain(names_tell(filters_first(rules))).chain([Arc::new(ByRowRule::All) as _]).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByRowRule {
    /// The conditions of joins without keys, of which no other rule is to take anything apart.
    Joins,
    /// Those of filters and of all joins, and computed columns.
    All,
}

impl PhysicalOptimizerRule for ByRowRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        match self {
            ByRowRule::Joins => plan.transform_up(whole_in_join).data(),
            ByRowRule::All => plan.transform_up(by_row_in).data(),
        }
    }

    fn name(&self) -> &str {
        match self {
            ByRowRule::Joins => "conditions_of_joins_by_row",
            ByRowRule::All => "conditions_by_row",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn whole_in_join(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let join = (plan.as_ref() as &dyn Any).downcast_ref::<NestedLoopJoinExec>();
    match join {
        Some(join) => Ok(match join_filter(join.filter(), Children::Columns)? {
            Some(filter) => {
                let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
                Transformed::yes(Arc::new(join))
            }
            None => Transformed::no(plan),
        }),
        None => Ok(Transformed::no(plan)),
    }
}

fn by_row_in(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let node = plan.as_ref() as &dyn Any;
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let predicate = by_row(filter.predicate(), Children::Sides)?;
        if predicate.transformed {
            let filter = FilterExecBuilder::from(filter).with_predicate(predicate.data).build()?;
            return Ok(Transformed::yes(Arc::new(filter)));
        }
    } else if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let columns = projection.expr().iter().map(|column| by_row(&column.expr, Children::Sides));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if columns.iter().any(|column| column.transformed) {
            let named = columns.into_iter().zip(projection.expr());
            let named = named.map(|(column, ProjectionExpr { alias, .. })| ProjectionExpr {
                expr: column.data,
                alias: alias.clone(),
            });
            let projection =
                ProjectionExec::try_new(named.collect::<Vec<_>>(), Arc::clone(projection.input()))?;
            return Ok(Transformed::yes(Arc::new(projection)));
        }
    } else if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join_filter(join.filter(), Children::Sides)?
    {
        return Ok(Transformed::yes(join.builder().with_filter(Some(filter)).build_exec()?));
    }
    Ok(Transformed::no(plan))
}

fn join_filter(filter: Option<&JoinFilter>, children: Children) -> Result<Option<JoinFilter>> {
    let Some(filter) = filter else { return Ok(None) };
    let expression = by_row(filter.expression(), children)?;
    let changed = || {
        let (columns, schema) = (filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        JoinFilter::new(expression.data, columns, schema)
    };
    Ok(expression.transformed.then(changed))
}

fn by_row(
    expression: &Arc<dyn PhysicalExpr>,
    children: Children,
) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Arc::clone(expression).transform_up(|each| match ByRow::of(&each, children)? {
        Some(by_row) => Ok(Transformed::yes(Arc::new(by_row) as Arc<dyn PhysicalExpr>)),
        None => Ok(Transformed::no(each)),
    })
}

/// What a condition shows of what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Children {
    Sides,
    /// Nothing but the columns, so that it stays whole.
    Columns,
}

/// An AND or an OR whose right side may fail.
#[derive(Debug)]
struct ByRow {
    condition: Arc<dyn PhysicalExpr>,
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    is_and: bool,
    /// What it is made of, to those that ask.
    children: Vec<Arc<dyn PhysicalExpr>>,
    kind: Children,
    /// Whether to try the right side over all rows first, which is mostly cheapest. Where there are more of its kind in it
    /// each would try twice, and those within them four times.
    tries: bool,
}

impl ByRow {
    fn of(condition: &Arc<dyn PhysicalExpr>, kind: Children) -> Result<Option<ByRow>> {
        let Some(binary) = (condition.as_ref() as &dyn Any).downcast_ref::<BinaryExpr>() else {
            return Ok(None);
        };
        let is_and = match binary.op() {
            Operator::And => true,
            Operator::Or => false,
            _ => return Ok(None),
        };
        let (mut fails, mut tries) = (false, true);
        binary.right().apply(|each| {
            let node = each.as_ref() as &dyn Any;
            tries &= !node.is::<ByRow>();
            fails |= may_fail(node);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let (left, right) = (Arc::clone(binary.left()), Arc::clone(binary.right()));
        let mut children = vec![];
        match kind {
            Children::Sides => children.extend([Arc::clone(&left), Arc::clone(&right)]),
            Children::Columns => {
                condition.apply(|each| {
                    if (each.as_ref() as &dyn Any).is::<Column>() && !children.contains(each) {
                        children.push(Arc::clone(each));
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
        }
        let condition = Arc::clone(condition);
        Ok(fails.then(|| ByRow { condition, left, right, is_and, children, kind, tries }))
    }

    /// Where that is more than a few of many rows, leaving the others out costs more than looking at them.
    fn is_many(open: usize, rows: usize) -> bool {
        open * 5 > rows
    }
}

/// Over some row; what it is made of not asked.
fn may_fail(node: &dyn Any) -> bool {
    match node.downcast_ref::<BinaryExpr>() {
        Some(binary) => {
            let compares = binary.op().supports_propagation();
            !compares && !matches!(binary.op(), Operator::And | Operator::Or)
        }
        None => {
            !(node.is::<Column>()
                || node.is::<Literal>()
                || node.is::<NotExpr>()
                || node.is::<IsNullExpr>()
                || node.is::<IsNotNullExpr>()
                || node.is::<InListExpr>()
                || node.is::<LikeExpr>()
                || node.is::<CaseExpr>())
        }
    }
}

impl PhysicalExpr for ByRow {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.condition.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?.into_array(rows)?;
        let Some(left) = left.as_boolean_opt() else {
            return internal_err!("a side of a condition is no BOOLEAN: {}", self.condition);
        };
        // FALSE decides an AND, and TRUE an OR.
        let open: BooleanArray = left.iter().map(|side| Some(side != Some(!self.is_and))).collect();
        let count = open.true_count();
        if count == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let whole = count == rows || (self.tries && ByRow::is_many(count, rows));
        let right = match whole.then(|| self.right.evaluate(batch)) {
            Some(Err(error)) if count == rows => return Err(error),
            Some(Ok(right)) => right,
            Some(Err(_)) | None => self.right.evaluate_selection(batch, &open)?,
        };
        let right = right.into_array(rows)?;
        let Some(right) = right.as_boolean_opt() else {
            return internal_err!("a side of a condition is no BOOLEAN: {}", self.condition);
        };
        let both = if self.is_and { and_kleene(left, right)? } else { or_kleene(left, right)? };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.children.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = match self.kind {
            Children::Sides => Arc::clone(&self.condition).with_new_children(children)?,
            Children::Columns => replaced(&self.condition, &self.children, &children)?,
        };
        Ok(match ByRow::of(&condition, self.kind)? {
            Some(by_row) => Arc::new(by_row),
            None => condition,
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

/// The condition over other columns.
fn replaced(
    condition: &Arc<dyn PhysicalExpr>,
    old: &[Arc<dyn PhysicalExpr>],
    new: &[Arc<dyn PhysicalExpr>],
) -> Result<Arc<dyn PhysicalExpr>> {
    // Conditions within show their columns too, and are asked before what is around them.
    let replaced = Arc::clone(condition).transform_down(|each| {
        match old.iter().position(|column| column.eq(&each)) {
            Some(index) => Ok(Transformed::new(Arc::clone(&new[index]), true, TreeNodeRecursion::Jump)),
            None => Ok(Transformed::no(each)),
        }
    })?;
    Ok(replaced.data)
}

/// It says the same as the condition, to people too.
impl fmt::Display for ByRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.condition, f)
    }
}

impl PartialEq for ByRow {
    fn eq(&self, other: &ByRow) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for ByRow {}

impl Hash for ByRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use datafusion::physical_expr::expressions::{binary, cast, col, is_null, lit, not};

    use super::*;

    fn batch() -> RecordBatch {
        let texts = ["1", "x", "3", "4", "x", "6", "7", "8"].map(Some).into_iter().chain([None]);
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        RecordBatch::try_from_iter_with_nullable([("t", texts, true)]).expect("it is a batch")
    }

    fn told(condition: &Arc<dyn PhysicalExpr>) -> Result<Vec<Option<bool>>> {
        let batch = batch();
        let array = condition.evaluate(&batch)?.into_array(batch.num_rows())?;
        Ok(array.as_boolean().iter().collect())
    }

    /// `t <> 'x'`, or `t = 'x'`, and that the number `t` is larger than four.
    fn sides(is_and: bool) -> (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>) {
        let schema = batch().schema();
        let text = || col("t", &schema).expect("it is a column");
        let operator = if is_and { Operator::NotEq } else { Operator::Eq };
        let guard = binary(text(), operator, lit("x"), &schema).expect("texts are compared");
        let number = cast(text(), &schema, DataType::Int64).expect("a text may be a number");
        (guard, binary(number, Operator::Gt, lit(4_i64), &schema).expect("numbers are compared"))
    }

    #[test]
    fn the_right_side_is_asked_of_the_rows_that_are_open() {
        for (is_and, kind) in [
            (true, Children::Sides),
            (true, Children::Columns),
            (false, Children::Sides),
            (false, Children::Columns),
        ] {
            let (guard, number) = sides(is_and);
            let operator = if is_and { Operator::And } else { Operator::Or };
            let schema = batch().schema();
            let condition = |left: &Arc<dyn PhysicalExpr>, right: &Arc<dyn PhysicalExpr>| {
                binary(Arc::clone(left), operator, Arc::clone(right), &schema).expect("both are BOOLEAN")
            };
            let plain = condition(&guard, &number);
            assert!(told(&plain).is_err(), "as a whole it fails");
            let guarded = by_row(&plain, kind).expect("it works").data;
            let expected = [false, !is_and, false, false, !is_and, true, true, true].map(Some);
            let expected: Vec<_> = expected.into_iter().chain([None]).collect();
            assert_eq!(told(&guarded).expect("no row that is open fails"), expected);
            // Within each other, on both sides.
            let nested = condition(&condition(&guard, &plain), &condition(&guard, &plain));
            let nested = by_row(&nested, kind).expect("it works").data;
            assert_eq!(told(&nested).expect("no row that is open fails"), expected);
            let turned = by_row(&condition(&number, &guard), kind).expect("it works").data;
            assert!(told(&turned).is_err(), "the left side is asked of all rows");
        }
    }

    #[test]
    fn what_cannot_fail_stays_as_it_is() {
        let schema = batch().schema();
        let text = || col("t", &schema).expect("it is a column");
        let (guard, number) = sides(true);
        let harmless = not(is_null(text()).expect("it works")).expect("it works");
        let plain =
            binary(number, Operator::And, binary(guard, Operator::Or, harmless, &schema).unwrap(), &schema);
        assert!(!by_row(&plain.unwrap(), Children::Sides).unwrap().transformed);
    }
}
