//! A condition that may fail stays behind those that stand before it. The optimizer asks cheap conditions first, and takes
//! a cast for cheap: of `y LIKE '2%' AND CAST(y AS DATE) > …` it would cast first. A function is not cheap, so one that does
//! nothing stands around the casts of a condition that may fail.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::own::{is_own, own};

pub(super) fn guarded(condition: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    condition.transform_down(|each| match &each {
        // A plan may be looked at again.
        it if is_own(it) => Ok(Transformed::new(each, false, TreeNodeRecursion::Jump)),
        Expr::Cast(Cast { expr, field })
            if !matches!(**expr, Expr::Literal(..))
                && may_fail(&expr.get_type(schema)?, field.data_type()) =>
        {
            Ok(Transformed::new(own(each), true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::no(each)),
    })
}

/// Over some value. Between moments casts come from the planner, who takes them away again where a file is to be pruned.
fn may_fail(from: &DataType, to: &DataType) -> bool {
    let is_text = |kind: &DataType| {
        matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
    };
    if is_text(to) || from == to {
        return false;
    }
    let bits = |kind: &DataType| kind.primitive_width().unwrap_or(0);
    match (from, to) {
        (from, _) if is_text(from) => *from != DataType::Null,
        (_, to) if to.is_floating() => false,
        (from, to) if from.is_integer() && to.is_integer() => {
            bits(to) < bits(from)
                || (from.is_signed_integer() != to.is_signed_integer() && bits(to) <= bits(from))
        }
        (from, to) => from.is_numeric() && to.is_numeric(),
    }
}
