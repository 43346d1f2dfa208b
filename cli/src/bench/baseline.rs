//! The same questions over the same file by batch DataFusion: what its own JSON reader and aggregates need.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::{JsonReadOptions, SessionContext};

use super::VIEWS;
use super::usage::Usage;

pub async fn measure(file: &Path) -> Result<()> {
    let path = file.to_str().context("the file's name is not UTF-8")?;
    let schema = schema();
    let options = || JsonReadOptions::default().schema(&schema).file_extension("");
    let ctx = SessionContext::new();
    ctx.register_json("clicks", path, options()).await?;
    let counted = ctx.sql("SELECT count(*) FROM clicks").await?.collect().await?;
    let events = arrow::util::display::array_value_to_string(counted[0].column(0), 0)?.parse::<u64>()?;
    let before = Usage::now();
    for (_, _, query) in VIEWS {
        ctx.sql(query).await?.collect().await?;
    }
    println!("{} (each view reads the file for itself)", before.until_now().line("batch DataFusion", events));
    Ok(())
}

/// The columns that the views read.
fn schema() -> Schema {
    let field = |name: &str, kind: DataType| Arc::new(Field::new(name, kind, true));
    let fields = vec![
        field("event_type", DataType::Utf8View),
        field("event_ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("session_id", DataType::Utf8View),
        field("product_id", DataType::Utf8View),
        field("price", DataType::Float64),
        field("quantity", DataType::Int32),
    ];
    Schema::new(fields)
}
