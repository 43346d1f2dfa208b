//! What is asked of the catalog, and what its source has answered: a broker is asked in the task of whoever asks for the
//! change, before the coordinator hears of it, so that no commit waits for one.

use std::sync::Arc;

use crate::ids::{Micros, PartitionId};
use crate::job::Settings;
use crate::job::lookups::Lookup;
use crate::job::shared::{Partition, Shared};
use crate::job::stream::{Starts, Stood, StreamJob, not_begun, reached};
use crate::source::FilesRoots;
use crate::spec::{CatalogChange, SourceSpec, Start, StreamSpec};
use crate::{Error, Result};

/// A change that was asked for, with what its source, if it has one, answered.
pub enum Request {
    /// With what there is to say about the source. Without a place to start from it stands still.
    CreateStream(Box<StreamJob>, Result<Starts>, Option<String>),
    RestartStream(Box<StreamJob>, Starts),
    CreateLookup(Box<Lookup>),
    Other(CatalogChange),
}

impl Request {
    /// Reaches out to the source of a new stream, which may take long: in the task of whoever asks, at the wall time `now`.
    pub async fn of(
        change: CatalogChange,
        shared: &Shared,
        settings: &Settings,
        now: Micros,
    ) -> Result<Request> {
        match change {
            CatalogChange::CreateStream(spec) => {
                if shared.lock().streams.contains_key(&spec.name) {
                    return Err(exists(&spec.name));
                }
                let mut stream = StreamJob::new(spec, settings)?;
                stream.reach_out(settings, settings.files_roots.clone()).await?;
                let starts = stream.resolve_starts().await?;
                let warnings = stream.warnings().await?;
                warnings.iter().for_each(|warning| tracing::warn!(stream = stream.spec.name, "{warning}"));
                let note = (!warnings.is_empty()).then(|| warnings.join("; "));
                Ok(Request::CreateStream(Box::new(stream), Ok(starts), note))
            }
            CatalogChange::AwaitStream(spec) if !matches!(spec.source, SourceSpec::Kafka(_)) => {
                let change = CatalogChange::CreateStream(spec);
                Box::pin(Request::of(change, shared, settings, now)).await
            }
            CatalogChange::AwaitStream(spec) => {
                if shared.lock().streams.contains_key(&spec.name) {
                    return Err(exists(&spec.name));
                }
                let mut stream = StreamJob::new(spec, settings)?;
                stream.reach_out(settings, settings.files_roots.clone()).await?;
                let starts = reached(&stream.spec.name, stream.resolve_starts()).await;
                Ok(Request::CreateStream(Box::new(stream), starts.map_err(not_begun), None))
            }
            CatalogChange::CreateLookup(spec) => {
                name_is_free(shared, &spec.name)?;
                let lookup = Lookup::opened(spec, settings, shared.memory()).await?;
                Ok(Request::CreateLookup(Box::new(lookup)))
            }
            CatalogChange::AwaitLookup(spec) => {
                name_is_free(shared, &spec.name)?;
                let lookup = Lookup::awaited(spec, settings, shared.memory(), now).await?;
                Ok(Request::CreateLookup(Box::new(lookup)))
            }
            CatalogChange::RestartStream { name, at } => {
                if matches!(at, Some(Start::Timestamp(at)) if at > now) {
                    return Err(Error::Invalid(format!(
                        "the moment is ahead of the clock: whatever comes until then would be skipped; 'latest' goes on with \
                         what comes from now on. stream={name:?}"
                    )));
                }
                let (spec, stood) = failed_stream(shared, &name)?;
                if let Some(error) = shared.lock().unread_table(&name) {
                    return Err(error);
                }
                let mut stream = StreamJob::new(spec, settings)?;
                // It was allowed where it is.
                stream.reach_out(settings, FilesRoots::Anywhere).await?;
                let begins = stood.partitions.is_empty();
                let starts = stream.resume_at(stood, at).await;
                let starts = if begins { starts.map_err(not_begun) } else { starts }?;
                Ok(Request::RestartStream(Box::new(stream), starts))
            }
            change => Ok(Request::Other(change)),
        }
    }
}

pub(super) fn failed_stream(shared: &Shared, name: &str) -> Result<(Arc<StreamSpec>, Stood)> {
    let tables = shared.lock();
    match tables.streams.get(name) {
        None => Err(Error::Invalid(format!("there is no such stream. stream={name:?}"))),
        Some(stream) if stream.failure.is_none() => {
            Err(Error::Invalid(format!("the stream has not failed. stream={name:?}")))
        }
        Some(stream) => {
            let stood = |(id, it): (&PartitionId, &Partition)| (*id, (it.next_offset, it.last_record));
            let partitions = stream.partitions.iter().map(stood).collect();
            Ok((Arc::clone(&stream.spec), Stood { partitions, topic_id: stream.topic_id.clone() }))
        }
    }
}

/// Streams, views and tables share one space of names.
pub(super) fn name_is_free(shared: &Shared, name: &str) -> Result<()> {
    let tables = shared.lock();
    let taken = tables.lookups.contains_key(name)
        || tables.tables.contains_key(name)
        || tables.streams.contains_key(name);
    if taken { Err(Error::Invalid(format!("the name is taken already. table={name:?}"))) } else { Ok(()) }
}

pub(super) fn exists(stream: &str) -> Error {
    Error::Invalid(format!("the stream exists already. stream={stream:?}"))
}
