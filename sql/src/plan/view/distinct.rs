//! Splits an aggregate over the stream into cuts. `count(DISTINCT user_id)` beside other aggregates would keep one list
//! per group, forty times slower than the flat rows `(keys, user_id)` that it is alone; so each DISTINCT argument is cut
//! for itself, and the results are joined on the keys.
//!
//! Every cut has exactly the same groups: a FILTER becomes a CASE inside the argument, since NULL counts for nothing.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, NullEquality, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, JoinType, LogicalPlan, LogicalPlanBuilder, SortExpr, col, when,
};
use thalweg_engine::view::StateScan;

use crate::plan::window::canonical_float;

const DISTINCT_ARGUMENT: &str = "__distinct";

/// The aggregates to run over the stream, and what stands for the original in the upper half, with the same columns.
pub(super) struct Split {
    pub cuts: Vec<Aggregate>,
    pub upper: LogicalPlan,
}

/// Its cuts are numbered from `first` on.
pub(super) fn split(aggregate: &Aggregate, first: usize) -> Result<Split> {
    let aggregate = canonical(aggregate)?;
    let groups = groups(&aggregate);
    if groups.iter().all(|group| group.argument.is_none()) {
        let upper = state_scan(first, &aggregate);
        return Ok(Split { cuts: vec![aggregate], upper });
    }
    let keys = aggregate.group_expr.len();
    let mut cuts = vec![];
    let mut upper: Option<LogicalPlanBuilder> = None;
    for group in &groups {
        let part = group.plan(&aggregate, first + cuts.len())?;
        cuts.push(part.cut);
        upper = Some(match upper {
            None => LogicalPlanBuilder::from(part.upper),
            Some(left) => {
                let names = |cut| {
                    (0..keys).map(|key| Column::new_unqualified(key_name(cut, key))).collect::<Vec<_>>()
                };
                let on = (names(first), names(first + cuts.len() - 1));
                left.join_detailed(part.upper, JoinType::Inner, on, None, NullEquality::NullEqualsNull)?
            }
        });
    }
    let columns = (0..aggregate.schema.fields().len()).map(|index| {
        let (qualifier, field) = aggregate.schema.qualified_field(index);
        let name = if index < keys { key_name(first, index) } else { value_name(index - keys) };
        col(Column::new_unqualified(name)).alias_qualified(qualifier.cloned(), field.name())
    });
    let columns: Vec<_> = columns.collect();
    let upper = match upper {
        Some(joined) => joined.project(columns)?.build()?,
        None => state_scan(first, &aggregate),
    };
    Ok(Split { cuts, upper })
}

fn key_name(cut: usize, key: usize) -> String {
    format!("__key_{cut}_{key}")
}

fn value_name(aggregate: usize) -> String {
    format!("__value_{aggregate}")
}

fn state_scan(cut: usize, aggregate: &Aggregate) -> LogicalPlan {
    let node = StateScan { cut, schema: Arc::clone(&aggregate.schema) };
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

/// The aggregates that share a cut: all plain ones, or those of one DISTINCT argument.
struct Group {
    argument: Option<Expr>,
    /// Positions among the aggregate's expressions.
    members: Vec<usize>,
}

struct Part {
    cut: Aggregate,
    /// Keys and values under the names that the join knows.
    upper: LogicalPlan,
}

fn groups(aggregate: &Aggregate) -> Vec<Group> {
    let rolled_up = matches!(aggregate.group_expr.first(), Some(Expr::GroupingSet(_)));
    let mut groups: Vec<Group> = vec![];
    for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
        let argument = if rolled_up { None } else { distinct_argument(expr) };
        match groups.iter_mut().find(|group| group.argument == argument) {
            Some(group) => group.members.push(index),
            None => groups.push(Group { argument, members: vec![index] }),
        }
    }
    if groups.is_empty() {
        groups.push(Group { argument: None, members: vec![] });
    }
    // The plain ones are cut 0.
    groups.sort_by_key(|group| group.argument.is_some());
    groups
}

fn function_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) => Some(function),
        Expr::Alias(alias) => function_of(&alias.expr),
        _ => None,
    }
}

/// What such an aggregate counts once, if it is one for which NULL counts for nothing.
fn distinct_argument(expr: &Expr) -> Option<Expr> {
    let AggregateFunction { func, params } = function_of(expr)?;
    let splits = matches!(func.name(), "count" | "sum" | "avg" | "min" | "max");
    let [argument] = params.args.as_slice() else { return None };
    if !params.distinct || !splits || !params.order_by.is_empty() {
        return None;
    }
    match &params.filter {
        // CASE WHEN p THEN x END; the builder of a CASE with one branch has nothing to refuse.
        Some(filter) => when(filter.as_ref().clone(), argument.clone()).end().ok(),
        None => Some(argument.clone()),
    }
}

