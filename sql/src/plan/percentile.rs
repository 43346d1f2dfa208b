//! `percentile_cont` with all digits of a double. DataFusion's own cuts the share of the way between two values that it
//! lies at to six.
//!
//! Its accumulators keep the values, and say what they keep; what lies between two of them is found here. So what a view
//! keeps is as it was.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, EmitTo, GroupsAccumulator,
    Signature,
};

static EXACT: LazyLock<Arc<AggregateUDF>> =
    LazyLock::new(|| Arc::new(AggregateUDF::from(ExactPercentile { inner: percentile_cont_udaf() })));

pub(super) fn exact() -> Arc<AggregateUDF> {
    Arc::clone(&EXACT)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactPercentile {
    inner: Arc<AggregateUDF>,
}

/// Which share of the values comes before the percentile.
fn fraction(args: &AccumulatorArgs<'_>) -> Result<f64> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let value = match args.exprs.get(1).map(|fraction| fraction.evaluate(&nothing)).transpose()? {
        Some(ColumnarValue::Scalar(value)) => value.cast_to(&DataType::Float64)?,
        _ => return exec_err!("the fraction of a percentile is a constant"),
    };
    let ScalarValue::Float64(Some(fraction)) = value else {
        return exec_err!("the fraction of a percentile is a number");
    };
    let descending = args.order_bys.first().is_some_and(|order| order.options.descending);
    Ok(if descending { 1.0 - fraction } else { fraction })
}

/// The percentile of values in any order.
fn percentile(values: &mut [f64], fraction: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = fraction * last as f64;
    // One less a fraction is off by its last digit, and so may be what stands for a value's own place.
    let near = place.round();
    let place = if (place - near).abs() <= f64::EPSILON * last as f64 { near } else { place };
    let lower = place.floor() as usize;
    let (_, from, above) = values.select_nth_unstable_by(lower.min(last), f64::total_cmp);
    let from = *from;
    let share = place - lower as f64;
    let to = above.iter().copied().min_by(f64::total_cmp);
    Some(match to {
        Some(to) if share > 0.0 && to != from => from + (to - from) * share,
        _ => from,
    })
}

fn of_array(values: &dyn Array, fraction: f64) -> Result<Option<f64>> {
    let values = cast(values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let mut values: Vec<f64> = values.iter().flatten().collect();
    Ok(percentile(&mut values, fraction))
}

impl AggregateUDFImpl for ExactPercentile {
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.expr_fields[0].data_type().is_null() {
            return self.inner.accumulator(args);
        }
        let (fraction, drains) = (fraction(&args)?, !args.is_distinct);
        Ok(Box::new(Exact { inner: self.inner.accumulator(args)?, fraction, drains }))
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let fraction = fraction(&args)?;
        Ok(Box::new(ExactGroups { inner: self.inner.create_groups_accumulator(args)?, fraction }))
    }

    // The rest asks the function itself.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.inner.simplify()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

#[derive(Debug)]
struct Exact {
    inner: Box<dyn Accumulator>,
    fraction: f64,
    /// Whether it has nothing any more when it has said what it keeps.
    drains: bool,
}

impl Accumulator for Exact {
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.inner.state()?;
        let [ScalarValue::List(list)] = &state[..] else {
            return internal_err!("a percentile keeps one list, not {state:?}");
        };
        let values = list.value(0);
        let found = of_array(&values, self.fraction)?;
        if self.drains {
            // Of a frame that moves it is asked again.
            let kept: ArrayRef = Arc::clone(list) as ArrayRef;
            self.inner.merge_batch(&[kept])?;
        }
        ScalarValue::Float64(found).cast_to(values.data_type())
    }

    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

struct ExactGroups {
    inner: Box<dyn GroupsAccumulator>,
    fraction: f64,
}

impl GroupsAccumulator for ExactGroups {
    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let state = self.inner.state(emit_to)?;
        let Some(lists) = state.first().and_then(|lists| lists.as_list_opt::<i32>()) else {
            return internal_err!("percentiles of groups keep lists");
        };
        let found = lists.iter().map(|values| match values {
            Some(values) => of_array(&values, self.fraction),
            None => Ok(None),
        });
        let found = found.collect::<Result<Float64Array>>()?;
        Ok(cast(&found, &lists.value_type())?)
    }

    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner.update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.inner.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, opt_filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn all_digits_count() {
        assert_eq!(percentile(&mut [], 0.5), None);
        assert_eq!(percentile(&mut [7.0], 0.3), Some(7.0));
        assert_eq!(percentile(&mut [3e9, 1e9, 2e9], 0.123_456_789), Some(1_246_913_578.0));
        assert_eq!(percentile(&mut [2.0, 1.0], 1.0), Some(2.0));
        assert_eq!(percentile(&mut [f64::INFINITY, f64::INFINITY], 0.4), Some(f64::INFINITY));
        let mut eleven: Vec<f64> = (0..11).map(|value| f64::from(value) * 1e6).collect();
        assert_eq!(percentile(&mut eleven, 1.0 - 0.9), Some(1e6), "the place of a value is its own");
    }
}
