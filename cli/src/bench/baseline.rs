//! The same questions over the same file by batch DataFusion. Its JSON is decoded once, into memory, for both views, as
//! somebody would write it who wants it fast; it owes nobody a checkpoint or a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::prelude::{JsonReadOptions, SessionContext};

use super::usage::{Spent, Usage};
use super::views::SHOP;

pub async fn measure(file: &Path, events: u64) -> Result<Spent> {
    let path = file.to_str().context("the file's name is not UTF-8")?;
    let schema = schema();
    let options = JsonReadOptions::default().schema(&schema).file_extension("");
    let before = Usage::now();
    let ctx = SessionContext::new();
    let clicks = ctx.read_json(path, options).await?.cache().await?;
    ctx.register_table("clicks", clicks.into_view())?;
    for (_, _, query) in SHOP {
        ctx.sql(query).await?.collect().await?;
    }
    let spent = before.until_now();
    println!("{}", spent.line("batch DataFusion", events));
    Ok(spent)
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
