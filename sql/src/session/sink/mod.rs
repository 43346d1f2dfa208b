//! Sinks: queries row by row over one view whose rows are sent on as they close, into a topic or to an address.
//!
//! Owns: what a declared sink is, that its statement is right, and its rows in their order ([`Follower`]). Leaves to others
//! ([`Sending`]): how they are sent, how far that has come, and what is refused.

mod follow;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Spanned};
use thalweg_engine::ids::{Epoch, Micros};
use thalweg_engine::secrets;
use thalweg_engine::spec::{CatalogChange, KafkaSpec, KeptStatement, Unit as Shape, ViewShape, ViewSpec};
use url::Url;
use uuid::Uuid;

pub use self::follow::{Changed, Follower, Unit};
use super::change;
use super::database::{Database, Shared};
use super::making::{Making, Told};
use crate::error::suggestion;
use crate::parse::{self, AlterSink, CreateSink, DropSink, Name, Order, Statement, Target};
use crate::plan;
use crate::plan::values::{self, Options};
use crate::tables::PUBLIC;
use crate::{Error, Position, Result};

/// Sinks are kept beside plain views and endpoints, under a name that none of these can have.
const KEPT: &str = "sink/";

const KAFKA: [&str; 6] = ["brokers", "topic", "key", "format", "snapshot", "properties.*"];
const WEBHOOK: [&str; 6] = ["url", "secret", "batch", "template", "timeout", "snapshot"];

const BATCH: usize = 100;
const BATCH_MAX: usize = 10_000;

/// A declared sink.
#[derive(Debug, Clone)]
pub struct Sink {
    pub id: Uuid,
    pub name: String,
    pub sql: String,
    pub into: Into,
    /// What has closed before it was created is sent too.
    pub snapshot: bool,
    /// Rows that may be taken back are sent, too.
    pub live: bool,
    query: Box<Query>,
}

#[derive(Debug, Clone)]
pub enum Into {
    Kafka {
        topic: KafkaSpec,
        /// The column whose text is the key of a record.
        key: Option<String>,
    },
    Webhook(Webhook),
}

#[derive(Debug, Clone)]
pub struct Webhook {
    pub url: Url,
    /// A reference to the secret by which deliveries are signed.
    pub secret: Option<String>,
    /// Rows of one delivery, at most.
    pub batch: usize,
    /// The body of a delivery of one row, with `{{column}}` in places.
    pub template: Option<String>,
    /// How long the other side may take to answer.
    pub timeout: Duration,
}

/// Sends rows on, of all sinks that there are.
#[async_trait]
pub trait Sending: Send + Sync {
    /// Refuses what can't be sent where the sink says.
    fn check(&self, sink: &Sink) -> Result<()>;

    /// Asks whether what it sends into is there.
    async fn find(&self, sink: &Sink) -> Result<()>;

    /// Durable when it returns: what closed by this epoch is not sent.
    async fn begin(&self, sink: &Sink, after: Epoch) -> Result<()>;

    /// A sink that was created, or is no more.
    fn changed(&self);

    async fn order(&self, sink: Uuid, order: Order) -> Result<String>;

    fn status(&self) -> Vec<SinkStatus>;

    fn dead_letters(&self) -> Vec<DeadLetter>;
}

/// How a sink gets on.
#[derive(Debug, Clone)]
pub struct SinkStatus {
    pub sink: String,
    pub view: String,
    pub into: &'static str,
    /// The topic or the address.
    pub target: String,
    pub state: SinkState,
    /// All that closed by it is sent, and known to be there.
    pub confirmed: Epoch,
    /// The newest that is durable.
    pub epoch: Epoch,
    pub rows: u64,
    /// Transactions, or requests that were answered well.
    pub deliveries: u64,
    pub retries: u64,
    pub dead_letters: u64,
    pub last_error: Option<String>,
    pub last_error_at: Option<Micros>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkState {
    /// The other side has not answered yet.
    Starting,
    Running,
    /// What it sends is not taken just now, and tried again.
    Retrying,
    Paused,
    /// It stands still until a statement has it go on.
    Failed,
}

impl SinkState {
    pub const ALL: [SinkState; 5] =
        [SinkState::Starting, SinkState::Running, SinkState::Retrying, SinkState::Paused, SinkState::Failed];

    pub fn name(self) -> &'static str {
        match self {
            SinkState::Starting => "starting",
            SinkState::Running => "running",
            SinkState::Retrying => "retrying",
            SinkState::Paused => "paused",
            SinkState::Failed => "failed",
        }
    }
}

