//! Queries that are planned and run by another process: what it is told, and what it answers.
//!
//! Owns: what a statement reads, found in its text alone; the answer as a stream of messages. Leaves to others: the
//! processes themselves, and all that has to be known of a query before it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{Expr as Expression, ObjectName, ObjectNamePart, Query, Visitor};
use futures::StreamExt;
use futures::stream::BoxStream;
use thalweg_engine::mirror::{Wanted, WantedParts};
use thalweg_engine::snapshot::Snapshot;
use thalweg_engine::spec::KeptStatement;

use super::answer::{self, Answer, Bounds};
use super::database::Database;
use super::endpoint::Endpoint;
use super::registry::Ticket;
use super::{Client, Prepared, Session};
use crate::parse::{self, Parsed, Statement, walk};
use crate::plan;
use crate::tables::system::SystemTable;
use crate::tables::{CATALOG, PUBLIC, Pinned, StatusSource};
use crate::travel::{Encoded, Form};
use crate::{Error, Result};

/// Whoever runs queries outside of this process.
#[async_trait]
pub trait Elsewhere: Send + Sync + 'static {
    async fn prepare(&self, asked: Asked) -> Result<Prepared>;

    /// Dropping the messages stops the query.
    async fn run(&self, asked: Asked, form: Form) -> Result<Away>;

    /// Plans a statement that makes a view, whatever comes of it. An error says that this process had better not.
    async fn rehearse(&self, asked: Asked) -> Result<()>;

    /// Makes rows of rows, each by itself. The inner error is that of the query.
    async fn make(&self, asked: Asked) -> Result<Result<Made>>;
}

/// What a query has made of some rows of its view; of none, what it would be.
pub struct Made {
    pub view: String,
    /// With the columns that are carried.
    pub rows: RecordBatch,
}

/// A query, with all that is to be known to run it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub what: What,
    /// Where bare names are looked up.
    pub schema: String,
    /// Those of the parameters, where they are known.
    pub values: Option<Vec<ScalarValue>>,
    /// Less than queries may have there, where the session wants it so.
    pub memory_bytes: Option<usize>,
    /// Of the tables.
    pub wanted: Wanted,
    /// Tables of `system` that tell of the server.
    pub facts: BTreeMap<String, RecordBatch>,
    /// Those that others are to be made of.
    pub rows: Option<RecordBatch>,
    /// Asked once more of the same tables, it has the same answer.
    pub repeats: bool,
}

/// A text, and what of it is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A query, or EXPLAIN of one.
    Statement(String),
    /// The query of a CREATE ENDPOINT.
    Endpoint { path: String, sql: String },
    /// The query of a CREATE VIEW that names one.
    View(String),
    /// A CREATE MATERIALIZED VIEW, or a CREATE VIEW that reads a stream, or EXPLAIN of one.
    Rehearsal(String),
    /// A SUBSCRIBE, or a CREATE SINK, with values of the parameters that it names.
    RowByRow { text: String, given: Vec<(String, String)> },
}

impl What {
    pub fn text(&self) -> &str {
        match self {
            What::Statement(text)
            | What::Endpoint { sql: text, .. }
            | What::View(text)
            | What::Rehearsal(text)
            | What::RowByRow { text, .. } => text,
        }
    }
}

/// A query that runs.
pub struct Away {
    /// The columns as they were planned.
    pub planned: SchemaRef,
    /// And as they come.
    pub schema: SchemaRef,
    /// The views that all of the answer comes from; `None` when anything else has a part in it.
    pub reads: Option<BTreeSet<String>>,
    pub messages: BoxStream<'static, Result<Encoded>>,
}

/// An answer for whoever hands on what it is given.
pub enum Answered {
    Rows(SendableRecordBatchStream),
    /// Encoded already.
    Encoded {
        planned: SchemaRef,
        messages: BoxStream<'static, Result<Encoded>>,
    },
    Done(String),
}

