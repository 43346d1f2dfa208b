//! The functions that a statement may call, in queries and in views.
//!
//! DataFusion's defaults, none of which reads a file or the network (a test lists the table functions, the only kind
//! that could, so that an upgrade cannot add one unseen). Those whose answer can be far larger than their arguments are
//! wrapped: the size of the answer is estimated first, and refused when it passes a bound. A memory pool cannot do
//! that, since it hears of a batch only after it was made. So are those that take a step for each letter of one text
//! beside each of another: two of a megabyte would keep a worker busy for minutes.
//!
//! Wrapped too are those that answer wrongly: `to_char` gives a pattern of another database back as if it were the
//! answer, `lpad` and `rpad` panic on a column with a negative length, and `to_timestamp` forgets the zone of what it
//! reads from a column of text, and makes some moment of a number that is none; `round` and `trunc` to more places than a
//! DOUBLE has make infinities of numbers. `percentile_cont` is ours (`percentile`).

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::{
    DataType, FieldRef, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::interval_times::IntervalTimes;
use super::percentile;

/// The largest answer of one call over one batch of rows.
const ANSWER_BYTES_MAX: i64 = 64 << 20;
/// What an element of a generated list is taken to cost.
const ELEMENT_BYTES: i64 = 16;
/// The most steps that a call may take over one row: two texts of four thousand letters.
const STEPS_MAX: i64 = 1 << 24;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Whether a function of this name answers otherwise each time that it is called.
pub(crate) fn is_of_chance(name: &str) -> bool {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let all = SessionStateDefaults::default_scalar_functions().into_iter();
        let of_chance = all.filter(|function| function.signature().volatility == Volatility::Volatile);
        let names = |it: Arc<ScalarUDF>| [vec![it.name().to_owned()], it.aliases().to_vec()].concat();
        of_chance.flat_map(names).collect()
    });
    NAMES.contains(name)
}

/// How large a function's answer can become, from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// `repeat(text, times)`
    TextTimes,
    /// `array_repeat(element, times)`, `array_resize(list, length)`, `lpad(text, length)`
    Count,
    /// `range(start, stop, step)` as a list
    Series,
    /// `replace(text, from, to)`
    Replace,
    /// `concat(text, …)`: a little each time, doubling when nested
    Sum,
}

const GROWING: [(&str, Growth); 11] = [
    ("repeat", Growth::TextTimes),
    ("array_repeat", Growth::Count),
    ("array_resize", Growth::Count),
    ("lpad", Growth::Count),
    ("rpad", Growth::Count),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
    ("replace", Growth::Replace),
    ("regexp_replace", Growth::Replace),
    ("concat", Growth::Sum),
    ("concat_ws", Growth::Sum),
];

/// Those that compare all of one argument with all of the other.
const PAIRING: [&str; 3] = ["levenshtein", "array_has_all", "array_has_any"];

/// A builder whose states have these functions.
pub(crate) fn offer(builder: SessionStateBuilder) -> SessionStateBuilder {
    let all = SessionStateDefaults::default_scalar_functions().into_iter().map(|function| {
        let growth = GROWING.iter().find(|(name, _)| *name == function.name());
        let guard = match growth {
            Some((_, growth)) => Guard::Growth(*growth),
            None if PAIRING.contains(&function.name()) => Guard::Pairs,
            None if function.name() == "to_char" => Guard::Pattern,
            None if function.name().starts_with("to_timestamp") => Guard::Moment,
            None if matches!(function.name(), "round" | "trunc") => Guard::Places,
            None => return function,
        };
        Arc::new(ScalarUDF::new_from_impl(Guarded { inner: function, guard }))
    });
    let mut builder = builder.with_scalar_functions(all.collect());
    let exact = percentile::exact();
    let aggregates = builder.aggregate_functions().get_or_insert_default();
    aggregates
        .iter_mut()
        .filter(|known| known.name() == exact.name())
        .for_each(|known| *known = Arc::clone(&exact));
    // Before those of DataFusion, which take every operator there is.
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(IntervalTimes));
    builder
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Guard {
    /// Estimates how large the answer would be.
    Growth(Growth),
    /// Estimates how long it takes, row by row.
    Pairs,
    /// `to_char(moment, pattern)`: looks whether the pattern is one.
    Pattern,
    /// `to_timestamp(text or number)`: sees that the answer has its zone.
    Moment,
    /// `round(number, places)`: sees that a number stays one.
    Places,
}

/// A function of DataFusion whose arguments are looked at first.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded {
    inner: Arc<ScalarUDF>,
    guard: Guard,
}