/// A delivery that the other side has refused for good.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub sink: String,
    /// The key of the delivery.
    pub delivery: String,
    pub epoch: Epoch,
    pub at: Micros,
    pub reason: String,
    pub body: String,
}

impl Sink {
    fn of(create: &CreateSink, id: Uuid) -> Result<Sink> {
        let mut options = Options::new(&create.options);
        let known = match create.target {
            Target::Kafka => KAFKA,
            Target::Webhook => WEBHOOK,
        };
        options.refuse_unknown(&known)?;
        let snapshot = options.parsed("snapshot", values::boolean)?.unwrap_or(true);
        let into = match create.target {
            Target::Kafka => {
                plan::check_format(&mut options)?;
                let topic = KafkaSpec {
                    brokers: required(create, &mut options, "brokers")?,
                    topic: required(create, &mut options, "topic")?,
                    properties: plan::properties(&mut options)?,
                };
                Into::Kafka { topic, key: options.take("key").map(|entry| entry.value.clone()) }
            }
            Target::Webhook => Into::Webhook(webhook(create, &mut options)?),
        };
        if let (true, Into::Webhook(Webhook { template: Some(_), .. })) = (create.live, &into) {
            return Err(Error::invalid("a template can't say of a row that it is taken back")
                .at(create.name.position)
                .hint(
                    "leave out ON LIVE, or the template: without it a delivery says what becomes of each row",
                ));
        }
        let (name, sql) = (create.name.value.clone(), create.text.clone());
        Ok(Sink { id, name, sql, into, snapshot, live: create.live, query: create.query.clone() })
    }

    fn kept(spec: &KeptStatement) -> Result<Sink> {
        match parse::statement(&spec.sql)?.statement {
            Statement::CreateSink(create) => Sink::of(&create, spec.id),
            _ => Err(Error::internal(format!("the catalog's text of {} is no sink", spec.name))),
        }
    }

    pub fn into_text(&self) -> &'static str {
        match self.into {
            Into::Kafka { .. } => "kafka",
            Into::Webhook(_) => "webhook",
        }
    }

    /// Without what an address may hold that is for nobody's eyes.
    pub fn target(&self) -> String {
        match &self.into {
            Into::Kafka { topic, .. } => topic.topic.clone(),
            Into::Webhook(Webhook { url, .. }) => url.origin().ascii_serialization(),
        }
    }

    /// What it reads, as its text names it.
    pub fn view(&self) -> String {
        plan::relations(&self.query).into_iter().next().unwrap_or_default()
    }

    /// Whether it reads a view, by its text alone.
    pub fn reads(&self, name: &str) -> bool {
        parse::PlainViews::is_read(name, &self.query)
    }

    /// `text` is its statement, as it was written.
    async fn planned(&self, shared: &Arc<Shared>, text: &str) -> Result<Making> {
        let told = Told { query: &self.query, given: &[], schema: PUBLIC, text, what: "a sink" };
        Making::of(shared, told).await
    }

    /// That its columns have names, and its options name some of them.
    fn check_columns(&self, create: &CreateSink, columns: &Schema) -> Result<()> {
        if let SetExpr::Select(select) = &*self.query.body {
            let nameless = |item: &&SelectItem| match item {
                SelectItem::UnnamedExpr(expr) => {
                    !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                }
                _ => false,
            };
            if let Some(item) = select.projection.iter().find(nameless) {
                return Err(Error::invalid("a column of a sink needs a name, for its rows are JSON")
                    .at(Position::of(item.span().start))
                    .hint("give it one with AS"));
            }
        }
        let names = || columns.fields().iter().map(|field| field.name().as_str());
        let named = |option: &str, column: &str| match names().any(|name| name == column) {
            true => Ok(()),
            false => {
                let entry = create.options.iter().find(|entry| entry.key.eq_ignore_ascii_case(option));
                let place = entry.and_then(|entry| entry.value_position);
                Err(Error::invalid(format!("the query has no column \"{column}\""))
                    .at(place)
                    .hint(suggestion(column, "columns are", names().collect::<Vec<_>>())))
            }
        };
        match &self.into {
            Into::Kafka { key: Some(key), .. } => {
                named("key", key)?;
                let is_plain = |column: &Field| !column.data_type().is_nested();
                match columns.field_with_name(key).is_ok_and(is_plain) {
                    true => Ok(()),
                    false => Err(Error::invalid(format!(
                        "\"{key}\" can't be the key of a record: it is made of several values"
                    ))
                    .hint("take a column with one value, or a part of it: device['type'] AS device_type")),
                }
            }
            Into::Webhook(Webhook { template: Some(template), .. }) => {
                holes(template).try_for_each(|column| named("template", column))?;
                let is_text = |column: &str| {
                    columns.field_with_name(column).is_ok_and(|field| !stands_bare(field.data_type()))
                };
                let made = |it: &str| filled(template, |hole| if hole == it { "x" } else { "0" }.into());
                let is_json = |text: String| serde_json::from_str::<serde_json::Value>(&text).is_ok();
                let bare = holes(template).find(|it| is_text(it) && is_json(made("")) && !is_json(made(it)));
                bare.map_or(Ok(()), |column| {
                    let entry = create.options.iter().find(|it| it.key.eq_ignore_ascii_case("template"));
                    Err(Error::invalid(format!("\"{column}\" is no number, so it stands in quotes"))
                        .at(entry.and_then(|entry| entry.value_position))
                        .hint(format!("write \"{{{{{column}}}}}\" in the template")))
                })
            }
            _ => Ok(()),
        }
    }
}

