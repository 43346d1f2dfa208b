//! CREATE and DROP: checked against what is there, then handed to the job, one at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_engine::ids::PartitionId;
use thalweg_engine::job::CatalogEntry;
use thalweg_engine::spec::{CatalogChange, LookupSpec, StreamSpec, ViewSpec};
use uuid::Uuid;

use super::answer::Task;
use super::database::Shared;
use super::difference;
use crate::error::suggestion;
use crate::parse::{
    self, CreateStream, CreateTable, CreateView, Drop, Name, PlainViews, Relation, Restart, SetWatermark,
    Statement,
};
use crate::{Error, Result, plan};

/// At a start one whose topic can't be had now is created all the same, and stands still until it can.
pub(crate) async fn create_stream(shared: &Shared, create: &CreateStream, at_start: bool) -> Result<String> {
    let name = &create.name.value;
    let there = || shared.engine.streams().into_iter().find(|stream| stream.name == *name);
    let unchanged = |stream: &StreamSpec| {
        unchanged("stream", &create.name, create.if_not_exists, &stream.sql, &create.text)
    };
    refuse_same_name(shared, &create.name, Relation::Stream)?;
    if let Some(stream) = there() {
        return unchanged(&stream);
    }
    let spec = Arc::new(plan::plan_stream(create, Uuid::now_v7())?);
    let change = if at_start { CatalogChange::AwaitStream(spec) } else { CatalogChange::CreateStream(spec) };
    // Its source may take long to answer, and other changes go on meanwhile; the job looks at the name once more.
    match shared.engine.apply(change).await {
        Ok(note) => Ok(with(format!("stream {name} was created"), note)),
        Err(error) => match there() {
            Some(stream) => unchanged(&stream),
            None => Err(Error::from(error).at(create.name.position)),
        },
    }
}

/// At a start one whose source can't be had now is created all the same, and what would look it up waits for it.
pub(crate) async fn create_table(shared: &Shared, create: &CreateTable, at_start: bool) -> Result<String> {
    let name = &create.name.value;
    let there = || shared.engine.tables().into_iter().find(|table| table.name == *name);
    let unchanged =
        |table: &LookupSpec| unchanged("table", &create.name, create.if_not_exists, &table.sql, &create.text);
    refuse_same_name(shared, &create.name, Relation::Table)?;
    if let Some(table) = there() {
        return unchanged(&table);
    }
    let spec = Arc::new(plan::plan_table(create, Uuid::now_v7())?);
    let change = if at_start { CatalogChange::AwaitLookup(spec) } else { CatalogChange::CreateLookup(spec) };
    // Reading it may take long, and other changes go on meanwhile; the job looks at the name once more.
    match shared.engine.apply(change).await {
        Ok(note) => Ok(with(format!("table {name} was created"), note)),
        Err(error) => match there() {
            Some(table) => unchanged(&table),
            None => Err(Error::from(error).at(create.name.position)),
        },
    }
}

pub(crate) async fn create_view(shared: &Shared, create: &CreateView, at_start: bool) -> Result<String> {
    if shared.engine.views().iter().all(|view| view.name != create.name.value) {
        shared.rehearse(&create.text, &create.query).await?;
    }
    let _one_at_a_time = shared.changes.lock().await;
    let name = &create.name.value;
    refuse_same_name(shared, &create.name, Relation::View)?;
    if let Some(view) = shared.engine.views().iter().find(|view| view.name == *name) {
        return unchanged("view", &create.name, create.if_not_exists, &view.sql, &create.text);
    }
    let spec = Arc::new(plan_view(shared, create).await?);
    let change = if at_start { CatalogChange::AwaitView(spec) } else { CatalogChange::CreateView(spec) };
    shared.engine.apply(change).await?;
    Ok(format!("view {name} was created"))
}

/// Plans without creating, on the queries' runtime.
pub(crate) async fn plan_view(shared: &Shared, create: &CreateView) -> Result<ViewSpec> {
    let (create, streams, views) = (create.clone(), shared.engine.streams(), shared.engine.views());
    let tables = shared.engine.tables();
    let plain = shared.plain_views();
    let planning = async move {
        let inputs = plan::Inputs { streams: &streams, views: &views, tables: &tables, plain: &plain };
        plan::plan_view(&create, Uuid::now_v7(), inputs).await
    };
    Task::spawn(&shared.runtime, planning).join().await?
}

/// Plans without creating.
pub(crate) fn plan_stream(create: &CreateStream) -> Result<StreamSpec> {
    plan::plan_stream(create, Uuid::now_v7())
}

