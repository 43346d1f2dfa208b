//! What is kept of a sink below DATA, at `sinks/<id>/`: how far it has come, whether it is paused, and what was refused.
//!
//! One writer a file: the place and dead letters are written by the sink's task, the pause by whoever says so. Another
//! instance that does not know yet that it was replaced may set a place back; then rows are sent again that were there, under
//! the keys that they had, and a topic knows its place by itself.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use thalweg_engine::checkpoint::{DataRoot, Step};
use thalweg_engine::ids::{Epoch, Micros, TopicId};
use thalweg_sql::session::DeadLetter;
use thalweg_sql::{Error, Result};
use uuid::Uuid;

/// How far a sink has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// All that closed by it is there.
    pub after: Epoch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
}

/// Of an epoch behind the place, so many deliveries are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub epoch: Epoch,
    pub sent: usize,
    /// The key of the last one.
    pub last: String,
}

impl Place {
    pub fn behind(after: Epoch) -> Place {
        Place { after, begun: None }
    }

    /// How many deliveries of an epoch are there.
    pub fn sent_of(&self, epoch: Epoch) -> usize {
        self.begun.as_ref().filter(|begun| begun.epoch == epoch).map_or(0, |begun| begun.sent)
    }

    /// Whether the last delivery that is there was another than one that would have its number now.
    pub fn is_other(&self, key: &str) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.last != key)
    }
}

#[derive(Serialize, Deserialize)]
struct LetterFile {
    delivery: String,
    epoch: u64,
    at: Micros,
    reason: String,
    body: String,
}

/// Dead letters that are read at a time.
const READING: usize = 16;

/// The folder of one sink.
pub struct Keep {
    root: DataRoot,
    folder: String,
}

impl Keep {
    pub fn of(root: &DataRoot, sink: Uuid) -> Keep {
        Keep { root: root.clone(), folder: format!("sinks/{}", sink.simple()) }
    }

    /// From the beginning, where nothing was noted.
    pub async fn place(&self) -> Result<Place> {
        match self.get("place.json").await? {
            Some(bytes) => self.read("place.json", &bytes),
            None => Ok(Place::default()),
        }
    }

    pub async fn note(&self, place: &Place) -> Result<()> {
        self.put("place.json", serde_json::to_vec(place)).await?;
        self.root.failpoints().hit(Step::SinkNoted);
        Ok(())
    }

    /// The topic that rows have gone into.
    pub async fn topic(&self) -> Result<Option<TopicId>> {
        let noted = self.get("topic.json").await?;
        noted.map(|bytes| self.read("topic.json", &bytes)).transpose()
    }

    pub async fn note_topic(&self, topic: &TopicId) -> Result<()> {
        self.put("topic.json", serde_json::to_vec(topic)).await
    }

    /// Others have sent on from this data before it was put in the place of theirs.
    pub async fn was_set_back(&self) -> Result<bool> {
        Ok(self.get("set-back").await?.is_some())
    }

    pub async fn note_set_back(&self) -> Result<()> {
        self.put("set-back", Ok(vec![])).await
    }

    pub async fn is_paused(&self) -> Result<bool> {
        Ok(self.get("paused").await?.is_some())
    }

    pub async fn pause(&self) -> Result<()> {
        self.put("paused", Ok(vec![])).await
    }

    pub async fn resume(&self) -> Result<()> {
        self.delete(&self.path("paused")).await
    }

    /// In the order in which they were to be delivered.
    pub async fn dead_letters(&self, sink: &str) -> Result<Vec<DeadLetter>> {
        let found = self.root.objects().list(Some(&self.path("dead")));
        let found = found.map_ok(|meta| meta.location).try_collect::<Vec<_>>().await.map_err(of_store)?;
        let read = async |path: Path| {
            let bytes =
                self.root.objects().get(&path).await.map_err(of_store)?.bytes().await.map_err(of_store)?;
            let letter: LetterFile = self.read(path.as_ref(), &bytes)?;
            Ok::<_, Error>(DeadLetter {
                sink: sink.to_owned(),
                delivery: letter.delivery,
                epoch: Epoch(letter.epoch),
                at: letter.at,
                reason: letter.reason,
                body: letter.body,
            })
        };
        let mut letters: Vec<DeadLetter> =
            futures::stream::iter(found).map(read).buffered(READING).try_collect().await?;
        letters.sort_by_key(|letter| (letter.epoch, number_of(&letter.delivery)));
        Ok(letters)
    }

    pub async fn bury(&self, letter: &DeadLetter) -> Result<()> {
        let file = LetterFile {
            delivery: letter.delivery.clone(),
            epoch: letter.epoch.0,
            at: letter.at,
            reason: letter.reason.clone(),
            body: letter.body.clone(),
        };
        self.put(&dead(&letter.delivery), serde_json::to_vec(&file)).await
    }

    pub async fn dig_up(&self, letter: &DeadLetter) -> Result<()> {
        self.delete(&self.path(&dead(&letter.delivery))).await
    }

    /// What sinks have left that are none, because making or dropping them was cut off.
    pub async fn sweep(root: &DataRoot, there: &[Uuid]) -> Result<()> {
        let found = root.objects().list_with_delimiter(Some(&Path::from("sinks"))).await.map_err(of_store)?;
        for folder in found.common_prefixes {
            let id = folder.filename().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(id) = id.filter(|id| !there.contains(id)) {
                Keep::of(root, id).forget().await?;
            }
        }
        Ok(())
    }

    /// The sink is no more.
    pub async fn forget(&self) -> Result<()> {
        let found = self.root.objects().list(Some(&Path::from(self.folder.as_str())));
        let found = found.map_ok(|meta| meta.location).try_collect::<Vec<_>>().await.map_err(of_store)?;
        for path in found {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.folder))
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match self.root.get(&format!("{}/{name}", self.folder)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(of_store(error)),
        }
    }

    async fn put(&self, name: &str, bytes: serde_json::Result<Vec<u8>>) -> Result<()> {
        let bytes = bytes.map_err(|error| Error::internal(format!("a note can't be written: {error}")))?;
        Ok(self.root.put(&format!("{}/{name}", self.folder), Bytes::from(bytes)).await?)
    }

    async fn delete(&self, path: &Path) -> Result<()> {
        match self.root.objects().delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }

    fn read<'a, T: Deserialize<'a>>(&self, name: &str, bytes: &'a [u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::invalid(format!(
                "what a sink has noted can't be read. file=\"{}/{name}\": {error}",
                self.folder
            ))
        })
    }
}

fn dead(delivery: &str) -> String {
    format!("dead/{delivery}.json")
}

/// Of an epoch's deliveries: a key is the sink, the epoch, this, and a digest.
fn number_of(delivery: &str) -> Option<u64> {
    delivery.split('-').nth(2)?.parse().ok()
}

fn of_store(error: object_store::Error) -> Error {
    thalweg_engine::Error::from(error).into()
}
