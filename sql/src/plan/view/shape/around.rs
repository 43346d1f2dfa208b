//! Steps that look around a row in time: joins that say how far apart two rows are, and OVER by a RANGE of time. What a
//! row looks for is within its reach, so that its unit closes when that has come.

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Join, JoinType, LogicalPlan, WindowFrameBound, WindowFrameUnits};
use thalweg_engine::ids::{LENGTH_MAX, Micros};
use thalweg_engine::spec::{LAST_INSTANT, Layout, Reach, RowTime};

use super::apart::Apart;
use super::group::window_functions;
use super::{Checker, Meaning, RowsOf, Shape, Stage, Unit, column_of};
use crate::error::{Error, Position, Result};
use crate::plan::view::syntax;

const DAY: Micros = 86_400_000_000;

/// How a step looks at one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::plan::view) struct Look {
    /// How far around its unit.
    pub reach: Reach,
    /// The column of the input that is the time of its rows, where that is not their window's.
    pub time: Option<usize>,
}

impl Look {
    /// How far what is looked at looks itself, beside this.
    pub fn then(self, further: Look) -> Look {
        let reach = Reach {
            before: self.reach.before.saturating_add(further.reach.before),
            after: self.reach.after.saturating_add(further.reach.after),
        };
        Look { reach, time: further.time }
    }
}

/// A join of rows that are so far apart at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinAround {
    pub left: Look,
    pub right: Look,
    pub unit: Unit,
}

/// An OVER that looks at rows so far away at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct OverAround {
    pub look: Look,
    pub unit: Unit,
}