pub(crate) async fn drop(shared: &Shared, drop: &Drop) -> Result<String> {
    let _one_at_a_time = shared.changes.lock().await;
    let name = &drop.name.value;
    let (streams, views) = (shared.engine.streams(), shared.engine.views());
    let plain = shared.plain_views();
    let what = word(drop.what);
    let found = match drop.what {
        Relation::Stream => named(&drop.name, what, streams.iter().map(|stream| (stream.name.as_str(), ()))),
        Relation::Table => {
            let tables = shared.engine.tables();
            named(&drop.name, what, tables.iter().map(|table| (table.name.as_str(), ())))
        }
        Relation::View | Relation::PlainView => {
            let views = views.iter().map(|view| view.name.as_str());
            named(&drop.name, what, views.chain(plain.names()).map(|name| (name, ())))
        }
    };
    if let Err(error) = found {
        return if drop.if_exists { Ok(format!("there is no {what} {name}")) } else { Err(error) };
    }
    let (readers, sinks) = (readers(&views, &plain, name), shared.sinks_of(name));
    for (kind, names) in [("views", readers), ("sinks", sinks)] {
        if !names.is_empty() {
            let before = drop_readers(shared, &views, &plain, name);
            let text = format!("{what} \"{name}\" is read by {kind}: {}", names.join(", "));
            return Err(Error::invalid(text)
                .at(drop.name.position)
                .hint(format!("drop them first: {}", before.join("; "))));
        }
    }
    let change = match drop.what {
        Relation::Stream => CatalogChange::DropStream(name.clone()),
        Relation::Table => CatalogChange::DropLookup(name.clone()),
        _ if plain.text(name).is_some() => CatalogChange::Forget(name.clone()),
        _ => CatalogChange::DropView(name.clone()),
    };
    shared.engine.apply(change).await?;
    Ok(format!("{what} {name} was dropped"))
}

/// The views that read it, by themselves or in a text of theirs that names it.
fn readers(views: &[Arc<ViewSpec>], plain: &PlainViews, name: &str) -> Vec<String> {
    let texts = plain.names().filter_map(|reader| Some((reader, plain.text(reader)?)));
    let texts = views.iter().map(|view| (view.name.as_str(), view.sql.as_str())).chain(texts);
    let mut found = vec![];
    for (reader, text) in texts {
        let by_itself = views.iter().any(|view| view.name == reader && view.reads(name));
        if reader != name && (by_itself || names(text, name)) {
            found.push(reader.to_owned());
        }
    }
    found
}

/// What drops all that reads it, each thing when nothing reads it any more.
fn drop_readers(shared: &Shared, views: &[Arc<ViewSpec>], plain: &PlainViews, name: &str) -> Vec<String> {
    let (mut statements, mut seen) = (vec![], BTreeSet::from([name.to_owned()]));
    let above = |name: &str| readers(views, plain, name).into_iter();
    let mut under = vec![(name.to_owned(), above(name))];
    while let Some((name, readers)) = under.last_mut() {
        if let Some(reader) = readers.next() {
            // A name that is read may be given another meaning by a WITH, so they may seem to go in circles.
            if seen.insert(reader.clone()) {
                let above = above(&reader);
                under.push((reader, above));
            }
            continue;
        }
        for sink in shared.sinks_of(name) {
            let statement = format!("DROP SINK {sink}");
            // A sink may read several.
            if !statements.contains(&statement) {
                statements.push(statement);
            }
        }
        statements.push(format!("DROP VIEW {name}"));
        under.pop();
    }
    // The one that is asked for.
    statements.pop();
    statements
}

/// Whether the text of a view names a relation. One that can't be read any more names nothing.
fn names(text: &str, name: &str) -> bool {
    // Most don't, and of a thousand views each is asked about each.
    if !text.to_ascii_lowercase().contains(name) {
        return false;
    }
    let query = match parse::statement(text).map(|parsed| parsed.statement) {
        Ok(Statement::CreateView(create)) => create.query,
        Ok(Statement::CreatePlainView(create)) => create.query,
        _ => return false,
    };
    PlainViews::is_read(name, &query)
}

