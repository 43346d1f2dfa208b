//! What is computed of floats has one NaN and one zero. The processor makes NaNs with and without a sign, and comparisons,
//! sorts, joins and groups keep them apart, as they do -0 and 0: `0.0 / 0.0` would be less than anything, and the NaN of a
//! CAST more.
//!
//! And `min` and `max` of groups order all values, NaN behind the others. DataFusion's forget what came before a NaN.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type};
use datafusion::common::{DFSchema, Result};
use datafusion::functions::math;
use datafusion::logical_expr::expr::{AggregateFunction, Cast, TryCast};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, BinaryExpr, EmitTo, Expr, ExprSchemable, GroupsAccumulator,
    Operator, SetMonotonicity, Signature,
};

use crate::plan::window::{canonical_float, is_canonical_float};

static MATH: LazyLock<BTreeSet<String>> =
    LazyLock::new(|| math::functions().iter().map(|function| function.name().to_owned()).collect());

/// The expression with one NaN and one zero, if it may compute others.
pub(super) fn computed(expr: &Expr, schema: &DFSchema) -> Result<Option<Expr>> {
    let computes = match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => matches!(
            op,
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
        ),
        Expr::Negative(_) => true,
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => {
            !expr.get_type(schema)?.is_numeric()
        }
        Expr::ScalarFunction(call) if is_canonical_float(call) => {
            // A plan may be looked at again.
            return Ok(call.args.first().filter(|inner| is_canonical(inner)).cloned());
        }
        Expr::ScalarFunction(call) => MATH.contains(call.name()),
        _ => false,
    };
    let is_float = |kind| matches!(kind, DataType::Float32 | DataType::Float64);
    Ok((computes && is_float(expr.get_type(schema)?)).then(|| canonical_float(as_computed(expr))))
}

/// Of a sum of sums nobody looks at the sums within.
fn as_computed(expr: &Expr) -> Expr {
    let inner = |operand: &Expr| match operand {
        Expr::ScalarFunction(call) if is_canonical_float(call) => {
            call.args.first().unwrap_or(operand).clone()
        }
        _ => operand.clone(),
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => Expr::BinaryExpr(BinaryExpr {
            left: Box::new(inner(left)),
            op: *op,
            right: Box::new(inner(right)),
        }),
        _ => expr.clone(),
    }
}

fn is_canonical(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if is_canonical_float(call))
}

/// The function that orders all values of a float; `None` if it is not one of those that don't.
pub(super) fn ordered(function: &AggregateFunction, schema: &DFSchema) -> Result<Option<Arc<AggregateUDF>>> {
    let (func, args) = (&function.func, &function.params.args);
    let is_ordered = (func.inner().as_ref() as &dyn Any).is::<Ordered>();
    let [value] = &args[..] else { return Ok(None) };
    let orders_not = matches!(func.name(), "min" | "max") && !is_ordered;
    let is_float = matches!(value.get_type(schema)?, DataType::Float32 | DataType::Float64);
    Ok((orders_not && is_float).then(|| Arc::new(AggregateUDF::from(Ordered { inner: Arc::clone(func) }))))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Ordered {
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let kind = args.return_type().clone();
        let return_field = Arc::new(Field::clone(&args.return_field).with_data_type(DataType::Int64));
        let inner = self.inner.create_groups_accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Ranked { inner, kind }))
    }

    // The rest asks the function itself.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(kind)
    }
}

/// Values as whole numbers in the same order, which is also how the function itself compares what is in no group.
struct Ranked {
    inner: Box<dyn GroupsAccumulator>,
    kind: DataType,
}

impl Ranked {
    fn ranks(&self, values: &[ArrayRef]) -> Vec<ArrayRef> {
        values.iter().map(|values| ranks(values)).collect()
    }

    fn values(&self, ranks: &ArrayRef) -> ArrayRef {
        let ranks = ranks.as_primitive::<Int64Type>();
        match self.kind {
            DataType::Float32 => Arc::new(ranks.unary::<_, Float32Type>(|rank| value(rank) as f32)),
            _ => Arc::new(ranks.unary::<_, Float64Type>(value)),
        }
    }
}

fn ranks(values: &ArrayRef) -> ArrayRef {
    let ranks: PrimitiveArray<Int64Type> = match values.data_type() {
        DataType::Float32 => values.as_primitive::<Float32Type>().unary(|value| rank(f64::from(value))),
        _ => values.as_primitive::<Float64Type>().unary(rank),
    };
    Arc::new(ranks)
}

/// NaN, of whatever bits, is the greatest.
fn rank(value: f64) -> i64 {
    let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
    let bits = value.to_bits().cast_signed();
    // Below zero the bits of what is less are more.
    bits ^ (bits >> 63).cast_unsigned().wrapping_shr(1).cast_signed()
}

fn value(rank: i64) -> f64 {
    let bits = rank ^ (rank >> 63).cast_unsigned().wrapping_shr(1).cast_signed();
    f64::from_bits(bits.cast_unsigned())
}

impl GroupsAccumulator for Ranked {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let ranks = self.ranks(values);
        self.inner.update_batch(&ranks, groups, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let ranks = self.ranks(states);
        self.inner.merge_batch(&ranks, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let states = self.inner.convert_to_state(&self.ranks(values), filter)?;
        Ok(states.iter().map(|ranks| self.values(ranks)).collect())
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = self.inner.state(emit_to)?;
        Ok(states.iter().map(|ranks| self.values(ranks)).collect())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let ranks = self.inner.evaluate(emit_to)?;
        Ok(self.values(&ranks))
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_in_the_order_of_values_and_go_back() {
        let values = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            5e-324,
            1.0,
            f64::MAX,
            f64::INFINITY,
        ];
        assert!(values.map(rank).is_sorted());
        assert_eq!(values.map(|it| value(rank(it))), values);
        assert_eq!(rank(-0.0), rank(0.0));
        assert_eq!(rank(-f64::NAN), rank(f64::NAN));
        assert!(rank(f64::NAN) > rank(f64::INFINITY));
        assert!(value(rank(-f64::NAN)).is_nan());
    }
}