impl Database {
    /// From now on queries run there.
    pub fn run_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        // A second one would leave statements of the first behind.
        assert!(self.shared.elsewhere.set(elsewhere).is_ok(), "it is said once where queries run");
    }

    /// What a snapshot holds, for statements that come with their facts: its open rows are finished once for all of them.
    pub fn seen(&self, snapshot: &Snapshot, missing: &thalweg_engine::mirror::Missing) -> Seen {
        let source: Arc<dyn StatusSource> = Arc::clone(&self.shared) as _;
        Seen(Arc::new(Pinned::of_another(snapshot, missing, source, &self.shared.open_rows)))
    }

    /// A session that sees this, and never anything else.
    pub fn session_over(
        &self,
        seen: &Seen,
        facts: BTreeMap<String, RecordBatch>,
        schema: &str,
        memory_bytes: Option<usize>,
    ) -> Result<Session> {
        let mut session = self.session(Client::default());
        session.limits.query_memory_bytes = memory_bytes;
        session.set_schema(schema)?;
        session.pinned = Some(Arc::new(seen.0.with_facts(facts)));
        Ok(session)
    }
}

/// All tables at one instant.
#[derive(Clone)]
pub struct Seen(Arc<Pinned>);

impl Seen {
    /// What it has of one view in common with another, finished rows included, if that is the same.
    pub fn share(&mut self, other: &Seen, same: impl Fn(&str) -> bool) {
        self.0 = Arc::new(self.0.sharing(&other.0, same));
    }
}

impl Session {
    /// Of what it sees, some open rows are not finished before it is read: there is no room to keep them.
    pub fn finishes_as_it_reads(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.tables().any(|table| table.is_too_much()))
    }

    /// Plans what was asked of another process.
    pub async fn prepare_asked(&self, what: &What, values: Option<&[ScalarValue]>) -> Result<Prepared> {
        match what {
            What::Statement(text) => self.prepare(text, values).await,
            What::Endpoint { path, sql } => {
                let endpoint = endpoint(path, sql)?;
                self.prepare_query(endpoint.query()?, None, values, what.clone()).await
            }
            What::View(text) => match parse::statement(text)?.statement {
                Statement::CreatePlainView(create) => {
                    self.prepare_query(create.query, None, values, what.clone()).await
                }
                _ => Err(Error::internal("this is no view")),
            },
            What::Rehearsal(_) | What::RowByRow { .. } => Err(Error::internal("this is no query")),
        }
    }

    /// Runs it; with the views that all of the answer comes from, where they were asked for.
    pub async fn run_asked(
        &self,
        what: &What,
        values: &[ScalarValue],
    ) -> Result<(SendableRecordBatchStream, Option<BTreeSet<String>>)> {
        let (answer, reads) = match what {
            What::Endpoint { path, sql } => {
                let endpoint = endpoint(path, sql)?;
                let answer = self.ask(&endpoint, values).await?;
                (answer, endpoint.reads())
            }
            _ => (self.execute(what.text(), values).await?, None),
        };
        match answer {
            Answer::Rows(rows) => Ok((rows, reads)),
            Answer::Done(_) => Err(Error::internal("a query answered without rows")),
        }
    }

    pub(super) fn elsewhere(&self) -> Option<&Arc<dyn Elsewhere>> {
        self.shared.elsewhere.get()
    }

    pub(super) fn asked(&self, what: What, query: &Query, values: Option<&[ScalarValue]>) -> Result<Asked> {
        let mut query = query.clone();
        self.shared.plain_views().inline(&mut query)?;
        let mut reads =
            Reads { schema: &self.schema, wanted: Wanted::default(), facts: vec![], repeats: true };
        let _ = walk(&query, &mut reads);
        let Reads { wanted, facts, repeats, .. } = reads;
        let mut asked = Asked {
            what,
            schema: self.schema.clone(),
            values: values.map(<[_]>::to_vec),
            memory_bytes: self.limits.query_memory_bytes,
            wanted,
            facts: BTreeMap::new(),
            rows: None,
            repeats,
        };
        if !facts.is_empty() {
            let source: Arc<dyn StatusSource> = Arc::clone(&self.shared) as _;
            let pinned = Pinned::new(&Snapshot::default(), source, &self.shared.open_rows);
            for table in facts {
                asked.facts.insert(table.name().to_owned(), table.rows(&pinned)?);
            }
        }
        Ok(asked)
    }

    /// Runs it there, and hands its messages on as they come.
    pub(super) async fn run_away(
        &self,
        elsewhere: &Arc<dyn Elsewhere>,
        asked: Result<Asked>,
        form: Form,
        mut ticket: Ticket,
    ) -> Result<Away> {
        let bounds = Bounds::of(&self.settings());
        let running = async {
            let running = elsewhere.run(asked?, form);
            match tokio::time::timeout(bounds.time, running).await {
                Ok(away) => away,
                Err(_) => Err(answer::deadline_passed(bounds.time)),
            }
        };
        match ticket.unless_stopped(running).await {
            Ok(away) => {
                let messages = answer::start_away(away.messages, bounds, ticket);
                Ok(Away { messages, ..away })
            }
            Err(error) => {
                ticket.finish(Err(&error));
                Err(error)
            }
        }
    }
}

