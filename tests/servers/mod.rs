//! Starts and stops the servers of the scripts beside this file. A server lives as long as its value; tests that only
//! need some broker or bucket share one, and it stops with the last of them.

mod faulty;

pub use faulty::{Fault, FaultyWay, Weather};

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// One broker of Apache Kafka.
pub struct Kafka {
    pub bootstrap: String,
    folder: Folder,
}

/// Another way into a broker: SASL_SSL, with SCRAM-SHA-256.
pub struct Secure {
    pub bootstrap: String,
    /// The file of the certificate to trust.
    pub ca: String,
    pub user: String,
    pub password: String,
}

/// A broker that was stopped in its tracks; goes on when this is dropped.
pub struct Paused<'a>(&'a Kafka);

/// MinIO with one empty bucket.
pub struct Minio {
    pub endpoint: String,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
    folder: Folder,
}

/// A server's folder and the script that knows it.
struct Folder {
    script: &'static str,
    dir: TempDir,
}

impl Kafka {
    /// A broker of one's own, to be stopped and killed.
    pub fn start() -> Result<Kafka> {
        let folder = Folder::new("kafka.sh")?;
        let mut said = folder.start(&[])?;
        Ok(Kafka { bootstrap: take(&mut said, "bootstrap")?, folder })
    }

    /// A broker of one's own with a second way in.
    pub fn start_secure() -> Result<(Kafka, Secure)> {
        let folder = Folder::new("kafka.sh")?;
        let mut said = folder.start(&["secure"])?;
        let secure = Secure {
            bootstrap: take(&mut said, "secure")?,
            ca: take(&mut said, "ca")?,
            user: take(&mut said, "user")?,
            password: take(&mut said, "password")?,
        };
        Ok((Kafka { bootstrap: take(&mut said, "bootstrap")?, folder }, secure))
    }

    /// A broker that other tests use too; make topics of your own.
    pub fn shared() -> Result<Arc<Kafka>> {
        static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
        shared(&SHARED, Kafka::start)
    }

    /// Stops the broker; its topics stay.
    pub fn stop(&self) -> Result<()> {
        self.folder.run("stop", &[]).map(drop)
    }

    /// Kills the broker; its topics stay.
    pub fn kill(&self) -> Result<()> {
        self.folder.signal("KILL")
    }

    /// Stops it in its tracks: connections stay, and nothing answers.
    pub fn pause(&self) -> Result<Paused<'_>> {
        self.folder.signal("STOP")?;
        Ok(Paused(self))
    }

    /// Starts the broker again after a stop or a kill, at the same address.
    pub fn start_again(&self) -> Result<()> {
        let again = take(&mut self.folder.start(&[])?, "bootstrap")?;
        anyhow::ensure!(again == self.bootstrap, "the broker moved from {} to {again}", self.bootstrap);
        Ok(())
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.folder.signal("CONT") {
            eprintln!("a broker was left stopped: {error:#}");
        }
    }
}

impl Minio {
    /// A server of one's own.
    pub fn start() -> Result<Minio> {
        let folder = Folder::new("minio.sh")?;
        let mut said = folder.start(&[])?;
        Ok(Minio {
            endpoint: take(&mut said, "endpoint")?,
            bucket: take(&mut said, "bucket")?,
            access_key: take(&mut said, "access_key")?,
            secret_key: take(&mut said, "secret_key")?,
            folder,
        })
    }

    /// A server that other tests use too; keep to a prefix of your own.
    pub fn shared() -> Result<Arc<Minio>> {
        static SHARED: Mutex<Weak<Minio>> = Mutex::new(Weak::new());
        shared(&SHARED, Minio::start)
    }

    /// Stops the server; its objects stay.
    pub fn stop(&self) -> Result<()> {
        self.folder.run("stop", &[]).map(drop)
    }

    /// Starts the server again at the same address.
    pub fn start_again(&self) -> Result<()> {
        self.folder.start(&[]).map(drop)
    }

    /// What an S3 client needs, in the names of object_store and delta-rs.
    pub fn options(&self) -> HashMap<String, String> {
        let options = [
            ("aws_endpoint", self.endpoint.as_str()),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", &self.access_key),
            ("aws_secret_access_key", &self.secret_key),
            ("aws_allow_http", "true"),
        ];
        options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The same by another way to it.
    pub fn options_by(&self, endpoint: &str) -> HashMap<String, String> {
        let mut options = self.options();
        options.insert("aws_endpoint".into(), endpoint.into());
        options
    }

    /// The URL of a prefix in the bucket.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket)
    }
}

impl Folder {
    fn new(script: &'static str) -> Result<Folder> {
        Ok(Folder { script, dir: TempDir::with_prefix("thalweg-server-")? })
    }

    /// Starts the server and returns what its script says, by key.
    fn start(&self, more: &[&str]) -> Result<HashMap<String, String>> {
        let said = self.run("start", more)?;
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn signal(&self, name: &str) -> Result<()> {
        let pid = std::fs::read_to_string(self.dir.path().join("pid"))?;
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", pid.trim())]).status()?;
        anyhow::ensure!(status.success(), "cannot send {name} to {pid}");
        Ok(())
    }

    fn run(&self, action: &str, more: &[&str]) -> Result<String> {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(self.script);
        let output = Command::new(&script).arg(action).arg(self.dir.path()).args(more).output();
        let output = output.with_context(|| format!("cannot run {}", script.display()))?;
        if !output.status.success() {
            bail!("{} {action} failed\n{}", self.script, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = self.run("stop", &[]) {
            eprintln!("a server was left running: {error:#}");
        }
    }
}

/// A port of loopback on which nothing listened a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn shared<S>(place: &Mutex<Weak<S>>, start: impl FnOnce() -> Result<S>) -> Result<Arc<S>> {
    let mut place = place.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(running) = place.upgrade() {
        return Ok(running);
    }
    let started = Arc::new(start()?);
    *place = Arc::downgrade(&started);
    Ok(started)
}

fn take(said: &mut HashMap<String, String>, key: &str) -> Result<String> {
    said.remove(key).with_context(|| format!("the server's script did not say {key:?}"))
}
