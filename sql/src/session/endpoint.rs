//! Endpoints: queries that have a path and typed parameters, kept in the catalog and asked by URL; and paths that take
//! events into a stream.
//!
//! Owns: what a declared endpoint is, the values of its parameters, and how it is told that its answer is still the
//! same. Leaves to others: HTTP. A value is bound to a typed placeholder and never becomes part of the text.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as Declared, Expr, Query, Value, ValueWithSpan, VisitorMut,
};
use thalweg_engine::collect::Collector;
use thalweg_engine::spec::{CatalogChange, KeptStatement};
use uuid::Uuid;

use super::answer::Answer;
use super::change;
use super::collect::Collect;
use super::database::{Database, Shared};
use super::elsewhere::What;
use super::engine::Engine;
use super::{Prepared, Session};
use crate::error::suggestion;
use crate::parse::{
    self, CreateEndpoint, DropEndpoint, EndpointWork, ParameterDeclaration, Statement, walk_mut,
};
use crate::plan::{scalar_type, type_text};
use crate::travel::Form;
use crate::{Error, Position, Result};

/// A declared endpoint.
#[derive(Debug)]
pub struct Endpoint {
    pub id: Uuid,
    pub path: String,
    pub sql: String,
    pub parameters: Vec<Parameter>,
    work: Work,
    /// The views that all of its answer comes from, once it has been planned; `None` when the clock or the server's own
    /// tables have a part in it.
    reads: OnceLock<Option<BTreeSet<String>>>,
    /// Of those who may send, once they have been looked up.
    keys: OnceLock<Vec<String>>,
}

#[derive(Debug)]
enum Work {
    /// With `CAST($1 AS INT)` where the text says `$minutes`.
    Ask(Box<Query>),
    Collect(Box<Collect>),
}

#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub kind: DataType,
    /// `None`: it must be given.
    pub default: Option<ScalarValue>,
    /// As it was declared; `None` is NULL.
    pub default_text: Option<String>,
}

impl Parameter {
    /// The value that a text stands for.
    pub fn value(&self, text: &str) -> Result<ScalarValue> {
        ScalarValue::from(text).cast_to(&self.kind).map_err(|_| {
            Error::invalid(format!("parameter \"{}\" can't be '{text}'", self.name))
                .hint(format!("its type is {}", self.type_text()))
        })
    }

    pub fn type_text(&self) -> String {
        type_text(&self.kind)
    }
}

impl Endpoint {
    pub(super) fn of(spec: &KeptStatement) -> Result<Endpoint> {
        match parse::statement(&spec.sql)?.statement {
            Statement::CreateEndpoint(create) => planned(&create, spec),
            _ => Err(Error::internal(format!("the catalog's text of {} is no endpoint", spec.name))),
        }
    }

