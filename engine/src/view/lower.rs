//! The lower half of one leg of a view, as a worker runs it, and a reader for what no worker has run it on yet: arrived
//! rows in, parts and counts out.
//!
//! Owns: running the plan again and again, leaving out late rows and those that fail. Leaves to others: where the parts
//! go, and what is told of the rows left out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::FutureExt;

use crate::ids::{CALENDAR, Micros};
use crate::spec::{Cut, Reach, Unit, ViewShape};
use crate::view::Extent;
use crate::view::arrived::Arrived;
use crate::view::compact::{alone, compacted};
use crate::view::dates::beyond_calendar;
use crate::view::fault::Fault;
use crate::view::leaf::MicroBatch;
use crate::view::left::Left;
use crate::view::part::Part;
use crate::view::running::Room;
use crate::view::session;
use crate::view::sieve::{self, Faults, Gallop};
use crate::view::tally::{Counts, Tallies};
use crate::view::upper::reduce;
use crate::view::watermark::{Observed, Verdicts};
use crate::{Error, Result};

pub struct LowerHalf {
    plans: Vec<Plan>,
    /// What it makes parts of; `None` for a copy.
    unit: Option<Unit>,
    /// With how late a row may be; `None` where nothing is late.
    late: Option<(Late, Micros)>,
    /// Whether rows look around among rows of their own, in an OVER.
    looks_at_own: bool,
    /// Whether the bounds of its units are seen, so that a calendar must have them.
    has_bounds: bool,
    /// Windows that have left although a watermark may come that they end after.
    left: Left,
}

/// Which rows come too late.
#[derive(Debug, Clone, Copy)]
enum Late {
    /// Those whose windows had all passed.
    Windows(Extent),
    /// Those behind the watermark: what they belong to may have closed, or not.
    Behind,
}

struct Plan {
    plan: Arc<dyn ExecutionPlan>,
    tallies: Tallies,
    /// With its number; `None` for a copy.
    cut: Option<(u32, Cut)>,
}

/// What the rows that arrived became: `aggregated + filtered + late + failed` of them.
#[derive(Debug, Default)]
pub struct Lowered {
    pub parts: Vec<Part>,
    pub aggregated: u64,
    pub filtered: u64,
    pub late: u64,
    pub failed: Vec<FailedRow>,
}

/// A row that an expression of the view can't take: it divides by zero, or a text of it is no date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    /// Among the rows that arrived.
    pub row: usize,
    pub fault: Fault,
}

/// What came of one run over some rows.
struct Ran {
    parts: Vec<Part>,
    counts: Counts,
}

impl LowerHalf {
    pub fn new(shape: &ViewShape, leg: usize) -> Result<LowerHalf> {
        Ok(match shape {
            ViewShape::Copy { lowers } => LowerHalf {
                plans: vec![Plan::new(Arc::clone(&lowers[leg]), None)?],
                unit: None,
                late: None,
                looks_at_own: false,
                has_bounds: false,
                left: Left::default(),
            },
            ViewShape::Units { unit, allowed_lateness, cuts, .. } => {
                let numbered = (0..).zip(cuts);
                let of_leg = numbered.flat_map(|(number, cut)| {
                    let lowers = cut.lowers.iter().filter(|lower| lower.leg == leg);
                    lowers.map(move |lower| Plan::new(Arc::clone(&lower.plan), Some((number, cut.clone()))))
                });
                let late = match unit {
                    Unit::Window(window) => Some(match shape.cut_of(leg) {
                        Some(Cut { whole: false, reach, .. }) => {
                            let extent = Extent { window: *window, reach: *reach };
                            (Late::Windows(extent), allowed_lateness.saturating_add(shape.hold()))
                        }
                        _ => (Late::Windows(Extent::within(*window)), *allowed_lateness),
                    }),
                    Unit::Session(_) => Some((Late::Behind, *allowed_lateness)),
                    Unit::Ever(ever) => ever.keep.map(|keep| (Late::Behind, keep)),
                };
                LowerHalf {
                    plans: of_leg.collect::<Result<_>>()?,
                    unit: Some(*unit),
                    late,
                    looks_at_own: matches!(&cuts[..], [only] if only.reach != Reach::default()),
                    has_bounds: !shape.looks_around(),
                    left: Left::default(),
                }
            }
        })
    }

    pub fn without(self, left: Left) -> LowerHalf {
        LowerHalf { left, ..self }
    }

