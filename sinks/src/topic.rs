//! INV-29: rows into a topic. What closed after one place and by another is one transaction, with the place that this comes to. So
//! whoever reads committed records has each row once, whoever died in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use thalweg_engine::ErrorKind;
use thalweg_engine::checkpoint::{DataRoot, Step};
use thalweg_engine::ids::{Epoch, TopicId};
use thalweg_engine::source::{Sending, Transactions, Written};
use thalweg_engine::spec::KafkaSpec;
use thalweg_sql::session::{Changed, Follower, Sink, Unit};
use thalweg_sql::{Error, Result};

use uuid::Uuid;

use crate::{World, json};

/// Rows of a transaction, if an epoch does not close more.
pub const ROWS: usize = 50_000;

/// How long brokers may take to say which topic it is: before rows are there for good, and between them.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
const TOLD_SOON: Duration = Duration::from_secs(2);

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
    name: String,
    /// What rows of this sink have gone into, where that is known.
    id: Option<TopicId>,
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
        let topic = spec.topic.clone();
        let instance = world.instance;
        let (writer, written) = waiting(move || Transactions::open(&spec, &secrets, &name, instance)).await?;
        let topic = Topic {
            writer: Arc::new(writer),
            root: world.root.clone(),
            key: key.map(str::to_owned),
            view: view.to_owned(),
            name: topic,
            id: None,
            begun: None,
        };
        Ok((topic, written))
    }

    /// For whoever wants to know what it waits for while it sends.
    pub fn writer(&self) -> Arc<Transactions> {
        Arc::clone(&self.writer)
    }

    /// Rows went into the topic of this id, if one is given; else into none before. Gives the one that they go into.
    pub async fn goes_on_in(&mut self, known: Option<TopicId>) -> Result<Option<TopicId>> {
        self.id = known;
        self.look(TOLD_WITHIN).await?;
        Ok(self.id.clone())
    }

    /// Looks while nothing is sent. A broker that does not answer is no news.
    pub async fn is_still_there(&mut self) -> Result<()> {
        match self.look(TOLD_SOON).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
            looked => looked,
        }
    }

    /// An error if it is another one by now, in which nothing is of what was sent.
    async fn look(&mut self, within: Duration) -> Result<()> {
        let writer = Arc::clone(&self.writer);
        let found = waiting(move || writer.topic_id(within)).await?;
        match (&self.id, found) {
            (Some(known), Some(found)) if *known != found => Err(Error::new(
                ErrorKind::BadData,
                format!(
                    "the topic is not the one that rows were sent into: it was deleted and created again, or brokers leads to \
                     another cluster. topic={:?}, topic id before={known}, topic id now={found}",
                    self.name
                ),
            )
            .hint(
                "DROP SINK and CREATE it again: all that has closed is sent into this one, or with snapshot = false what \
                 closes from now on",
            )),
            (None, found) => {
                self.id = found;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What has become of open rows, and then what has closed, in one transaction. Gives how many rows there were, once they
    /// and the place are there.
    pub async fn send(
        &mut self,
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
        self.look(TOLD_WITHIN).await?;
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