impl Away {
    pub(super) fn into_rows(self) -> SendableRecordBatchStream {
        let schema = SchemaRef::clone(&self.schema);
        let decoded = self.messages.map(move |message| {
            let batch = message.and_then(|message| Ok(message.decode(&schema)?));
            batch.map_err(DataFusionError::from)
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema, decoded))
    }
}

fn endpoint(path: &str, sql: &str) -> Result<Endpoint> {
    let id = uuid::Uuid::nil();
    Endpoint::of(&KeptStatement { id, name: path.to_owned(), sql: sql.to_owned() })
}

/// A statement where it stood in the text around it, so that errors name its place.
pub(super) fn in_place(parsed: &Parsed) -> String {
    let lines = usize::try_from(parsed.position.line.saturating_sub(1)).unwrap_or(0);
    let columns = usize::try_from(parsed.position.column.saturating_sub(1)).unwrap_or(0);
    format!("{}{}{}", "\n".repeat(lines), " ".repeat(columns), parsed.text)
}

/// The tables that a query may read: all that it names, whether a WITH gives the name another meaning or not.
struct Reads<'a> {
    schema: &'a str,
    wanted: Wanted,
    facts: Vec<SystemTable>,
    /// No function of it is one of chance.
    repeats: bool,
}

impl Visitor for Reads<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expression) -> ControlFlow<()> {
        if let Expression::Function(function) = expr
            && let Some(ObjectNamePart::Identifier(name)) = function.name.0.last()
        {
            self.repeats &= !plan::is_of_chance(&name.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let Ok(table) = object_name_to_table_reference(name.clone(), true) else {
            return ControlFlow::Continue(());
        };
        let table = table.resolve(CATALOG, self.schema);
        let name = table.table.to_string();
        let parts = match &*table.schema {
            PUBLIC => {
                self.wanted.lookups.insert(name.clone());
                WantedParts::ALL
            }
            "live" => WantedParts { open: true, closed: false },
            "history" => WantedParts { open: false, closed: true },
            "system" => {
                match SystemTable::ALL.iter().find(|table| table.name() == name) {
                    Some(table) if !self.facts.contains(table) => self.facts.push(*table),
                    Some(_) => {}
                    None => _ = self.wanted.system.insert(name),
                }
                return ControlFlow::Continue(());
            }
            _ => return ControlFlow::Continue(()),
        };
        let known = self.wanted.views.entry(name).or_default();
        *known = WantedParts { open: known.open || parts.open, closed: known.closed || parts.closed };
        ControlFlow::Continue(())
    }
}
