//! A `.slt` script, read: its acts, and the files that its comments hold.
//!
//! ```text
//! # file orders.ndjson            the records of a file, in the script itself, each after `#` and three blanks
//! #   {"at":"2025-06-01T12:00:01Z","shop":"a","cents":100}
//!
//! # topic clicks                  those of a topic, with partition, timestamp and key (`-` for none, as for a value);
//! #   0 2025-06-01T12:00:01Z ann {"at":"…"}      all partitions are of one length, and `$brokers` is in the options
//!
//! statement ok                    the CREATEs and DROPs at the head of an act are what `serve` is started with
//! CREATE STREAM orders (…) WITH (connector = 'files', path = 'orders.ndjson')
//!
//! query MTI                       everything else is asked once all is read and every window has closed
//! SELECT …
//! ----
//! …
//!
//! subtest again                   a new act: the server is started again on the same data
//! ```

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sqllogictest::{ExpectedError, QueryExpect, Record, StatementExpect};

use crate::sqllogic::Kind;

pub struct Script {
    pub acts: Vec<Act>,
    pub files: Vec<Block>,
    pub topics: Vec<Block>,
}

/// A file or a topic that the comments hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub name: String,
    pub lines: Vec<String>,
}

#[derive(Default)]
pub struct Act {
    /// What `serve` is started with.
    pub head: Vec<String>,
    pub questions: Vec<Record<Kind>>,
}

impl Script {
    /// `name` is that of the file in `slt/`, without its end.
    pub fn read(folder: &Path, name: &str) -> Result<Script> {
        let path = folder.join(name).with_extension("slt");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Script::parse(&format!("tests/slt/{name}.slt"), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Script> {
        let mut acts = vec![Act::default()];
        for record in sqllogictest::parse_with_name::<Kind>(text, name)? {
            let act = acts.last_mut().context("there is a first act")?;
            match record {
                Record::Subtest { .. } => acts.push(Act::default()),
                Record::Comment(_) | Record::Newline => {}
                Record::Statement { sql, expected: StatementExpect::Ok, .. }
                    if act.questions.is_empty() && changes_catalog(&sql) =>
                {
                    act.head.push(sql);
                }
                Record::Statement {
                    ref loc, expected: StatementExpect::Error(ExpectedError::Empty), ..
                }
                | Record::Query { ref loc, expected: QueryExpect::Error(ExpectedError::Empty), .. } => {
                    bail!("{loc}: an error is expected with its text");
                }
                Record::Statement { retry: None, .. } | Record::Query { retry: None, .. } => {
                    act.questions.push(record);
                }
                other => bail!("{name}: nothing is skipped, waited for or tried again: {other}"),
            }
        }
        for act in &acts {
            ensure!(!act.questions.is_empty(), "{name}: an act asks nothing");
        }
        Ok(Script { acts, files: blocks(text, "# file "), topics: blocks(text, "# topic ") })
    }
}

impl Act {
    pub fn statements(&self) -> String {
        self.head.iter().map(|statement| format!("{statement};\n")).collect()
    }
}

fn changes_catalog(sql: &str) -> bool {
    ["CREATE ", "DROP "].iter().any(|word| sql.starts_with(word))
}

fn blocks(text: &str, head: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = vec![];
    let mut open = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(head) {
            blocks.push(Block { name: name.to_owned(), lines: vec![] });
            open = true;
            continue;
        }
        let record = line.strip_prefix("#   ").filter(|_| open);
        open = record.is_some();
        if let (Some(record), Some(block)) = (record, blocks.last_mut()) {
            block.lines.push(record.to_owned());
        }
    }
    blocks
}

#[test]
fn a_script_has_acts_and_files() {
    let script = Script::parse(
        "a.slt",
        "# file a.ndjson\n#   {\"a\":1}\n#   {\"a\":2}\n# More words.\n#   no record\n\nstatement ok\nCREATE STREAM a\n\n\
         query I\nSELECT 1\n----\n1\n\nstatement ok\nDROP STREAM a\n\nsubtest again\n\nstatement error no\nSELECT\n",
    )
    .unwrap();
    let lines = vec!["{\"a\":1}".to_owned(), "{\"a\":2}".to_owned()];
    assert_eq!(script.files, [Block { name: "a.ndjson".into(), lines }]);
    let shape: Vec<_> = script.acts.iter().map(|act| (act.statements(), act.questions.len())).collect();
    assert_eq!(shape, [("CREATE STREAM a;\n".to_owned(), 2), (String::new(), 1)]);
    for wrong in
        ["statement error\nSELECT\n", "sleep 1s\n", "skipif thalweg\nquery I\nSELECT 1\n", "halt\n", ""]
    {
        assert!(Script::parse("a.slt", wrong).is_err(), "{wrong:?}");
    }
}
