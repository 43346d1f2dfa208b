//! What the engine is asked to run: streams, tables and views as plain values. `sql` makes them, nobody serializes them; a
//! restart makes them again from the statement's text, and compares fingerprints.

mod lookup;
mod unit;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use uuid::Uuid;

use crate::ids::{Micros, PartitionId};
use crate::view::LeafExec;

pub use lookup::{FileFormat, LookupSource, LookupSpec};
pub use unit::{Calendar, CalendarLength, Ever, Layout, Session, Unit, Window};

/// A declared stream: where its records come from, and how they become rows.
#[derive(Debug, Clone)]
pub struct StreamSpec {
    pub id: Uuid,
    pub name: String,
    /// The text of the `CREATE STREAM`, kept in the manifest.
    pub sql: String,
    /// All declared columns in their order, those of the record itself included.
    pub schema: SchemaRef,
    /// For each column of `schema`, where its values come from.
    pub origins: Vec<ColumnOrigin>,
    /// Without a declared watermark no windowed view can read the stream.
    pub event_time: Option<EventTime>,
    pub source: SourceSpec,
    pub options: StreamOptions,
}

impl StreamSpec {
    /// All that is left of a stream whose statement can't be planned any more.
    pub fn unplanned(id: Uuid, name: String, sql: String, reason: String) -> StreamSpec {
        StreamSpec {
            id,
            name,
            sql,
            schema: Arc::new(Schema::empty()),
            origins: vec![],
            event_time: None,
            source: SourceSpec::Unplanned(reason),
            options: StreamOptions::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnOrigin {
    /// The field of the same name in the record's value.
    Value,
    Record(RecordColumn),
}

/// Columns of the record itself: `p INT METADATA FROM 'partition'`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordColumn {
    /// Int32 or Int64
    Partition,
    /// Int64
    Offset,
    /// `Timestamp(µs, UTC)`
    Timestamp,
    /// Utf8View or BinaryView, NULL where the record has no key
    Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTime {
    /// Index into `StreamSpec::schema`; its type is `Timestamp(µs, UTC)`.
    pub column: usize,
    /// The declared delay: watermark = largest event time seen − delay.
    pub delay: Micros,
}

#[derive(Debug, Clone)]
pub enum SourceSpec {
    Kafka(KafkaSpec),
    Generator(GeneratorSpec),
    Files(FilesSpec),
    Log(LogSpec),
    /// Of a stream whose statement this version can't plan, and why: it stands still.
    Unplanned(String),
}

#[derive(Debug, Clone)]
pub struct KafkaSpec {
    pub brokers: String,
    pub topic: String,
    /// Passed to librdkafka as they are: TLS, SASL, fetch sizes.
    pub properties: BTreeMap<String, String>,
}

/// A seeded source of clicks. The same seed gives the same bytes for the same offset of the same partition.
#[derive(Debug, Clone)]
pub struct GeneratorSpec {
    pub seed: u64,
    pub partitions: i32,
    /// Records per second over all partitions; `None` means as fast as they are read.
    pub rate: Option<f64>,
    /// Records over all partitions, after which the source has ended; `None` means never.
    pub rows: Option<u64>,
    /// When the first record arrives; `None` is 2025-06-01T00:00:05Z. With a rate, records are due at their arrival by
    /// the wall clock, and those of the past at once.
    pub start_micros: Option<Micros>,
}

/// Newline-delimited JSON, read in the order of the files' names as one partition, then ended.
#[derive(Debug, Clone)]
pub struct FilesSpec {
    /// A local path or URL; a `*` in its last part matches names, a folder means all files below it.
    pub location: String,
    /// Credentials and endpoint of an object store, where the environment does not say.
    pub properties: BTreeMap<String, String>,
}

/// A log of the server's own, on its disk.
#[derive(Debug, Clone)]
pub struct LogSpec {
    /// Whose log it is, which is its name.
    pub stream: Uuid,
    pub partitions: u32,
    /// What is older and has been read may go.
    pub retention: Duration,
    /// Beyond these bytes what has been read goes sooner, and where that is not enough nothing more is taken.
    pub size_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    Timestamp(Micros),
}

#[derive(Debug, Clone)]
pub struct StreamOptions {
    pub start: Start,
    /// How long a partition must be at its end and silent before it stops holding the frontier back.
    pub idle: Duration,
    /// An event dated further ahead of its own record's timestamp is refused.
    pub future_guard: Duration,
    pub record_bytes_max: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions {
            start: Start::Earliest,
            idle: Duration::from_secs(10),
            future_guard: Duration::from_secs(300),
            record_bytes_max: 1 << 20,
        }
    }
}

/// A continuous view.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    pub id: Uuid,
    pub name: String,
    /// The text of the `CREATE MATERIALIZED VIEW`, kept in the manifest.
    pub sql: String,
    /// One for each place where its SQL reads an input; none for a table of ours.
    pub legs: Vec<Leg>,
    /// The tables that its plans look up.
    pub lookups: Vec<String>,
    /// The rows that readers see.
    pub schema: SchemaRef,
    /// For each column of `schema`, what a view that reads this one may take it for.
    pub times: Vec<Option<RowTime>>,
    pub shape: ViewShape,
    /// How long rows stay in the lake, counted back from its newest date.
    pub retention: Option<Micros>,
    /// Text that changes when a state written by the view could not be read by it any more.
    pub fingerprint: String,
}

/// A place where a view reads an input.
#[derive(Debug, Clone)]
pub struct Leg {
    pub input: Input,
    /// Indices into the input's schema of the columns that the lower half reads, ascending. Of a stream with an event
    /// time it is always among them.
    pub columns: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Stream(String),
    View(ViewInput),
}

/// The closed rows of another view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewInput {
    pub name: String,
    /// The windows of its rows, or the slices of time in which they close; `None` where these end anywhere.
    pub window: Option<Window>,
    /// Which instant of its window is the time of a row.
    pub time: RowTime,
}

