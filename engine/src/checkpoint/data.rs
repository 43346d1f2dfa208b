//! The place where everything durable lives: a local folder, or a prefix of an S3 bucket.
//!
//! Owns: opening it, and durable puts. A put that returned survives a power cut: a local disk is synced by
//! [`DurableLocal`], an object store does it by contract.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use url::Url;

use super::durable_local::DurableLocal;
use super::failpoint::Failpoints;
use super::patience::Patient;
use super::watch::Watch;
use crate::{Error, Result};

/// How long to wait between attempts, and for one.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    pub first: Duration,
    pub max: Duration,
    /// A request that has no reply, or no further piece of one, after so long has none.
    pub stalled: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            first: Duration::from_millis(20),
            max: Duration::from_secs(5),
            stalled: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// Waits before attempt number `failures + 1`.
    pub(crate) async fn pause(&self, failures: u32) {
        let wait = self.first.saturating_mul(1 << failures.min(16)).min(self.max);
        if wait.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Cheap to clone; all clones speak of the same place.
#[derive(Debug, Clone)]
pub struct DataRoot {
    objects: Arc<dyn ObjectStore>,
    patient: Arc<Patient>,
    readers: Arc<dyn ObjectStore>,
    url: Url,
    local: Option<PathBuf>,
    failpoints: Failpoints,
    pub lake_log: LakeLog,
}

/// How the logs of Delta tables are kept, by the clock of the library.
#[derive(Debug, Clone, Copy)]
pub struct LakeLog {
    /// Between two checkpoints. A commit reads what the log has since the last one, some of it twice: on a bucket that is a
    /// request for each version.
    pub versions_a_checkpoint: u64,
    /// How long all checkpoints stay, and name the files that others were put in place of.
    pub checkpoints: Duration,
    /// How long versions stay.
    pub versions: Duration,
}

impl Default for LakeLog {
    fn default() -> LakeLog {
        let day = Duration::from_secs(24 * 3600);
        LakeLog { versions_a_checkpoint: 10, checkpoints: day, versions: 7 * day }
    }
}

impl DataRoot {
    /// `location` is a folder (made if absent), a `file://` URL or `s3://bucket/prefix`. `properties` are named as
    /// object_store's S3 options (`endpoint`, `region`, `access_key_id`, `allow_http`, …) and go before what the
    /// environment says.
    pub fn open(location: &str, properties: &BTreeMap<String, String>) -> Result<DataRoot> {
        if location.starts_with("s3://") {
            return open_s3(location, properties);
        }
        let folder = match location.strip_prefix("file://") {
            Some(_) => Url::parse(location).ok().and_then(|url| url.to_file_path().ok()),
            None if location.contains("://") => None,
            None => Some(PathBuf::from(location)),
        };
        let folder = folder.ok_or_else(|| {
            Error::Invalid(format!("data must be a local folder or s3://bucket/prefix. data=\"{location}\""))
        })?;
        open_local(&folder)
    }

    /// Over any store whose put-if-absent is atomic; for simulations.
    pub fn over(objects: Arc<dyn ObjectStore>, url: Url) -> DataRoot {
        DataRoot::of(Arc::clone(&objects), objects, url, None)
    }

    fn of(
        inner: Arc<dyn ObjectStore>,
        readers: Arc<dyn ObjectStore>,
        url: Url,
        local: Option<PathBuf>,
    ) -> DataRoot {
        let watch = Watch::new(local.as_ref().map_or(url.to_string(), |folder| folder.display().to_string()));
        let patient = Arc::new(Patient { inner, watch, retry: Retry::default(), gives_up: local.is_none() });
        let objects = Arc::clone(&patient) as _;
        let (failpoints, lake_log) = (Failpoints::default(), LakeLog::default());
        DataRoot { objects, patient, readers, url, local, failpoints, lake_log }
    }

    /// Where it lies, if that is a folder of this machine.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.local.as_deref()
    }

    pub fn with_failpoints(self, failpoints: Failpoints) -> DataRoot {
        DataRoot { failpoints, ..self }
    }

    pub fn with_retry(self, retry: Retry) -> DataRoot {
        let patient = Arc::new(Patient { retry, ..self.patient.as_ref().clone() });
        DataRoot { objects: Arc::clone(&patient) as _, patient, ..self }
    }

    /// Paths within it are relative to the root. Waits for a store that is away, and knows what became of each put.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The same for queries, which would rather fail soon than wait.
    pub fn readers(&self) -> &Arc<dyn ObjectStore> {
        &self.readers
    }

    pub fn watch(&self) -> &Arc<Watch> {
        &self.patient.watch
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The folder, where the root is one.
    pub fn local(&self) -> Option<&FilePath> {
        self.local.as_deref()
    }

    pub fn failpoints(&self) -> &Failpoints {
        &self.failpoints
    }

    pub fn retry(&self) -> Retry {
        self.patient.retry
    }

    /// Durable once it returns. May be repeated: names are unique, and a repetition writes the same bytes.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.objects.put(&Path::from(path), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// Durable once it returns `Ok`; *already exists* means that the object is another's (INV-C2).
    pub async fn put_absent(&self, path: &str, bytes: Bytes) -> object_store::Result<()> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects.put_opts(&Path::from(path), PutPayload::from_bytes(bytes), options).await?;
        Ok(())
    }

    pub async fn get(&self, path: &str) -> object_store::Result<Bytes> {
        self.objects.get(&Path::from(path)).await?.bytes().await
    }
}