/// As JSON without quotes.
fn stands_bare(kind: &DataType) -> bool {
    kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null)
}

/// The template with something in place of each column.
pub fn filled(template: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut parts = template.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("}}") {
            Some((column, rest)) => {
                text.push_str(&value(column.trim()));
                text.push_str(rest);
            }
            None => {
                text.push_str("{{");
                text.push_str(part);
            }
        }
    }
    text
}

/// The columns that a template names.
pub fn holes(template: &str) -> impl Iterator<Item = &str> {
    template.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}

fn webhook(create: &CreateSink, options: &mut Options<'_>) -> Result<Webhook> {
    let place = |key: &str| {
        create
            .options
            .iter()
            .find(|entry| entry.key.eq_ignore_ascii_case(key))
            .and_then(|it| it.value_position)
    };
    let url = required(create, options, "url")?;
    let wrong = |reason: &str| {
        Error::invalid(format!("option \"url\" can't be what it is: {reason}"))
            .at(place("url"))
            .hint("write https://host/path")
    };
    let url = Url::parse(&url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it is an address of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "a statement is kept as it is written, and an address with a password holds a secret",
        ));
    }
    let secret = options.take("secret");
    if let Some(entry) = secret.filter(|entry| secrets::reference(&entry.value).is_none()) {
        return Err(Error::invalid("option \"secret\" holds a secret in the open")
            .at(entry.value_position)
            .detail("a statement is kept as it is written, in every manifest")
            .hint(format!(
                "write '${{env:{}NAME}}' or '${{file:NAME}}', and give the secret to the server",
                secrets::VARIABLE_PREFIX
            )));
    }
    let template = options.take("template").map(|entry| entry.value.clone());
    let batch = options.parsed("batch", |text| values::number(text, 1, BATCH_MAX))?;
    if template.is_some() && batch.is_some_and(|rows| rows > 1) {
        return Err(Error::invalid("a template makes a delivery of one row")
            .at(place("batch"))
            .hint("leave out batch; without a template a delivery is JSON with an array of rows"));
    }
    let batch = if template.is_some() { 1 } else { batch.unwrap_or(BATCH) };
    let timeout = options.parsed("timeout", |text| match values::duration(text)? {
        timeout if (1..=300).contains(&timeout.as_secs()) => Ok(timeout),
        _ => Err("it is between 1s and 5min".to_owned()),
    })?;
    let timeout = timeout.unwrap_or(Duration::from_secs(30));
    Ok(Webhook { url, secret: secret.map(|entry| entry.value.clone()), batch, template, timeout })
}

fn required(create: &CreateSink, options: &mut Options<'_>, key: &str) -> Result<String> {
    plan::required(&create.name, options, key).map_err(|error| match error.hint {
        Some(_) => Error { hint: Some(format!("add {key} = '…' to the options in parentheses")), ..error },
        None => error,
    })
}