/// Has what failed go on.
pub(crate) async fn restart(shared: &Shared, restart: &Restart) -> Result<String> {
    let name = &restart.name.value;
    let told = |error| Error::from(error).at(restart.name.position);
    match restart.what {
        Relation::View => {
            let _one_at_a_time = shared.changes.lock().await;
            let (streams, views) = (shared.engine.streams(), shared.engine.views());
            let tables = shared.engine.tables();
            let view = named(&restart.name, "view", views.iter().map(|view| (view.name.as_str(), view)))?;
            let (id, name, sql) = (view.id, view.name.clone(), view.sql.clone());
            let entry = CatalogEntry { id, name, sql, inputs: view.inputs() };
            let plain = shared.plain_views();
            let planning = async move {
                let inputs =
                    plan::Inputs { streams: &streams, views: &views, tables: &tables, plain: &plain };
                plan::replan_view(&entry, inputs).await
            };
            let planned = Task::spawn(&shared.runtime, planning).join().await?;
            let spec = planned.map_err(|error| of_its_statement(error, &restart.name))?;
            let note = shared.engine.apply(CatalogChange::RestartView(Arc::new(spec))).await.map_err(told)?;
            Ok(with(format!("view {} goes on", restart.name.value), note))
        }
        Relation::PlainView | Relation::Table => Err(Error::internal("ALTER tells no such thing")),
        Relation::Stream => {
            let streams = shared.engine.streams();
            named(&restart.name, "stream", streams.iter().map(|stream| (stream.name.as_str(), stream)))?;
            let at = restart.at.as_ref().map(|(text, position)| {
                plan::stream_start(text).map_err(|reason| Error::invalid(reason).at(*position))
            });
            // Its source may take long to answer, and other changes go on meanwhile; the job looks at it once more.
            let change = CatalogChange::RestartStream { name: name.clone(), at: at.transpose()? };
            let note = shared.engine.apply(change).await.map_err(told)?;
            Ok(with(format!("stream {name} goes on"), note))
        }
    }
}

/// An error in the text that a view was created by, whose places are not those of the statement at hand.
fn of_its_statement(error: Error, name: &Name) -> Error {
    let Some(place) = error.position else { return error.at(name.position) };
    let place = format!("in {place} of the statement that created \"{}\"", name.value);
    let detail = error.detail.iter().cloned().chain([place]).collect::<Vec<_>>().join("\n");
    Error { position: None, ..error }.at(name.position).detail(detail)
}

/// Sets the time of a stream right that a wrong clock has moved.
pub(crate) async fn set_watermark(shared: &Shared, set: &SetWatermark) -> Result<String> {
    let name = &set.stream.value;
    let streams = shared.engine.streams();
    named(&set.stream, "stream", streams.iter().map(|stream| (stream.name.as_str(), stream)))?;
    let (text, position) = &set.to;
    let to = plan::moment(text).map_err(|reason| Error::invalid(reason).at(*position))?;
    let change =
        CatalogChange::SetWatermark { stream: name.clone(), partition: set.partition.map(PartitionId), to };
    let told = |error| Error::from(error).at(set.stream.position);
    let note = shared.engine.apply(change).await.map_err(told)?;
    Ok(with(format!("stream {name} goes on from {text}"), note))
}

/// What was done, and what the engine has to say about it.
fn with(done: String, note: Option<String>) -> String {
    match note {
        Some(note) => format!("{done}: {note}"),
        None => done,
    }
}

fn word(relation: Relation) -> &'static str {
    match relation {
        Relation::Stream => "stream",
        Relation::Table => "table",
        Relation::View | Relation::PlainView => "view",
    }
}

/// The one of that name; there must be one.
pub(super) fn named<'a, T>(name: &Name, what: &str, known: impl Iterator<Item = (&'a str, T)>) -> Result<T> {
    let mut names = vec![];
    for (known, it) in known {
        if known == name.value {
            return Ok(it);
        }
        names.push(known);
    }
    let error = Error::invalid(format!("no {what} \"{}\"", name.value)).at(name.position);
    Err(match names.is_empty() {
        true => error,
        false => error.hint(suggestion(&name.value, &format!("{what}s are"), names)),
    })
}

/// Streams and views share one space of names: a name after FROM must mean one thing.
pub(super) fn refuse_same_name(shared: &Shared, name: &Name, created: Relation) -> Result<()> {
    let engine = &*shared.engine;
    let taken = [
        (Relation::Stream, "stream", engine.streams().iter().any(|stream| stream.name == name.value)),
        (Relation::Table, "table", engine.tables().iter().any(|table| table.name == name.value)),
        (Relation::View, "materialized view", engine.views().iter().any(|view| view.name == name.value)),
        (Relation::PlainView, "view", shared.plain_views().text(&name.value).is_some()),
    ];
    match taken.iter().find(|(relation, _, taken)| *taken && *relation != created) {
        Some((_, what, _)) => {
            let text = format!("\"{}\" is the name of a {what} already", name.value);
            Err(Error::invalid(text).at(name.position))
        }
        None => Ok(()),
    }
}

/// The answer to a CREATE of what is there: nothing to do when it says the same.
pub(super) fn unchanged(
    what: &str,
    name: &Name,
    if_not_exists: bool,
    there: &str,
    given: &str,
) -> Result<String> {
    if if_not_exists || difference::same_statement(there, given) {
        return Ok(format!("{what} {} is there already", name.value));
    }
    // A path is quoted wherever it is written.
    let written = if name.quoted { format!("'{}'", name.value) } else { name.value.clone() };
    Err(Error::invalid(format!("{what} \"{}\" exists and was created differently", name.value))
        .at(name.position)
        .detail(difference::lines(there, given))
        .hint(format!("drop it first (DROP {} {written}), or choose another name", what.to_uppercase())))
}
