//! How rows of a query are made of those of its view, each by itself: by this process, where what that takes is bounded by the
//! rows (`bounded`), and otherwise where queries run, for a row is enough to make gigabytes of.
//!
//! Leaves to others: which rows, and what becomes of what is made of them (`subscribe`, `sink`).

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Query;
use thalweg_engine::mirror::Wanted;
use thalweg_engine::view::compact::compacted;
use tokio::runtime::Handle;

use super::answer::{self, Task};
use super::database::Shared;
use super::elsewhere::{Asked, Elsewhere, Made, What};
use super::query::Request;
use super::subscribe::row_by_row;
use super::{Session, parameters};
use crate::parse::{self, Statement};
use crate::plan::{self, CARRIED, RowByRow};
use crate::tables::Pinned;
use crate::{Error, Result};

/// What is made at a time: of so many rows, and of so many bytes.
const ROWS_AT_A_TIME: usize = 8192;
const BYTES_AT_A_TIME: usize = 8 << 20;
/// What may become of that elsewhere; what may here follows from the rows.
const MADE_BYTES_MAX: usize = 64 << 20;
/// A longer value of a parameter is no bounded constant.
const VALUE_BYTES_MAX: usize = 256;

/// A query that is planned, here or elsewhere.
#[derive(Clone)]
pub(crate) struct Making {
    pub view: String,
    /// Its columns, and then those that are carried.
    pub schema: SchemaRef,
    /// Two that have the same make the same of each row.
    pub identity: Identity,
    way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Plan(LogicalPlan),
    Text(String),
}

#[derive(Clone)]
enum Way {
    Here(RowByRow),
    Elsewhere { shared: Arc<Shared>, asked: Asked },
}

/// Why nothing was made.
#[derive(Debug)]
pub(crate) enum Unmade {
    /// The query can't take a row.
    OfRows(Error),
    /// Whoever the row is, nobody makes anything of it now.
    OfAll(Error),
}

impl From<Unmade> for Error {
    fn from(unmade: Unmade) -> Error {
        match unmade {
            Unmade::OfRows(error) | Unmade::OfAll(error) => error,
        }
    }
}

/// A statement that has such a query.
pub(crate) struct Told<'a> {
    pub query: &'a Query,
    /// Values of the parameters that it names, as text.
    pub given: &'a [(String, String)],
    /// Where bare names are looked up.
    pub schema: &'a str,
    /// The statement as it was written, with all that says where in it something stands.
    pub text: &'a str,
    /// What is told of the rows: "a subscription".
    pub what: &'a str,
}

impl Making {
    pub async fn of(shared: &Arc<Shared>, told: Told<'_>) -> Result<Making> {
        let Some(elsewhere) = shared.elsewhere.get() else { return Making::here(shared, &told).await };
        let mut written_out = told.query.clone();
        shared.plain_views().inline(&mut written_out)?;
        let is_short = |(_, value): &(String, String)| value.len() <= VALUE_BYTES_MAX;
        if plan::is_bounded(&written_out) && told.given.iter().all(is_short) {
            return Making::here(shared, &told).await;
        }
        let asked = |text: &str| Asked {
            what: What::RowByRow { text: text.to_owned(), given: told.given.to_vec() },
            schema: told.schema.to_owned(),
            values: None,
            memory_bytes: None,
            wanted: Wanted::default(),
            facts: Default::default(),
            rows: None,
            repeats: false,
        };
        let Made { view, rows } = make(shared, elsewhere, asked(told.text)).await?;
        let identity = Identity::Text(format!("{} {:?} {written_out}", told.schema, told.given));
        // Plain views may be others by tomorrow.
        let asked = match written_out == *told.query {
            true => asked(told.text),
            false => asked(&format!("SUBSCRIBE TO ({written_out})")),
        };
        let way = Way::Elsewhere { shared: Arc::clone(shared), asked };
        Ok(Making { view, schema: rows.schema(), identity, way })
    }

    async fn here(shared: &Arc<Shared>, told: &Told<'_>) -> Result<Making> {
        let rows = row_by_row_of(shared, told, None).await?;
        let (view, schema) = (rows.view.clone(), Arc::clone(&rows.schema));
        Ok(Making { view, schema, identity: Identity::Plan(rows.query.clone()), way: Way::Here(rows) })
    }

    /// Its columns alone.
    pub fn columns(&self) -> SchemaRef {
        let fields = self.schema.fields();
        Arc::new(Schema::new(fields[..fields.len() - CARRIED.len()].to_vec()))
    }

