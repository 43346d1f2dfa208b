//! The corpus of statements: by hand, and grown from DataFusion's own list of functions, so that one that an upgrade brings
//! is asked for too much at once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use datafusion::execution::SessionStateDefaults;

/// Out of these something large, long or at the end of its numbers may come.
const ARGUMENTS: [&str; 6] = [
    "repeat('ab', 500000)",
    "repeat('ab', 500000), 1000000000",
    "repeat('ab', 500000), repeat('b', 500000)",
    "range(0, 1000000), 1000000000",
    "9223372036854775807, -9223372036854775808",
    "repeat('ab', 500000), repeat('b', 50000), repeat('c', 50000)",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("hostile")
}

pub fn statements() -> Result<Vec<String>> {
    let mut all = vec![];
    for file in ["by_hand.sql", "functions.sql"] {
        let text = std::fs::read_to_string(folder().join(file)).context(file)?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("--"));
        for line in lines {
            all.push(expanded(line)?);
        }
    }
    Ok(all)
}

/// `«text»*3` is the text three times.
pub fn expanded(line: &str) -> Result<String> {
    let mut whole = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('«') {
        let (text, after) = after.split_once("»*").context("a repetition has an end")?;
        let digits = after.len() - after.trim_start_matches(|each: char| each.is_ascii_digit()).len();
        let times: usize = after[..digits].parse()?;
        whole.push_str(before);
        for at in 0..times {
            whole.push_str(&text.replace("{i}", &(at + 1).to_string()).replace("{p}", &at.to_string()));
        }
        rest = &after[digits..];
    }
    whole.push_str(rest);
    Ok(whole)
}

fn grown() -> String {
    let mut lines = vec!["-- Grown by tests/e2e/hostile/grow.rs".to_owned()];
    let scalar = SessionStateDefaults::default_scalar_functions();
    let names: BTreeSet<_> = scalar.iter().map(|function| function.name().to_owned()).collect();
    for (at, name) in names.iter().enumerate() {
        // Two of the ways for each, and all of them over a few neighbours.
        for way in [at, at + 1] {
            lines.push(format!("SELECT {name}({})", ARGUMENTS[way % ARGUMENTS.len()]));
        }
    }
    let aggregate = SessionStateDefaults::default_aggregate_functions();
    let names: BTreeSet<_> = aggregate.iter().map(|function| function.name().to_owned()).collect();
    for name in names {
        lines.push(format!("SELECT {name}(value) FROM generate_series(1, 1000000000)"));
        lines.push(format!("SELECT {name}(value) FROM generate_series(1, 50000000) GROUP BY value"));
    }
    let window = SessionStateDefaults::default_window_functions();
    let names: BTreeSet<_> = window.iter().map(|function| function.name().to_owned()).collect();
    for name in names {
        lines.push(format!("SELECT {name}() OVER (ORDER BY value) FROM generate_series(1, 100000000)"));
        lines.push(format!(
            "SELECT {name}(value) OVER (PARTITION BY value % 7) FROM generate_series(1, 100000000)"
        ));
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_corpus_knows_every_function() -> Result<()> {
    let file = folder().join("functions.sql");
    if std::env::var_os("THALWEG_GROW").is_some() {
        std::fs::write(&file, grown())?;
    }
    let known = std::fs::read_to_string(&file)?;
    ensure!(known == grown(), "{} is not what is grown now; THALWEG_GROW=1 writes it", file.display());
    let all = statements()?;
    ensure!(all.len() >= 400, "{} statements", all.len());
    ensure!(expanded("a«{p}{i}»*2b")? == "a0112b");
    Ok(())
}
