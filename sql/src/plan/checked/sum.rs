//! `sum` of integers, decimals and lengths of time in a type that no number of rows can fill, so that it is exact in
//! whatever order rows and partial sums come; the finished sum is checked against its type.
//!
//! DataFusion's own accumulators add, told of the wider type; values are widened on the way in.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal32Type,
    Decimal64Type, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature,
};

use super::moving;
use crate::plan::column_type::type_text;

static EXACT: LazyLock<Arc<AggregateUDF>> =
    LazyLock::new(|| Arc::new(AggregateUDF::from(ExactSum { inner: sum_udaf() })));

pub(super) fn exact() -> Arc<AggregateUDF> {
    Arc::clone(&EXACT)
}

/// In what type a sum is added whose result has the type `of`; `None` where it is added as it is.
pub(super) fn wider(of: &DataType) -> Option<DataType> {
    Some(match of {
        // 2⁶³ rows of the largest have 38 digits.
        DataType::Int64 | DataType::UInt64 | DataType::Duration(_) => {
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)
        }
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale)
        }
        // With fewer digits there is room for ten thousand million rows of the largest.
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale) => {
            DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale)
        }
        DataType::List(item) => {
            let kind = wider(item.data_type())?;
            DataType::List(Arc::new(Field::clone(item).with_data_type(kind)))
        }
        _ => return None,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactSum {
    inner: Arc<AggregateUDF>,
}

/// The arguments of an accumulator whose result has another type.
fn told<'a>(args: AccumulatorArgs<'a>, kind: DataType) -> AccumulatorArgs<'a> {
    let return_field = Arc::new(Field::clone(&args.return_field).with_data_type(kind));
    AccumulatorArgs { return_field, ..args }
}