impl Shared {
    /// All that can be read; one that an older release took and this one does not is told in the log.
    pub fn sinks(&self) -> Vec<Arc<Sink>> {
        let kept = self.engine.kept().into_iter().filter(|spec| spec.name.starts_with(KEPT));
        let read = |spec: Arc<KeptStatement>| match Sink::kept(&spec) {
            Ok(sink) => Some(Arc::new(sink)),
            Err(error) => {
                tracing::warn!(sink = spec.name, %error, "a sink can't be read");
                None
            }
        };
        kept.filter_map(read).collect()
    }

    /// The sinks that read a view.
    pub(super) fn sinks_of(&self, view: &str) -> Vec<String> {
        self.sinks().iter().filter(|sink| sink.reads(view)).map(|sink| sink.name.clone()).collect()
    }

    fn sending(&self) -> Result<&Arc<dyn Sending>> {
        self.sending.get().ok_or_else(|| Error::invalid("nothing is sent on by this process"))
    }
}

impl Database {
    /// From now on its sinks are sent on by this.
    pub fn send_by(&self, sending: Arc<dyn Sending>) {
        if self.shared.sending.set(sending).is_err() {
            tracing::error!("sinks are sent on already");
        }
    }

    pub fn sinks(&self) -> Vec<Arc<Sink>> {
        self.shared.sinks()
    }

    /// How they get on.
    pub fn sink_status(&self) -> Vec<SinkStatus> {
        self.shared.sending.get().map(|sending| sending.status()).unwrap_or_default()
    }

    /// The newest epoch that is durable.
    pub fn epoch(&self) -> Epoch {
        self.shared.engine.snapshot().epoch
    }

    pub async fn follow(&self, sink: &Sink) -> Result<Follower> {
        Follower::new(&self.shared, sink.planned(&self.shared, &sink.sql).await?, sink.live)
    }
}

/// At a start a topic that is not there yet is waited for, as one that goes later is.
pub(super) async fn create(
    shared: &Arc<Shared>,
    create: &CreateSink,
    text: &str,
    at_start: bool,
) -> Result<String> {
    let _one_at_a_time = shared.changes.lock().await;
    let name = &create.name.value;
    if let Some(known) = shared.sinks().iter().find(|known| known.name == *name) {
        return change::unchanged("sink", &create.name, create.if_not_exists, &known.sql, &create.text);
    }
    let sink = Sink::of(create, Uuid::now_v7())?;
    let sending = shared.sending()?;
    let planned = sink.planned(shared, text).await?;
    sink.check_columns(create, &planned.columns())?;
    let never_final = |view: &&Arc<ViewSpec>| {
        view.name == planned.view && matches!(view.shape, ViewShape::Units { unit: Shape::Ever(_), .. })
    };
    if !sink.live && shared.engine.views().iter().any(|view| never_final(&view)) {
        return Err(Error::invalid(format!("the rows of view {} are never final", planned.view))
            .at(create.name.position)
            .hint("ON LIVE sends them as they change; a view with a window has rows that are final"));
    }
    sending.check(&sink).map_err(|error| error.at(create.name.position))?;
    if !at_start {
        sending.find(&sink).await.map_err(|error| error.at(create.name.position))?;
    }
    let after = if sink.snapshot { Epoch(0) } else { shared.engine.snapshot().epoch };
    sending.begin(&sink, after).await?;
    let kept = KeptStatement { id: sink.id, name: format!("{KEPT}{name}"), sql: create.text.clone() };
    shared.engine.apply(CatalogChange::Keep(Arc::new(kept))).await?;
    sending.changed();
    Ok(format!("sink {name} was created"))
}

pub(super) async fn drop(shared: &Shared, drop: &DropSink) -> Result<String> {
    let _one_at_a_time = shared.changes.lock().await;
    let name = &drop.name.value;
    if let Err(error) = known(shared, &drop.name) {
        return if drop.if_exists { Ok(format!("there is no sink {name}")) } else { Err(error) };
    }
    shared.engine.apply(CatalogChange::Forget(format!("{KEPT}{name}"))).await?;
    shared.sending()?.changed();
    Ok(format!("sink {name} was dropped"))
}

pub(super) async fn alter(shared: &Shared, alter: &AlterSink) -> Result<String> {
    let sink = known(shared, &alter.name)?;
    let done = shared.sending()?.order(sink.id, alter.order).await;
    done.map_err(|error| error.at(alter.name.position))
}

fn known(shared: &Shared, name: &Name) -> Result<Arc<Sink>> {
    let sinks = shared.sinks();
    change::named(name, "sink", sinks.iter().map(|it| (it.name.as_str(), Arc::clone(it))))
}