impl Checker<'_> {
    /// How a step looks at each of its inputs.
    pub(in crate::plan::view) fn looks(&self, plan: &LogicalPlan) -> Result<Vec<Look>> {
        match plan {
            LogicalPlan::Join(join) => {
                if let Some(JoinAround { left, right, .. }) = self.around(join)? {
                    return Ok(vec![left, right]);
                }
            }
            LogicalPlan::Window(window) => {
                let shape = self.shape(&window.input)?;
                let functions = window_functions(&window.window_expr);
                if let Some(around) = self.over_around(&shape, &functions, window.input.schema())? {
                    return Ok(vec![around.look]);
                }
            }
            _ => {}
        }
        Ok(vec![Look::default(); plan.inputs().len()])
    }

    /// Whether the sides of a join are bound to each other by a stretch of time, and how far they are apart.
    pub(super) fn around(&self, join: &Join) -> Result<Option<JoinAround>> {
        let (left, right) = (self.shape(&join.left)?, self.shape(&join.right)?);
        if left.has_equal_bound(&right, join) || !left.can_look() || !right.can_look() {
            return Ok(None);
        }
        let Some(apart) = Apart::of(join, &left, &right) else { return Ok(None) };
        let place = syntax::place_of_join(self.query);
        let of_right = matches!(
            join.join_type,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
        );
        if join.join_type == JoinType::Full {
            return Err(Error::invalid("a FULL JOIN by a stretch of time is of no one row's time")
                .at(place)
                .hint("write a LEFT JOIN and a RIGHT JOIN as views of their own"));
        }
        let anchor = if of_right { &right } else { &left };
        let mut unit = anchor.grid().map_or(Unit::Slice(None), Unit::Window);
        for side in [&left, &right] {
            let asked = match side.unit {
                Unit::Slice(asked) => asked,
                Unit::Window(_) if side.is_windowed_here() => match side.grid() {
                    Some(grid) => Some(grid),
                    None => return Err(of_own_windows(place)),
                },
                _ => None,
            };
            unit = match (unit, asked) {
                (Unit::Slice(None), Some(grid)) => Unit::Slice(Some(grid)),
                (Unit::Slice(Some(one)) | Unit::Window(one), Some(other)) if one != other => {
                    return Err(of_own_windows(place));
                }
                (unit, _) => unit,
            };
        }
        let (least, most) = apart.between_starts(&left, &right, unit);
        let (least, most) = if of_right { (-most, -least) } else { (least, most) };
        let other = Reach { before: -least, after: most };
        check_length(other, place)?;
        let (of_left, of_right) =
            if of_right { (other, Reach::default()) } else { (Reach::default(), other) };
        Ok(Some(JoinAround {
            left: Look { reach: of_left, time: left.time_in(unit, apart.left) },
            right: Look { reach: of_right, time: right.time_in(unit, apart.right) },
            unit,
        }))
    }

    /// What a join by a stretch of time makes.
    pub(super) fn joined_around(&self, join: &Join, around: JoinAround) -> Result<Shape> {
        let (mut left, mut right) = (self.shape(&join.left)?, self.shape(&join.right)?);
        left.look(around.left, around.unit);
        right.look(around.right, around.unit);
        let reach = widest(left.reach, right.reach);
        let looks = left.looks_at_window || right.looks_at_window;
        // Only of the side that keeps all its rows the time is that of the pair.
        let mut pair = match join.join_type {
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                left.forget_time();
                left.beside(right, join.join_type)
            }
            _ => {
                right.forget_time();
                left.beside(right, join.join_type)
            }
        };
        (pair.reach, pair.unit, pair.looks_at_window) = (reach, around.unit, looks);
        Ok(pair)
    }

    /// Whether each function OVER looks at rows of a RANGE of time alone, and how far it is.
    pub(super) fn over_around(
        &self,
        shape: &Shape,
        functions: &[&WindowFunction],
        schema: &DFSchema,
    ) -> Result<Option<OverAround>> {
        if !shape.can_look() {
            return Ok(None);
        }
        let mut found: Option<(usize, Reach)> = None;
        for function in functions {
            let by_bound =
                function.params.partition_by.iter().any(|key| shape.meaning(key, schema).is_bound());
            let frame = &function.params.window_frame;
            let [order] = function.params.order_by.as_slice() else { return Ok(None) };
            let column = column_of(&order.expr).and_then(|column| schema.maybe_index_of_column(column));
            let (Some(column), WindowFrameUnits::Range, false) = (column, frame.units, by_bound) else {
                return Ok(None);
            };
            if !shape.is_time(column) {
                return Ok(None);
            }
            let (Some(before), Some(after)) =
                (bound(&frame.start_bound, true), bound(&frame.end_bound, false))
            else {
                return Ok(None);
            };
            let place = self.place_of_over(function);
            if !order.asc {
                return Err(Error::invalid("a RANGE of time goes forward in a view")
                    .at(place)
                    .hint("write ORDER BY … ASC, and FOLLOWING instead of PRECEDING"));
            }
            if !heeds_frame(function) {
                let text = format!("{}() counts rows, however long ago", function.fun.name().to_lowercase());
                return Err(Error::invalid(text).at(place).hint(
                    "write an aggregate, first_value, last_value, nth_value, lag or lead over the RANGE",
                ));
            }
            // A row is there itself, whether it is in its frame or not.
            let reach = Reach { before: before.max(0), after: after.max(0) };
            check_length(reach, place)?;
            found = Some(match found {
                Some((known, _)) if known != column => return Ok(None),
                Some((_, known)) => (column, widest(known, reach)),
                None => (column, reach),
            });
        }
        let Some((column, reach)) = found else { return Ok(None) };
        let unit = match (shape.unit, shape.grid()) {
            (_, Some(grid)) => Unit::Window(grid),
            (Unit::Slice(asked), None) => Unit::Slice(asked),
            (Unit::Window(_), None) if shape.is_windowed_here() => {
                return Err(of_own_windows(functions.first().and_then(|it| self.place_of_over(it))));
            }
            _ => Unit::Slice(None),
        };
        Ok(Some(OverAround { look: Look { reach, time: shape.time_in(unit, column) }, unit }))
    }

    pub(super) fn place_of_over(&self, function: &WindowFunction) -> Option<Position> {
        let name = function.fun.name().to_lowercase();
        syntax::place_of_function(self.query, |it| {
            it.over.is_some() && it.name.to_string().to_lowercase() == name
        })
    }
}