impl AggregateUDFImpl for ExactSum {
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (narrow, name) = (args.return_type().clone(), args.name.to_owned());
        match wider(&narrow) {
            Some(wide) => {
                let inner = self.inner.accumulator(told(args, wide.clone()))?;
                Ok(Box::new(Widened { inner, narrow, wide, name }))
            }
            None => self.inner.accumulator(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let (narrow, name) = (args.return_type().clone(), args.name.to_owned());
        match wider(&narrow) {
            Some(wide) => {
                let inner = self.inner.create_groups_accumulator(told(args, wide.clone()))?;
                Ok(Box::new(WidenedGroups { inner, narrow, wide, name }))
            }
            None => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (narrow, name) = (args.return_type().clone(), args.name.to_owned());
        match wider(&narrow) {
            Some(wide) if !args.is_distinct => {
                let inner = self.inner.create_sliding_accumulator(told(args, wide.clone()))?;
                Ok(Box::new(Widened { inner, narrow, wide, name }))
            }
            _ if args.is_distinct && narrow == DataType::Int64 => {
                Ok(Box::new(DistinctInFrame { name, ..DistinctInFrame::default() }))
            }
            _ if !args.is_distinct && narrow == DataType::Float64 => {
                let is_double = args.expr_fields.iter().all(|field| *field.data_type() == narrow);
                if is_double { Ok(moving::sum()) } else { self.inner.create_sliding_accumulator(args) }
            }
            _ => self.inner.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let kind = wider(args.return_field.data_type());
        let kind = kind.unwrap_or_else(|| args.return_field.data_type().clone());
        let return_field = Arc::new(Field::clone(&args.return_field).with_data_type(kind));
        self.inner.state_fields(StateFieldsArgs { return_field, ..args })
    }

    // The rest asks the function itself.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(kind)
    }
}

#[derive(Debug)]
struct Widened {
    inner: Box<dyn Accumulator>,
    /// The type of the finished sum.
    narrow: DataType,
    name: String,
    wide: DataType,
}

impl Accumulator for Widened {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&widened(values, &self.wide)?)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&widened(values, &self.wide)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.inner.evaluate()?.to_array()?;
        ScalarValue::try_from_array(&finished(&sum, &self.narrow, &self.name)?, 0)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

struct WidenedGroups {
    inner: Box<dyn GroupsAccumulator>,
    narrow: DataType,
    name: String,
    wide: DataType,
}

impl GroupsAccumulator for WidenedGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.update_batch(&widened(values, &self.wide)?, groups, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.inner.merge_batch(states, groups, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&widened(values, &self.wide)?, filter)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        finished(&self.inner.evaluate(emit_to)?, &self.narrow, &self.name)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// Each value of a frame that moves, and how often it is in it.
#[derive(Debug, Default)]
struct DistinctInFrame {
    name: String,
    counts: BTreeMap<i64, u64>,
    sum: i128,
}

impl Accumulator for DistinctInFrame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let count = self.counts.entry(value).or_default();
            *count += 1;
            if *count == 1 {
                self.sum += i128::from(value);
            }
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            let Some(count) = self.counts.get_mut(&value) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&value);
                self.sum -= i128::from(value);
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a frame is of one partition")
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a frame is of one partition")
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.counts.is_empty() {
            return Ok(ScalarValue::Int64(None));
        }
        match i64::try_from(self.sum) {
            Ok(sum) => Ok(ScalarValue::Int64(Some(sum))),
            Err(_) => does_not_fit(&DataType::Int64, &self.name),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.len() * size_of::<(i64, u64)>()
    }
}

/// The values as the wider type holds them.
fn widened(values: &[ArrayRef], wide: &DataType) -> Result<Vec<ArrayRef>> {
    values.iter().map(|each| widen(each, wide)).collect()
}

fn widen(values: &ArrayRef, wide: &DataType) -> Result<ArrayRef> {
    let exact: ArrayRef = match (values.data_type(), wide) {
        (DataType::Int64, _) => as_128::<Int64Type>(values, wide),
        (DataType::UInt64, _) => as_128::<UInt64Type>(values, wide),
        (DataType::Decimal32(..), _) => as_128::<Decimal32Type>(values, wide),
        (DataType::Decimal64(..), _) => as_128::<Decimal64Type>(values, wide),
        (DataType::Duration(_), _) => as_128::<Int64Type>(&cast(values, &DataType::Int64)?, wide),
        (DataType::Decimal128(..), DataType::Decimal256(..)) => {
            let values = values.as_primitive::<Decimal128Type>();
            Arc::new(values.unary::<_, Decimal256Type>(i256::from_i128).with_data_type(wide.clone()))
        }
        (kind, _) => return internal_err!("a sum of {kind} is not added as {wide}"),
    };
    Ok(exact)
}

fn as_128<T: ArrowPrimitiveType<Native: Into<i128>>>(values: &ArrayRef, wide: &DataType) -> ArrayRef {
    let values = values.as_primitive::<T>().unary::<_, Decimal128Type>(Into::into);
    Arc::new(values.with_data_type(wide.clone()))
}

/// Sums in the type that they have for whoever asks, if they fit in it. `name` is what was written.
fn finished(sums: &ArrayRef, narrow: &DataType, name: &str) -> Result<ArrayRef> {
    // Digits are checked by the cast; its words would be about digits.
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let through = match narrow {
        DataType::Duration(_) => &DataType::Int64,
        other => other,
    };
    let cast = cast_with_options(sums, through, &options)?;
    if cast.null_count() != sums.null_count() {
        return does_not_fit(narrow, name);
    }
    Ok(cast_with_options(&cast, narrow, &options)?)
}

fn does_not_fit<T>(kind: &DataType, name: &str) -> Result<T> {
    // Of a window function the frame is told, too.
    let name = name
        .split(" PARTITION BY [")
        .next()
        .and_then(|name| name.split(" ORDER BY [").next())
        .unwrap_or(name);
    let wider = match kind {
        DataType::Int64 | DataType::UInt64 => "DECIMAL(38, 0)",
        _ => "DOUBLE",
    };
    exec_err!("{name} does not fit in {}\nhint: write sum(CAST(… AS {wider}))", type_text(kind))
}
