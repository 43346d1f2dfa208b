//! `SUBSCRIBE`: a log of changes whose sum is the view.
//!
//! A row comes with `change` +1 or -1, and `final` where it will never be taken back. After each mark, a row with `change`
//! 0 and a token, all rows so far add up to the view as it was at one instant. A token stands for the final rows that were
//! told before it: whoever comes back with one forgets those that were not final, and is told the open ones anew.
//!
//! ```text
//! Feed, one a view: looks at snapshots, finishes open rows, works out what has changed ─┬─ Subscriber ─ RowByRow ─► rows
//!                                                                                       └─ …
//! ```
//! Nothing queues up for whoever is slow: the next state it looks at is the newest, and it is told what lies between.

mod changes;
mod feed;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::ids::{Epoch, Micros};
use thalweg_engine::sink::{HistoryFile, OpenedFiles};
use thalweg_engine::spec::{Unit, ViewShape, ViewSpec};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) use self::changes::Change;
pub(crate) use self::feed::Feeds;
pub(crate) use self::feed::{Feed, News, State};
use super::answer::{self, Bounds};
use super::database::Shared;
use super::making::{self, Making, Told};
use super::query::Request;
use super::registry::Ticket;
use crate::parse::Subscribe;
use crate::plan::values::{self, Options};
use crate::plan::{self, CARRIED, RowByRow};
use crate::{Error, Result};

/// What comes before the columns of the query.
const TOLD: [&str; 4] = ["change", "final", "token", "epoch"];
const INSTANT: &str = "write one with its zone, such as 2025-06-01T00:00:00Z";
const OPTIONS: [&str; 3] = ["every", "live", "snapshot"];
/// A mark without a row says how far all is told.
const MARK: Duration = Duration::from_secs(1);
/// A client that takes nothing for so long is left: what it was about to be told is kept for it.
const STALLED: Duration = Duration::from_secs(30);
/// What changes at once is worked out once for all, as long as it is not more than this.
const SHARED_ROWS: usize = 10_000;
const SHARED_BYTES: usize = 128 << 20;
/// As good as for ever.
const ENDLESS: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A subscription that is planned.
pub(crate) struct Planned {
    rows: Making,
    wanted: Wanted,
    pub schema: SchemaRef,
}

#[derive(Debug, Clone)]
struct Wanted {
    /// What there is at the beginning, beside what is open.
    snapshot: bool,
    /// Open rows too.
    live: bool,
    /// No more often.
    every: Duration,
    after: Option<(Uuid, Epoch)>,
    /// It ends once all that ends by this instant is told for good.
    up_to: Option<Micros>,
}

/// `given` are the values of the parameters that it names, as text; `text` is the statement as it was written.
pub(crate) async fn plan(
    shared: &Arc<Shared>,
    schema: &str,
    subscribe: &Subscribe,
    given: &[(String, String)],
    text: &str,
) -> Result<Planned> {
    let mut options = Options::new(&subscribe.options);
    options.refuse_unknown(&OPTIONS)?;
    let after = subscribe.after.as_ref().map(|(text, place)| {
        token(text).ok_or_else(|| {
            Error::invalid("this is no token of a subscription")
                .at(*place)
                .hint("a token stands in the column of that name, in rows with change = 0")
        })
    });
    let wanted = Wanted {
        snapshot: options.parsed("snapshot", values::boolean)?.unwrap_or(true),
        live: options.parsed("live", values::boolean)?.unwrap_or(true),
        every: options.parsed("every", values::duration)?.unwrap_or(Duration::ZERO),
        after: after.transpose()?,
        up_to: subscribe
            .up_to
            .as_ref()
            .map(|(text, place)| {
                let wrong = |_| Error::invalid(format!("'{text}' is no instant")).at(*place).hint(INSTANT);
                values::moment(text).map_err(wrong)
            })
            .transpose()?,
    };
    let told = Told { query: &subscribe.query, given, schema, text, what: "a subscription" };
    let rows = Making::of(shared, told).await?;
    if let Some((_, place)) = &subscribe.up_to {
        let views = shared.engine.views();
        let closes = |view: &&Arc<ViewSpec>| {
            matches!(&view.shape, ViewShape::Units { unit: Unit::Window(_) | Unit::Session(_), .. })
        };
        if !views.iter().filter(closes).any(|view| view.name == rows.view) {
            return Err(Error::invalid(format!(
                "view {} has no windows, so it comes up to no instant",
                rows.view
            ))
            .at(*place)
            .hint("leave out UP TO, and end the subscription when you have seen enough"));
        }
    }
    let schema = schema_of(&rows.schema).map_err(|error| error.at(plan::place_of_query(&subscribe.query)))?;
    Ok(Planned { rows, wanted, schema })
}

