//! Rules of the house that a machine can check: which crate may know which, and how files open.

use std::path::{Path, PathBuf};

/// From the outside in; a crate may depend on those after it.
const LAYERS: [(&str, &str); 7] = [
    ("cli", "thalweg"),
    ("flight-server", "thalweg-flight-server"),
    ("web", "thalweg-web"),
    ("sinks", "thalweg-sinks"),
    ("readers", "thalweg-readers"),
    ("sql", "thalweg-sql"),
    ("engine", "thalweg-engine"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_path_buf()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".venv") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = vec![];
    for folder in ["engine", "sql", "readers", "flight-server", "web", "sinks", "cli", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    assert!(found.len() > 100, "the search lost its way: {} files", found.len());
    found
}

#[test]
fn dependencies_point_one_way() {
    for (layer, (folder, _)) in LAYERS.iter().enumerate() {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let names: Vec<&str> =
            manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
        for (_, outer) in &LAYERS[..=layer] {
            assert!(!names.contains(outer), "{folder} depends on {outer}");
        }
    }
}

/// Two wires beside each other: neither may lean on the other, nor know where events come from.
#[test]
fn the_wires_do_not_know_each_other() {
    for (folder, unknown) in [
        ("flight-server", &["thalweg-web", "rdkafka"][..]),
        ("web", &["tonic", "arrow-flight", "rdkafka", "thalweg-flight-server"]),
        ("sinks", &["tonic", "arrow-flight", "axum", "rdkafka"]),
    ] {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        for name in unknown {
            assert!(!manifest.lines().any(|line| line.starts_with(name)), "{folder} depends on {name}");
        }
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for file in rust_files() {
        let text = std::fs::read_to_string(&file).expect("the file is text");
        assert!(text.starts_with("//!") || text.starts_with("#!["), "{} has no //! header", file.display());
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled apart, so that this file does not find itself.
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["dbg", "!("],
        ["#[ig", "nore"],
    ];
    for file in rust_files() {
        let text = std::fs::read_to_string(&file).expect("the file is text");
        for mark in marks.map(|halves| halves.concat()) {
            assert!(!text.contains(&mark), "{} says {mark}", file.display());
        }
    }
}

/// A promise that no line cites is kept by accident.
#[test]
fn every_invariant_is_cited_where_it_is_held() {
    let document = std::fs::read_to_string(root().join("docs/INVARIANTS.md")).expect("the document is there");
    let numbers = document.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let is_number =
        |word: &&str| word.trim_start_matches("INV-").trim_start_matches('C').parse::<u32>().is_ok();
    let cited: Vec<String> = numbers
        .filter(is_number)
        .map(|number| if number.starts_with('C') { format!("INV-{number}") } else { number.to_owned() })
        .collect();
    assert!(cited.len() > 20, "the document was read wrongly: {cited:?}");
    let code: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| {
            ["engine", "sql", "flight-server", "readers", "sinks"]
                .iter()
                .any(|folder| file.starts_with(root().join(folder)))
        })
        .map(|file| std::fs::read_to_string(file).expect("the file is text"))
        .collect();
    for number in cited {
        let whole = |text: &String| {
            text.match_indices(&number)
                .any(|(at, _)| !text[at + number.len()..].starts_with(|next: char| next.is_ascii_digit()))
        };
        assert!(code.iter().any(whole), "no line of code cites {number}");
    }
}

/// An alert on a metric that does not exist never fires, and nobody notices.
#[test]
fn what_others_watch_is_counted() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let document = text("docs/METRICS.md");
    let counted: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("thalweg_"))
        .collect();
    assert!(counted.len() > 20, "the document was read wrongly: {counted:?}");
    for path in [
        "docker/prometheus/rules.yml",
        "docker/grafana/dashboards/thalweg.json",
        "tests/deployment/rules_test.yml",
        "web/page/src/engine.ts",
    ] {
        let text = text(path);
        let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let names = text.match_indices("thalweg_").map(|(at, _)| {
            let name = &text[at..];
            &name[..name.find(|letter| !is_name(letter)).unwrap_or(name.len())]
        });
        let mut found = 0;
        for name in names {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let name = of_histogram.filter(|name| counted.contains(name)).unwrap_or(name);
            assert!(counted.contains(&name), "{path} watches {name}, which nobody counts");
            found += 1;
        }
        assert!(found > 2, "{path} was read wrongly");
    }
}
