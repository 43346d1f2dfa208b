//! Refuses a second live instance on the same data. This is for people's sake: safety is the manifest's alone, and an
//! owner that was wrongly believed dead loses its next put.
//!
//! On a local folder the owner holds a lock that the system drops with the process; in a bucket it renews an object,
//! and whoever finds it fresh stays away.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path as FilePath;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::data::DataRoot;
use super::failpoint::Step;
use super::patience::is_refusal;
use crate::clock::Clock;
use crate::ids::Micros;
use crate::{Error, Result};

const LOCK: &str = "owner.lock";
const OBJECT: &str = "owner.json";

/// Renew an owner's object several times within this.
const TTL: Duration = Duration::from_secs(30);

/// Held while the instance lives.
#[derive(Debug)]
pub struct Owner {
    kind: Kind,
    keeping: Option<Keeping>,
}

/// Renews the object beside all else: a start, or a commit, may take longer than it is believed.
#[derive(Debug)]
struct Keeping {
    task: JoinHandle<()>,
    lost: Arc<OnceLock<Error>>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
enum Kind {
    /// The lock goes with the file.
    Lock(#[allow(dead_code)] File),
    Object {
        root: Box<DataRoot>,
        nonce: Uuid,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct OwnerObject {
    nonce: Uuid,
    host: String,
    renewed_at: Micros,
}

impl Owner {
    /// How often it is renewed.
    pub const RENEW_EVERY: Duration = Duration::from_secs(TTL.as_secs() / 3);

    /// With `take_over` a live owner is pushed aside, and finds out at its next commit.
    pub async fn acquire(root: &DataRoot, nonce: Uuid, now: Micros, take_over: bool) -> Result<Owner> {
        let kind = match root.local() {
            Some(folder) => Kind::Lock(lock(folder, take_over)?),
            None => {
                claim_object(root, nonce, now, take_over).await?;
                Kind::Object { root: Box::new(root.clone()), nonce }
            }
        };
        root.failpoints().hit(Step::OwnerTaken);
        Ok(Owner { kind, keeping: None })
    }

    /// Renews itself from now on, mostly each [`Owner::RENEW_EVERY`].
    pub fn keep(&mut self, clock: Arc<dyn Clock>, every: Duration) {
        let Kind::Object { root, nonce } = &self.kind else { return };
        let (root, nonce, lost) = (root.clone(), *nonce, Arc::new(OnceLock::new()));
        let told = Arc::clone(&lost);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match renew(&root, nonce, clock.wall()).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == crate::ErrorKind::Fenced => {
                        let _ = told.set(error);
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "cannot renew the owner's object now"),
                }
            }
        });
        self.keeping = Some(Keeping { task, lost });
    }

    /// `Fenced` once another instance has been seen to have taken over.
    pub fn check(&self) -> Result<()> {
        let lost = self.keeping.as_ref().and_then(|keeping| keeping.lost.get());
        lost.map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Lets the next instance start at once. Without it (a crash) a bucket stays refused for half a minute.
    pub async fn release(mut self) -> Result<()> {
        drop(self.keeping.take());
        let Kind::Object { root, nonce } = &self.kind else { return Ok(()) };
        if read(root).await?.is_some_and(|(found, _)| found.nonce == *nonce) {
            root.objects().delete(&Path::from(OBJECT)).await?;
        }
        Ok(())
    }
}

/// `Fenced` when another instance took over. An error of any other kind may pass by itself.
async fn renew(root: &DataRoot, nonce: Uuid, now: Micros) -> Result<()> {
    match read(root).await? {
        Some((found, _)) if found.nonce != nonce => Err(Error::Fenced(format!(
            "another instance has taken over this data. data=\"{}\", instance={}",
            root.url(),
            found.nonce
        ))),
        Some((_, version)) => write(root, nonce, now, PutMode::Update(version)).await,
        None => write(root, nonce, now, PutMode::Create).await,
    }
}

fn lock(folder: &FilePath, take_over: bool) -> Result<File> {
    let path = folder.join(LOCK);
    let refused = |error: std::io::Error| {
        Error::Unavailable(format!("cannot lock the data folder. file=\"{}\": {error}", path.display()))
    };
    let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open().map_err(refused)?;
    if let Err(busy) = file.try_lock() {
        if !matches!(busy, std::fs::TryLockError::WouldBlock) {
            return Err(refused(busy.into()));
        }
        if !take_over {
            return Err(Error::Fenced(busy_text(&folder.display().to_string(), &holder(&mut file), None)));
        }
        // The old file goes with its lock; whoever comes third meets ours.
        std::fs::remove_file(&path).map_err(refused)?;
        file = open().map_err(refused)?;
        file.try_lock().map_err(|error| refused(error.into()))?;
    }
    // The lock is what holds; the name is for people, and a full disk may have no room for it.
    let named = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
    if let Err(error) = named {
        tracing::warn!(file = %path.display(), %error, "cannot say who holds the data folder");
    }
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_string(),
        _ => "unknown".to_string(),
    }
}