    /// What becomes of some of the view's rows, which have the columns that are carried: as many as [`first`] gives.
    pub async fn run(&self, rows: RecordBatch) -> Result<Vec<RecordBatch>, Unmade> {
        let (shared, asked) = match &self.way {
            Way::Here(here) => return here.run(rows).await.map_err(Unmade::OfRows),
            Way::Elsewhere { shared, asked } => (shared, asked),
        };
        let elsewhere = shared.elsewhere.get();
        let elsewhere =
            elsewhere.ok_or_else(|| Unmade::OfAll(Error::internal("queries run nowhere else")))?;
        let rows = compacted(rows).map_err(|error| Unmade::OfAll(error.into()))?;
        let made = make(shared, elsewhere, Asked { rows: Some(rows), ..asked.clone() }).await?;
        match made.rows.schema() == self.schema {
            true => Ok(vec![made.rows]),
            false => Err(Unmade::OfAll(Error::invalid(format!("view {} is another one now", self.view)))),
        }
    }
}

async fn make(shared: &Shared, elsewhere: &Arc<dyn Elsewhere>, asked: Asked) -> Result<Made, Unmade> {
    let limit = shared.settings.query_deadline;
    match tokio::time::timeout(limit, elsewhere.make(asked)).await {
        Ok(Ok(made)) => made.map_err(Unmade::OfRows),
        Ok(Err(error)) => Err(Unmade::OfAll(error)),
        Err(_) => Err(Unmade::OfAll(answer::deadline_passed(limit))),
    }
}

/// As many rows as are taken at a time, and the others.
pub(crate) fn first(rows: RecordBatch) -> (RecordBatch, Option<RecordBatch>) {
    let count = rows.num_rows();
    let each = rows.get_array_memory_size() / count.max(1);
    let first = (BYTES_AT_A_TIME / each.max(1)).clamp(1, ROWS_AT_A_TIME);
    match first < count {
        true => (rows.slice(0, first), Some(rows.slice(first, count - first))),
        false => (rows, None),
    }
}

async fn row_by_row_of(
    shared: &Arc<Shared>,
    told: &Told<'_>,
    pinned: Option<Arc<Pinned>>,
) -> Result<RowByRow> {
    let mut query = told.query.clone();
    let names = parameters::named(&mut query, told.given)?;
    let (shared, schema) = (Arc::clone(shared), told.schema.to_owned());
    let settings = shared.settings.clone();
    let request = Request { shared, schema, settings, query, explain: None, pinned };
    let values = match names.is_empty() {
        true => vec![],
        false => {
            let planned = request.clone().plan(None).await?;
            parameters::values_of_text(&planned.parameters, &names, told.given)?
        }
    };
    row_by_row(request, values, told.what).await
}

/// A query whose rows are made for another process.
pub struct Maker {
    rows: RowByRow,
    runtime: Handle,
}

impl Session {
    pub async fn maker(&self, text: &str, given: &[(String, String)]) -> Result<Maker> {
        let (query, what) = match parse::statement(text)?.statement {
            Statement::Subscribe(subscribe) => (subscribe.query, "a subscription"),
            Statement::CreateSink(create) => (create.query, "a sink"),
            _ => return Err(Error::internal("this tells of no rows")),
        };
        let (shared, pinned) = (Arc::clone(&self.shared), self.pinned.clone());
        let (given, schema, text) = (given.to_vec(), self.schema.clone(), text.to_owned());
        let planning = async move {
            let told = Told { query: &query, given: &given, schema: &schema, text: &text, what };
            row_by_row_of(&shared, &told, pinned).await
        };
        let rows = Task::spawn(&self.shared.runtime, planning).join().await??;
        Ok(Maker { rows, runtime: self.shared.runtime.clone() })
    }
}

impl Maker {
    pub async fn make(&self, rows: Option<RecordBatch>) -> Result<Made> {
        let made = match rows {
            // Among the threads of queries: whoever waits for it notices when nobody does any more.
            Some(rows) => {
                let query = self.rows.clone();
                Task::spawn(&self.runtime, async move { query.run(rows).await }).join().await??
            }
            None => vec![],
        };
        let bytes = made.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        if bytes > MADE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "more becomes of some rows than may at a time. bytes={bytes}, most={MADE_BYTES_MAX}"
            ))
            .hint("ask for less of each row"));
        }
        let rows = datafusion::arrow::compute::concat_batches(&self.rows.schema, &made)?;
        Ok(Made { view: self.rows.view.clone(), rows })
    }
}
