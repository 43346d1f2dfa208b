//! An instance that is stopped, pushed aside, and wakes up: it must find out at its next commit and leave.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::Rng;
use thalweg_tests::servers::Minio;

use crate::place::Place;
use crate::shop::Paced;

const FLAGS: [&str; 2] = ["--roll", "200ms"];
const ROUNDS: usize = 4;
const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced_on_a_local_disk() -> Result<()> {
    fence("folder", |script| Place::folder(script, &FLAGS)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced_in_a_bucket() -> Result<()> {
    let minio = Minio::shared()?;
    fence("bucket", |script| Place::bucket(minio.clone(), "zombie", script, &FLAGS)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_whose_number_is_free_again_is_fenced() -> Result<()> {
    // By the time it wakes, the manifests of its time are gone: its put succeeds, below those of its successor.
    fence("retired", |script| Place::folder(script, &[&FLAGS[..], &["--keep-manifests", "1"]].concat())).await
}

async fn fence(place: &str, at: impl Fn(&str) -> Result<Place>) -> Result<()> {
    let shop = Paced::since(Duration::from_secs(7), 5, 1000.0, 15_000)?;
    let at = at(&shop.script()?)?;
    let mut instance = at.launch.start(&[]).await?;
    for round in 1..=ROUNDS {
        // Somewhere in the ten epochs of a second.
        let after = Duration::from_millis(rand::rng().random_range(300..700));
        tokio::time::sleep(after).await;
        instance.signal("STOP").await?;
        if round == 1 {
            let mut refused = at.launch.spawn(&[])?;
            let status = refused.ended().await?;
            ensure!(status.code() == Some(1), "a second instance ended by {status}\n{}", refused.logged());
            let logged = refused.logged();
            ensure!(logged.contains("another instance is running on this data"), "{logged}");
        }
        let next = at.launch.start(&["--takeover"]).await?;
        let epochs = "SELECT max(epoch) FROM system.checkpoints";
        let epoch = next.until(&format!("SELECT coalesce(({epochs}), 0)"), WITHIN, |epoch| epoch > 0).await?;
        next.until(epochs, WITHIN, |later| later >= epoch + 3).await?;
        instance.signal("CONT").await?;
        let status = instance.ended().await?;
        let logged = instance.logged();
        ensure!(status.code() == Some(1), "the zombie ended by {status}\n{logged}");
        ensure!(logged.contains("another instance has taken over this data"), "{logged}");
        println!("{place}: zombie {round} stopped after {after:?}, fenced when it woke");
        instance = next;
    }
    shop.oracle()?.finish(instance, &at.data).await
}
