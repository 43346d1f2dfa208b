//! Dies at every numbered step of a commit, and goes on from there. A step that is never reached fails the test.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use thalweg_engine::checkpoint::Step;
use thalweg_tests::servers::Minio;

use crate::place::Place;
use crate::shop::Paced;

/// So few manifests are kept that a second of epochs retires some, and so few files become one that some do.
const FLAGS: [&str; 6] = ["--roll", "200ms", "--keep-manifests", "4", "--compact-files", "2"];
const SIGABRT: i32 = 6;

/// At which of its hits a step is fatal: in the midst of things where it comes again and again.
fn fatal_hit(step: Step) -> u64 {
    match step {
        Step::OwnerTaken => 1,
        // On a slow machine all clicks are due before it reads the first.
        Step::StateFileAbsent | Step::StateFileDurable => 1,
        Step::CompactedAbsent | Step::CompactedDurable | Step::CompactionTold => 1,
        Step::RetiredStateFile | Step::RetiredManifest => 1,
        Step::DeltaTableMissing | Step::DeltaTableCreated => 2,
        Step::ManifestAbsent | Step::ManifestDurable | Step::ManifestCommitted | Step::Published => 9,
        _ => 3,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_commit_may_be_the_last_on_a_local_disk() -> Result<()> {
    every_step("folder", |_, script| Place::folder(script, &FLAGS)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_commit_may_be_the_last_in_a_bucket() -> Result<()> {
    let minio = Minio::shared()?;
    every_step("bucket", |step, script| {
        Place::bucket(minio.clone(), &format!("steps-{}", step.name()), script, &FLAGS)
    })
    .await
}

async fn every_step(place: &str, at: impl Fn(Step, &str) -> Result<Place>) -> Result<()> {
    let mut hits = 0;
    println!("{:<8} {:<24} {:>4}", "place", "step", "hit");
    let steps = Step::ALL.into_iter().filter(|step| !Step::OF_SINKS.contains(step));
    for step in steps {
        let hit = fatal_hit(step);
        die_and_go_on(step, hit, |script| at(step, script)).await.with_context(|| step.to_string())?;
        println!(
            "{place:<8} {:<24} {hit:>4}  aborted there, went on, nothing lost or doubled",
            step.to_string()
        );
        hits += 1;
    }
    ensure!(hits == Step::ALL.len() - Step::OF_SINKS.len(), "{hits} steps were hit");
    Ok(())
}

async fn die_and_go_on(step: Step, hit: u64, at: impl Fn(&str) -> Result<Place>) -> Result<()> {
    // The first windows are due for closing at once, and the clicks last some seconds; until a table has several files, more.
    let clicks = match step {
        Step::CompactedAbsent | Step::CompactedDurable | Step::CompactionTold => 15_000,
        _ => 5_000,
    };
    let shop = Paced::since(Duration::from_secs(7), u64::from(step.number()), 500.0, clicks)?;
    let place = at(&shop.script()?)?;
    let mut doomed = place.launch.spawn(&["--failpoint", &format!("{}:{hit}", step.name())])?;
    let status = doomed.ended().await.with_context(|| format!("it never reached step {step} {hit} times"))?;
    ensure!(status.signal() == Some(SIGABRT), "it ended by {status}, not by SIGABRT\n{}", doomed.logged());
    // A bucket believes in its dead owner for half a minute.
    let instance = place.launch.start(&["--takeover"]).await?;
    shop.oracle()?.finish(instance, &place.data).await
}
