//! A file of the generator's clicks, one JSON object a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use thalweg_engine::ids::PartitionId;
use thalweg_engine::source::clicks::Clicks;

/// Event time moves as if clicks arrived at this rate.
const NOMINAL_RATE: f64 = 20_000.0;

pub fn write_if_absent(path: &Path, seed: u64, rows: u64) -> Result<()> {
    if path.exists() {
        eprintln!("reading {} as it is", path.display());
        return Ok(());
    }
    eprintln!("writing {rows} clicks to {}", path.display());
    let unfinished = path.with_extension("unfinished");
    let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let clicks = Clicks::new(seed, 1, Some(NOMINAL_RATE), None);
    let mut line = Vec::with_capacity(512);
    for offset in 0..rows as i64 {
        line.clear();
        clicks.write(PartitionId(0), offset, &mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    Ok(())
}
