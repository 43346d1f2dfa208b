//! The files source on a real S3 server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use thalweg_engine::ErrorKind;
use thalweg_engine::ids::{Offset, PartitionId};
use thalweg_engine::secrets::Secrets;
use thalweg_engine::source::{self, BatchLimit, FilesRoots, Logs, Polled, RawBatch, Reading};
use thalweg_engine::spec::{FilesSpec, SourceSpec};
use thalweg_tests::servers::Minio;

use crate::place::Place;

const LIMIT: BatchLimit = BatchLimit { rows: 10_000, bytes: 1 << 20 };
const WITHIN: Duration = Duration::from_secs(30);

fn store(minio: &Minio) -> Result<impl ObjectStore> {
    let builder = AmazonS3Builder::new().with_url(minio.url(""));
    let with = |builder: AmazonS3Builder, (key, value): (String, String)| {
        Ok::<_, anyhow::Error>(builder.with_config(key.parse()?, value))
    };
    Ok(minio.options().into_iter().try_fold(builder, with)?.build()?)
}

fn spec(minio: &Minio, prefix: &str) -> SourceSpec {
    let properties = minio.options().into_iter().collect();
    SourceSpec::Files(FilesSpec { location: minio.url(prefix), properties })
}

/// Writes one object of the numbers, one a line.
async fn put(store: &impl ObjectStore, path: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    let text: String = numbers.map(|number| format!("{{\"number\":{number}}}\n")).collect();
    store.put(&path.into(), PutPayload::from(text.into_bytes())).await?;
    Ok(())
}

#[tokio::test]
async fn objects_are_read_in_the_order_of_their_names_from_any_offset() -> Result<()> {
    let minio = Minio::shared()?;
    let store = store(&minio)?;
    // The second is larger than a chunk.
    put(&store, "in-order/2025-06-02.json", 1000..500_000).await?;
    put(&store, "in-order/2025-06-01.json", 0..1000).await?;
    put(&store, "in-order/_marker.json", 7..8).await?;
    for (location, from, end) in [("in-order", 0, 500_000), ("in-order/*-02.json", 400_000, 499_000)] {
        let mut discovery = source::open(
            &spec(&minio, location),
            &Secrets::default(),
            &FilesRoots::default(),
            &Logs::default(),
        )?;
        let mut reader = discovery.open(&[(PartitionId(0), Offset(from)).into()], Reading::little(false))?;
        let first = if location == "in-order" { 0 } else { 1000 };
        let mut next = from;
        loop {
            let mut batch = RawBatch::default();
            match reader.poll(&mut batch, LIMIT, WITHIN)? {
                Polled::Records { .. } => {
                    for (index, offset) in batch.offsets.iter().enumerate() {
                        let value = batch.records.value(index).context("a line is no tombstone")?;
                        assert_eq!(value, format!("{{\"number\":{}}}", offset + first).as_bytes());
                        assert_eq!(*offset, next);
                        next += 1;
                    }
                }
                Polled::Ended(_) => break,
                polled => panic!("{polled:?}"),
            }
        }
        assert_eq!(next, end, "{location}");
    }
    Ok(())
}