    /// Which rows are late, and in which of their windows others count; `None` if all count in all of theirs.
    pub fn verdicts(&self, observed: &Observed) -> Option<Verdicts> {
        match self.late? {
            (Late::Windows(extent), lateness) => observed.verdicts(extent, lateness, &self.left),
            (Late::Behind, lateness) => observed.behind(lateness),
        }
    }

    /// The rows that are late, or of which nothing will be seen but by rows after them, and why, in words.
    pub fn late_rows(&self, observed: &Observed) -> Vec<(usize, &'static str)> {
        let Some(verdicts) = self.verdicts(observed) else { return vec![] };
        let why = match self.late {
            Some((Late::Behind, _)) if matches!(self.unit, Some(Unit::Ever(_))) => {
                "it lies so far behind the watermark that its group may have left"
            }
            Some((Late::Behind, _)) => "it lies behind the watermark, so its session may have ended",
            _ => "all its windows had closed",
        };
        let unseen = match self.late {
            Some((Late::Windows(extent), lateness)) if self.looks_at_own => {
                observed.verdicts(Extent::within(extent.window), lateness, &self.left)
            }
            _ => None,
        };
        let told = |row: usize| match &unseen {
            _ if verdicts.late.value(row) => Some((row, why)),
            Some(own) if own.late.value(row) => {
                Some((row, "its slice of time had closed: it counts in rows after it, and is none itself"))
            }
            _ => None,
        };
        (0..verdicts.late.len()).filter_map(told).collect()
    }

    /// Runs over the rows but those that are late, and those that fail. A row fails if it does so alone, so which ones do
    /// does not depend on how batches were cut (INV-17).
    pub async fn take_in(&mut self, arrived: &Arrived) -> Result<Lowered> {
        let mut lowered = Lowered::default();
        if let Some(verdicts) = arrived.observed.as_ref().and_then(|observed| self.verdicts(observed)) {
            lowered.late = verdicts.late.true_count() as u64;
            for (after, rows) in verdicts.in_time() {
                let some = take_record_batch(&arrived.batch, &rows)?;
                let place = |row: usize| rows.value(row) as usize;
                for part in self.lower(&some, place, &mut lowered).await? {
                    lowered.parts.extend(match self.late {
                        Some((Late::Windows(extent), _)) => part.ending_after(after, extent)?,
                        _ => Some(part),
                    });
                }
            }
        } else {
            lowered.parts = self.lower(&arrived.batch, |row| row, &mut lowered).await?;
        }
        if self.unit.is_some_and(|unit| unit.session().is_some()) {
            // So far each row was a session of its own.
            lowered.parts = self.merged(lowered.parts).await?;
        }
        lowered.failed.sort_by_key(|failed| failed.row);
        Ok(lowered)
    }

    /// Runs over all rows at once; where that fails over those that do not, until each row that fails is known. `place`
    /// says which of the arrived rows one is.
    async fn lower(
        &mut self,
        batch: &RecordBatch,
        place: impl Fn(usize) -> usize,
        lowered: &mut Lowered,
    ) -> Result<Vec<Part>> {
        if let Ok(ran) = self.run(batch).await? {
            lowered.count(ran.counts);
            return Ok(ran.parts);
        }
        // What can't run over nothing can never run, and no row is to blame.
        if let Err(fault) = self.run(&alone(batch, 0, 0)?).await? {
            return Err(Error::BadData(format!("the view's plan can't run: {}", fault.reason)));
        }
        let mut faults = Faults::new();
        for plan in &self.plans {
            sieve::sift(&plan.plan, batch, &mut faults);
        }
        let (left, rows) = sieve::without(batch, &faults)?;
        let mut failed = |row: u32, fault| lowered.failed.push(FailedRow { row: place(row as usize), fault });
        faults.into_iter().for_each(|(row, fault)| failed(row, fault));
        let (mut parts, mut counts) = (vec![], vec![]);
        let mut gallop = Gallop::over(left.num_rows());
        while let Some((first, some)) = gallop.next() {
            match self.run(&alone(&left, first, some)?).await? {
                Ok(ran) => {
                    counts.push(ran.counts);
                    parts.extend(ran.parts);
                    gallop.succeeded();
                }
                Err(fault) => {
                    if let Some(row) = gallop.failed() {
                        failed(rows.value(row), fault);
                    }
                }
            }
        }
        counts.into_iter().for_each(|counts| lowered.count(counts));
        self.merged(parts).await
    }