    /// How HTTP comes to it.
    pub fn method(&self) -> &'static str {
        match self.work {
            Work::Ask(_) => "GET",
            Work::Collect(_) => "POST",
        }
    }

    /// What it was told, if it takes events.
    pub fn collect(&self) -> Option<&Collect> {
        match &self.work {
            Work::Ask(_) => None,
            Work::Collect(collect) => Some(&**collect),
        }
    }

    fn sender_keys(&self, engine: &dyn Engine) -> Result<&[String]> {
        if let Some(keys) = self.keys.get() {
            return Ok(keys);
        }
        let references = self.collect().map(|collect| collect.keys.as_slice()).unwrap_or_default();
        let mut keys = vec![];
        for reference in references {
            let text = engine.secret(reference)?;
            // A secret may hold several, one a line.
            keys.extend(text.split_whitespace().map(str::to_owned));
        }
        if keys.is_empty() && !references.is_empty() {
            return Err(Error::invalid(format!("the keys of {} are empty", self.path)));
        }
        Ok(self.keys.get_or_init(|| keys))
    }

    pub(super) fn query(&self) -> Result<Box<Query>> {
        match &self.work {
            Work::Ask(query) => Ok(query.clone()),
            Work::Collect(_) => Err(Error::invalid(format!("{} takes events, and answers none", self.path))),
        }
    }

    /// The views that all of its answer comes from, where that is known by now.
    pub(super) fn reads(&self) -> Option<BTreeSet<String>> {
        self.reads.get().cloned().flatten()
    }

    fn what(&self) -> What {
        What::Endpoint { path: self.path.clone(), sql: self.sql.clone() }
    }

    /// `minutes INT DEFAULT 5, country STRING`
    pub fn signature(&self) -> String {
        let one = |it: &Parameter| {
            let quote = if it.kind.is_numeric() || it.kind == DataType::Boolean { "" } else { "'" };
            match (&it.default, &it.default_text) {
                (None, _) => format!("{} {}", it.name, it.type_text()),
                (Some(_), None) => format!("{} {} DEFAULT NULL", it.name, it.type_text()),
                (Some(_), Some(text)) => {
                    format!("{} {} DEFAULT {quote}{text}{quote}", it.name, it.type_text())
                }
            }
        };
        self.parameters.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Values by position, from those that were given by name.
    pub fn values<'a>(
        &self,
        given: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<ScalarValue>> {
        let mut by_name: BTreeMap<&str, ScalarValue> = BTreeMap::new();
        for (name, text) in given {
            let Some(parameter) = self.parameters.iter().find(|it| it.name == name) else {
                let error = Error::invalid(format!("{} has no parameter \"{name}\"", self.path));
                let known: Vec<_> = self.parameters.iter().map(|it| it.name.as_str()).collect();
                return Err(match known.is_empty() {
                    true => error.hint("it takes none"),
                    false => error.hint(suggestion(name, "parameters are", known)),
                });
            };
            if by_name.insert(&parameter.name, parameter.value(text)?).is_some() {
                return Err(Error::invalid(format!("parameter \"{name}\" is given twice")));
            }
        }
        let value = |it: &Parameter| match by_name.remove(it.name.as_str()).or_else(|| it.default.clone()) {
            Some(value) => Ok(value),
            None => Err(Error::invalid(format!("{} needs parameter \"{}\"", self.path, it.name))
                .hint(format!("its type is {}; parameters are: {}", it.type_text(), self.signature()))),
        };
        self.parameters.iter().map(value).collect()
    }
}

fn planned(create: &CreateEndpoint, spec: &KeptStatement) -> Result<Endpoint> {
    let (path, sql) = (spec.name.clone(), spec.sql.clone());
    let (declared, query) = match &create.work {
        EndpointWork::Ask { parameters, query } => (parameters, query),
        EndpointWork::Collect { stream, options } => {
            let work = Work::Collect(Box::new(Collect::of(stream, options)?));
            return Ok(Endpoint {
                id: spec.id,
                path,
                sql,
                parameters: vec![],
                work,
                reads: OnceLock::new(),
                keys: OnceLock::new(),
            });
        }
    };
    let parameters = declared.iter().map(parameter).collect::<Result<Vec<_>>>()?;
    let mut query = query.clone();
    let mut naming = Naming { declared, used: BTreeSet::new() };
    if let ControlFlow::Break(error) = walk_mut(&mut *query, &mut naming) {
        return Err(error);
    }
    let unused = declared.iter().enumerate().find(|(index, _)| !naming.used.contains(index));
    if let Some((_, unused)) = unused {
        let name = &unused.name.value;
        return Err(Error::invalid(format!("parameter \"{name}\" is declared and not used"))
            .at(unused.name.position)
            .hint(format!("the query names it ${name}")));
    }
    Ok(Endpoint {
        id: spec.id,
        path,
        sql,
        parameters,
        work: Work::Ask(query),
        reads: OnceLock::new(),
        keys: OnceLock::new(),
    })
}

fn parameter(declared: &ParameterDeclaration) -> Result<Parameter> {
    let kind = scalar_type(&declared.data_type)
        .map_err(|reason| Error::invalid(reason).at(declared.type_position))?;
    let mut parameter =
        Parameter { name: declared.name.value.clone(), kind, default: None, default_text: None };
    if let Some(default) = &declared.default {
        parameter.default_text = default.text.clone();
        parameter.default = Some(match &default.text {
            Some(text) => parameter.value(text).map_err(|error| error.at(default.position))?,
            None => ScalarValue::try_from(&parameter.kind)?,
        });
    }
    Ok(parameter)
}