impl Shape {
    /// Fixed windows side by side, which can be the units of what looks around.
    pub(super) fn grid(&self) -> Option<Layout> {
        match self.unit {
            Unit::Window(layout @ Layout::Hop { .. }) if layout.tumbles() => Some(layout),
            _ => None,
        }
    }

    /// Whether its windows are laid over its rows here, and are not those of a view that it reads: then these are no instants
    /// by which it is known what has come.
    pub(in crate::plan::view) fn is_windowed_here(&self) -> bool {
        matches!(self.unit, Unit::Window(_)) && self.inputs.iter().all(|input| input.is_windowed)
    }

    /// Whether its windows are those of the views that it reads, all of them.
    pub(super) fn has_windows_of_views(&self) -> bool {
        let is_there = |input: &RowsOf| input.view.is_some() && !input.is_windowed;
        let windows = matches!(self.unit, Unit::Window(_)) && self.stage == Stage::Rows;
        windows && !self.inputs.is_empty() && self.inputs.iter().all(is_there)
    }

    /// Whether it can be told how far around its rows something looks. Where windows are laid over some of them here, and
    /// others have their own, it can't.
    fn can_look(&self) -> bool {
        match self.unit {
            Unit::None | Unit::Slice(_) => true,
            Unit::Window(_) => self.is_windowed_here() || self.has_windows_of_views(),
            Unit::Session { .. } | Unit::Ever => false,
        }
    }

    /// Whether they are rows of a view of sessions.
    pub(super) fn is_of_sessions(&self) -> bool {
        self.columns.contains(&Meaning::Final(RowTime::End))
    }

    /// Whether a column is a time of its rows.
    pub(super) fn is_time(&self, column: usize) -> bool {
        matches!(
            self.columns[column],
            Meaning::EventTime
                | Meaning::Start
                | Meaning::Opening
                | Meaning::End
                | Meaning::Last
                | Meaning::Final(_)
        )
    }

    /// How far one time of a row is behind another, at least and at most; known of bounds.
    pub(super) fn behind(&self, one: usize, other: usize) -> Option<(Micros, Micros)> {
        let Unit::Window(layout) = self.unit else { return (one == other).then_some((0, 0)) };
        let (shortest, longest) = match layout {
            Layout::Hop { size, .. } => (size, size),
            Layout::Cumulate { step, size, .. } => (step, size),
            Layout::Calendar(_) => (0, layout.longest()),
        };
        let since_start = |column: usize| match self.columns[column] {
            Meaning::Start | Meaning::Opening => Some((0, 0)),
            Meaning::End => Some((shortest, longest)),
            Meaning::Last => Some((shortest - LAST_INSTANT, longest - LAST_INSTANT)),
            _ => None,
        };
        if one == other {
            return Some((0, 0));
        }
        let (one, other) = (since_start(one)?, since_start(other)?);
        Some((one.0 - other.1, one.1 - other.0))
    }

    /// Of rows whose window is not their unit: the column by which they are of one.
    pub(super) fn time_in(&self, unit: Unit, column: usize) -> Option<usize> {
        match (unit, self.grid()) {
            (Unit::Window(unit), Some(grid)) if unit == grid => None,
            (Unit::Slice(Some(unit)), Some(grid)) if unit == grid && self.is_windowed_here() => None,
            _ => Some(column),
        }
    }

    /// Goes on as rows of many, of a unit that looks so far around.
    pub(super) fn look(&mut self, look: Look, unit: Unit) {
        let time = look.time.or_else(|| self.columns.iter().position(|it| *it == Meaning::EventTime));
        let raw = self.stage == Stage::Rows;
        self.finish_rows();
        if let (Some(time), true) = (time, matches!(unit, Unit::Slice(_)) || look.time.is_some()) {
            if raw || matches!(self.unit, Unit::Slice(_)) {
                self.columns.fill(Meaning::Other);
            }
            self.columns[time] = Meaning::EventTime;
        }
        self.unit = unit;
        self.reach = widest(
            self.reach,
            Reach {
                before: self.reach.before.saturating_add(look.reach.before),
                after: self.reach.after.saturating_add(look.reach.after),
            },
        );
    }

    /// The rows are found by those of another time.
    fn forget_time(&mut self) {
        self.columns.fill(Meaning::Other);
    }
}

