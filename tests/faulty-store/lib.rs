//! An object store as one instance sees it: operations fail before or after their effect, replies are lost, and at any
//! operation the instance may be stopped, to be killed or to wake up much later.
//!
//! What happens to an operation depends on the seed, the instance, the object and how often it was asked for; not on
//! the order in which a library's threads come by. So a seed replays.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::{Notify, watch};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Running,
    /// Operations wait.
    Stopped,
    /// Operations fail without effect: the process is gone, and only a library's threads are left of it.
    Dead,
}

/// Shared by an instance's store and the scheduler.
#[derive(Debug)]
pub struct Control {
    mode: watch::Sender<Mode>,
    stopped: Notify,
    /// Of 1,000 operations, how many stop the instance.
    stops: Mutex<u64>,
}

impl Control {
    pub fn new(stops: u64) -> Arc<Control> {
        let (mode, _) = watch::channel(Mode::Running);
        Arc::new(Control { mode, stopped: Notify::new(), stops: Mutex::new(stops) })
    }

    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub fn never_stop_again(&self) {
        *self.stops.lock().expect("nobody panics with it") = 0;
    }

    async fn pass(&self, chance: u64) -> Result<()> {
        let stop = chance < *self.stops.lock().expect("nobody panics with it");
        let stops_now = |mode: &mut Mode| {
            let stops_now = stop && *mode == Mode::Running;
            if stops_now {
                *mode = Mode::Stopped;
            }
            stops_now
        };
        if self.mode.send_if_modified(stops_now) {
            self.stopped.notify_one();
        }
        let mut modes = self.mode.subscribe();
        let mode = modes.wait_for(|mode| *mode != Mode::Stopped).await;
        let mode = mode.map_or(Mode::Dead, |mode| *mode);
        match mode {
            // Nothing that could pass: nobody is left to wait for it.
            Mode::Dead => Err(object_store::Error::NotSupported { source: "the process is gone".into() }),
            Mode::Running | Mode::Stopped => Ok(()),
        }
    }
}

/// A chance that is none.
const NEVER: u64 = 1000;

#[derive(Debug, Clone)]
pub struct FaultyStore {
    pub inner: Arc<dyn ObjectStore>,
    pub control: Arc<Control>,
    pub seed: u64,
    asked: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn ObjectStore>, control: Arc<Control>, seed: u64) -> FaultyStore {
        FaultyStore { inner, control, seed, asked: Arc::default() }
    }

    /// Uniform below 1,000, twice.
    fn dice(&self, operation: &str, location: &str) -> (u64, u64) {
        let key = format!("{operation} {location}");
        let asked = match self.asked.lock().expect("nobody panics with it").entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += 1;
                *entry.get()
            }
            Entry::Vacant(entry) => *entry.insert(0),
        };
        let hash = xxh3_64(format!("{} {asked} {key}", self.seed).as_bytes());
        (hash % 1000, (hash >> 32) % 1000)
    }

    async fn before_reading(&self, operation: &str, location: &str) -> Result<()> {
        let (fault, stop) = self.dice(operation, location);
        // The Delta library reads entries of a log many at a time, from a thread of its own: which of two would stop the
        // instance first, and whether the second still would, is up to the machine.
        let many = operation == "get" && location.contains("_delta_log");
        self.control.pass(if many { NEVER } else { stop }).await?;
        if fault < 15 { Err(failed("no reply")) } else { Ok(()) }
    }
}

fn failed(what: &str) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: what.into() }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (fault, stop) = self.dice("put", location.as_ref());
        self.control.pass(stop).await?;
        if fault < 60 {
            return Err(failed("nothing happened"));
        }
        let create = opts.mode == PutMode::Create;
        let result = self.inner.put_opts(location, payload, opts).await?;
        // The process may also die between the effect and its reply.
        self.control.pass(999 - stop).await?;
        match fault {
            60..120 => Err(failed("it happened, and the reply was lost")),
            120..180 if create => Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: "the client repeated a put whose reply was lost".into(),
            }),
            _ => Ok(result),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.before_reading("multipart", location.as_ref()).await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before_reading("get", location.as_ref()).await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.before_reading("delete", location.as_ref()).await?;
                let one = futures::stream::iter([Ok(location)]).boxed();
                store.inner.delete_stream(one).try_next().await?.ok_or_else(|| failed("no reply"))
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = prefix.cloned();
        let listing = async move {
            store.before_reading("list", prefix.as_ref().map_or("", |prefix| prefix.as_ref())).await?;
            Ok::<_, object_store::Error>(store.inner.list(prefix.as_ref()))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.before_reading("list", prefix.map_or("", |prefix| prefix.as_ref())).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.before_reading("copy", from.as_ref()).await?;
        self.inner.copy_opts(from, to, options).await
    }
}
