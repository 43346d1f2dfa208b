//! INV-29: rows into a topic. What closed after one place and by another is one transaction, with the place that this comes to. So
//! whoever reads committed records has each row once, whoever died in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use thalweg_engine::ErrorKind;
use thalweg_engine::checkpoint::{DataRoot, Step};
use thalweg_engine::ids::Epoch;
use thalweg_engine::secrets::Secrets;
use thalweg_engine::source::{Sending, Transactions};
use thalweg_engine::spec::KafkaSpec;
use thalweg_sql::session::{Follower, Sink, Unit};
use thalweg_sql::{Error, Result};

use crate::json;

/// Rows of a transaction, if an epoch does not close more.
pub const ROWS: usize = 50_000;

/// The name by which a broker knows who writes, and the group in which the place is.
pub fn name_of(sink: &Sink) -> String {
    format!("thalweg-sink-{}", sink.id.simple())
}

pub struct Topic {
    writer: Arc<Transactions>,
    root: DataRoot,
    key: Option<String>,
    view: String,
}

struct Record {
    key: Option<String>,
    value: Bytes,
}

impl Topic {
    /// Takes over from whoever wrote for this sink before, and gives the place that they came to.
    pub async fn open(
        sink: &Sink,
        (spec, key): (&KafkaSpec, Option<&str>),
        view: &str,
        secrets: &Secrets,
        root: &DataRoot,
    ) -> Result<(Topic, Option<Epoch>)> {
        let (spec, secrets, name) = (spec.clone(), secrets.clone(), name_of(sink));
        let (writer, place) = waiting(move || Transactions::open(&spec, &secrets, &name)).await?;
        let topic = Topic {
            writer: Arc::new(writer),
            root: root.clone(),
            key: key.map(str::to_owned),
            view: view.to_owned(),
        };
        Ok((topic, place.and_then(|place| u64::try_from(place).ok()).map(Epoch)))
    }

    /// Gives how many rows there were, once they and their place are there.
    pub async fn send(&self, follower: &mut Follower, unit: &mut Unit) -> Result<u64> {
        let writer = Arc::clone(&self.writer);
        waiting(move || writer.begin()).await?;
        let mut count = 0;
        while let Some((epoch, rows)) = follower.rows(unit).await? {
            count += rows.num_rows() as u64;
            let records = self.records(&rows)?;
            let headers =
                BTreeMap::from([("thalweg-view", self.view.clone()), ("thalweg-epoch", epoch.0.to_string())]);
            let writer = Arc::clone(&self.writer);
            waiting(move || {
                records.iter().try_for_each(|Record { key, value }| {
                    let key = key.as_deref().map(str::as_bytes);
                    writer.send(&Sending { key, value, headers: &headers })
                })
            })
            .await?;
        }
        self.root.failpoints().hit(Step::SinkSent);
        let place = i64::try_from(unit.through.0).unwrap_or(i64::MAX);
        let writer = Arc::clone(&self.writer);
        waiting(move || writer.commit(place)).await?;
        self.root.failpoints().hit(Step::SinkConfirmed);
        Ok(count)
    }

    fn records(&self, rows: &RecordBatch) -> Result<Vec<Record>> {
        let values = json::objects(rows)?;
        let keys = match &self.key {
            Some(column) => json::texts(rows, column)?,
            None => vec![None; values.len()],
        };
        Ok(keys.into_iter().zip(values).map(|(key, value)| Record { key, value }).collect())
    }
}

/// On a thread that may wait for a broker.
async fn waiting<T: Send + 'static>(
    asks: impl FnOnce() -> thalweg_engine::Result<T> + Send + 'static,
) -> Result<T> {
    let answer = tokio::task::spawn_blocking(asks).await;
    let answer =
        answer.map_err(|error| Error::new(ErrorKind::Internal, format!("a writer panicked: {error}")))?;
    Ok(answer?)
}