impl Input {
    pub fn name(&self) -> &str {
        match self {
            Input::Stream(name) => name,
            Input::View(input) => &input.name,
        }
    }
}

/// What a column of a view tells of the window that its row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowTime {
    Start,
    End,
    /// The last instant of the window.
    Last,
    /// One of its own, within the unit that the row is of.
    Own,
}

/// How long before its end the last instant of a window is, as Flink has it.
pub const LAST_INSTANT: Micros = 1_000;

impl ViewSpec {
    /// A table of ours, which nobody created.
    pub fn is_system(&self) -> bool {
        self.legs.is_empty()
    }

    pub fn reads(&self, input: &str) -> bool {
        self.legs.iter().any(|leg| leg.input.name() == input)
    }

    /// The places where it reads a stream.
    pub fn legs_of_stream<'a>(&'a self, stream: &'a str) -> impl Iterator<Item = usize> + 'a {
        let of_stream = move |leg: &Leg| matches!(&leg.input, Input::Stream(name) if name == stream);
        self.legs.iter().enumerate().filter(move |(_, leg)| of_stream(leg)).map(|(number, _)| number)
    }

    /// The views that it reads.
    pub fn view_inputs(&self) -> impl Iterator<Item = (usize, &ViewInput)> {
        self.legs.iter().enumerate().filter_map(|(number, leg)| match &leg.input {
            Input::View(input) => Some((number, input)),
            Input::Stream(_) => None,
        })
    }

    /// The names of what it reads, each once, for people.
    pub fn inputs(&self) -> Vec<String> {
        let mut names: Vec<String> = vec![];
        for leg in &self.legs {
            if !names.iter().any(|name| name == leg.input.name()) {
                names.push(leg.input.name().to_string());
            }
        }
        names
    }
}

// There are as many of these as views, so their size is nothing to save.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum ViewShape {
    /// Filtered, projected copy of its inputs: for each leg a plan over [`LeafExec`](crate::view::LeafExec), whose
    /// output is `schema` followed by [`TIME_COLUMN`] (the event time, or the record's timestamp without one).
    Copy { lowers: Vec<Arc<dyn ExecutionPlan>> },
    /// What is kept until its unit closes.
    Units { unit: Unit, allowed_lateness: Micros, cuts: Vec<Cut>, upper: Upper },
}

