//! What the environment may say of a test: how long, how often, and when things go wrong.

use anyhow::{Context, Result};

pub fn set(name: &str, otherwise: u64) -> Result<u64> {
    let set = std::env::var(name).ok().map(|text| text.parse()).transpose();
    Ok(set.with_context(|| name.to_owned())?.unwrap_or(otherwise))
}
