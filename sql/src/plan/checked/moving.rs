//! Sums, means and variances of DOUBLE over a frame that moves. DataFusion takes what leaves a frame away from the sum again:
//! what is small beside it is lost, and one NaN, or one infinity, stays for ever. Here nothing is taken away. The values of a
//! frame are in two halves: of the older one there is, for each value, the total of it and those after it; of the newer one
//! a single total. When the older half is used up, the newer one takes its place; so a value is added three times at most.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature};

/// The function as it is, but for frames that move; `None` if nothing is wrong with it there.
pub(super) fn moving(known: &Arc<AggregateUDF>) -> Option<Arc<AggregateUDF>> {
    let finish = Finish::of(known.name())?;
    // A plan may be looked at again.
    if (known.inner().as_ref() as &dyn Any).is::<Moving>() {
        return None;
    }
    Some(Arc::new(AggregateUDF::from(Moving { inner: Arc::clone(known), finish })))
}

/// Of a sum over a frame of DOUBLE.
pub(super) fn sum() -> Box<dyn Accumulator> {
    Box::new(InFrame::<Sum> { frame: Frame::default(), finish: Finish::Sum })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Finish {
    Sum,
    Mean,
    Variance { of_sample: bool },
    Deviation { of_sample: bool },
}

impl Finish {
    fn of(function: &str) -> Option<Finish> {
        Some(match function {
            "avg" => Finish::Mean,
            "var" => Finish::Variance { of_sample: true },
            "var_pop" => Finish::Variance { of_sample: false },
            "stddev" => Finish::Deviation { of_sample: true },
            "stddev_pop" => Finish::Deviation { of_sample: false },
            _ => return None,
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moving {
    inner: Arc<AggregateUDF>,
    finish: Finish,
}

impl AggregateUDFImpl for Moving {
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let is_double = args.expr_fields.iter().all(|field| *field.data_type() == DataType::Float64);
        if args.is_distinct || !is_double || *args.return_type() != DataType::Float64 {
            return self.inner.create_sliding_accumulator(args);
        }
        Ok(match self.finish {
            Finish::Sum | Finish::Mean => {
                Box::new(InFrame::<Sum> { frame: Frame::default(), finish: self.finish })
            }
            Finish::Variance { .. } | Finish::Deviation { .. } => {
                Box::new(InFrame::<Spread> { frame: Frame::default(), finish: self.finish })
            }
        })
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

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }
}

/// What values add up to.
trait Total: Copy + Default + Debug + Send + Sync + 'static {
    fn of(value: f64) -> Self;
    fn and(self, other: Self) -> Self;
    fn finish(self, finish: Finish) -> Option<f64>;
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    sum: f64,
}

impl Total for Sum {
    fn of(value: f64) -> Sum {
        Sum { count: 1, sum: value }
    }

    fn and(self, other: Sum) -> Sum {
        Sum { count: self.count + other.count, sum: self.sum + other.sum }
    }

    fn finish(self, finish: Finish) -> Option<f64> {
        (self.count > 0).then(|| match finish {
            Finish::Mean => self.sum / self.count as f64,
            _ => self.sum,
        })
    }
}

/// The mean, and the squares of what each value differs from it.
#[derive(Debug, Clone, Copy, Default)]
struct Spread {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Total for Spread {
    fn of(value: f64) -> Spread {
        Spread { count: 1, mean: value, squares: 0.0 }
    }

    fn and(self, other: Spread) -> Spread {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let (of_self, of_other) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        let mean = self.mean + apart * of_other / count as f64;
        let squares = self.squares + other.squares + apart * apart * of_self * of_other / count as f64;
        Spread { count, mean, squares }
    }

    fn finish(self, finish: Finish) -> Option<f64> {
        let of = |of_sample: bool| {
            let among = self.count.checked_sub(u64::from(of_sample)).filter(|among| *among > 0)?;
            // A value that is not finite differs from the mean by what is no number.
            let squares = if self.mean.is_finite() { self.squares } else { f64::NAN };
            Some(squares / among as f64)
        };
        match finish {
            Finish::Deviation { of_sample } => of(of_sample).map(f64::sqrt),
            Finish::Variance { of_sample } => of(of_sample),
            Finish::Sum | Finish::Mean => None,
        }
    }
}

#[derive(Debug, Default)]
struct Frame<T> {
    /// Of each value of the older half the total of it and those after it, the oldest last.
    older: Vec<T>,
    newer: Vec<f64>,
    of_newer: T,
}

impl<T: Total> Frame<T> {
    fn come(&mut self, value: f64) {
        self.newer.push(value);
        self.of_newer = self.of_newer.and(T::of(value));
    }

    fn go(&mut self) {
        if self.older.is_empty() {
            let mut total = T::default();
            for value in self.newer.drain(..).rev() {
                total = T::of(value).and(total);
                self.older.push(total);
            }
            self.of_newer = T::default();
        }
        self.older.pop();
    }

    fn total(&self) -> T {
        self.older.last().copied().unwrap_or_default().and(self.of_newer)
    }
}

#[derive(Debug)]
struct InFrame<T> {
    frame: Frame<T>,
    finish: Finish,
}

impl<T: Total> Accumulator for InFrame<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.frame.come(value));
        Ok(())
    }

    /// Those that came first go first.
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|_| self.frame.go());
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
        Ok(ScalarValue::Float64(self.frame.total().finish(self.finish)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self.frame.older.capacity() * size_of::<T>()
            + self.frame.newer.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over each three values in a row.
    fn of_three<T: Total>(values: &[f64], finish: Finish) -> Vec<Option<f64>> {
        let mut frame = Frame::<T>::default();
        let mut each = vec![];
        for (index, value) in values.iter().enumerate() {
            frame.come(*value);
            if index >= 3 {
                frame.go();
            }
            each.push(frame.total().finish(finish));
        }
        each
    }

    #[test]
    fn what_has_left_a_frame_is_not_felt_in_it() {
        let values = [1e308, 1e308, 1.0, 2.0, 3.0, 1e17, f64::NAN, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        let sums = of_three::<Sum>(&values, Finish::Sum);
        let expected = [Some(6.0), Some(3.0), Some(2.0), Some(1.0), Some(0.0)];
        assert_eq!((sums[4], &sums[9..]), (expected[0], &expected[1..]));
        let spread = of_three::<Spread>(&values, Finish::Variance { of_sample: true });
        assert_eq!((spread[0], spread[4], spread[9]), (None, Some(1.0), Some(0.0)));
        assert!(spread[7].is_some_and(f64::is_nan));
        let deviation = of_three::<Spread>(&[2.0, 4.0, 6.0], Finish::Deviation { of_sample: false });
        assert_eq!(deviation[0], Some(0.0));
        assert!(deviation[2].is_some_and(|it| (it - (8.0f64 / 3.0).sqrt()).abs() < 1e-15));
    }
}
