//! A field of what is NULL is NULL. It is taken as its column lies in the struct, where a struct of which a CASE made NULL
//! (as for a row that meets nothing in a table) still has the fields of what it was; and a list its elements, which
//! `array_repeat` repeats.

use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::own::{is_own, own};

/// A struct or a list whose NULLs are those of what lies below too, if the expression makes others.
pub(super) fn whole(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let makes_nulls = match expr {
        Expr::Case(_) => true,
        // A plan may be looked at again.
        Expr::ScalarFunction(call) if is_own(expr) => {
            return Ok(call.args.first().filter(|inner| is_own(inner)).cloned());
        }
        Expr::ScalarFunction(call) => call.name() == "nullif",
        _ => false,
    };
    Ok((makes_nulls && expr.get_type(schema)?.is_nested()).then(|| own(expr.clone())))
}