impl Group {
    fn plan(&self, aggregate: &Aggregate, cut: usize) -> Result<Part> {
        match &self.argument {
            None => self.plain(aggregate, cut),
            Some(argument) => self.distinct(aggregate, argument, cut),
        }
    }

    fn plain(&self, aggregate: &Aggregate, cut: usize) -> Result<Part> {
        let values = self.members.iter().map(|member| aggregate.aggr_expr[*member].clone()).collect();
        let plain = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), values)?;
        let upper = self.renamed(state_scan(cut, &plain), aggregate.group_expr.len(), cut)?;
        Ok(Part { cut: plain, upper })
    }

    /// Flat rows `(keys, argument)` below the cut; above it, the functions over them.
    fn distinct(&self, aggregate: &Aggregate, argument: &Expr, cut: usize) -> Result<Part> {
        let keys = aggregate.group_expr.len();
        let argument = canonical_key(argument.clone(), aggregate.input.schema())?;
        let flat = aggregate.group_expr.iter().cloned().chain([argument.alias(DISTINCT_ARGUMENT)]);
        let flat = Aggregate::try_new(Arc::clone(&aggregate.input), flat.collect(), vec![])?;
        let key_columns = flat.schema.columns().into_iter().take(keys).map(Expr::Column).collect::<Vec<_>>();
        let values = self.members.iter().filter_map(|member| function_of(&aggregate.aggr_expr[*member]));
        let values = values.enumerate().map(|(index, function)| {
            let over = vec![col(DISTINCT_ARGUMENT)];
            let no_order: Vec<SortExpr> = vec![];
            let value = AggregateFunction::new_udf(
                Arc::clone(&function.func),
                over,
                false,
                None,
                no_order,
                function.params.null_treatment,
            );
            // Two of one function, such as with other FILTERs, keep apart.
            Expr::AggregateFunction(value).alias(format!("__of_{index}"))
        });
        let upper = LogicalPlanBuilder::from(state_scan(cut, &flat))
            .aggregate(key_columns, values.collect::<Vec<_>>())?;
        let upper = self.renamed(upper.build()?, keys, cut)?;
        Ok(Part { cut: flat, upper })
    }

    fn renamed(&self, plan: LogicalPlan, keys: usize, cut: usize) -> Result<LogicalPlan> {
        let columns = plan.schema().columns().into_iter().enumerate().map(|(index, column)| {
            let name = match index.checked_sub(keys) {
                None => key_name(cut, index),
                Some(value) => value_name(self.members[value]),
            };
            Expr::Column(column).alias(name)
        });
        let columns: Vec<_> = columns.collect();
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }
}

/// The aggregate with floats of one zero and one NaN as keys, under the same names.
fn canonical(aggregate: &Aggregate) -> Result<Aggregate> {
    if matches!(aggregate.group_expr.first(), Some(Expr::GroupingSet(_))) {
        return canonical_below(aggregate);
    }
    let schema = aggregate.input.schema();
    let keys = aggregate.group_expr.iter().map(|key| canonical_key(key.clone(), schema));
    Aggregate::try_new(
        Arc::clone(&aggregate.input),
        keys.collect::<Result<_>>()?,
        aggregate.aggr_expr.clone(),
    )
}

fn canonical_key(key: Expr, schema: &DFSchema) -> Result<Expr> {
    use datafusion::logical_expr::ExprSchemable;
    if !key.get_type(schema)?.is_floating() {
        return Ok(key);
    }
    let (qualifier, name) = key.qualified_name();
    Ok(canonical_float(key).alias_qualified(qualifier, name))
}

/// Inside grouping sets a key is named more than once, so the column itself is made canonical below.
fn canonical_below(aggregate: &Aggregate) -> Result<Aggregate> {
    let columns = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let columns =
        columns.map(|column| canonical_key(column, aggregate.input.schema())).collect::<Result<Vec<_>>>()?;
    if columns.iter().all(|column| matches!(column, Expr::Column(_))) {
        return Ok(aggregate.clone());
    }
    let input = LogicalPlanBuilder::from(Arc::clone(&aggregate.input)).project(columns)?.build()?;
    Aggregate::try_new(Arc::new(input), aggregate.group_expr.clone(), aggregate.aggr_expr.clone())
}