/// Puts a typed and numbered placeholder where the text names a parameter.
struct Naming<'a> {
    declared: &'a [ParameterDeclaration],
    used: BTreeSet<usize>,
}

impl VisitorMut for Naming<'_> {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = expr else {
            return ControlFlow::Continue(());
        };
        let known = |it: &ParameterDeclaration| name.strip_prefix('$') == Some(it.name.value.as_str());
        let Some(index) = self.declared.iter().position(known) else {
            let names: Vec<_> = self.declared.iter().map(|it| it.name.value.as_str()).collect();
            let hint = match names.is_empty() {
                true => "declare it before AS: (minutes INT DEFAULT 5)".to_owned(),
                false => suggestion(name.trim_start_matches('$'), "parameters are", names),
            };
            let error = Error::invalid(format!("no parameter {name} is declared"));
            return ControlFlow::Break(error.at(Position::of(span.start)).hint(hint));
        };
        self.used.insert(index);
        let numbered = ValueWithSpan { value: Value::Placeholder(format!("${}", index + 1)), span: *span };
        *expr = cast(Expr::Value(numbered), self.declared[index].data_type.clone());
        ControlFlow::Continue(())
    }
}

fn cast(expr: Expr, data_type: Declared) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// Endpoints as they were last read, by the identity of their statement.
#[derive(Debug, Default)]
pub(super) struct Read(Mutex<BTreeMap<Uuid, Arc<Endpoint>>>);

impl Read {
    fn of(&self, spec: &KeptStatement) -> Result<Arc<Endpoint>> {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(&spec.id) {
            return Ok(Arc::clone(known));
        }
        let endpoint = Arc::new(Endpoint::of(spec)?);
        read.insert(spec.id, Arc::clone(&endpoint));
        Ok(endpoint)
    }

    fn forget(&self, id: Uuid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Shared {
    /// All that can be read; one that an older release took and this one does not is told in the log.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let read = |spec: Arc<KeptStatement>| match self.read.of(&spec) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::warn!(path = spec.name, %error, "an endpoint can't be read");
                None
            }
        };
        let kept = self.engine.kept().into_iter().filter(|spec| spec.name.starts_with('/'));
        kept.filter_map(read).collect()
    }
}

impl Database {
    /// By path, in order.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.shared.endpoints()
    }

    /// For events into the stream; the same one as long as the stream is.
    pub fn collector(&self, stream: &str) -> Result<Arc<Collector>> {
        let there = self.shared.engine.stream(stream);
        let there =
            there.ok_or_else(|| Error::invalid(format!("there is no stream \"{stream}\" any more")))?;
        let mut known = self.shared.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(collector) = known.get(&there.id) {
            return Ok(Arc::clone(collector));
        }
        let collector = Arc::new(self.shared.engine.collector(stream)?);
        known.retain(|_, collector| collector.stream().name != stream);
        known.insert(there.id, Arc::clone(&collector));
        Ok(collector)
    }

    /// The keys of those who may send to the endpoint; looked up once, so a changed one needs a restart.
    pub fn sender_keys<'a>(&self, endpoint: &'a Endpoint) -> Result<&'a [String]> {
        endpoint.sender_keys(self.shared.engine.as_ref())
    }

    /// Has records that an earlier run has taken, while Kafka was away, go on to it.
    pub fn send_on_what_waits(&self) {
        for stream in self.shared.engine.spooled() {
            if let Err(error) = self.collector(&stream) {
                tracing::warn!(stream, %error, "what waits in a spool can't be sent on");
            }
        }
    }

    /// Those that records were brought to, by the names of their streams.
    pub fn collectors(&self) -> Vec<Arc<Collector>> {
        let known = self.shared.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }

    pub fn endpoint(&self, path: &str) -> Result<Option<Arc<Endpoint>>> {
        self.shared.engine.kept_as(path).map(|spec| self.shared.read.of(&spec)).transpose()
    }
}

impl Session {
    /// The columns that the endpoint answers with.
    pub async fn prepare_endpoint(&self, endpoint: &Endpoint) -> Result<Prepared> {
        // With values, for what does not fit is found once types are settled.
        let value = |it: &Parameter| it.default.clone().map_or_else(|| ScalarValue::try_from(&it.kind), Ok);
        let values = endpoint.parameters.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        self.prepare_query(endpoint.query()?, None, Some(&values), endpoint.what()).await
    }