impl Guarded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        match self.guard {
            Guard::Growth(growth) => self.check_size(growth, args),
            Guard::Pairs => self.check_steps(args),
            Guard::Pattern => args.args.get(1).map_or(Ok(()), check_pattern),
            Guard::Moment => args.args.first().map_or(Ok(()), check_seconds),
            Guard::Places => Ok(()),
        }
    }

    fn check_size(&self, growth: Growth, args: &ScalarFunctionArgs) -> Result<()> {
        let sizes = args.args.iter().map(|arg| Sizes::of(arg, |values| numbers(values, growth)));
        let sizes = sizes.collect::<Result<Vec<_>>>()?;
        let mut total = 0_i64;
        for row in 0..rows_of(args) {
            total = total.saturating_add(growth.bytes(&sizes, row));
        }
        if total > ANSWER_BYTES_MAX {
            return exec_err!(
                "{}() would make an answer of {total} bytes, and {ANSWER_BYTES_MAX} is the most in one batch of rows",
                self.inner.name()
            );
        }
        Ok(())
    }

    fn check_steps(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let sizes = args.args.iter().map(|arg| Sizes::of(arg, lengths)).collect::<Result<Vec<_>>>()?;
        for row in 0..rows_of(args) {
            let steps = sizes.iter().map(|sizes| sizes.at(row)).fold(1, i64::saturating_mul);
            if steps > STEPS_MAX {
                return exec_err!(
                    "{}() would take {steps} steps over a row, and {STEPS_MAX} are the most: its arguments are too long",
                    self.inner.name()
                );
            }
        }
        Ok(())
    }
}

/// For how many rows a call is to be looked at; for one where all of them are alike.
fn rows_of(args: &ScalarFunctionArgs) -> usize {
    let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    if constant { 1 } else { args.number_rows }
}

/// The bytes of texts, or the elements of lists.
fn lengths(values: &ArrayRef) -> Result<Int64Array> {
    let lengths = match values.data_type() {
        DataType::Null => return Ok(Int64Array::from_value(0, values.len())),
        _ => length(values)?,
    };
    Ok(cast(&lengths, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Patterns are those of strftime; one without a `%` says the same of every moment.
fn check_pattern(patterns: &ColumnarValue) -> Result<()> {
    let patterns = match patterns {
        ColumnarValue::Scalar(pattern) => pattern.to_array()?,
        ColumnarValue::Array(patterns) => Arc::clone(patterns),
    };
    let patterns = cast(&patterns, &DataType::Utf8View)?;
    match patterns.as_string_view().iter().flatten().find(|pattern| !pattern.contains('%')) {
        Some(pattern) => exec_err!(
            "to_char() has no % in its pattern \"{pattern}\"\nhint: patterns are those of strftime, such as \
             '%Y-%m-%d %H:%M:%S'"
        ),
        None => Ok(()),
    }
}

/// Seconds as a float, of which NaN would become 1970, and what is too large the last moment that there is.
fn check_seconds(seconds: &ColumnarValue) -> Result<()> {
    const MOST: f64 = i64::MAX as f64 / 1e9;
    if !seconds.data_type().is_floating() {
        return Ok(());
    }
    let seconds = match seconds {
        ColumnarValue::Scalar(seconds) => seconds.to_array()?,
        ColumnarValue::Array(seconds) => Arc::clone(seconds),
    };
    let seconds = cast(&seconds, &DataType::Float64)?;
    let is_moment = |seconds: &f64| seconds.abs() < MOST;
    match seconds.as_primitive::<Float64Type>().iter().flatten().find(|each| !is_moment(each)) {
        Some(none) => exec_err!("seconds from 1970 that are no moment between 1677 and 2262: {none:?}"),
        None => Ok(()),
    }
}

/// A factor of ten to the `places` has no room in a float beyond 308, or 38, and then the answer is no number. To so many
/// places behind the point each number is what it is, and to so many before it nothing.
fn with_places(
    number: &ColumnarValue,
    places: &ColumnarValue,
    answer: ColumnarValue,
    rows: usize,
) -> Result<ColumnarValue> {
    let kind = answer.data_type();
    let least = if kind == DataType::Float32 { -f32::MAX_10_EXP } else { -f64::MAX_10_EXP };
    let wide =
        |value: &ColumnarValue| -> Result<ArrayRef> { Ok(cast(&value.to_array(rows)?, &DataType::Float64)?) };
    let (numbers, answers): (ArrayRef, ArrayRef) = (wide(number)?, wide(&answer)?);
    let (numbers, answers) = (numbers.as_primitive::<Float64Type>(), answers.as_primitive::<Float64Type>());
    let has_become_none = |row: usize| {
        answers.is_valid(row) && !answers.value(row).is_finite() && numbers.value(row).is_finite()
    };
    if !(0..answers.len()).any(has_become_none) {
        return Ok(answer);
    }
    let places = cast(&places.to_array(rows)?, &DataType::Int64)?;
    let places = places.as_primitive::<Int64Type>();
    let mended = answers.iter().enumerate().map(|(row, answer)| match has_become_none(row) {
        true if places.value(row) > 0 => Some(numbers.value(row)),
        true if places.value(row) < i64::from(least) => Some(0.0),
        _ => answer,
    });
    let mended: ArrayRef = Arc::new(mended.collect::<Float64Array>());
    let mended = cast(&mended, &kind)?;
    Ok(match answer {
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&mended, 0)?),
        ColumnarValue::Array(_) => ColumnarValue::Array(mended),
    })
}

/// Lengths, of which those below zero are zero.
fn not_negative(lengths: &ColumnarValue) -> Result<ColumnarValue> {
    let clamped = |lengths: &ArrayRef| -> Result<ArrayRef> {
        let lengths = cast(lengths, &DataType::Int64)?;
        Ok(Arc::new(lengths.as_primitive::<Int64Type>().unary::<_, Int64Type>(|length| length.max(0))))
    };
    Ok(match lengths {
        ColumnarValue::Scalar(length) => {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&clamped(&length.to_array()?)?, 0)?)
        }
        ColumnarValue::Array(lengths) => ColumnarValue::Array(clamped(lengths)?),
    })
}