    /// The parts of many runs as those of one would be.
    async fn merged(&self, parts: Vec<Part>) -> Result<Vec<Part>> {
        match (self.unit, parts.first()) {
            (_, None) => Ok(vec![]),
            (Some(unit), _) => {
                let mut merged = vec![];
                for (number, cut) in self.plans.iter().filter_map(|plan| plan.cut.as_ref()) {
                    let of_cut = parts.iter().filter(|part| part.cut == *number);
                    let of_cut: Vec<Part> = of_cut.map(|part| part.clone().of_cut(0)).collect();
                    let reduced =
                        reduce(std::slice::from_ref(cut), unit, &of_cut, &Room::unbounded()).await?;
                    merged.extend(reduced.into_iter().map(|part| part.of_cut(*number)));
                }
                Ok(merged)
            }
            (None, Some(first)) => {
                let batch = concat_batches(first.batch.schema_ref(), parts.iter().map(|part| &part.batch))?;
                Ok(vec![Part::of_one_pane(0, 0, batch)])
            }
        }
    }

    /// Runs every cut over the rows. The cuts must agree on what became of them.
    async fn run(&mut self, batch: &RecordBatch) -> Result<Result<Ran, Fault>> {
        let context = Room::unbounded().context(MicroBatch(batch.clone()));
        let mut ran = Ran { parts: vec![], counts: Counts::default() };
        for (number, plan) in self.plans.iter_mut().enumerate() {
            let outcome = plan.run(Arc::clone(&context)).await?;
            // Taken in any case: the next run begins with nothing counted.
            let seen = plan.tallies.take();
            let batches = match outcome {
                Ok(batches) => batches,
                Err(fault) => return Ok(Err(fault)),
            };
            match (&plan.cut, self.unit) {
                (Some((number, cut)), Some(unit)) => {
                    if let Some(part) = Part::of_batches(*number, &batches, cut, unit)? {
                        if self.has_bounds
                            && let Err(fault) = bounded(&part, cut, unit)?
                        {
                            return Ok(Err(fault));
                        }
                        if let Err(fault) = held(&part.batch) {
                            return Ok(Err(fault));
                        }
                        ran.parts.push(part);
                    }
                }
                _ => {
                    for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
                        if let Err(fault) = dated(&batch).and_then(|()| held(&batch)) {
                            return Ok(Err(fault));
                        }
                        ran.parts.push(Part::of_one_pane(0, 0, compacted(batch)?));
                    }
                }
            }
            conserved(batch.num_rows(), seen)?;
            if number == 0 {
                ran.counts = seen;
            }
        }
        Ok(Ok(ran))
    }
}

impl Lowered {
    fn count(&mut self, Counts { aggregated, filtered, expanded }: Counts) {
        // Where a row's copies for its windows were filtered, there may be fewer rows left than copies were added.
        let kept = aggregated as i64 - expanded;
        self.aggregated += kept.max(0) as u64;
        self.filtered += (filtered as i64 + kept.min(0)) as u64;
    }
}

/// A row of a copy has a time by which it goes to its day. A line of a file has none of its own, and a
/// broker takes any number for one.
fn dated(batch: &RecordBatch) -> Result<(), Fault> {
    let Some(times) = batch.columns().last().and_then(|it| it.as_primitive_opt::<TimestampMicrosecondType>())
    else {
        return Ok(());
    };
    match times.iter().find(|time| time.is_none_or(|time| !CALENDAR.contains(&time))) {
        None => Ok(()),
        Some(None) => {
            Err(Fault::of_row("the row has no time by which to keep it: its record has no timestamp"))
        }
        Some(Some(_)) => Err(Fault::of_row("the row's time is beyond the years 1 to 9999")),
    }
}

/// What a row's expressions give can be told wherever the lake is read.
fn held(batch: &RecordBatch) -> Result<(), Fault> {
    match beyond_calendar(batch) {
        None => Ok(()),
        Some(_) => Err(Fault::of_row("a time that the view computes is beyond the years 1 to 9999")),
    }
}

