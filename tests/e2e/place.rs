//! Where a test's instances keep their data: a folder of its own, or a prefix of its own in a real bucket.

use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;
use thalweg_engine::checkpoint::DataRoot;
use thalweg_tests::servers::Minio;

use crate::instance::Launch;
use crate::shop::{CONTINENTS, DataCopy};

pub struct Place {
    pub launch: Launch,
    pub data: DataCopy,
    _folder: TempDir,
    _minio: Option<Arc<Minio>>,
}

impl Place {
    pub fn folder(script: &str, flags: &[&str]) -> Result<Place> {
        let folder = TempDir::with_prefix("thalweg-e2e-")?;
        let data = folder.path().join("data");
        let launch = launch(&folder, script, data.display().to_string(), vec![], flags)?;
        Ok(Place { launch, data: DataCopy::Folder(data), _folder: folder, _minio: None })
    }

    /// `prefix` is the test's own.
    pub fn bucket(minio: Arc<Minio>, prefix: &str, script: &str, flags: &[&str]) -> Result<Place> {
        let endpoint = minio.endpoint.clone();
        Place::bucket_by(&endpoint, minio, prefix, script, flags)
    }

    /// The instances go to the bucket by another way than the test itself.
    pub fn bucket_by(
        endpoint: &str,
        minio: Arc<Minio>,
        prefix: &str,
        script: &str,
        flags: &[&str],
    ) -> Result<Place> {
        let folder = TempDir::with_prefix("thalweg-e2e-")?;
        let options = minio.options_by(endpoint).into_iter();
        let environment = options.map(|(key, value)| (key.to_uppercase(), value)).collect();
        let launch = launch(&folder, script, minio.url(prefix), environment, flags)?;
        let root = DataRoot::open(&minio.url(prefix), &minio.options().into_iter().collect())?;
        let data = DataCopy::Bucket { root, copy: TempDir::with_prefix("thalweg-e2e-")? };
        Ok(Place { launch, data, _folder: folder, _minio: Some(minio) })
    }
}

fn launch(
    folder: &TempDir,
    script: &str,
    data: String,
    environment: Vec<(String, String)>,
    flags: &[&str],
) -> Result<Launch> {
    let file = folder.path().join("shop.sql");
    std::fs::write(&file, script)?;
    std::fs::write(folder.path().join("continents.csv"), CONTINENTS)?;
    let flags = flags.iter().map(|flag| flag.to_string()).collect();
    Ok(Launch { script: file, data, environment, flags, through: None, bare: false })
}
