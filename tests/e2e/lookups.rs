//! Tables while they change: read again, in force for what comes then, and there after a start without their source.

use std::time::Duration;

use anyhow::{Result, ensure};
use hyper::StatusCode;

use crate::asking::post;
use crate::instance::Instance;
use crate::place::Place;

const WITHIN: Duration = Duration::from_secs(60);
const FLAGS: [&str; 6] = ["--http", "127.0.0.1:0", "--epoch", "100ms", "--roll", "200ms"];
const SCRIPT: &str = "
CREATE STREAM clicks (at TIMESTAMP(3), n BIGINT, sku STRING, WATERMARK FOR at AS at)
WITH (connector = 'log', partitions = 1);
CREATE TABLE products (sku STRING PRIMARY KEY, name STRING) WITH (path = 'products.csv', refresh = '1s');
CREATE MATERIALIZED VIEW named AS SELECT at, n, name FROM clicks AS c LEFT JOIN products AS p ON p.sku = c.sku;
CREATE ENDPOINT '/api/events' INTO clicks;
";

async fn click(instance: &Instance, n: i64) -> Result<()> {
    let event = format!(r#"{{"at":"2025-06-01T00:00:00Z","n":{n},"sku":"a"}}"#);
    let answer = post(instance.http()?, "/api/events", "application/json", &event).await?;
    ensure!(answer.status == StatusCode::ACCEPTED, "{}: {:?}", answer.status, answer.body);
    instance.until("SELECT count(*) FROM named", WITHIN, |rows| rows == n).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_changes_with_its_file_and_stays_without_it() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    let file = place.launch.script.with_file_name("products.csv");
    let aside = file.with_extension("aside");
    std::fs::write(&file, "sku,name\na,Anvil\n")?;
    let instance = place.launch.start(&[]).await?;
    click(&instance, 1).await?;

    std::fs::write(&file, "sku,name\na,Anchor\nb,Bell\n")?;
    instance.until("SELECT count(*) FROM products", WITHIN, |rows| rows == 2).await?;
    click(&instance, 2).await?;

    // Two rows of one key are no table: it stays as it is.
    std::fs::write(&file, "sku,name\na,Axe\na,Adze\n")?;
    let stale =
        "SELECT count(*) FROM system.tables WHERE state = 'stale' AND reason LIKE '%same primary key%'";
    instance.until(stale, WITHIN, |tables| tables == 1).await?;
    // Nor is a file that is half written, of which there is nothing yet.
    std::fs::write(&file, "")?;
    let stale = "SELECT count(*) FROM system.tables WHERE state = 'stale' AND rows = 2 AND reason LIKE '%nothing in the files%'";
    instance.until(stale, WITHIN, |tables| tables == 1).await?;
    click(&instance, 3).await?;
    instance.kill().await?;

    std::fs::rename(&file, &aside)?;
    let instance = place.launch.start(&[]).await?;
    let stale =
        "SELECT count(*) FROM system.tables WHERE state = 'stale' AND rows = 2 AND reason LIKE '%no file%'";
    instance.until(stale, WITHIN, |tables| tables == 1).await?;
    click(&instance, 4).await?;

    std::fs::write(&file, "sku,name\na,Apple\n")?;
    instance.until("SELECT count(*) FROM system.tables WHERE state = 'read'", WITHIN, |it| it == 1).await?;
    instance.until("SELECT count(*) FROM products WHERE name = 'Apple'", WITHIN, |rows| rows == 1).await?;
    click(&instance, 5).await?;
    let names = instance.query("SELECT name FROM named ORDER BY n").await?.concat();
    assert_eq!(names, ["Anvil", "Anchor", "Anchor", "Anchor", "Apple"], "what had met a row stays");
    instance.terminate().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_follows_a_delta_table() -> Result<()> {
    let place = Place::folder(SCRIPT, &FLAGS)?;
    std::fs::write(place.launch.script.with_file_name("products.csv"), "sku,name\na,Anvil\n")?;
    let instance = place.launch.start(&[]).await?;
    click(&instance, 1).await?;
    let rolled = "SELECT count(*) FROM system.views WHERE history_rows = 1";
    instance.until(rolled, WITHIN, |views| views == 1).await?;
    // What a view gives is a table to others.
    let create = "CREATE TABLE kept (n BIGINT PRIMARY KEY, name STRING, window_date DATE)
        WITH (path = 'data/tables/named', format = 'delta', refresh = '1s')";
    instance.command(create).await?;
    for n in 2..5 {
        click(&instance, n).await?;
        instance.until("SELECT count(*) FROM kept", WITHIN, |rows| rows == n).await?;
    }
    let days = "SELECT count(*) FROM kept WHERE window_date = '2025-06-01' AND name = 'Anvil'";
    assert_eq!(instance.number(days).await?, 4, "with what the table's folders tell");
    instance.command("DROP TABLE kept").await?;
    instance.terminate().await
}