/// A row's windows have bounds that a date can hold, as its time has: else they are not in the lake as they are here.
fn bounded(part: &Part, cut: &Cut, unit: Unit) -> Result<Result<(), Fault>> {
    let (first, last) = match (unit, part.panes.first(), part.panes.last()) {
        (Unit::Window(window), Some(first), Some(last)) => {
            let layout = window.layout;
            let ends = window.ends_over(first.start, Micros::MIN);
            let first = ends.map(|(first, _)| layout.start_of(layout.mark_of_end(first)));
            (first, Some(window.last_end(last.start)))
        }
        (Unit::Session(_), ..) => (None, session::ends(cut, &part.batch)?.into_iter().max()),
        _ => (None, None),
    };
    Ok(
        match first.is_none_or(|start| CALENDAR.contains(&start))
            && last.is_none_or(|end| CALENDAR.contains(&end))
        {
            true => Ok(()),
            false => Err(Fault::of_row("a window of the row reaches beyond the years 1 to 9999")),
        },
    )
}

/// INV-9: rows into a lower half = aggregated + filtered, each counted where it happens.
fn conserved(rows: usize, counts: Counts) -> Result<()> {
    let accounted = counts.aggregated as i64 - counts.expanded + counts.filtered as i64;
    if accounted != rows as i64 {
        return Err(Error::Internal(format!(
            "a lower half lost rows. in={rows}, aggregated={}, expanded={}, filtered={}",
            counts.aggregated, counts.expanded, counts.filtered
        )));
    }
    Ok(())
}

impl Plan {
    fn new(plan: Arc<dyn ExecutionPlan>, cut: Option<(u32, Cut)>) -> Result<Plan> {
        let (plan, tallies) = Tallies::instrument(plan)?;
        Ok(Plan { plan, tallies, cut })
    }

    async fn run(&mut self, context: Arc<TaskContext>) -> Result<Result<Vec<RecordBatch>, Fault>> {
        // Each run would otherwise leave its metrics behind in the plan.
        self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        let run = AssertUnwindSafe(collect(Arc::clone(&self.plan), context)).catch_unwind().await;
        Ok(match run {
            Ok(Ok(batches)) => Ok(batches),
            Ok(Err(error)) => Err(Fault::of_expression(&error)),
            Err(panic) => Err(Fault::of_panic(&*panic)),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
    use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

    use super::*;
    use crate::view::LeafExec;

    /// A copy of `b` by a function that panics over a three.
    fn copy() -> ViewShape {
        let schema = Arc::new(Schema::new(vec![Field::new("b", DataType::Int64, true)]));
        let touchy = |values: &[ColumnarValue]| {
            let values = ColumnarValue::values_to_arrays(values)?.swap_remove(0);
            assert!(!values.as_primitive::<Int64Type>().values().contains(&3), "three");
            Ok(ColumnarValue::Array(values))
        };
        let touchy = create_udf(
            "touchy",
            vec![DataType::Int64],
            DataType::Int64,
            Volatility::Immutable,
            Arc::new(touchy),
        );
        let column = || col("b", &schema).expect("the column is declared");
        let touchy =
            ScalarFunctionExpr::try_new(Arc::new(touchy), vec![column()], &schema, Default::default());
        let touchy: Arc<dyn PhysicalExpr> = Arc::new(touchy.expect("the function takes the column"));
        let leaf = Arc::new(LeafExec::of_micro_batch(Arc::clone(&schema)));
        let columns = vec![
            ProjectionExpr { expr: touchy, alias: "b".into() },
            ProjectionExpr { expr: column(), alias: "time".into() },
        ];
        ViewShape::Copy {
            lowers: vec![Arc::new(ProjectionExec::try_new(columns, leaf).expect("it is legal"))],
        }
    }

    #[tokio::test]
    async fn a_row_that_a_function_panics_over_fails_alone() {
        let mut half = LowerHalf::new(&copy(), 0).expect("the plan is legal");
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 3, 5, 3, 7]));
        let batch = RecordBatch::try_from_iter_with_nullable([("b", values, true)]).expect("it is a batch");
        let lowered = half.take_in(&Arrived { batch, observed: None }).await.expect("rows are to blame");
        let failed: Vec<_> =
            lowered.failed.iter().map(|failed| (failed.row, &*failed.fault.reason)).collect();
        let told = "a function panicked: three, in touchy(b)";
        assert_eq!(failed, [(1, told), (3, told)]);
        let kept: Vec<_> = lowered.parts.iter().map(|part| part.batch.column(0).clone()).collect();
        assert_eq!(kept, [Arc::new(Int64Array::from(vec![1, 5, 7])) as ArrayRef]);
        assert_eq!((lowered.aggregated, lowered.filtered), (3, 0));
    }
}
