//! Looks for new partitions of one stream, and whether its topic is still the same one, in a thread of its own: a broker that does not answer keeps it for half a
//! minute, and no commit may wait for that (INV-13). It only reports; the coordinator decides.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::ids::TopicId;
use crate::source::{Discovery, PartitionRange};
use crate::spec::StreamSpec;
use crate::{Error, ErrorKind, Result};

/// How often a source is asked for partitions nobody reads yet.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a look found: every partition of the stream, or why the stream cannot go on.
pub struct Sighting {
    pub stream: Uuid,
    pub found: Result<Vec<PartitionRange>>,
    /// The topic that they are of.
    pub topic: Option<TopicId>,
}

/// Keeps its thread looking until it is dropped.
pub struct Scout {
    _leave: std::sync::mpsc::SyncSender<()>,
}

impl Scout {
    pub fn start(
        stream: &StreamSpec,
        discovery: Arc<Mutex<Box<dyn Discovery>>>,
        reports: mpsc::Sender<Sighting>,
    ) -> Result<Scout> {
        let (leave, left) = std::sync::mpsc::sync_channel(0);
        let (name, id) = (stream.name.clone(), stream.id);
        let look = move || {
            let mut failing = false;
            while left.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                let (found, topic) = match discovery.lock() {
                    Ok(mut discovery) => (discovery.partitions(), discovery.topic_id()),
                    Err(_) => (Err(Error::Internal("a source panicked".into())), None),
                };
                match &found {
                    Err(error) if error.kind() == ErrorKind::Unavailable => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(stream = name, %error, "cannot look for new partitions");
                        }
                        continue;
                    }
                    _ => failing = false,
                }
                if reports.blocking_send(Sighting { stream: id, found, topic }).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("{}-scout", stream.name))
            .spawn(look)
            .map_err(|error| Error::Unavailable(format!("cannot start a scout's thread: {error}")))?;
        Ok(Scout { _leave: leave })
    }
}
