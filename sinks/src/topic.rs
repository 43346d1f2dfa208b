//! INV-29: rows into a topic. What closed after one place and by another is one transaction, with the place that this comes to. So
//! whoever reads committed records has each row once, whoever died in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use thalweg_engine::ErrorKind;
use thalweg_engine::checkpoint::{DataRoot, Step};
use thalweg_engine::ids::Epoch;
use thalweg_engine::source::{Sending, Transactions, Written};
use thalweg_engine::spec::KafkaSpec;
use thalweg_sql::session::{Changed, Follower, Sink, Unit};
use thalweg_sql::{Error, Result};

use uuid::Uuid;

use crate::{World, json};

/// Rows of a transaction, if an epoch does not close more.
pub const ROWS: usize = 50_000;

/// The header, and the key of the record, that says since when open rows are told.
const BEGUN: &str = "thalweg-begun";

/// The name by which a broker knows who writes, and the group in which the place is.
pub fn name_of(sink: &Sink) -> String {
    format!("thalweg-sink-{}", sink.id.simple())
}

pub struct Topic {
    writer: Arc<Transactions>,
    root: DataRoot,
    key: Option<String>,
    view: String,
    /// Since when open rows are told: what is told of them earlier is to be forgotten.
    begun: Option<String>,
}

struct Record {
    key: Option<Vec<u8>>,
    value: Bytes,
}

impl Topic {
    /// Takes over from whoever wrote for this sink before, and gives the place that they came to.
    pub async fn open(
        sink: &Sink,
        (spec, key): (&KafkaSpec, Option<&str>),
        view: &str,
        world: &World,
    ) -> Result<(Topic, Option<Written>)> {
        let (spec, secrets, name) = (spec.clone(), world.secrets.clone(), name_of(sink));
        let instance = world.instance;
        let (writer, written) = waiting(move || Transactions::open(&spec, &secrets, &name, instance)).await?;
        let topic = Topic {
            writer: Arc::new(writer),
            root: world.root.clone(),
            key: key.map(str::to_owned),
            view: view.to_owned(),
            begun: None,
        };
        Ok((topic, written))
    }

    /// What has become of open rows, and then what has closed, in one transaction. Gives how many rows there were, once they
    /// and the place are there.
    pub async fn send(
        &self,
        follower: &mut Follower,
        changes: Vec<Changed>,
        unit: Option<Unit>,
        place: Epoch,
    ) -> Result<u64> {
        let writer = Arc::clone(&self.writer);
        waiting(move || writer.begin()).await?;
        let mut count = 0;
        for Changed { come, rows } in changes {
            let (change, is_final) = (if come { "1" } else { "-1" }, "false");
            count += self.send_rows(&rows, follower.epoch(), Some((change, is_final))).await?;
        }
        if let Some(mut unit) = unit {
            while let Some((epoch, rows)) = follower.rows(&mut unit).await? {
                count += self.send_rows(&rows, epoch, self.begun.as_ref().map(|_| ("1", "true"))).await?;
            }
        }
        self.root.failpoints().hit(Step::SinkSent);
        let place = i64::try_from(place.0).unwrap_or(i64::MAX);
        let writer = Arc::clone(&self.writer);
        waiting(move || writer.commit(place)).await?;
        self.root.failpoints().hit(Step::SinkConfirmed);
        Ok(count)
    }

    /// Has readers forget the rows that were not final, in each partition.
    pub async fn begin_anew(&mut self, place: Epoch) -> Result<()> {
        let begun = Uuid::new_v4().simple().to_string();
        let headers = BTreeMap::from([("thalweg-view", self.view.clone()), (BEGUN, begun.clone())]);
        self.begun = Some(begun);
        let place = i64::try_from(place.0).unwrap_or(i64::MAX);
        let writer = Arc::clone(&self.writer);
        waiting(move || {
            writer.begin()?;
            for partition in 0..writer.partitions()? {
                // A compacted topic takes no record without a key.
                let key = Some(BEGUN.as_bytes());
                let partition = Some(partition);
                writer.send(&Sending { partition, key, value: None, timestamp: None, headers: &headers })?;
            }
            writer.commit(place)
        })
        .await
    }

    async fn send_rows(&self, rows: &RecordBatch, epoch: Epoch, change: Option<(&str, &str)>) -> Result<u64> {
        let records = self.records(rows)?;
        let count = records.len() as u64;
        let mut headers =
            BTreeMap::from([("thalweg-view", self.view.clone()), ("thalweg-epoch", epoch.0.to_string())]);
        if let (Some((change, is_final)), Some(begun)) = (change, &self.begun) {
            headers.insert("thalweg-change", change.to_owned());
            headers.insert("thalweg-final", is_final.to_owned());
            headers.insert(BEGUN, begun.clone());
        }
        let writer = Arc::clone(&self.writer);
        waiting(move || {
            records.iter().try_for_each(|Record { key, value }| {
                let (key, value) = (key.as_deref(), Some(&value[..]));
                writer.send(&Sending { partition: None, key, value, timestamp: None, headers: &headers })
            })
        })
        .await?;
        Ok(count)
    }

    fn records(&self, rows: &RecordBatch) -> Result<Vec<Record>> {
        let values = json::objects(rows)?;
        let keys = match &self.key {
            Some(column) => json::keys(rows, column)?,
            None => vec![None; values.len()],
        };
        Ok(keys.into_iter().zip(values).map(|(key, value)| Record { key, value }).collect())
    }
}

/// On a thread that may wait for a broker.
pub async fn waiting<T: Send + 'static>(
    asks: impl FnOnce() -> thalweg_engine::Result<T> + Send + 'static,
) -> Result<T> {
    let answer = tokio::task::spawn_blocking(asks).await;
    let answer =
        answer.map_err(|error| Error::new(ErrorKind::Internal, format!("a writer panicked: {error}")))?;
    Ok(answer?)
}
