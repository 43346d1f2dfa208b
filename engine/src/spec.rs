//! What the engine is asked to run: streams and views as plain values. `sql` makes them, nobody serializes them; a
//! restart makes them again from the statement's text, and compares fingerprints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use uuid::Uuid;

use crate::ids::Micros;

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

/// A continuous view over one stream.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    pub id: Uuid,
    pub name: String,
    /// The text of the `CREATE MATERIALIZED VIEW`, kept in the manifest.
    pub sql: String,
    pub stream: String,
    /// Indices into the stream's schema of the columns that the lower half reads, ascending. A windowed view always
    /// reads the event time.
    pub columns: Vec<usize>,
    /// The rows that readers see.
    pub schema: SchemaRef,
    pub shape: ViewShape,
    /// Text that changes when a state written by the view could not be read by it any more.
    pub fingerprint: String,
}

// There are as many of these as views, so their size is nothing to save.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum ViewShape {
    /// Filtered, projected copy of the stream: one plan over [`LeafExec`](crate::view::LeafExec), whose
    /// output is `schema` followed by [`TIME_COLUMN`] (the event time, or the record's timestamp without one).
    Copy {
        lower: Arc<dyn ExecutionPlan>,
    },
    Windowed {
        window: Window,
        allowed_lateness: Micros,
        cuts: Vec<Cut>,
        upper: Upper,
    },
}

impl ViewShape {
    /// Whether both would make the same parts of the same rows, so that one lower half serves both.
    pub fn shares_lower_half(&self, other: &ViewShape) -> bool {
        match (self, other) {
            (
                ViewShape::Windowed { window, allowed_lateness, cuts, .. },
                ViewShape::Windowed { window: w, allowed_lateness: l, cuts: c, .. },
            ) => (window, allowed_lateness) == (w, l) && cuts.iter().map(key).eq(c.iter().map(key)),
            _ => false,
        }
    }
}

fn key(cut: &Cut) -> (&LogicalPlan, Option<usize>, Option<usize>) {
    (&cut.logical, cut.window_start, cut.window_end)
}

/// Windows of `size` every `slide`, aligned to the epoch. `slide == size` is TUMBLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub size: Micros,
    pub slide: Micros,
    /// Rows were expanded per window below the cut, because something there looks at the window: then a pane is a
    /// whole window, and the window columns of a state are right as they are.
    pub expanded: bool,
}

/// One aggregate over the stream, planned for itself: `Final` over `Partial`, never combined.
#[derive(Debug, Clone)]
pub struct Cut {
    /// What it aggregates and how: equal ones have equal states.
    pub logical: LogicalPlan,
    /// `AggregateExec(Final)` whose input is `AggregateExec(Partial)` over a
    /// [`LeafExec`](crate::view::LeafExec) leaf.
    pub aggregate: Arc<dyn ExecutionPlan>,
    /// Positions of the window's bounds among the group keys (and so in the partial batches and in the final rows);
    /// a query may name only one of the two.
    pub window_start: Option<usize>,
    pub window_end: Option<usize>,
}

/// The query above the cuts: leaf [`StateScan`](crate::view::StateScan) stands for the finished rows of a cut. Its output
/// is the view's schema followed by [`TIME_COLUMN`] (the start of the row's window).
#[derive(Debug, Clone)]
pub struct Upper {
    /// For people.
    pub logical: LogicalPlan,
    /// Reads the states of its run; reset and run again each time.
    pub plan: Arc<dyn ExecutionPlan>,
}

/// The hidden last column of every row on its way to history, `Timestamp(µs, UTC)`: which day's partition it lands in,
/// and when it closes.
pub const TIME_COLUMN: &str = "__time";

/// An address at which HTTP asks or brings something. The engine keeps its statement; what it says is `sql`'s to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    pub id: Uuid,
    /// `/api/…`
    pub path: String,
    /// The text of the `CREATE ENDPOINT`, kept in the manifest.
    pub sql: String,
}

/// A change of what there is to run. It takes effect at a barrier, and is durable with that barrier's manifest.
#[derive(Debug, Clone)]
pub enum CatalogChange {
    CreateStream(Arc<StreamSpec>),
    CreateView(Arc<ViewSpec>),
    /// By name; no view may read it.
    DropStream(String),
    DropView(String),
    /// Has a view that failed begin anew, planned again from its text: with the windows that start from now on. What it
    /// had closed stays.
    RestartView(Arc<ViewSpec>),
    /// Has a stream that failed go on: where it stood, or from what `at` means now.
    RestartStream {
        name: String,
        at: Option<Start>,
    },
    CreateEndpoint(Arc<EndpointSpec>),
    /// By path.
    DropEndpoint(String),
}