impl Growth {
    /// An upper bound, near enough, for one row. A NULL counts as 0.
    fn bytes(self, sizes: &[Sizes], row: usize) -> i64 {
        let size = |argument: usize| sizes.get(argument).map_or(0, |sizes| sizes.at(row));
        match self {
            Growth::TextTimes => size(0).saturating_mul(size(1).max(0)),
            Growth::Count => size(1).max(0).saturating_mul(ELEMENT_BYTES.max(size(0))),
            Growth::Series => {
                let (start, stop) = if sizes.len() == 1 { (0, size(0)) } else { (size(0), size(1)) };
                let step = if sizes.len() > 2 { size(2).saturating_abs().max(1) } else { 1 };
                (stop.saturating_sub(start).saturating_abs() / step).saturating_mul(ELEMENT_BYTES)
            }
            Growth::Replace => {
                let matches = size(0).saturating_add(1) / size(1).max(1);
                size(0).saturating_add(matches.saturating_mul(size(2)))
            }
            Growth::Sum => (0..sizes.len()).map(size).fold(0, i64::saturating_add),
        }
    }
}

/// One number per row of an argument: the bytes of a text, the value of a number, the micros of an instant.
enum Sizes {
    Same(i64),
    Each(Int64Array),
}

impl Sizes {
    fn of(argument: &ColumnarValue, measure: impl FnOnce(&ArrayRef) -> Result<Int64Array>) -> Result<Sizes> {
        Ok(match argument {
            ColumnarValue::Scalar(value) => {
                Sizes::Same(measure(&value.to_array()?)?.iter().next().flatten().unwrap_or(0))
            }
            ColumnarValue::Array(values) => Sizes::Each(measure(values)?),
        })
    }

    fn at(&self, row: usize) -> i64 {
        match self {
            Sizes::Same(size) => *size,
            Sizes::Each(sizes) if row < sizes.len() && sizes.is_valid(row) => sizes.value(row),
            Sizes::Each(_) => 0,
        }
    }
}

fn numbers(values: &ArrayRef, growth: Growth) -> Result<Int64Array> {
    let in_series = growth == Growth::Series;
    let numbers: ArrayRef = match values.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary => length(values)?,
        kind if kind.is_integer() => Arc::clone(values),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) if in_series => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            cast(&cast(values, &micros)?, &DataType::Int64)?
        }
        DataType::Interval(_) if in_series => {
            let whole = cast(values, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            let micros = whole.as_primitive::<IntervalMonthDayNanoType>().iter().map(|interval| {
                let interval = interval?;
                let days = i64::from(interval.months) * 28 + i64::from(interval.days);
                Some(days.saturating_mul(MICROS_PER_DAY).saturating_add(interval.nanoseconds / 1000))
            });
            return Ok(micros.collect());
        }
        // Elements of lists and the like: what they hold is there already, and counted as such.
        _ => return Ok(Int64Array::from_value(ELEMENT_BYTES, values.len())),
    };
    Ok(cast(&numbers, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

impl ScalarUDFImpl for Guarded {
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        if matches!(self.name(), "lpad" | "rpad")
            && let Some(length) = args.args.get_mut(1)
        {
            *length = not_negative(length)?;
        }
        let kind = args.return_field.data_type().clone();
        if self.guard == Guard::Places && kind.is_floating() && args.args.len() == 2 {
            let (given, rows) = (args.args.clone(), args.number_rows);
            let answer = self.inner.invoke_with_args(args)?;
            return with_places(&given[0], &given[1], answer, rows);
        }
        match self.inner.invoke_with_args(args)? {
            // The same moments: those without a zone were read as of UTC, which is the zone of every session.
            ColumnarValue::Array(moments) if self.guard == Guard::Moment && *moments.data_type() != kind => {
                Ok(ColumnarValue::Array(cast(&moments, &kind)?))
            }
            answer => Ok(answer),
        }
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::new_from_impl(Guarded { inner, guard: self.guard }))
    }

    // The rest asks the function itself.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, context)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
