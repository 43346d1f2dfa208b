//! A client's session: reads a statement and carries it out.
//!
//! Owns: which statements there are and what each answers, bind parameters, bounds on what comes from outside, the list
//! of running queries. Leaves to others: the text (`parse`), views and streams as specs (`plan`), the tables (`tables`),
//! the wire (`flight-server`), and running the job ([`Engine`]).
//!
//! ```text
//! text ─ limits ─ parse ─┬─ query: pin a snapshot ─ names ─ plan ─ parameters ─ run on the queries' runtime ─► rows
//!                        ├─ change: CREATE, DROP ─ compare with what is there ─ Engine::apply ─► message
//!                        ├─ subscription: a query row by row, over what changes of its view ─► rows without end
//!                        └─ describe: SHOW, DESCRIBE, EXPLAIN of a view ─► rows
//! ```
//! Every execution plans anew over the snapshot of its moment, also of a prepared statement; so the only state of a
//! session is the schema in which bare names are looked up. Where other processes run queries ([`Elsewhere`]), what is
//! between the slot and the rows happens there.

mod answer;
mod change;
mod collect;
mod database;
mod describe;
mod difference;
mod elsewhere;
mod endpoint;
mod engine;
mod known;
mod limits;
mod making;
mod memory;
mod parameters;
mod plain_view;
mod query;
mod references;
mod registry;
mod rehearsal;
mod settings;
mod sink;
mod slots;
mod subscribe;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use collect::{Collect, Fill, Rates};
pub use database::{Database, Table, TableKind};
pub use elsewhere::{Answered, Asked, Away, Elsewhere, Made, Seen, What};
pub use endpoint::{Endpoint, Parameter};
pub use engine::Engine;
pub use making::Maker;
pub use parameters::of_batch as parameters_of_batch;
pub use registry::{Kind, QueryState, QueryStatus};
pub use settings::{Client, SessionLimits, Settings, setting};
pub use sink::{
    Changed, DeadLetter, Follower, Into, Sending, Sink, SinkState, SinkStatus, Unit, Webhook, filled, holes,
};

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ExplainOption;
use datafusion::sql::sqlparser::ast::Query;

use crate::error::suggestion;
use crate::parse::{self, Explain, Explained, Statement, Subscribe};
use crate::tables::{PUBLIC, Pinned, SCHEMAS};
use crate::travel::Form;
use crate::{Error, Result, plan};
use database::Shared;
use describe::Lines;
use query::Request;
use references::Names;
use slots::Wants;

/// Cheap to make and to clone.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    client: Client,
    schema: String,
    limits: SessionLimits,
    /// It says what there is to be at a start: what lies outside may not be there yet.
    starts: bool,
    /// What all of its statements see; without it each sees the tables of its moment.
    pinned: Option<Arc<Pinned>>,
}

/// What a statement will answer and needs to know.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The columns of the answer; `None` for a statement that answers with a message.
    pub rows: Option<SchemaRef>,
    /// One field per bind parameter, in order; of type `Null` where the statement does not say.
    pub parameters: SchemaRef,
}

impl Session {
    fn new(shared: Arc<Shared>, client: Client) -> Session {
        Session {
            shared,
            client,
            schema: PUBLIC.to_owned(),
            limits: SessionLimits::default(),
            starts: false,
            pinned: None,
        }
    }

    /// The same for the files of a start: a stream whose topic can't be had now is created, and stands still until it can; so
    /// is a sink.
    pub fn of_start(self) -> Session {
        Session { starts: true, ..self }
    }