/// The length of time that a frame is bound by, which is a text as SQL was read.
pub(in crate::plan) fn length_of_time(value: &ScalarValue) -> Option<ScalarValue> {
    match value {
        ScalarValue::Utf8(Some(text)) => {
            Some(ScalarValue::IntervalMonthDayNano(Some(parse_interval_month_day_nano(text).ok()?)))
        }
        ScalarValue::IntervalMonthDayNano(Some(_))
        | ScalarValue::IntervalDayTime(Some(_))
        | ScalarValue::IntervalYearMonth(Some(_)) => Some(value.clone()),
        _ => None,
    }
}

/// The least and the most that a length of time can be; where it is longer than any may be, no more than twice that.
pub(super) fn length(value: &ScalarValue) -> Option<(Micros, Micros)> {
    let (months, days, nanos) = match length_of_time(value)? {
        ScalarValue::IntervalMonthDayNano(Some(it)) => (it.months, it.days, it.nanoseconds),
        ScalarValue::IntervalDayTime(Some(it)) => (0, it.days, i64::from(it.milliseconds) * 1_000_000),
        ScalarValue::IntervalYearMonth(Some(months)) => (months, 0, 0),
        _ => return None,
    };
    let fixed = Micros::from(days).saturating_mul(DAY).saturating_add(nanos / 1000);
    let (short, long) = (Micros::from(months) * 28 * DAY, Micros::from(months) * 31 * DAY);
    let ends = [short.min(long), short.max(long)].map(|end| fixed.saturating_add(end));
    let [least, most] = ends.map(|end| end.clamp(-2 * LENGTH_MAX, 2 * LENGTH_MAX));
    Some((least, most))
}

/// Moments stay far from the ends of what can be told.
fn check_length(reach: Reach, place: Option<Position>) -> Result<()> {
    let within = |length: Micros| length.unsigned_abs() <= LENGTH_MAX.unsigned_abs();
    if within(reach.before) && within(reach.after) {
        return Ok(());
    }
    Err(Error::invalid("rows would be looked for more than a hundred years away")
        .at(place)
        .hint("look less far"))
}

/// How far from the current row a frame goes: backwards for its start, forwards for its end.
fn bound(bound: &WindowFrameBound, is_start: bool) -> Option<Micros> {
    let (value, backwards) = match bound {
        WindowFrameBound::CurrentRow => return Some(0),
        WindowFrameBound::Preceding(value) => (value, true),
        WindowFrameBound::Following(value) => (value, false),
    };
    let (least, most) = length(value)?;
    Some(if backwards == is_start { most } else { -least })
}

/// Aggregates do, and what picks a row of the frame; `lag` and `lead` are made to (`plan/nearby.rs`).
fn heeds_frame(function: &WindowFunction) -> bool {
    use datafusion::logical_expr::WindowFunctionDefinition::{AggregateUDF, WindowUDF};
    match &function.fun {
        AggregateUDF(_) => true,
        WindowUDF(it) => matches!(it.name(), "first_value" | "last_value" | "nth_value" | "lag" | "lead"),
    }
}

/// Units for rows that look so far around. What is kept is looked at once for each of them, and none is final before its
/// end: so not too short, and not too long.
pub(in crate::plan::view) fn slices_for(reach: Reach) -> Layout {
    const SECONDS: [Micros; 12] = [2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
    const SHARE: Micros = 8;
    let most = reach.before.saturating_add(reach.after).max(0) / SHARE;
    let size = SECONDS.iter().map(|seconds| seconds * 1_000_000).filter(|size| *size <= most).max();
    let size = size.unwrap_or(1_000_000);
    Layout::hop(size, size)
}

pub(super) fn widest(a: Reach, b: Reach) -> Reach {
    Reach { before: a.before.max(b.before), after: a.after.max(b.after) }
}

fn of_own_windows(place: Option<Position>) -> Error {
    Error::invalid("rows are looked at from windows of another kind or length").at(place).hint(
        "make them a view, and read that view here; only TUMBLE of one fixed length on both sides needs none",
    )
}