fn open_local(folder: &FilePath) -> Result<DataRoot> {
    let refused = |error: std::io::Error| {
        Error::Invalid(format!("cannot open the data folder. data=\"{}\": {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(refused)?;
    let folder = folder.canonicalize().map_err(refused)?;
    let url = Url::from_directory_path(&folder)
        .map_err(|()| Error::Invalid(format!("not a folder. data=\"{}\"", folder.display())))?;
    let objects = Arc::new(DurableLocal::open(folder.clone())?);
    Ok(DataRoot::of(Arc::clone(&objects) as _, objects, url, Some(folder)))
}

fn open_s3(location: &str, properties: &BTreeMap<String, String>) -> Result<DataRoot> {
    let url = Url::parse(location)
        .map_err(|error| Error::Invalid(format!("not a URL. data=\"{location}\": {error}")))?;
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| {
        Error::Invalid(format!("no bucket is named; write s3://bucket/prefix. data=\"{location}\""))
    })?;
    let prefix = Path::from_url_path(url.path())
        .map_err(|error| Error::Invalid(format!("not a prefix. data=\"{location}\": {error}")))?;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(false)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retries(3));
    for (key, value) in properties {
        let option = AmazonS3ConfigKey::from_str(key)
            .map_err(|_| Error::Invalid(format!("no such S3 option. option=\"{key}\"")))?;
        builder = builder.with_config(option, value);
    }
    let build = |builder: AmazonS3Builder| -> Result<Arc<dyn ObjectStore>> {
        let store = builder.build().map_err(|error| {
            Error::Invalid(format!("cannot open the bucket. data=\"{location}\": {error}"))
        })?;
        Ok(match prefix.as_ref() {
            "" => Arc::new(store),
            _ => Arc::new(PrefixStore::new(store, prefix.clone())),
        })
    };
    // Nobody repeats what a query asks for: eight times over some seconds, so that a rough hour is not seen at all.
    let readers = build(builder.clone().with_retry(retries(8)))?;
    // How long a request may take is for `Patient` to say, which knows how much there is to send.
    let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    Ok(DataRoot::of(build(builder.with_config(timeout, "1 day"))?, readers, url, None))
}

/// What the client does by itself is over in seconds: so a reader hears of it, and so does `system.store`.
fn retries(max_retries: usize) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_secs(1),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries, retry_timeout: Duration::from_secs(10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(location: &str, properties: &[(&str, &str)], part: &str) {
        let properties = properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let error = DataRoot::open(location, &properties).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn what_cannot_be_opened_is_refused_by_name() {
        refused("gs://bucket/x", &[], "data=\"gs://bucket/x\"");
        refused("s3:///x", &[], "no bucket is named");
        refused("s3://bucket/x", &[("endpiont", "y")], "option=\"endpiont\"");
        refused("/proc/nothing/here", &[], "data=\"/proc/nothing/here\"");
    }

    #[tokio::test]
    async fn a_folder_is_made_and_keeps_what_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("new/data");
        for location in [location.display().to_string(), format!("file://{}", location.display())] {
            let root = DataRoot::open(&location, &BTreeMap::new()).unwrap();
            root.put("a/b", Bytes::from("x")).await.unwrap();
            assert_eq!(root.get("a/b").await.unwrap(), "x");
            assert!(root.url().as_str().starts_with("file:///") && root.local().is_some());
        }
    }

    #[test]
    fn an_s3_root_is_its_prefix() {
        let properties = [("region", "eu-central-1"), ("access_key_id", "a"), ("secret_access_key", "b")];
        let properties = properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let root = DataRoot::open("s3://bucket/some/prefix", &properties).unwrap();
        assert_eq!(root.url().as_str(), "s3://bucket/some/prefix");
        assert!(root.local().is_none());
        assert!(root.objects().to_string().contains("some/prefix"), "{}", root.objects());
    }
}