    /// Where bare names are looked up.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub fn set_schema(&mut self, schema: &str) -> Result<()> {
        if !SCHEMAS.contains(&schema) && schema != "information_schema" {
            return Err(Error::invalid(format!("no schema \"{schema}\"")).hint(suggestion(
                schema,
                "schemas are",
                SCHEMAS,
            )));
        }
        self.schema = schema.to_owned();
        Ok(())
    }

    pub fn set_limits(&mut self, limits: SessionLimits) {
        self.limits = limits;
    }

    /// Its bounds: the server's, or less.
    fn settings(&self) -> Settings {
        self.limits.within(&self.shared.settings)
    }

    /// Plans a statement and changes nothing. With values for the parameters the types of the answer are exact.
    pub async fn prepare(&self, sql: &str, values: Option<&[ScalarValue]>) -> Result<Prepared> {
        limits::check_text(sql)?;
        let statement = parse::statement(sql)?.statement;
        let what = || What::Statement(sql.to_owned());
        let rows = match statement {
            Statement::Query(query) => return self.prepare_query(query, None, values, what()).await,
            Statement::Explain(Explain { analyze, verbose, what: Explained::Statement(inner) }) => {
                match *inner {
                    Statement::Query(query) => {
                        return self
                            .prepare_query(query, Some(explain_option(analyze, verbose)), values, what())
                            .await;
                    }
                    _ => Some(explained().schema()),
                }
            }
            Statement::Explain(_) => Some(explained().schema()),
            Statement::Show(shown) => Some(describe::show(shown, &self.shared, &[]).schema()),
            Statement::ShowWhy(_) => Some(describe::why_columns().schema()),
            Statement::Subscribe(subscribe) => {
                Some(subscribe::plan(&self.shared, &self.schema, &subscribe, &[], sql).await?.schema)
            }
            Statement::Describe(_) => Some(describe::described_columns().schema()),
            Statement::CreateStream(_)
            | Statement::CreateTable(_)
            | Statement::CreateView(_)
            | Statement::CreatePlainView(_)
            | Statement::CreateEndpoint(_)
            | Statement::CreateSink(_)
            | Statement::Drop(_)
            | Statement::DropEndpoint(_)
            | Statement::DropSink(_)
            | Statement::AlterSink(_)
            | Statement::Restart(_)
            | Statement::SetWatermark(_)
            | Statement::Set(_)
            | Statement::Kill(_) => None,
        };
        Ok(Prepared { rows, parameters: Arc::new(Schema::empty()) })
    }

    async fn prepare_query(
        &self,
        query: Box<Query>,
        explain: Option<ExplainOption>,
        values: Option<&[ScalarValue]>,
        what: What,
    ) -> Result<Prepared> {
        let engine = &*self.shared.engine;
        let text = what.text().to_owned();
        // What values do to types is asked each time.
        let may_be_known = values.is_none() && matches!(what, What::Statement(_));
        if may_be_known && let Some(known) = self.shared.known.of(engine, &self.schema, &text) {
            return Ok(known);
        }
        let ticket = self.shared.registry.planning(self.wants(&query), &text, &self.client).await?;
        if let Some(elsewhere) = self.elsewhere() {
            limits::check_query(&query)?;
            let catalog = known::catalog(engine);
            let limit = self.settings().query_deadline;
            let preparing = elsewhere.prepare(self.asked(what, &query, values)?);
            let preparing = async {
                let prepared = tokio::time::timeout(limit, preparing).await;
                prepared.map_err(|_| answer::deadline_passed(limit))?
            };
            let prepared = ticket.unless_stopped(preparing).await?;
            if may_be_known {
                self.shared.known.learn(catalog, &self.schema, &text, &prepared);
            }
            return Ok(prepared);
        }
        let planning = self.request(query, explain).plan(values.map(<[_]>::to_vec));
        let planned = ticket.unless_stopped(planning).await?;
        Ok(Prepared { rows: Some(planned.rows), parameters: planned.parameters })
    }

    /// Carries a statement out. `values` are those of the bind parameters, by position.
    pub async fn execute(&self, sql: &str, values: &[ScalarValue]) -> Result<Answer> {
        self.carry_out(self.parsed(sql, values)?, values).await
    }

    /// The same for whoever can hand messages on as they are.
    pub async fn execute_for(&self, sql: &str, values: &[ScalarValue], form: &Form) -> Result<Answered> {
        let parsed = self.parsed(sql, values)?;
        if let Some(away) = self.away(&parsed, values, form).await {
            let Away { planned, messages, .. } = away?;
            return Ok(Answered::Encoded { planned, messages });
        }
        Ok(match self.carry_out(parsed, values).await? {
            Answer::Rows(rows) => Answered::Rows(rows),
            Answer::Done(message) => Answered::Done(message),
        })
    }

    fn parsed(&self, sql: &str, values: &[ScalarValue]) -> Result<parse::Parsed> {
        limits::check_text(sql)?;
        let parsed = parse::statement(sql)?;
        if !matches!(parsed.statement, Statement::Query(_) | Statement::Explain(_)) && !values.is_empty() {
            return Err(Error::invalid("only queries have parameters"));
        }
        Ok(parsed)
    }

    /// Runs it elsewhere, if that is where it runs.
    async fn away(
        &self,
        parsed: &parse::Parsed,
        values: &[ScalarValue],
        form: &Form,
    ) -> Option<Result<Away>> {
        let elsewhere = self.elsewhere()?;
        let named;
        let query = match &parsed.statement {
            Statement::Query(query) => query,
            Statement::Explain(Explain { what: Explained::Statement(statement), .. }) => match &**statement {
                Statement::Query(query) => query,
                _ => return None,
            },
            Statement::Explain(Explain { what: Explained::Name(name), .. }) => {
                self.shared.plain_views().text(&name.to_string())?;
                match parse::statement(&format!("SELECT * FROM {name}")).ok()?.statement {
                    Statement::Query(query) => named = query,
                    _ => return None,
                }
                &named
            }
            _ => return None,
        };
        if let Err(error) = limits::check_query(query) {
            return Some(Err(error));
        }
        let registry = &self.shared.registry;
        let ticket = match registry.enter(self.wants(query), &parsed.text, &self.client).await {
            Ok(ticket) => ticket,
            Err(error) => return Some(Err(error)),
        };
        let asked = self.asked(What::Statement(elsewhere::in_place(parsed)), query, Some(values));
        Some(self.run_away(elsewhere, asked, form.clone(), ticket).await)
    }

    /// A statement of a file, whose place in the file its errors tell.
    pub async fn carry_out(&self, parsed: parse::Parsed, values: &[ScalarValue]) -> Result<Answer> {
        if let Some(away) = self.away(&parsed, values, &Form::default()).await {
            return Ok(Answer::Rows(away?.into_rows()));
        }
        let in_place = elsewhere::in_place(&parsed);
        match parsed.statement {
            Statement::Query(query) => self.run(query, None, values, &parsed.text).await,
            Statement::Explain(explain) => self.explain(explain, values, &parsed.text).await,
            Statement::CreateStream(create) => {
                change::create_stream(&self.shared, &create, self.starts).await.map(Answer::Done)
            }
            Statement::CreateTable(create) => {
                change::create_table(&self.shared, &create, self.starts).await.map(Answer::Done)
            }
            Statement::CreateView(create) => {
                change::create_view(&self.shared, &create, self.starts).await.map(Answer::Done)
            }
            Statement::CreatePlainView(create) => {
                plain_view::create(&self.shared, &create).await.map(Answer::Done)
            }
            Statement::CreateEndpoint(create) => endpoint::create(self, &create).await.map(Answer::Done),
            Statement::Drop(drop) => change::drop(&self.shared, &drop).await.map(Answer::Done),
            Statement::DropEndpoint(drop) => endpoint::drop(&self.shared, &drop).await.map(Answer::Done),
            Statement::CreateSink(create) => {
                sink::create(&self.shared, &create, &in_place, self.starts).await.map(Answer::Done)
            }
            Statement::DropSink(drop) => sink::drop(&self.shared, &drop).await.map(Answer::Done),
            Statement::AlterSink(alter) => sink::alter(&self.shared, &alter).await.map(Answer::Done),
            Statement::Restart(restart) => change::restart(&self.shared, &restart).await.map(Answer::Done),
            Statement::SetWatermark(set) => change::set_watermark(&self.shared, &set).await.map(Answer::Done),
            Statement::Kill(id) => {
                self.shared.registry.stop(id)?;
                Ok(Answer::Done(format!("query {id} was stopped")))
            }
            // Whoever keeps sessions takes it before it comes here.
            Statement::Set(set) => Err(Error::invalid("there is no session here to set something of")
                .at(set.name.position)
                .hint("a connection of Flight SQL is one: thalweg sql, ADBC, JDBC")),
            Statement::Show(shown) => describe::show(shown, &self.shared, &self.tables()).answer(),
            Statement::ShowWhy(view) => describe::why(&view, &self.shared)?.answer(),
            Statement::Subscribe(subscribe) => {
                self.follow(&subscribe, &[], &parsed.text, &in_place).await.map(Answer::Rows)
            }
            Statement::Describe(name) => {
                if let Some(columns) = plain_view::described(&self.shared, &name.to_string()).await? {
                    return describe::columns(&columns).answer();
                }
                let pinned = self.shared.pin();
                let names = Names { engine: &*self.shared.engine, pinned: &pinned, schema: &self.schema };
                describe::describe(&name, &names, &self.tables())?.answer()
            }
        }
    }

    async fn run(
        &self,
        query: Box<Query>,
        explain: Option<ExplainOption>,
        values: &[ScalarValue],
        text: &str,
    ) -> Result<Answer> {
        let mut ticket = self.shared.registry.enter(self.wants(&query), text, &self.client).await?;
        let planning = self.request(query, explain).plan(Some(values.to_vec()));
        match ticket.unless_stopped(planning).await {
            Ok(planned) => planned.start(&self.shared, ticket).await,
            Err(error) => {
                ticket.finish(Err(&error));
                Err(error)
            }
        }
    }

    /// What a `SUBSCRIBE` tells. With a token it goes on from there, whatever the statement itself says. `given` are values of
    /// parameters that it names (`$country`), as text.
    pub async fn subscribe(
        &self,
        sql: &str,
        after: Option<&str>,
        given: &[(String, String)],
    ) -> Result<SendableRecordBatchStream> {
        let parsed = self.parsed(sql, &[])?;
        let in_place = elsewhere::in_place(&parsed);
        let Statement::Subscribe(mut subscribe) = parsed.statement else {
            return Err(Error::invalid("this is no SUBSCRIBE")
                .hint("write SUBSCRIBE TO view [WHERE …] [WITH (live = false)]"));
        };
        if let Some(token) = after {
            subscribe.after = Some((token.to_owned(), None));
        }
        self.follow(&subscribe, given, &parsed.text, &in_place).await
    }

    async fn follow(
        &self,
        subscribe: &Subscribe,
        given: &[(String, String)],
        text: &str,
        in_place: &str,
    ) -> Result<SendableRecordBatchStream> {
        let mut ticket = self.shared.registry.subscribe(text, &self.client)?;
        match subscribe::plan(&self.shared, &self.schema, subscribe, given, in_place).await {
            Ok(planned) => planned.start(&self.shared, ticket),
            Err(error) => {
                ticket.finish(Err(&error));
                Err(error)
            }
        }
    }

    async fn explain(&self, explain: Explain, values: &[ScalarValue], text: &str) -> Result<Answer> {
        let option = explain_option(explain.analyze, explain.verbose);
        let halves = match explain.what {
            Explained::Statement(statement) => match *statement {
                Statement::Query(query) => return self.run(query, Some(option), values, text).await,
                Statement::CreateView(create) => {
                    self.shared.rehearse(text, &create.query).await?;
                    plan::explain(&change::plan_view(&self.shared, &create).await?)
                }
                Statement::CreateStream(create) => describe::explain_stream(&change::plan_stream(&create)?),
                _ => return Err(Error::invalid("only queries, views and streams have a plan")),
            },
            Explained::Name(name) if self.shared.plain_views().text(&name.to_string()).is_some() => {
                let query = parse::statement(&format!("SELECT * FROM {name}"))?;
                return match query.statement {
                    Statement::Query(query) => self.run(query, Some(option), values, text).await,
                    _ => Err(Error::internal("a query was read as something else")),
                };
            }
            Explained::Name(name) => {
                let pinned = self.shared.pin();
                let names = Names { engine: &*self.shared.engine, pinned: &pinned, schema: &self.schema };
                plan::explain(&*describe::view_named(&name, &names)?)
            }
        };
        let mut lines = explained();
        for line in halves.lines() {
            lines.push([Some(line.to_owned())]);
        }
        lines.answer()
    }

    fn wants(&self, query: &Query) -> Wants {
        match references::reads_system_alone(query, &self.schema) {
            true => Wants::System,
            false => Wants::Any,
        }
    }

    fn request(&self, query: Box<Query>, explain: Option<ExplainOption>) -> Request {
        Request {
            shared: Arc::clone(&self.shared),
            schema: self.schema.clone(),
            settings: self.settings(),
            query: *query,
            explain,
            pinned: self.pinned.clone(),
        }
    }

    fn tables(&self) -> Vec<Table> {
        Database { shared: Arc::clone(&self.shared) }.tables()
    }
}

fn explained() -> Lines {
    Lines::new(&["plan"])
}

fn explain_option(analyze: bool, verbose: bool) -> ExplainOption {
    ExplainOption { analyze, verbose, ..ExplainOption::default() }
}