impl ViewSpec {
    /// Of a view whose statement can't be planned any more nothing is left but its table.
    pub fn is_planned(&self) -> bool {
        !matches!(&self.shape, ViewShape::Copy { lowers } if lowers.iter().all(|lower| lower.is::<LeafExec>()))
    }
}

impl ViewShape {
    pub fn allowed_lateness(&self) -> Micros {
        match self {
            ViewShape::Units { allowed_lateness, .. } => *allowed_lateness,
            ViewShape::Copy { .. } => 0,
        }
    }

    pub fn window(&self) -> Option<Window> {
        match self {
            ViewShape::Units { unit: Unit::Window(window), .. } => Some(*window),
            _ => None,
        }
    }

    pub fn cuts(&self) -> &[Cut] {
        match self {
            ViewShape::Units { cuts, .. } => cuts,
            ViewShape::Copy { .. } => &[],
        }
    }

    /// Whether a unit looks at what lies around it.
    pub fn looks_around(&self) -> bool {
        self.cuts().iter().any(|cut| cut.reach != Reach::default())
    }

    /// How far behind what its legs have come to a unit ends that can close: what comes after it may count in it.
    pub fn hold(&self) -> Micros {
        self.cuts().iter().map(|cut| cut.reach.after).max().unwrap_or(0).max(0)
    }

    /// The first of the cuts that a leg gives to: they are alike in how far around their unit they count.
    pub fn cut_of(&self, leg: usize) -> Option<&Cut> {
        self.cuts().iter().find(|cut| cut.lowers.iter().any(|lower| lower.leg == leg))
    }

    /// Whether leg `leg` of both would make the same parts of the same rows, so that one lower half serves both.
    pub fn shares_lower_half(&self, other: &ViewShape, leg: usize) -> bool {
        match (self, other) {
            (
                ViewShape::Units { unit, allowed_lateness, cuts, .. },
                ViewShape::Units { unit: u, allowed_lateness: l, cuts: c, .. },
            ) => {
                (unit, allowed_lateness, self.hold()) == (u, l, other.hold())
                    && cuts.iter().map(|cut| cut.key(leg)).eq(c.iter().map(|cut| cut.key(leg)))
            }
            _ => false,
        }
    }

    /// The same for all of which [`Self::shares_lower_half`] holds; `None` where it holds of nothing.
    pub fn hash_of_lower_half(&self, leg: usize) -> Option<u64> {
        let ViewShape::Units { cuts, .. } = self else { return None };
        let mut hasher = DefaultHasher::new();
        cuts.iter().for_each(|cut| cut.key(leg).0.hash(&mut hasher));
        Some(hasher.finish())
    }
}

/// One kind of state: what the lower halves of one or several legs make, and what is made of that above. Each is planned
/// for itself.
#[derive(Debug, Clone)]
pub struct Cut {
    pub lowers: Vec<Lower>,
    pub state: State,
    /// Positions of the window's bounds in the partial batches (and in the finished rows); a query may name only one of
    /// the two. Of rows that look around, the first is any instant of their unit.
    pub window_start: Option<usize>,
    pub window_end: Option<usize>,
    /// Likewise of the keys by which sessions are told apart, or groups that may leave.
    pub keys: Vec<usize>,
    pub reach: Reach,
    /// Whether what it keeps is of whole windows: what looks at one later sees what it was when it closed, without the rows
    /// that came too late for it. Rows by themselves count in all that still may look at them.
    pub whole: bool,
}

/// How far around its unit what a cut keeps counts in it. Whole panes of units side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// So far before the unit's start it begins; less than nothing is after that.
    pub before: Micros,
    /// So far after the unit's end it ends; less than nothing is before that.
    pub after: Micros,
}

