//! Arithmetic that is right or fails (INV-20). DataFusion adds integers around their end in silence, and sums too; here a
//! result that does not fit is an error, in queries and in both halves of views alike.
//!
//! A rule of the analyzer, after types have been made to fit. All keep the names that columns would have had:
//!
//! ```text
//! any_of       what is computed for each row is not taken for a constant of an IN list
//! arithmetic   operators on integers, decimals and lengths of time are functions of ours
//! days         days beside a DATE stay days
//! fields       fields of what is NULL are NULL
//! floats       what is computed of floats has one NaN and one zero, and min and max heed it
//! guarded      a condition that may fail stays behind those that guard it
//! length       intervals are compared by how long they are
//! moving       what of DOUBLE is over a frame that moves is not taken away again
//! ordered      what has no order is not compared
//! own          of a list nothing is cast but its elements
//! sum          sums are added in a wider type
//! ```

mod any_of;
mod arithmetic;
mod days;
mod fields;
mod floats;
mod guarded;
mod length;
mod moving;
mod ordered;
mod own;
mod sum;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, ScalarUDF, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;

use self::arithmetic::{Arithmetic, Operation};
use self::length::{is_interval, length};
use self::own::own;

#[derive(Debug)]
pub(crate) struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(checked_node)?.data)
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}

/// Whether states of today's plan can be made of those of the plan without checks: a sum's is wider now, the rest alike.
pub(super) fn widens(without: &Schema, with: &Schema) -> bool {
    let same = |one: &DataType, other: &DataType| one == other || sum::wider(one).as_ref() == Some(other);
    without.fields().len() == with.fields().len()
        && without.fields().iter().zip(with.fields()).all(|(one, other)| {
            one.is_nullable() == other.is_nullable() && same(one.data_type(), other.data_type())
        })
}

fn checked_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        let source = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        schema.merge(&source);
    }
    ordered::check_distinct(&plan, &schema)?;
    let names = NamePreserver::new(&plan);
    let is_condition = matches!(plan, LogicalPlan::Filter(_) | LogicalPlan::Join(_));
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let checked = expr.transform_up(|each| checked_expr(each, &schema))?;
        // The keys of a join are no condition that another one guards.
        let checked = match is_condition && checked.data.get_type(&schema)? == DataType::Boolean {
            true => checked.transform_data(|expr| guarded::guarded(expr, &schema))?,
            false => checked,
        };
        Ok(checked.update_data(|expr| name.restore(expr)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

fn checked_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    ordered::check(&expr, schema)?;
    if let Some(interval) = days::of_interval(&expr) {
        return Ok(Transformed::yes(interval));
    }
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let types = (left.get_type(schema)?, right.get_type(schema)?);
            match Operation::of(op, &types.0, &types.1) {
                Some(operation) => Transformed::yes(call(operation, vec![*left, *right])),
                None if op.supports_propagation() && is_interval(&types.0) && is_interval(&types.1) => {
                    let (left, right) = (Box::new(length(*left)), Box::new(length(*right)));
                    Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                }
                None => of_one_form(Expr::BinaryExpr(BinaryExpr { left, op, right }), schema)?,
            }
        }
        Expr::InList(list) if any_of::has_computed(&list) => {
            let compared = any_of::compared(list).transform_up(|each| match each {
                Expr::BinaryExpr(_) => checked_expr(each, schema),
                other => Ok(Transformed::no(other)),
            })?;
            Transformed::yes(compared.data)
        }
        Expr::Between(Between { expr, negated, low, high }) if is_interval(&expr.get_type(schema)?) => {
            let [expr, low, high] = [expr, low, high].map(|each| Box::new(length(*each)));
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        Expr::Negative(inner) if inner.get_type(schema)?.is_signed_integer() => {
            Transformed::yes(call(Operation::Negate, vec![*inner]))
        }
        Expr::Cast(Cast { expr, field }) if expr.get_type(schema)?.is_nested() => {
            Transformed::yes(Expr::Cast(Cast { expr: Box::new(own(*expr)), field }))
        }
        Expr::AggregateFunction(mut function) if is_plain_sum(&function) => {
            function.func = sum::exact();
            Transformed::yes(Expr::AggregateFunction(function))
        }
        Expr::AggregateFunction(mut function) => match floats::ordered(&function, schema)? {
            Some(ordered) => {
                function.func = ordered;
                Transformed::yes(Expr::AggregateFunction(function))
            }
            None => Transformed::no(Expr::AggregateFunction(function)),
        },
        Expr::WindowFunction(function) => checked_window(*function, schema)?,
        other => of_one_form(other, schema)?,
    })
}

/// Of values that can be written in several ways, the one that all else reckons with.
fn of_one_form(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let formed = match floats::computed(&expr, schema)? {
        None => fields::whole(&expr, schema)?,
        computed => computed,
    };
    Ok(formed.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

fn checked_window(mut function: WindowFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let WindowFunctionDefinition::AggregateUDF(known) = &function.fun else {
        return Ok(Transformed::no(function.into()));
    };
    ordered::over(known.name(), &function.params.args, schema)?;
    let checked = if known.name() == "sum" { Some(sum::exact()) } else { moving::moving(known) };
    Ok(match checked {
        Some(checked) => {
            function.fun = WindowFunctionDefinition::AggregateUDF(checked);
            Transformed::yes(function.into())
        }
        None => Transformed::no(function.into()),
    })
}

fn is_plain_sum(function: &AggregateFunction) -> bool {
    function.func.name() == "sum" && function.func != sum::exact()
}

fn call(operation: Operation, args: Vec<Expr>) -> Expr {
    let function = Arc::new(ScalarUDF::from(Arithmetic::new(operation, &args)));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
}