#[tokio::test]
async fn an_object_replaced_while_it_is_read_is_bad_data() -> Result<()> {
    let minio = Minio::shared()?;
    let store = store(&minio)?;
    put(&store, "replaced/a.json", 0..1_000_000).await?;
    let mut discovery = source::open(
        &spec(&minio, "replaced"),
        &Secrets::default(),
        &FilesRoots::default(),
        &Logs::default(),
    )?;
    let mut reader = discovery.open(&[(PartitionId(0), Offset(0)).into()], Reading::little(false))?;
    let mut batch = RawBatch::default();
    assert!(matches!(reader.poll(&mut batch, LIMIT, WITHIN)?, Polled::Records { .. }));
    put(&store, "replaced/a.json", 5..1_000_005).await?;
    let error = loop {
        batch.clear();
        match reader.poll(&mut batch, LIMIT, WITHIN) {
            Ok(Polled::Records { .. }) => {}
            Ok(polled) => panic!("{polled:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BadData, "{error}");
    assert!(error.to_string().contains("the file changed while it was read"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_server_refuses_to_put_what_is_there() -> Result<()> {
    let minio = Minio::shared()?;
    let store = store(&minio)?;
    let put = |text: &'static str| {
        let store = &store;
        async move { store.put_opts(&"once".into(), text.into(), PutMode::Create.into()).await }
    };
    put("first").await?;
    let again = put("second").await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(&store.get(&"once".into()).await?.bytes().await?[..], b"first");
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_and_buckets_are_invalid() -> Result<()> {
    let minio = Minio::shared()?;
    let store = store(&minio)?;
    put(&store, "secret/a.json", 0..1).await?;
    let properties: BTreeMap<_, _> = minio.options().into_iter().collect();
    let mut wrong = properties.clone();
    wrong.insert("aws_secret_access_key".into(), "hunter2".into());
    for (location, properties, said) in [
        (minio.url("secret"), wrong, "does not let these credentials list files"),
        ("s3://no-such-bucket/a".to_owned(), properties, "no file is there to read"),
    ] {
        let error = source::open(
            &SourceSpec::Files(FilesSpec { location, properties }),
            &Secrets::default(),
            &FilesRoots::default(),
            &Logs::default(),
        )
        .err()
        .context(said)?;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(said) && !error.to_string().contains("hunter2"), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_store_was_away_is_tried_again_by_itself() -> Result<()> {
    const FAILED: &str = "SELECT count(*) FROM system.streams WHERE state = 'failed'";
    const AGAIN: &str = "SELECT count(next_try) FROM system.streams";
    let minio = Minio::start()?;
    let lines: String = (0..100).map(|second| format!("{{\"at\":{second}}}\n")).collect();
    store(&minio)?.put(&"tried/a.json".into(), PutPayload::from(lines.into_bytes())).await?;
    let script = format!(
        "CREATE STREAM seconds (at TIMESTAMP, WATERMARK FOR at AS at)
         WITH (connector = 'files', path = '{}', 'properties.aws_endpoint' = '{}', 'properties.aws_allow_http' = 'true',
               'properties.aws_region' = 'us-east-1', 'properties.aws_access_key_id' = '${{env:THALWEG_SECRET_ID}}',
               'properties.aws_secret_access_key' = '${{env:THALWEG_SECRET_KEY}}');
         CREATE MATERIALIZED VIEW copied AS SELECT at FROM seconds;",
        minio.url("tried"),
        minio.endpoint
    );
    let mut place = Place::folder(&script, &[])?;
    let secrets = [("ID", &minio.access_key), ("KEY", &minio.secret_key)];
    place
        .launch
        .environment
        .extend(secrets.map(|(name, key)| (format!("THALWEG_SECRET_{name}"), key.clone())));
    let instance = place.launch.start(&[]).await?;
    instance.until("SELECT count(*) FROM copied", 2 * WITHIN, |rows| rows == 100).await?;
    instance.terminate().await?;

    minio.stop()?;
    let begun = Instant::now();
    let instance = place.launch.start(&[]).await?;
    ensure!(begun.elapsed() < Duration::from_secs(20), "the start took {:?}", begun.elapsed());
    assert_eq!(instance.number(FAILED).await?, 1);
    assert_eq!(instance.number("SELECT count(*) FROM copied").await?, 100, "what was read is served");
    minio.start_again()?;
    instance.until(FAILED, 4 * WITHIN, |failed| failed == 0).await?;
    assert_eq!(instance.number(AGAIN).await?, 0);
    instance.until("SELECT count(*) FROM system.streams WHERE ended", WITHIN, |ended| ended == 1).await?;
    assert_eq!(instance.number("SELECT count(*) FROM copied").await?, 100, "nothing is read twice");
    instance.terminate().await
}