    /// Runs the endpoint's query with values by position.
    pub async fn ask(&self, endpoint: &Endpoint, values: &[ScalarValue]) -> Result<Answer> {
        let query = endpoint.query()?;
        let mut ticket = self.shared.registry.enter(self.wants(&query), &endpoint.sql, &self.client).await?;
        if let Some(elsewhere) = self.elsewhere() {
            let asked = self.asked(endpoint.what(), &query, Some(values));
            let away = self.run_away(elsewhere, asked, Form::default(), ticket).await?;
            endpoint.reads.get_or_init(|| away.reads.clone());
            return Ok(Answer::Rows(away.into_rows()));
        }
        let planning = self.request(query, None).plan(Some(values.to_vec()));
        match ticket.unless_stopped(planning).await {
            Ok(planned) => {
                endpoint.reads.get_or_init(|| planned.reads.clone());
                planned.start(&self.shared, ticket).await
            }
            Err(error) => {
                ticket.finish(Err(&error));
                Err(error)
            }
        }
    }

    /// As long as this stays the same, so do all answers of the endpoint to the same values. Taken before an answer, it
    /// is never newer than what the answer comes from. `None` when that can't be said without asking.
    pub fn version(&self, endpoint: &Endpoint) -> Option<u64> {
        let reads = endpoint.reads.get()?.as_ref()?;
        let snapshot = self.shared.engine.snapshot();
        let mut hasher = DefaultHasher::new();
        // After a crash the same number of records may be others.
        (self.shared.nonce, endpoint.id).hash(&mut hasher);
        for view in reads {
            snapshot.views.get(view).map(|table| table.version).hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

pub(super) async fn create(session: &Session, create: &CreateEndpoint) -> Result<String> {
    let shared = &session.shared;
    let _one_at_a_time = shared.changes.lock().await;
    let path = &create.path.value;
    let known = shared.engine.kept().into_iter().find(|known| known.name == *path);
    if let Some(known) = &known {
        let unchanged =
            change::unchanged("endpoint", &create.path, create.if_not_exists, &known.sql, &create.text);
        // It keeps nothing: a start goes by its file, whatever somebody has made of the endpoint over HTTP meanwhile.
        if !session.starts || unchanged.is_ok() {
            return unchanged;
        }
    }
    let spec = KeptStatement { id: Uuid::now_v7(), name: path.clone(), sql: create.text.clone() };
    let endpoint = planned(create, &spec)?;
    match (&endpoint.work, &create.work) {
        (Work::Collect(collect), EndpointWork::Collect { stream: written, .. }) => {
            let streams = shared.engine.streams();
            let streams = streams.iter().map(|stream| (stream.name.as_str(), stream));
            collect.check(change::named(written, "stream", streams)?, written)?;
            endpoint.sender_keys(shared.engine.as_ref())?;
        }
        _ => _ = session.prepare_endpoint(&endpoint).await?,
    }
    if let Some(known) = known {
        tracing::warn!(path, "an endpoint was another than the file of this start has, and is replaced");
        shared.engine.apply(CatalogChange::Forget(path.clone())).await?;
        shared.read.forget(known.id);
    }
    shared.engine.apply(CatalogChange::Keep(Arc::new(spec))).await?;
    Ok(format!("endpoint {path} was created"))
}

pub(super) async fn drop(shared: &Shared, drop: &DropEndpoint) -> Result<String> {
    let _one_at_a_time = shared.changes.lock().await;
    let path = &drop.path.value;
    let known = shared.engine.kept();
    let found = change::named(&drop.path, "endpoint", known.iter().map(|it| (it.name.as_str(), it.id)));
    let id = match found {
        Ok(id) => id,
        Err(_) if drop.if_exists => return Ok(format!("there is no endpoint {path}")),
        Err(error) => return Err(error),
    };
    shared.engine.apply(CatalogChange::Forget(path.clone())).await?;
    shared.read.forget(id);
    Ok(format!("endpoint {path} was dropped"))
}