fn busy_text(data: &str, holder: &str, silent: Option<Duration>) -> String {
    let (since, wait) = match silent {
        Some(silent) => (
            format!(", last seen {} s ago", silent.as_secs()),
            format!(", wait {} s for it to be taken for dead,", TTL.saturating_sub(silent).as_secs() + 1),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        "another instance is running on this data. data=\"{data}\", holder=\"{holder}\"{since}; stop it{wait} or take \
         over with --takeover"
    )
}

async fn claim_object(root: &DataRoot, nonce: Uuid, now: Micros, take_over: bool) -> Result<()> {
    // The first that is asked of the store.
    let found = read(root).await.map_err(|error| match error {
        Error::Store(error) if is_refusal(&error) => Error::Invalid(format!(
            "the store refuses this data; look at the name of the bucket, the endpoint, and AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY. data=\"{}\": {error}",
            root.url()
        )),
        error => error,
    });
    let mode = match found? {
        None => PutMode::Create,
        Some((found, version)) => {
            // A renewal dated in our future is fresh: clocks differ.
            let silent = Duration::from_micros(now.saturating_sub(found.renewed_at).max(0) as u64);
            if !take_over && silent < TTL && found.nonce != nonce {
                return Err(Error::Fenced(busy_text(root.url().as_str(), &found.host, Some(silent))));
            }
            PutMode::Update(version)
        }
    };
    write(root, nonce, now, mode).await?;
    // Of two that start at once one stays: whose object is there now.
    match read(root).await? {
        Some((found, _)) if found.nonce == nonce => Ok(()),
        Some((found, _)) => {
            Err(Error::Fenced(busy_text(root.url().as_str(), &found.host, Some(Duration::ZERO))))
        }
        None => Err(Error::Unavailable(format!("the owner's object has vanished. data=\"{}\"", root.url()))),
    }
}

async fn read(root: &DataRoot) -> Result<Option<(OwnerObject, UpdateVersion)>> {
    let reply = match root.objects().get(&Path::from(OBJECT)).await {
        Ok(reply) => reply,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let version = UpdateVersion { e_tag: reply.meta.e_tag.clone(), version: reply.meta.version.clone() };
    let bytes = reply.bytes().await?;
    let object = serde_json::from_slice(&bytes).map_err(|error| {
        Error::BadData(format!("cannot read the owner's object. path=\"{OBJECT}\": {error}"))
    })?;
    Ok(Some((object, version)))
}

/// A lost race is no error here: the caller, or the next renewal, reads who won.
async fn write(root: &DataRoot, nonce: Uuid, now: Micros, mode: PutMode) -> Result<()> {
    let host = format!("process {}", std::process::id());
    let bytes = serde_json::to_vec(&OwnerObject { nonce, host, renewed_at: now })
        .map_err(|error| Error::Internal(format!("the owner's object cannot be written: {error}")))?;
    let options = PutOptions { mode, ..PutOptions::default() };
    let payload = PutPayload::from_bytes(Bytes::from(bytes));
    match root.objects().put_opts(&Path::from(OBJECT), payload, options).await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::ErrorKind;

    const SECOND: Micros = 1_000_000;

    fn nonce(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[tokio::test]
    async fn a_folder_has_one_owner_until_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = DataRoot::open(folder.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
        let first = Owner::acquire(&root, nonce(1), 0, false).await.unwrap();
        let refused = Owner::acquire(&root, nonce(2), 0, false).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Fenced);
        assert!(refused.to_string().contains("--takeover"), "{refused}");
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        let second = Owner::acquire(&root, nonce(2), 0, true).await.unwrap();
        Owner::acquire(&root, nonce(3), 0, false).await.unwrap_err();
        drop(first);
        Owner::acquire(&root, nonce(3), 0, false).await.unwrap_err();
        drop(second);
        Owner::acquire(&root, nonce(3), 0, false).await.unwrap();
    }

    #[tokio::test]
    async fn a_bucket_has_one_owner_while_it_renews() {
        let root = DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap());
        let first = Owner::acquire(&root, nonce(1), 0, false).await.unwrap();
        renew(&root, nonce(1), 20 * SECOND).await.unwrap();
        let refused = Owner::acquire(&root, nonce(2), 45 * SECOND, false).await.unwrap_err();
        assert!(refused.to_string().contains("last seen 25 s ago"), "{refused}");
        let second = Owner::acquire(&root, nonce(2), 50 * SECOND, false).await.unwrap();
        assert_eq!(renew(&root, nonce(1), 51 * SECOND).await.unwrap_err().kind(), ErrorKind::Fenced);
        first.release().await.unwrap();
        renew(&root, nonce(2), 52 * SECOND).await.unwrap();
        let third = Owner::acquire(&root, nonce(3), 53 * SECOND, true).await.unwrap();
        assert_eq!(renew(&root, nonce(2), 54 * SECOND).await.unwrap_err().kind(), ErrorKind::Fenced);
        drop(second);
        third.release().await.unwrap();
        Owner::acquire(&root, nonce(4), 55 * SECOND, false).await.unwrap();
    }

    #[tokio::test]
    async fn an_owner_renews_itself_and_hears_that_it_was_overtaken() {
        const EVERY: Duration = Duration::from_millis(2);
        let root = DataRoot::over(Arc::new(InMemory::new()), url::Url::parse("memory:///").unwrap());
        let mut first = Owner::acquire(&root, nonce(1), 0, false).await.unwrap();
        first.keep(Arc::new(Standing(40 * SECOND)), EVERY);
        while read(&root).await.unwrap().unwrap().0.renewed_at == 0 {
            tokio::time::sleep(EVERY).await;
        }
        first.check().unwrap();
        Owner::acquire(&root, nonce(2), 60 * SECOND, true).await.unwrap();
        while first.check().is_ok() {
            tokio::time::sleep(EVERY).await;
        }
        assert_eq!(first.check().unwrap_err().kind(), ErrorKind::Fenced);
    }

    struct Standing(Micros);

    impl Clock for Standing {
        fn wall(&self) -> Micros {
            self.0
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }
}