/// What a leg gives to a cut.
#[derive(Debug, Clone)]
pub struct Lower {
    pub leg: usize,
    /// What it makes, and how: equal ones make equal states of equal rows.
    pub logical: LogicalPlan,
    /// Over a [`LeafExec`](crate::view::LeafExec) leaf: an `AggregateExec(Partial)`, or rows as they are kept.
    pub plan: Arc<dyn ExecutionPlan>,
}

#[derive(Debug, Clone)]
pub enum State {
    /// Partial aggregates: `AggregateExec(Final)` over the first lower half, never combined.
    Aggregate(Arc<dyn ExecutionPlan>),
    /// The rows themselves.
    Rows(SchemaRef),
}

impl Cut {
    pub fn state_schema(&self) -> SchemaRef {
        match &self.state {
            State::Aggregate(last) => last.children()[0].schema(),
            State::Rows(schema) => Arc::clone(schema),
        }
    }

    fn key(&self, leg: usize) -> (Vec<&LogicalPlan>, [Option<usize>; 2], &[usize], Reach, bool) {
        let of_leg = self.lowers.iter().filter(|lower| lower.leg == leg).map(|lower| &lower.logical);
        (of_leg.collect(), [self.window_start, self.window_end], &self.keys, self.reach, self.whole)
    }
}

/// The query above the cuts: leaf [`StateScan`](crate::view::StateScan) stands for the finished rows of a cut. Its output
/// is the view's schema followed by [`TIME_COLUMN`] (the start of the row's window).
#[derive(Debug, Clone)]
pub struct Upper {
    /// For people.
    pub logical: LogicalPlan,
    /// Reads the states of its run; reset and run again each time.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The same for groups of which there is one partial row, where each is finished by itself.
    pub each: Option<Arc<dyn ExecutionPlan>>,
    /// Finishes each group by itself, so that some groups can be finished without the others.
    pub by_group: bool,
    /// For each column of its output that of the partial rows which it is, where that is a key by which they are grouped, and
    /// no bound of their window.
    pub keys: Vec<Option<usize>>,
}

impl Upper {
    /// Of its output the first column that tells groups of one window apart, and has an order.
    pub fn first_key(&self) -> Option<usize> {
        let schema = self.plan.schema();
        self.keys
            .iter()
            .zip(schema.fields())
            .position(|(key, field)| key.is_some() && !field.data_type().is_nested())
    }
}

/// The hidden last column of every row on its way to history, `Timestamp(µs, UTC)`: which day's partition it lands in,
/// and when it closes.
pub const TIME_COLUMN: &str = "__time";

/// A statement that the engine keeps for others and does not run: an endpoint, or a plain view. What it says is `sql`'s to
/// read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptStatement {
    pub id: Uuid,
    /// What it is found by: `/api/…` of an endpoint, a name of a view.
    pub name: String,
    /// The text of the CREATE, kept in the manifest.
    pub sql: String,
}

/// A change of what there is to run. It takes effect at a barrier, and is durable with that barrier's manifest.
#[derive(Debug, Clone)]
pub enum CatalogChange {
    CreateStream(Arc<StreamSpec>),
    /// The same; where its topic can't be had now, it stands still until it can.
    AwaitStream(Arc<StreamSpec>),
    CreateView(Arc<ViewSpec>),
    /// The same; its streams stand still until the tables that it looks up have been read.
    AwaitView(Arc<ViewSpec>),
    CreateLookup(Arc<LookupSpec>),
    /// The same; where its source can't be had now, it is not read until that can.
    AwaitLookup(Arc<LookupSpec>),
    /// By name; no view may read it.
    DropStream(String),
    DropLookup(String),
    DropView(String),
    /// Has a view that failed begin anew, planned again from its text: with the windows that start from now on. What it
    /// had closed stays.
    RestartView(Arc<ViewSpec>),
    /// Has a stream that failed go on: where it stood, or from what `at` means now.
    RestartStream {
        name: String,
        at: Option<Start>,
    },
    /// Sets the watermark of one partition of a stream, or of all, whatever it is. What has closed stays closed.
    SetWatermark {
        stream: String,
        partition: Option<PartitionId>,
        to: Micros,
    },
    Keep(Arc<KeptStatement>),
    /// By name.
    Forget(String),
}