/// The query as what becomes of each row of its view, for ever the same.
pub(crate) async fn row_by_row(request: Request, values: Vec<ScalarValue>, what: &str) -> Result<RowByRow> {
    let (schema, query) = (request.schema.clone(), request.query.clone());
    let is_bound = !values.is_empty();
    let planned = request.plan(is_bound.then_some(values)).await;
    let rows = match planned {
        Ok(planned) => read_row_by_row(planned, is_bound, (&schema, &query), what).await,
        Err(error) => Err(error),
    };
    rows.map_err(|error| error.at(plan::place_of_query(&query)))
}

async fn read_row_by_row(
    planned: super::query::Planned,
    is_bound: bool,
    query: (&str, &Query),
    what: &str,
) -> Result<RowByRow> {
    if !is_bound && !planned.parameters.fields().is_empty() {
        return Err(Error::invalid(format!("{what} has no parameters")).hint("write the value itself"));
    }
    let rows = RowByRow::of(planned.plan, query, &planned.state, what).await?;
    if planned.reads.is_none() {
        return Err(Error::invalid("a row would be told once, and be another one later: the query looks at the clock, at chance, or at other tables")
            .hint("read rows of one view by what they hold"));
    }
    Ok(rows)
}

/// The columns that are told of a query's.
fn schema_of(rows: &Schema) -> Result<SchemaRef> {
    let [change, is_final, token, epoch] = TOLD;
    let mut fields = vec![
        Field::new(change, DataType::Int32, false),
        Field::new(is_final, DataType::Boolean, true),
        Field::new(token, DataType::Utf8, true),
        Field::new(epoch, DataType::Int64, true),
    ];
    for field in rows.fields().iter().take(rows.fields().len() - CARRIED.len()) {
        if TOLD.contains(&field.name().as_str()) {
            return Err(Error::invalid(format!("a subscription has a column {} of its own", field.name()))
                .hint(format!("give the query's another name, such as {}_of_view, with AS", field.name())));
        }
        fields.push(field.as_ref().clone().with_nullable(true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

impl Planned {
    pub fn start(self, shared: &Arc<Shared>, ticket: Ticket) -> Result<SendableRecordBatchStream> {
        let feed = shared.feeds.of(shared, &self.rows.view, self.wanted.live)?;
        let schema = Arc::clone(&self.schema);
        let news = feed.news.clone();
        let subscriber = Subscriber {
            query: feed.number_of(&self.rows.identity),
            rows: self.rows,
            wanted: self.wanted,
            schema: Arc::clone(&self.schema),
            news,
            feed,
            at: None,
            marked: Instant::now(),
            is_told: false,
            work: VecDeque::new(),
        };
        let rows = futures::stream::unfold(Some(subscriber), |subscriber| async move {
            let mut subscriber = subscriber?;
            match subscriber.next().await {
                Ok(rows) => rows.map(|rows| (Ok(rows), Some(subscriber))),
                Err(error) => Some((Err(DataFusionError::from(error)), None)),
            }
        });
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
        let memory_bytes = shared.settings.query_memory_bytes;
        let bounds =
            Bounds { time: ENDLESS, memory_bytes, rows_max: None, stalled: STALLED, rows_are_changes: true };
        Ok(answer::start(&shared.runtime, schema, rows, bounds, ticket))
    }
}

struct Subscriber {
    rows: Making,
    query: Arc<u64>,
    wanted: Wanted,
    schema: SchemaRef,
    news: watch::Receiver<News>,
    feed: Arc<Feed>,
    /// What is told, or is in `work`.
    at: Option<Arc<State>>,
    /// When the last mark was told.
    marked: Instant,
    /// It has come as far as was wanted.
    is_told: bool,
    work: VecDeque<Work>,
}

/// What is to be told before anything else is looked at.
enum Work {
    /// As they are told, with the mark behind them.
    Told(Arc<State>, RecordBatch),
    Rows(RecordBatch),
    /// What closed in a file after an epoch.
    File(Arc<State>, HistoryFile, Option<Epoch>),
    /// The rest of one.
    Opened(Arc<State>, Box<ParquetRecordBatchReader>),
    Mark(Arc<State>),
}

impl Subscriber {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.is_told {
            match self.work.pop_front() {
                Some(Work::Told(state, rows)) => {
                    self.marked_at(&state);
                    return Ok(Some(rows));
                }
                Some(Work::Mark(state)) => {
                    self.marked_at(&state);
                    return mark(&self.schema, &state).map(Some);
                }
                Some(work) => {
                    if let Some(rows) =
                        told(&self.rows, &self.schema, &self.feed.opened, work, &mut self.work).await?
                    {
                        return Ok(Some(rows));
                    }
                }
                None => self.look().await?,
            }
        }
        Ok(None)
    }

    /// Waits for another state, and sets out what is to be told of it.
    async fn look(&mut self) -> Result<()> {
        let state = match self.at.take() {
            None => {
                let state = self.state().await?;
                self.begin(&state)?;
                // Whoever begins is told at once where.
                self.work.push_back(Work::Mark(Arc::clone(&state)));
                self.at = Some(state);
                return Ok(());
            }
            Some(at) => {
                self.rest().await?;
                let state = self.state().await?;
                let work = self.work_since(&at, &state)?;
                if state.follows(&at) && rows_of(&work) <= SHARED_ROWS {
                    let told = shared(&self.rows, *self.query, &self.schema, &self.feed.opened, &state, work)
                        .await?;
                    if told.num_rows() > 0 {
                        self.work.push_back(Work::Told(Arc::clone(&state), told));
                        self.at = Some(state);
                        return Ok(());
                    }
                } else {
                    self.work = work;
                }
                state
            }
        };
        if !self.work.is_empty() || self.marked.elapsed() >= MARK {
            self.work.push_back(Work::Mark(Arc::clone(&state)));
        }
        self.at = Some(state);
        Ok(())
    }

    /// Until there is another state, and it may be told; not when there will be none any more.
    async fn rest(&mut self) -> Result<()> {
        let due = self.marked + self.wanted.every;
        loop {
            self.news.changed().await.map_err(|_| Error::internal("a view is told of no more"))?;
            let is_over = matches!(*self.news.borrow_and_update(), News::Ended(_));
            if is_over || Instant::now() >= due {
                return Ok(());
            }
            if tokio::time::timeout_at(due, self.news.changed()).await.is_err() {
                return Ok(());
            }
            self.news.mark_changed();
        }
    }

    async fn state(&mut self) -> Result<Arc<State>> {
        loop {
            match self.news.borrow_and_update().clone() {
                News::State(state) => return Ok(state),
                News::Ended(error) => return Err(error),
                News::None => {}
            }
            self.news.changed().await.map_err(|_| Error::internal("a view is told of no more"))?;
        }
    }

    fn begin(&mut self, state: &Arc<State>) -> Result<()> {
        if let Some((view, epoch)) = self.wanted.after {
            if view != state.table.version.view {
                return Err(Error::invalid(
                    "the token is of another view, or of one of the same name that was dropped",
                )
                .hint("leave out AFTER: all there is is told"));
            }
            if epoch > state.epoch {
                return Err(Error::invalid(
                    "the token is of an epoch that has not been: it is of another data root",
                ));
            }
            self.work = closed(state, Some(epoch))?;
        } else if self.wanted.snapshot {
            self.work = closed(state, None)?;
        }
        if self.wanted.live {
            for rows in &state.live {
                self.work.push_back(Work::Rows(Change::Come.of(rows)?));
            }
        }
        Ok(())
    }

    fn work_since(&self, at: &State, state: &Arc<State>) -> Result<VecDeque<Work>> {
        let changed = if self.wanted.live { state.changes_since(at)? } else { vec![] };
        let mut work: VecDeque<Work> = changed.into_iter().map(Work::Rows).collect();
        if state.epoch > at.epoch {
            work.extend(closed(state, Some(at.epoch))?);
        }
        Ok(work)
    }

    fn marked_at(&mut self, state: &State) {
        self.marked = Instant::now();
        let through = state.table.version.closed_through;
        self.is_told = self.wanted.up_to.is_some_and(|up_to| through.is_some_and(|through| through >= up_to));
    }
}

/// All rows so far are what the view was.
fn mark(schema: &SchemaRef, state: &State) -> Result<RecordBatch> {
    let token = format!("{}-{}", state.table.version.view.simple(), state.epoch.0);
    let told: [ArrayRef; 4] = [
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(BooleanArray::from(vec![None])),
        Arc::new(StringArray::from(vec![token])),
        Arc::new(Int64Array::from(vec![state.epoch.0 as i64])),
    ];
    let none = schema.fields().iter().skip(TOLD.len()).map(|field| new_null_array(field.data_type(), 1));
    Ok(RecordBatch::try_new(Arc::clone(schema), told.into_iter().chain(none).collect())?)
}

/// What all are told who ask the same, worked out by whoever comes first; without a row where nothing is.
async fn shared(
    plan: &Making,
    query: u64,
    schema: &SchemaRef,
    opened: &OpenedFiles,
    state: &State,
    mut work: VecDeque<Work>,
) -> Result<RecordBatch> {
    if work.is_empty() {
        return Ok(RecordBatch::new_empty(Arc::clone(schema)));
    }
    let told_once = state.told.of(query);
    let made = told_once.get_or_try_init(|| async {
        let mut all: Vec<RecordBatch> = vec![];
        let mut bytes = 0;
        while let Some(next) = work.pop_front() {
            let Some(told) = told(plan, schema, opened, next, &mut work).await? else { continue };
            bytes += told.get_array_memory_size();
            if bytes > SHARED_BYTES {
                return Err(Error::invalid(format!(
                    "more changes at once than may be told at once. bytes={bytes}, most={SHARED_BYTES}"
                ))
                .hint("ask for less of each row"));
            }
            all.push(told);
        }
        if !all.is_empty() {
            all.push(mark(schema, state)?);
        }
        Ok::<_, Error>(concat_batches(schema, &all)?)
    });
    Ok(made.await?.clone())
}

/// What has closed after an epoch; of files those that may have some of it.
fn closed(state: &Arc<State>, after: Option<Epoch>) -> Result<VecDeque<Work>> {
    let may_hold = |file: &&HistoryFile| after.is_none_or(|after| file.may_hold_after(after));
    let files = state.table.history.files.iter().filter(may_hold);
    let mut work: VecDeque<Work> =
        files.map(|file| Work::File(Arc::clone(state), file.clone(), after)).collect();
    work.extend(state.closed_since(after)?.into_iter().map(Work::Rows));
    Ok(work)
}

/// At most; of files all that are in them.
fn rows_of(work: &VecDeque<Work>) -> usize {
    let rows = |work: &Work| match work {
        Work::Rows(rows) => rows.num_rows(),
        Work::File(_, file, _) => file.rows as usize,
        Work::Told(..) | Work::Opened(..) | Work::Mark(_) => 0,
    };
    work.iter().map(rows).sum()
}

/// One step of some work: the rows it tells, if there are any, and what comes before all else, if there is more of it.
async fn told(
    plan: &Making,
    schema: &SchemaRef,
    opened: &OpenedFiles,
    work: Work,
    rest: &mut VecDeque<Work>,
) -> Result<Option<RecordBatch>> {
    let told = match work {
        Work::Rows(rows) => some(plan, schema, rows, rest).await?,
        Work::File(state, file, after) => {
            let opened = state.table.history.open(&file, after, opened).await?;
            rest.push_front(Work::Opened(state, Box::new(opened)));
            return Ok(None);
        }
        Work::Opened(state, mut opened) => {
            let Some(rows) = opened.next() else { return Ok(None) };
            let rows = state.closed(&rows?)?;
            rest.push_front(Work::Opened(state, opened));
            some(plan, schema, rows, rest).await?
        }
        Work::Told(..) | Work::Mark(_) => return Ok(None),
    };
    Ok((told.num_rows() > 0).then_some(told))
}

/// As many rows as are taken at a time; the others come next.
async fn some(
    plan: &Making,
    schema: &SchemaRef,
    rows: RecordBatch,
    rest: &mut VecDeque<Work>,
) -> Result<RecordBatch> {
    let (rows, others) = making::first(rows);
    if let Some(others) = others {
        rest.push_front(Work::Rows(others));
    }
    of_query(plan, schema, rows).await
}

/// Rows of the view as they are told.
async fn of_query(plan: &Making, schema: &SchemaRef, rows: RecordBatch) -> Result<RecordBatch> {
    let made = concat_batches(&plan.schema, &plan.run(rows).await?)?;
    let (columns, carried) = made.columns().split_at(made.num_columns() - CARRIED.len());
    let none = |field: usize| new_null_array(schema.field(field).data_type(), made.num_rows());
    let told = carried.iter().cloned().chain([none(2), none(3)]).chain(columns.iter().cloned());
    Ok(RecordBatch::try_new(Arc::clone(schema), told.collect())?)
}

fn token(text: &str) -> Option<(Uuid, Epoch)> {
    let (view, epoch) = text.trim().split_once('-')?;
    Some((Uuid::parse_str(view).ok()?, Epoch(epoch.parse().ok()?)))
}
