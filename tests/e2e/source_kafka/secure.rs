//! TLS and SASL: a broker that wants both is read with options alone, what is wrong is named, and the password is nowhere.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use thalweg_tests::servers::{Kafka, Secure};
use tokio::runtime::Runtime;

use super::{EVENTS, Topic, WITHIN};
use crate::place::Place;

const VARIABLE: &str = "THALWEG_SECRET_KAFKA";

fn place(topic: &Topic, secure: &Secure, ca: &str, password: &str) -> Result<Place> {
    let options = format!(
        ", 'properties.security.protocol' = 'SASL_SSL'{ca},
         'properties.sasl.mechanism' = 'SCRAM-SHA-256', 'properties.sasl.username' = '{}',
         'properties.sasl.password' = '${{env:{VARIABLE}}}'",
        secure.user
    );
    let certificates = Path::new(&secure.ca).parent().context("it lies in a folder")?.display().to_string();
    let flags = ["--files-root", &certificates];
    let mut place = Place::folder(&topic.script(&secure.bootstrap, &options), &flags)?;
    place.launch.environment.push((VARIABLE.into(), password.into()));
    Ok(place)
}

/// Files below the folder that hold the text.
fn holding(folder: &Path, text: &str, found: &mut Vec<String>) -> Result<u32> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files += holding(&path, text, found)?;
        } else {
            files += 1;
            let bytes = std::fs::read(&path)?;
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(files)
}

/// Why the stream of a start stands still, and is not tried again.
async fn refusal(place: &Place) -> Result<String> {
    let instance = place.launch.start(&[]).await?;
    let told =
        instance.query("SELECT reason FROM system.streams WHERE next_try IS NULL").await?.concat().concat();
    instance.terminate().await?;
    Ok(told)
}

#[test]
fn tls_and_scram_are_options_and_the_password_is_nowhere() -> Result<()> {
    let (kafka, secure) = Kafka::start_secure()?;
    let topic = Topic::create_on(Arc::new(kafka), "secured", 1)?;
    topic.tell(0, &["00:01.1", "00:01.2", "00:01.3"])?;
    let runtime = Runtime::new()?;
    let _guard = runtime.enter();
    let ca = format!(", 'properties.ssl.ca.location' = '{}'", secure.ca);
    let right = place(&topic, &secure, &ca, &secure.password)?;
    runtime.block_on(async {
        let instance = right.launch.start(&[]).await?;
        instance.until(EVENTS, WITHIN, |events| events == 3).await?;
        for sql in ["SHOW STREAMS", "EXPLAIN per_second", "SELECT * FROM system.queries"] {
            let rows = instance.query(sql).await?;
            ensure!(!format!("{rows:?}").contains(&secure.password), "{sql}: {rows:?}");
        }
        instance.terminate().await
    })?;
    let mut found = vec![];
    let folder = right.launch.script.parent().context("a script lies in a folder")?;
    let files = holding(folder, &secure.password, &mut found)?;
    ensure!(files > 5 && found.is_empty(), "of {files} files, these hold the password: {found:?}");
    ensure!(holding(folder, VARIABLE, &mut found)? == files && found.len() > 1, "the manifests name it");

    let wrong = "sesame-close-1174";
    let logged = runtime.block_on(refusal(&place(&topic, &secure, &ca, wrong)?))?;
    for said in ["the broker refuses these credentials", &secure.bootstrap, "'properties.sasl.password'"] {
        ensure!(logged.contains(said) && !logged.contains(wrong), "{logged}");
    }
    // Without it the certificates of the system are trusted.
    let logged = runtime.block_on(refusal(&place(&topic, &secure, "", &secure.password)?))?;
    for said in ["a certificate is not trusted", &secure.bootstrap, "'properties.ssl.ca.location'"] {
        ensure!(logged.contains(said), "{logged}");
    }
    // A statement names no file of the server's that it was not given.
    let given = Place::folder(&topic.script(&secure.bootstrap, &ca), &[])?;
    runtime.block_on(async {
        let mut instance = given.launch.spawn(&[])?;
        let status = instance.ended().await?;
        let logged = instance.logged();
        ensure!(!status.success() && logged.contains("names a file that no statement may"), "{logged}");
        Ok(())
    })
}
